"""SOCKS: one request to a proxy to connect on to a server, without I/O.

The rule: each step names what to send and how many bytes of the answer it needs, so that no
step depends on how the answer is cut into pieces.

RFC 1928 (SOCKS5) and RFC 1929 (its user name and password); Ying-Da Lee's memos on SOCKS4 and
SOCKS4A.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .._options.proxy import Proxy

__all__ = ["SocksRefusal", "SocksTunnel"]

CONNECT = 1

# SOCKS5: methods of authentication (RFC 1928 section 3), kinds of addresses (section 5).
NO_AUTHENTICATION, USERNAME_PASSWORD, NO_METHOD = 0, 2, 0xFF
IPV4, NAME, IPV6 = 1, 3, 4

# SOCKS5's answers other than 0 (RFC 1928 section 6).
GENERAL_FAILURE, NOT_ALLOWED = 1, 2
NO_NETWORK, NO_HOST, REFUSED, TTL_EXPIRED, NO_COMMAND, NO_ADDRESS_TYPE = 3, 4, 5, 6, 7, 8
REASONS = {
    GENERAL_FAILURE: "general failure",
    NOT_ALLOWED: "its rules do not allow it",
    NO_NETWORK: "network unreachable",
    NO_HOST: "host unreachable",
    REFUSED: "connection refused",
    TTL_EXPIRED: "TTL expired",
    NO_COMMAND: "it does not support CONNECT",
    NO_ADDRESS_TYPE: "it does not support this type of address",
}
ELSEWHERE = {GENERAL_FAILURE, NO_NETWORK, NO_HOST, REFUSED, TTL_EXPIRED, NO_ADDRESS_TYPE}
PERMANENT = {NOT_ALLOWED, NO_COMMAND, NO_ADDRESS_TYPE}

# SOCKS4's answers.
GRANTED, REJECTED = 0x5A, 0x5B
REASONS4 = {
    REJECTED: "rejected or failed",
    0x5C: "it cannot ask identd on this machine",
    0x5D: "identd on this machine names another user",
}

# What to send, and how many bytes of the answer to wait for.
Steps: TypeAlias = Generator[tuple[bytes, int], bytes, None]


class SocksRefusal(Exception):
    """Why the proxy does not connect us.

    permanent: whether it would say the same again. elsewhere: whether it may well reach another
    address of the server.
    """

    def __init__(self, reason: str, *, permanent: bool = False, elsewhere: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.elsewhere = elsewhere


class SocksTunnel:
    """One request to connect to a host, which is an IP address or a name for the proxy to resolve.

    Send `request` whenever there is some, then pass what comes to `receive` until it says True.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        try:
            self._address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = (
                ipaddress.ip_address(host)
            )
        except ValueError:
            self._address = None
        self._name = host.encode("ascii")
        self._port = port.to_bytes(2, "big")
        self._steps = self._socks4() if proxy.scheme.startswith("socks4") else self._socks5()
        self._received = bytearray()
        self.request, self._needed = next(self._steps)

    def receive(self, data: bytes) -> bool:
        """Take bytes of the proxy; True once the tunnel is there.

        Raises SocksRefusal if the proxy refuses, or does not speak this version of SOCKS.
        """
        self.request = b""
        if not data:
            raise SocksRefusal("it closed the connection without an answer")
        self._received += data
        while len(self._received) >= self._needed:
            answer = bytes(self._received[: self._needed])
            del self._received[: self._needed]
            try:
                request, self._needed = self._steps.send(answer)
            except StopIteration:
                break
            self.request += request
        else:
            return False
        if self._received:
            raise SocksRefusal(
                f"it sent {len(self._received)} bytes after its answer, where the server has "
                "nothing to say yet",
                permanent=True,
            )
        return True

    def _socks4(self) -> Steps:
        user = (self._proxy.username or "").encode()
        if self._address is None:  # SOCKS4A: an address that is none, and the name at the end
            address, name = b"\0\0\0\1", self._name + b"\0"
        elif self._address.version == 4:
            address, name = self._address.packed, b""
        else:
            raise SocksRefusal("SOCKS4 has no IPv6 addresses (SOCKS5 has)", permanent=True)
        head = bytes((4, CONNECT)) + self._port + address
        version, code = yield head + user + b"\0" + name, 2
        if version != 0:
            raise SocksRefusal("it does not speak SOCKS4", permanent=True)
        if code != GRANTED:
            raise SocksRefusal(
                REASONS4.get(code, f"answer {code}"),
                permanent=code != REJECTED,
                elsewhere=code == REJECTED,
            )
        yield b"", 6

    def _socks5(self) -> Steps:
        yield from self._authenticate()
        if self._address is None:
            address = bytes((NAME, len(self._name))) + self._name
        else:
            kind = IPV4 if self._address.version == 4 else IPV6
            address = bytes((kind,)) + self._address.packed
        # A proxy that refuses may leave out the rest of its answer.
        version, code = yield bytes((5, CONNECT, 0)) + address + self._port, 2
        _check_socks5(version)
        if code != 0:
            raise SocksRefusal(
                f"{REASONS.get(code, f'answer {code}')} (RFC 1928 section 6)",
                permanent=code in PERMANENT,
                elsewhere=code in ELSEWHERE,
            )
        _, kind = yield b"", 2
        if kind == NAME:
            (size,) = yield b"", 1
        elif kind in (IPV4, IPV6):
            size = 4 if kind == IPV4 else 16
        else:
            raise SocksRefusal(
                f"its answer has an address of type {kind} (RFC 1928 section 5)", permanent=True
            )
        yield b"", size + 2

    def _authenticate(self) -> Steps:
        """Agree on a method (RFC 1928 section 3) and say who we are (RFC 1929)."""
        user, password = self._proxy.username, self._proxy.password
        methods = [NO_AUTHENTICATION]
        if user is not None and password is not None:
            methods.append(USERNAME_PASSWORD)
        version, method = yield bytes((5, len(methods), *methods)), 2
        _check_socks5(version)
        if method not in methods:
            if method not in (USERNAME_PASSWORD, NO_METHOD):
                raise SocksRefusal(
                    f"it chose method {method} of authentication, which was not offered "
                    "(RFC 1928 section 3)",
                    permanent=True,
                )
            wants = (
                "it asks for a user name and password"
                if user is None
                else "it takes neither user name and password, nor a client without"
            )
            raise SocksRefusal(f"{wants} (RFC 1928 section 3)", permanent=True)
        if method == USERNAME_PASSWORD:
            assert user is not None
            assert password is not None
            fields = (user.encode(), password.encode())
            message = b"\1" + b"".join(bytes((len(field),)) + field for field in fields)
            _, status = yield message, 2
            if status != 0:
                raise SocksRefusal(
                    "it rejects the user name and password that it was given (RFC 1929 section 2)",
                    permanent=True,
                )


def _check_socks5(version: int) -> None:
    if version != 5:
        raise SocksRefusal("it does not speak SOCKS5", permanent=True)
