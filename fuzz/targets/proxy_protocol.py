"""The header of the PROXY protocol, against whatever may come first on a connection.

The pieces change nothing, no more is asked for than the header has, and a header of version 1 is
taken only if it is, read in the plainest way, one.
"""

from __future__ import annotations

import ipaddress
import re

from coro_websocket._http.proxy_protocol import ProxyHeaderReader, ProxyProtocolError

from ..source import Source

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = b"\xcb\x00\x71\x05\xc0\x00\x02\x01\x12\x67\x00\x50"
STARTS = (b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", SIGNATURE)
STARTS += (
    b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 80\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    SIGNATURE + b"\x20\x00\0\0",
    SIGNATURE + b"\x21\x11\0\x0c" + INET,
    SIGNATURE + b"\x21\x11\0\x14" + INET + b"\x20\0\5\1\0\0\0\0",
    SIGNATURE + b"\x21\x21",
    SIGNATURE + b"\x21\x31\0\xd8/run/a\0",
)
V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
)


def run(data: bytes) -> None:
    source = Source(data)
    cuts = source.byte()
    start = source.pick(STARTS)
    if source.byte() > 200:
        start = start[: source.byte() % (len(start) + 1)]
    came = start + source.rest()
    outcome = receive(came, 1 + cuts % 16)
    assert outcome == receive(came, 1 << 20), came
    if outcome is None:
        return
    header, used = outcome
    head = came[:used]
    if head.startswith(b"PROXY"):
        assert used <= 107
        match = V1.fullmatch(head)
        assert match is not None
        if match[1] is None:
            assert header == (None, False)
        else:
            client = ipaddress.ip_address(match[2].decode())
            client = getattr(client, "ipv4_mapped", None) or client
            assert header == ((str(client), int(match[4])), False)
    else:
        assert head.startswith(SIGNATURE)
        assert head[12] in (0x20, 0x21)
        assert used == 16 + int.from_bytes(head[14:16], "big")
        if head[12] == 0x20 or head[13] < 0x10:
            assert header.client is None


def receive(came: bytes, most: int):  # type: ignore[no-untyped-def]
    """The header and the number of its bytes; None if it is none."""
    reader = ProxyHeaderReader()
    at = 0
    try:
        while reader.header is None:
            assert reader.wanted > 0
            piece = came[at : at + min(most, reader.wanted)]
            at += len(piece)
            reader.feed(piece)
    except ProxyProtocolError as error:
        assert str(error).isascii()
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 300
        return None
    return reader.header, at
