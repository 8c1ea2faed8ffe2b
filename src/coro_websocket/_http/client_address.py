"""The address of a client, and networks of addresses: which peers are believed, who counts as one.

The rule: an IPv4 address has one spelling here. Sockets of both families spell it as IPv6 too
(`::ffff:192.0.2.1`), and a network of IPv4 addresses would not know it by that.

RFC 4291 section 2.5.5.2; RFC 7239 section 6.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .._checks import wrong_type
from .._errors import InvalidOption
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["ClientAddress", "NetworkLike", "Networks", "check_networks", "ip_address_of"]

_IPAddress: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_IPNetwork: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
NetworkLike: TypeAlias = "str | _IPAddress | _IPNetwork"

_PLAIN = re.compile(r"[\w.:%\-]+", re.ASCII)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 addresses

UNIX = "unix"  # in a list of networks: peers that connect to a unix socket
ONE_CLIENT_IPV6 = 64  # bits; what follows them a client chooses by itself (RFC 4291 section 2.5.1)


class ClientAddress(NamedTuple):
    """Where a client connects from: `req.client`.

    Attributes:
        host: an IPv4 or IPv6 address, as text without brackets. Of a proxy that hides its
            clients, the name that it has given this one (`_hidden`, RFC 7239 section 6.3); a path
            where the PROXY protocol says that the client came by a unix socket.
        port: its port; None where that is not known.
    """

    host: str
    port: int | None = None

    def __str__(self) -> str:
        """`192.0.2.1:80`, `[2001:db8::1]:80`, or only the host."""
        host = self.host if _PLAIN.fullmatch(self.host) else clip(self.host)
        if self.port is None:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @classmethod
    def of_socket(cls, address: Any) -> ClientAddress | None:
        """From what a socket calls its peer; None for a unix socket's."""
        return cls.of_ip(*address[:2]) if isinstance(address, tuple) else None

    @classmethod
    def of_ip(cls, host: str, port: int | None) -> ClientAddress:
        """From an IP address, which gets its one spelling."""
        if host[:7].lower() == "::ffff:":
            ip = ip_address_of(host)
            host = host if ip is None else str(ip)
        return cls(host, port)

    @property
    def counts_as(self) -> Hashable:
        """What all addresses of one client have in common: the address, of IPv6 its first half."""
        ip = ip_address_of(self.host)
        if isinstance(ip, ipaddress.IPv6Address):
            return int(ip) >> (128 - ONE_CLIENT_IPV6)
        return self.host


def ip_address_of(host: str) -> _IPAddress | None:
    """The IP address that this text is, IPv4 by its own spelling; None for other text."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


class Networks:
    """Networks of IP addresses, perhaps with all peers of unix sockets."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, networks: Iterable[_IPNetwork] = (), *, unix: bool = False) -> None:
        self._networks = tuple(networks)
        self._unix = unix

    def __bool__(self) -> bool:
        return bool(self._networks) or self._unix

    def has(self, address: ClientAddress | None) -> bool:
        """Whether this address is in one of them; None is that of a unix socket's peer."""
        if address is None or address.host == "unix:":  # which nginx writes
            return self._unix
        if not self._networks:
            return False
        ip = ip_address_of(address.host)
        return ip is not None and any(
            ip.version == network.version and ip in network for network in self._networks
        )


def check_networks(value: object, option: str) -> Networks:
    """The networks of an option, else InvalidOption.

    value: addresses and networks, as `str` or as objects of `ipaddress`, and "unix".
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise wrong_type(option, "a list of networks, as ['10.0.0.0/8', 'unix']", value)
    given = list(value)
    return Networks([_network(each, option) for each in given if each != UNIX], unix=UNIX in given)


def _network(value: object, option: str) -> _IPNetwork:
    ipv6 = (ipaddress.IPv6Address, ipaddress.IPv6Network)
    if not isinstance(value, (str, ipaddress.IPv4Address, ipaddress.IPv4Network, *ipv6)):
        raise wrong_type(f"each of {option}", "str or an object of ipaddress", value, option)
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise InvalidOption(
            f"{option}: {clip(str(value))} is not a network{_network_hint(value)}", option
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = ip_address_of(str(network.network_address))
        return ipaddress.ip_network(f"{low}/{network.prefixlen - _MAPPED.prefixlen}")
    return network


def _network_hint(value: object) -> str:
    try:
        wider = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return ": expected an address, '192.0.2.1', a network, '10.0.0.0/8', or 'unix'"
    return f": it is an address in one; did you mean '{wider}'?"
