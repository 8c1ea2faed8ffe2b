"""The SOCKS client, without a network: RFC 1928, RFC 1929, SOCKS4 and SOCKS4A."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._opening.socks import SocksRefusal, SocksTunnel
from coro_websocket._options.proxy import Proxy

SOCKS4 = Proxy.parse("socks4://me@p")
SOCKS5 = Proxy.parse("socks5://p")
AUTH = Proxy.parse("socks5h://me:s%C3%A4same@p")

GRANTED4 = b"\0\x5a" + bytes(6)
GRANTED5 = b"\5\0\0\1" + bytes(6)


def spoken(tunnel: SocksTunnel, answers: list[bytes], size: int = 100) -> list[bytes]:
    """What we send, where the proxy answers so, in pieces of this size."""
    sent = [tunnel.request]
    for answer in answers:
        for start in range(0, len(answer), size):
            opened = tunnel.receive(answer[start : start + size])
            if tunnel.request:
                sent.append(tunnel.request)
    assert opened
    return sent


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("proxy", "host", "answers", "sent"),
    [
        (SOCKS4, "192.0.2.1", [GRANTED4], [b"\4\1\0\x50\xc0\0\2\1me\0"]),
        (SOCKS4, "chat.test", [GRANTED4], [b"\4\1\0\x50\0\0\0\1me\0chat.test\0"]),
        (
            SOCKS5,
            "192.0.2.1",
            [b"\5\0", GRANTED5],
            [b"\5\1\0", b"\5\1\0\1\xc0\0\2\1\0\x50"],
        ),
        (
            SOCKS5,
            "2001:db8::1",
            [b"\5\0", b"\5\0\0\4" + bytes(18)],
            [b"\5\1\0", b"\5\1\0\4\x20\1\x0d\xb8" + bytes(11) + b"\1\0\x50"],
        ),
        (
            AUTH,
            "chat.test",
            [b"\5\2", b"\1\0", b"\5\0\0\3\4test\0\0"],
            [b"\5\2\0\2", b"\1\2me\7s\xc3\xa4same", b"\5\1\0\3\x09chat.test\0\x50"],
        ),
        # Credentials are sent only where they are asked for.
        (
            AUTH,
            "chat.test",
            [b"\5\0", GRANTED5],
            [b"\5\2\0\2", b"\5\1\0\3\x09chat.test\0\x50"],
        ),
    ],
)
def test_what_is_sent_to_connect(proxy, host, answers, sent, size):
    assert spoken(SocksTunnel(proxy, host, 80), answers, size) == sent


@pytest.mark.parametrize(
    ("proxy", "answers", "said", "permanent", "elsewhere"),
    [
        (SOCKS4, b"\0\x5b", "rejected or failed", False, True),
        (SOCKS4, b"\0\x5d" + bytes(6), "identd", True, False),
        (SOCKS4, b"\0\x99" + bytes(6), "answer 153", True, False),
        (SOCKS4, b"HTTP/1.1 400 Bad\r\n", "does not speak SOCKS4", True, False),
        (SOCKS5, b"HTTP/1.1 400 Bad\r\n", "does not speak SOCKS5", True, False),
        (SOCKS5, b"\5\2", "asks for a user name and password", True, False),
        (SOCKS5, b"\5\xff", "asks for a user name and password", True, False),
        (SOCKS5, b"\5\1", "method 1 .* not offered", True, False),
        (AUTH, b"\5\xff", "takes neither", True, False),
        (AUTH, b"\5\2\1\1", "rejects the user name and password", True, False),
        (SOCKS5, b"\5\0\5\1", "general failure", False, True),
        (SOCKS5, b"\5\0\5\2", "rules do not allow", True, False),
        (SOCKS5, b"\5\0\5\5\0\1" + bytes(6), "connection refused", False, True),
        (SOCKS5, b"\5\0\5\x08", "type of address", True, True),
        (SOCKS5, b"\5\0\5\x63", "answer 99", False, False),
        (SOCKS5, b"\5\0\4\0", "does not speak SOCKS5", True, False),
        (SOCKS5, b"\5\0\5\0\0\2", "address of type 2", True, False),
        (SOCKS5, b"\5\0" + GRANTED5 + b"early", "5 bytes after its answer", True, False),
        (SOCKS4, GRANTED4 + b"early", "5 bytes after its answer", True, False),
        (SOCKS5, b"", "closed the connection", False, False),
    ],
)
def test_what_a_proxy_refuses(proxy, answers, said, permanent, elsewhere):
    tunnel = SocksTunnel(proxy, "192.0.2.1", 80)
    with pytest.raises(SocksRefusal, match=said) as caught:
        tunnel.receive(answers)
    assert (caught.value.permanent, caught.value.elsewhere) == (permanent, elsewhere)
    assert "same" not in str(caught.value).replace("the same", "")


def test_socks4_has_no_ipv6():
    with pytest.raises(SocksRefusal, match="no IPv6") as caught:
        SocksTunnel(SOCKS4, "::1", 80)
    assert caught.value.permanent


@given(
    st.sampled_from([SOCKS4, SOCKS5, AUTH]),
    st.sampled_from(["192.0.2.1", "chat.test"]),
    st.sampled_from([b"", b"\0", b"\0\x5a", b"\5\0", b"\5\2\1\0", b"\5\0\5\0\0\3"]),
    st.lists(st.binary(max_size=40), max_size=20),
)
def test_any_bytes_in_any_pieces_mean_the_same_and_end(proxy, host, start, pieces):
    def ending(pieces: list[bytes]) -> object:
        """Whether the tunnel opens, why it does not, or None where more is awaited."""
        tunnel = SocksTunnel(proxy, host, 80)
        opened = False
        for piece in pieces:
            if opened:
                return "behind"
            try:
                opened = tunnel.receive(piece)
            except SocksRefusal as refusal:
                said = str(refusal)
                return "behind" if "after its answer" in said else said
        return opened

    whole = b"".join([start, *pieces])
    if not whole:
        return
    at_once = ending([whole])
    assert ending([bytes((each,)) for each in whole]) == at_once
    assert ending([each for each in (start, *pieces) if each]) == at_once
