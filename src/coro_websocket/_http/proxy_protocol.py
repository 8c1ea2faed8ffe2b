"""The header of the PROXY protocol, versions 1 and 2: whom a proxy in front of us is connected to.

The rule: bytes in, a value out, and not one byte more is asked for than the header surely has:
what follows belongs to TLS or HTTP. A header that is not exactly as the specification has it ends
the connection, as whoever sends something else is not the proxy that we were told of.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt sections 2.1, 2.2 and 2.2.5.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from .._quoting import clip
from .client_address import ClientAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ProxyHeader", "ProxyHeaderReader", "ProxyProtocolError"]

V1_START = b"PROXY "
V1_LIMIT = 107  # bytes, CR and LF among them: section 2.1
V1_SHORTEST = len(b"PROXY UNKNOWN\r\n")
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_FIXED = 16  # bytes before the addresses
V2_LIMIT = 4096  # bytes behind those 16; certificates and names in TLVs need some hundreds

LOCAL, PROXY = 0, 1
UNSPEC, INET, INET6, UNIX = 0, 1, 2, 3
UNSPEC_TRANSPORT, STREAM, DATAGRAM = 0, 1, 2
ADDRESSES = {UNSPEC: 0, INET: 12, INET6: 36, UNIX: 216}  # bytes
TLV_SSL = 0x20  # section 2.2.5
CLIENT_SSL = 0x01

_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


class ProxyProtocolError(OSError):
    """The connection begins with something else than a proper header."""


class ProxyHeader(NamedTuple):
    """What a header says."""

    client: ClientAddress | None  # None: whoever has connected to us is the client
    tls: bool = False  # whether the client has connected to the proxy with TLS


class ProxyHeaderReader:
    """Takes the header at the start of one connection.

    While `header` is None, receive at most `wanted` bytes and pass them to `feed`.
    """

    def __init__(self) -> None:
        self.header: ProxyHeader | None = None
        self._data = b""

    @property
    def wanted(self) -> int:
        """So many bytes of the header are still to come at least; 0 once it is complete."""
        if self.header is not None:
            return 0
        data = self._data
        if V2_SIGNATURE.startswith(data[: len(V2_SIGNATURE)]):
            size = V2_FIXED
            if len(data) >= V2_FIXED:
                size += int.from_bytes(data[14:16], "big")
            # As long as nothing has come, it may be of version 1.
            return (size if data else V1_SHORTEST) - len(data)
        if len(data) < V1_SHORTEST:
            return V1_SHORTEST - len(data)
        if data.endswith(b"\r"):
            return 1
        if data.startswith(b"PROXY UNKNOWN"):
            return 2
        return 2 + 2 * max(0, 5 - data.count(b" "))  # of what five spaces separate, and the end

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `b""` says that no more will come. Then see `header`.

        Raises:
            ProxyProtocolError: this is not a header, or one that is malformed or too long.
        """
        assert len(data) <= self.wanted
        if not data:
            size = len(self._data)
            where = f"after {size} bytes of" if size else "without sending"
            raise ProxyProtocolError(f"the client closed the connection {where} a PROXY header")
        self._data += data
        if V2_SIGNATURE.startswith(self._data[: len(V2_SIGNATURE)]):
            self._check_v2()
        elif not V1_START.startswith(self._data[: len(V1_START)]):
            raise _error("expected a PROXY header, version 1 or 2", self._data)
        else:
            self._check_v1()

    # Version 1

    def _check_v1(self) -> None:
        data = self._data
        if data.endswith(b"\r\n"):
            self.header = _read_v1(data)
        elif len(data) + self.wanted > V1_LIMIT:
            raise _error(f"expected a PROXY header of at most {V1_LIMIT} bytes", data)
        elif b"\n" in data or b"\r" in data[:-1]:
            raise _error("expected the line of a PROXY header to end with CR LF", data)

    # Version 2

    def _check_v2(self) -> None:
        data = self._data
        if len(data) > 12 and data[12] not in (0x20 | LOCAL, 0x20 | PROXY):
            raise ProxyProtocolError(
                "expected version 2 and the command LOCAL or PROXY in a PROXY header, "
                f"received {data[12]:#04x}"
            )
        if len(data) < V2_FIXED:
            return
        size = int.from_bytes(data[14:16], "big")
        if size > V2_LIMIT:
            raise ProxyProtocolError(
                f"expected at most {V2_LIMIT} bytes of addresses and TLVs in a PROXY header, "
                f"received a length of {size}"
            )
        if not self.wanted:
            self.header = _read_v2(data)


def _read_v1(data: bytes) -> ProxyHeader:
    fields = data[:-2].decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":
        return ProxyHeader(None)
    kinds: dict[str, type[ipaddress.IPv4Address | ipaddress.IPv6Address]]
    kinds = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}
    if len(fields) != 6 or fields[1] not in kinds:
        raise _error("expected PROXY TCP4 or TCP6, two addresses and two ports, or UNKNOWN", data)
    client, _ = (_v1_address(kinds[fields[1]], fields[at], fields[at + 2], data) for at in (2, 3))
    return ProxyHeader(client)


def _v1_address(
    kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], address: str, port: str, data: bytes
) -> ClientAddress:
    try:
        ip = kind(address)
    except ValueError:
        ip = None
    if ip is None or "%" in address:  # a zone of another machine
        raise _error("expected addresses of the family in a PROXY header", data)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise _error("expected ports from 0 to 65535 in a PROXY header", data)
    return ClientAddress.of_ip(str(ip), int(port))


def _read_v2(data: bytes) -> ProxyHeader:
    if data[12] & 0x0F == LOCAL:
        return ProxyHeader(None)  # of the proxy itself; what else it says is to be ignored
    family, transport = data[13] >> 4, data[13] & 0x0F
    if family not in ADDRESSES or transport not in (UNSPEC_TRANSPORT, STREAM, DATAGRAM):
        raise ProxyProtocolError(
            f"expected a known address family and transport in a PROXY header, "
            f"received {data[13]:#04x}"
        )
    size = ADDRESSES[family]
    body = data[V2_FIXED:]
    if len(body) < size:
        raise ProxyProtocolError(
            f"expected {size} bytes of addresses in a PROXY header of family {family}, "
            f"received a length of {len(body)}"
        )
    tls = any(
        kind == TLV_SSL and value[:1] != b"" and bool(value[0] & CLIENT_SSL)
        for kind, value in _tlvs(body[size:])
    )
    return ProxyHeader(_v2_address(family, body[:size]), tls)


def _v2_address(family: int, block: bytes) -> ClientAddress | None:
    if family == UNSPEC:
        return None
    if family == UNIX:
        path = block[:108].partition(b"\0")[0]
        if path and b"/" not in path:  # a file called "10.0.0.1" is no address
            path = b"./" + path
        return ClientAddress(path.decode("utf-8", "backslashreplace")) if path else None
    half = 4 if family == INET else 16
    port = int.from_bytes(block[2 * half : 2 * half + 2], "big")
    return ClientAddress.of_ip(str(ipaddress.ip_address(block[:half])), port)


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        end = at + 3 + size
        if end > len(data):
            raise ProxyProtocolError(
                f"expected whole TLVs in a PROXY header, received {len(data) - at} bytes of one "
                f"that has {3 + size}"
            )
        yield data[at], data[at + 3 : end]
        at = end


def _error(expected: str, data: bytes) -> ProxyProtocolError:
    """The start of what came says what it is; more of it could be somebody's secret."""
    start = data[:V1_SHORTEST].decode("latin-1")
    return ProxyProtocolError(f"{expected}, received {clip(start)}")
