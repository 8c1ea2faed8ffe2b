"""The header of the PROXY protocol: versions 1 and 2, in any pieces, and what is none."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._http.client_address import ClientAddress
from coro_websocket._http.proxy_protocol import ProxyHeader, ProxyHeaderReader, ProxyProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
AFTER = b"GET / HTTP/1.1\r\n"


def read(data, size=4096):
    """The header, and what is left; the reader gets at most `size` bytes at a time."""
    reader = ProxyHeaderReader()
    at = 0
    while reader.header is None:
        assert reader.wanted > 0
        piece = data[at : at + min(reader.wanted, size)]
        at += len(piece)
        reader.feed(piece)
    assert reader.wanted == 0
    return reader.header, data[at:]


def v2(command=0x21, family=0x11, body=b"", length=None):
    length = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", length) + body


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


INET = ipaddress.ip_address("203.0.113.5").packed + bytes(4) + struct.pack("!HH", 4711, 80)
INET6 = ipaddress.ip_address("2001:db8::5").packed + bytes(16) + struct.pack("!HH", 4711, 80)
IPV4 = ClientAddress("203.0.113.5", 4711)
IPV6 = ClientAddress("2001:db8::5", 4711)
SSL = tlv(0x20, struct.pack("!BI", 1, 0) + tlv(0x21, b"TLSv1.3"))

HEADERS = {
    "v1 IPv4": (b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 80\r\n", IPV4),
    "v1 shortest": (b"PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n", ("1.2.3.4", 0)),
    "v1 IPv6": (b"PROXY TCP6 2001:DB8::5 ::1 4711 80\r\n", IPV6),
    "v1 longest": (
        b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2 + [b"65535"] * 2) + b"\r\n",
        (("ffff:" * 8)[:-1], 65535),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 IPv4": (v2(body=INET), IPV4),
    "v2 IPv6": (v2(family=0x21, body=INET6), IPV6),
    "v2 mapped": (
        v2(family=0x21, body=ipaddress.ip_address("::ffff:203.0.113.5").packed + INET6[16:]),
        IPV4,
    ),
    "v2 datagrams": (v2(family=0x12, body=INET), IPV4),
    "v2 unix": (v2(family=0x31, body=b"/run/a".ljust(108, b"\0") + bytes(108)), ("/run/a", None)),
    "v2 unix that looks like an address": (
        v2(family=0x31, body=b"10.0.0.1".ljust(108, b"\0") + bytes(108)),
        ("./10.0.0.1", None),
    ),
    "v2 unnamed unix": (v2(family=0x31, body=bytes(216)), None),
    "v2 unspecified": (v2(family=0x00), None),
    "v2 unspecified with more": (v2(family=0x00, body=tlv(5, b"id")), None),
    "v2 local": (v2(command=0x20, family=0x00), None),
    "v2 local whose family counts for nothing": (v2(command=0x20, family=0xFF, body=b"x"), None),
    "v2 TLVs": (v2(body=INET + tlv(1, b"http/1.1") + tlv(5, b"x" * 128) + tlv(4, b"")), IPV4),
    "v2 largest": (v2(body=INET + tlv(4, bytes(4096 - 15))), IPV4),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_header_is_taken_and_not_a_byte_behind_it(name, size):
    data, client = HEADERS[name]
    assert read(data + AFTER, size) == ((client, False), AFTER)


@pytest.mark.parametrize(
    ("told", "tls"),
    [(SSL, True), (tlv(0x20, b"\x00" * 5), False), (tlv(0x20, b""), False), (b"", False)],
)
def test_version_2_tells_whether_the_client_has_come_with_tls(told, tls):
    assert read(v2(body=INET + told))[0] == ProxyHeader(IPV4, tls)


MALFORMED = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: a\r\n", "received 'GET / HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01" + bytes(20), "expected a PROXY header, version 1 or 2"),
    "another case": (b"proxy TCP4 203.0.113.5 192.0.2.1 1 2\r\n", "expected a PROXY header"),
    "another family": (b"PROXY UDP4 203.0.113.5 192.0.2.1 1 2\r\n", "expected PROXY TCP4 or"),
    "two spaces": (b"PROXY TCP4  203.0.113.5 192.0.2.1 1 2\r\n", "expected PROXY TCP4 or"),
    "no ports": (b"PROXY TCP4 203.0.113.5 192.0.2.1\r\n", "expected PROXY TCP4 or"),
    "an IPv6 address as TCP4": (b"PROXY TCP4 ::1 192.0.2.1 1 2\r\n", "addresses of the family"),
    "an IPv4 address as TCP6": (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "addresses of the family"),
    "a zone": (b"PROXY TCP6 fe80::1%1 fe80::2 1 2\r\n", "expected addresses"),
    "a port that is too large": (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "expected ports"),
    "a port with a zero": (b"PROXY TCP4 1.2.3.4 1.2.3.4 080 2\r\n", "expected ports"),
    "no CR": (b"PROXY TCP4 1.2.3.4 1.2.3.4 80 2\nGET / HTTP/1.1", "end with CR LF"),
    "CR alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 80 2\rGET / HTTP/1.1", "end with CR LF"),
    "too long": (b"PROXY UNKNOWN" + b" x" * 60 + b"\r\n", "at most 107 bytes"),
    "version 3": (v2(command=0x31, body=INET), "received 0x31"),
    "another command": (v2(command=0x22, body=INET), "received 0x22"),
    "an unknown family": (v2(family=0x41, body=bytes(300)), "received 0x41"),
    "an unknown transport": (v2(family=0x13, body=INET), "received 0x13"),
    "too few addresses": (v2(body=INET[:-1]), "expected 12 bytes of addresses"),
    "half a TLV": (v2(body=INET + b"\x01\x00"), "received 2 bytes of one that has 3"),
    "a TLV that is too long": (v2(body=INET + b"\x01\x00\x05abc"), "received 6 bytes of one"),
    "too much": (v2(body=INET, length=4097), "at most 4096 bytes"),
    "the end": (b"PROXY TCP4 1.2", "after 14 bytes of a PROXY header"),
    "nothing": (b"", "without sending a PROXY header"),
    "the end in version 2": (v2(body=INET)[:-1], "after 27 bytes of a PROXY header"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("size", [1, 4096])
def test_what_is_no_header_is_refused(name, size):
    data, said = MALFORMED[name]
    with pytest.raises(ProxyProtocolError) as caught:
        read(data, size)
    if size > 1:  # of the first byte that is wrong there is less to say
        assert said in str(caught.value)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@given(st.ip_addresses(), st.integers(0, 65535), st.integers(1, 20))
def test_every_address_is_read_in_both_versions(ip, port, size):
    expected = ClientAddress.of_socket((str(ip), port))
    zero = type(ip)(0)
    line = f"PROXY TCP{ip.version} {ip} {zero} {port} 1\r\n".encode()
    assert read(line + AFTER, size) == ((expected, False), AFTER)
    block = ip.packed + zero.packed + struct.pack("!HH", port, 1)
    data = v2(family=0x11 if ip.version == 4 else 0x21, body=block)
    assert read(data + AFTER, size) == ((expected, False), AFTER)


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, v2(body=INET)[:-3]]),
    st.binary(),
    st.integers(1, 9),
)
def test_the_pieces_change_nothing_and_nothing_else_is_raised(start, rest, size):
    outcomes = []
    for each in (size, 4096):
        try:
            outcomes.append(read(start + rest, each))
        except ProxyProtocolError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
