"""The client's half of a tunnel, against whatever a proxy may answer to CONNECT or SOCKS.

It opens only for an answer that, read in the plainest way, grants it, and to its last byte. The
pieces that the answer comes in change nothing.
"""

from __future__ import annotations

import re

from coro_websocket._http.opening_errors import ProxyError
from coro_websocket._opening.http_tunnel import Tunnel
from coro_websocket._opening.socks import SocksRefusal, SocksTunnel
from coro_websocket._options.proxy import SOCKS, Proxy

from ..source import Source

PROXIES = tuple(
    Proxy.parse(url)
    for url in ("socks5://p", "socks5h://u:p@p", "socks4://p", "socks4a://u@p", "http://p")
)
HOSTS = ("chat.test", "192.0.2.1", "2001:db8::1")
STARTS = (
    b"\5\0",
    b"\5\2\1\0",
    b"\5\0\5\0\0\1",
    b"\5\2\1\0\5\0\0\3",
    b"\0\x5a",
    b"\0\x5a\0\0\0\0\0\0",
)
STARTS += (
    b"\5\0\5\0\0\1\x7f\0\0\1\0\x50",
    b"\5\2\1\0\5\0\0\3\1h\0\x50",
    b"\5\xff",
    b"\5\0\5\5",
    b"",
)
STARTS += (
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 407 Who\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: -1\r\ncontent-length:4,5\n\n",
    b"HTTP/1.1 503 Busy\r\nContent-Length: -1\r\n\r\n",
)
STARTS += (b"HTTP/1.0 200 \r\nContent-Length: 4\r\n", b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 2")
# A head with nothing in it but the length of a body.
LENGTH = rb"(?i:content-length|transfer-encoding):[ -~]*\r?\n"
PLAIN = re.compile(rb"HTTP/1.1 (?:200|503)(?: [ -~]*)?\r?\n(?:%s){0,6}\r?\n" % LENGTH)


def run(data: bytes) -> None:
    source = Source(data)
    proxy, host = source.pick(PROXIES), source.pick(HOSTS)
    cuts = Source(bytes([source.byte(), source.byte()]))
    answer = source.pick(STARTS) + source.rest()
    if not answer or (proxy.scheme.startswith("socks4") and ":" in host):
        return
    outcome = receive(proxy, host, [answer])
    assert receive(proxy, host, list(cuts.pieces(answer))) == outcome, answer
    if outcome is True:
        assert grants(proxy, answer), answer
    plain = proxy.scheme == "http" and len(answer) <= 400 and PLAIN.fullmatch(answer)
    if plain:  # RFC 9110 section 9.3.6
        assert outcome is (answer[9:10] == b"2") or outcome == (False, 503), answer


def receive(proxy: Proxy, host: str, pieces: list[bytes]) -> object:
    """Whether the tunnel is open at the end; or how final the refusal is."""
    tunnel = (
        SocksTunnel(proxy, host, 80)
        if proxy.scheme in SOCKS
        else Tunnel(proxy, host, 80, None, 400, 6)
    )
    opened = False
    for piece in pieces:
        if opened:  # the server has nothing to say yet
            return True, None
        try:
            opened = tunnel.receive(piece)
        except (ProxyError, SocksRefusal) as refusal:
            said = str(refusal)
            assert said.isascii()
            assert said.isprintable(), said
            assert len(said) < 1000
            return refusal.permanent, getattr(refusal, "status", None)
    return opened


def grants(proxy: Proxy, answer: bytes) -> bool:
    if proxy.scheme.startswith("socks4"):
        return len(answer) == 8 and answer.startswith(b"\0\x5a")
    if proxy.scheme == "http":
        last = re.split(rb"\r?\n\r?\n", answer)[-2]
        return re.match(rb"\s*HTTP/1\.[01] 2\d\d", last) is not None
    if proxy.username is not None and answer.startswith(b"\5\2"):
        assert answer[3] == 0
        reply = answer[4:]
    else:
        assert answer.startswith(b"\5\0")
        reply = answer[2:]
    size = {1: 4, 3: 1 + reply[4], 4: 16}[reply[3]]
    return reply.startswith(b"\5\0") and len(reply) == 4 + size + 2
