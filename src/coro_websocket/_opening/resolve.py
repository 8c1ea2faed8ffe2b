"""The addresses of a host, in the order to try them (RFC 8305 section 4)."""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import itertools
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOptionType
from .._http.opening_errors import ConnectError
from .._runtimes.lookup import look_up

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import SocketLoop

__all__ = ["Address", "literal_address", "resolve"]

Address = tuple[int, int, int, tuple[object, ...]]


async def resolve(loop: SocketLoop, options: Options, host: str, port: int) -> list[Address]:
    """The addresses of the host, in the order to try them."""
    literal = literal_address(host, port)
    if literal is not None:
        found = [literal]  # no thread is needed for that
    elif options.resolver is not None:
        found = await _ask(options.resolver, host, port)
    else:
        try:
            answers = await look_up(loop, host, port, options.family or 0)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConnectError(f"cannot resolve the host {host}: {reason}", "resolve") from error
        found = [(family, kind, proto, address) for family, kind, proto, _, address in answers]
    wanted = {options.family} if options.family is not None else {each[0] for each in found}
    if options.local_addr is not None:
        wanted &= {socket.AF_INET6 if ":" in options.local_addr[0] else socket.AF_INET}
    usable = [each for each in found if each[0] in wanted]
    if not usable:
        allowed = " that family and local_addr let us use" if found else ""
        raise ConnectError(f"the host {host} has no address{allowed}", "resolve")
    return _interleaved(usable)


def literal_address(host: str, port: int) -> Address | None:
    """The address that the host is, if it is one."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).version == 4:
            return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, (host, port)
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, (host, port, 0, 0)
    return None


async def _ask(resolver: Any, host: str, port: int) -> list[Address]:
    """The addresses that a resolver of the user's gives."""
    try:
        given = resolver(host)
        awaitable = inspect.isawaitable(given)
        if awaitable:
            given = await given
        listed = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
        hosts = list(given) if listed else []
    except Exception as error:  # whatever a library of the user's raises
        reason = str(error) if isinstance(error, OSError) else repr(error)
        raise ConnectError(f"cannot resolve the host {host}: {reason}", "resolve") from error
    if not awaitable or not listed:
        what = "" if awaitable else "an awaitable of "
        raise InvalidOptionType(
            f"resolver must give {what}a list of IP addresses, not {type(given).__name__}",
            "resolver",
        )
    found = []
    for each in hosts:
        literal = literal_address(each, port) if isinstance(each, str) else None
        if literal is None:
            raise ConnectError(
                f"the resolver must give IP addresses as str, and gave {each!r} for {host}",
                "resolve",
            )
        found.append(literal)
    return found


def _interleaved(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn, the preferred family first (RFC 8305 section 4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [each for pair in pairs for each in pair if each is not None]
