"""Whom `Forwarded` and `X-Forwarded-For` name, whatever a client has put in front of it.

Nothing raises. What a proxy adds at the end of a header is found, and no address is believed that
stands left of one that no trusted proxy has.
"""

from __future__ import annotations

from coro_websocket._http.client_address import ClientAddress, check_networks, ip_address_of
from coro_websocket._http.forwarded import find_client, forwarded_hops, x_forwarded_hops
from coro_websocket._http.headers import Headers

from ..source import Source

TRUSTED = check_networks(["10.0.0.0/8", "2001:db8:ffff::/48"], "trusted_proxies")
PEER = ClientAddress("10.0.0.1", 1)
PARTS = ("for=", "For=10.1.1.1", 'for="', '"', "\\", '\\"', ",", ";", " ", "by=", "_x", "unknown")
PARTS += ("203.0.113.5", ":80", ":_p", ":99999", "[2001:db8::1]", "[2001:db8:ffff::1]", "unix:")
PARTS += ("proto=https", ";proto=http", "10.0.0.2", "::ffff:10.0.0.3", "fe80::1%1", "\t", "=", "]")
NAMES = ("Forwarded", "Forwarded", "X-Forwarded-For", "X-Forwarded-For", "X-Forwarded-Proto")
ADDED = (
    ("Forwarded", "for=198.51.100.7", None),
    ("Forwarded", 'proto=https;for="198.51.100.7:80"', "wss"),
    ("Forwarded", 'host="a, for=9.9.9.9";for=198.51.100.7;proto=http', "ws"),
    ("X-Forwarded-For", "198.51.100.7", None),
    ("X-Forwarded-For", "198.51.100.7:8080", None),
)


def run(data: bytes) -> None:
    source = Source(data)
    name, added, scheme = source.pick(ADDED)
    together = source.flag()
    lines = [(source.pick(NAMES), text_of(source)) for _ in range(source.byte() % 4)]
    for address in (PEER, None, ClientAddress("203.0.113.99", 2)):
        seen = find_client(Headers(lines), address, TRUSTED)
        assert seen.scheme in ("ws", "wss", None)
        if not TRUSTED.has(address):
            assert seen == (address, None, False)
        elif seen.client != address:
            check(seen.client, lines)
    # The proxy adds what it has seen to the client's line, or as a line of its own.
    same = [text for other, text in lines if other == name]
    spoofed = [*same, added]
    if together:
        spoofed = [", ".join(spoofed)]
    hops = forwarded_hops(spoofed) if name == "Forwarded" else x_forwarded_hops(spoofed)
    first = next(hops)
    assert first.address is not None
    assert first.address.host == "198.51.100.7"
    seen = find_client(Headers([(name, text) for text in spoofed]), PEER, TRUSTED)
    assert seen.client == first.address, spoofed
    assert seen.scheme == scheme, spoofed


def text_of(source: Source) -> str:
    return "".join(
        source.text(8) if source.byte() > 230 else source.pick(PARTS)
        for _ in range(source.byte() % 12)
    )


def check(client: ClientAddress | None, lines: list[tuple[str, str]]) -> None:
    """It stands in a header, and is an address or a hidden one."""
    assert client is not None
    assert client.port is None or 0 <= client.port <= 65535
    if client.host.startswith("_") or client.host == "unix:":
        assert any(client.host in text for _, text in lines)
    else:
        ip = ip_address_of(client.host)
        assert ip is not None
        assert str(ip) == client.host
