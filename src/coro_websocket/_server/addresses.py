"""Where a server listens: the options that say so, their rules, and the sockets they become.

The rule: what cannot be used is refused before anything is opened; then all of it is listened on,
or nothing is.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from .._checks import check_int, is_int, wrong_type
from .._errors import InvalidOption, InvalidOptionType
from .._options.options import Options
from .._options.rules import stream_socket
from .._options.url import URL, default_port
from .._quoting import clip
from .._runtimes.lookup import host_with_zone
from .listening import Access, UnixFile, check_listening, listen_tcp, listen_unix
from .systemd import systemd_sockets
from .unix_owner import Owner, check_owner

if TYPE_CHECKING:
    from .._runtimes.event_loop import SocketLoop

__all__ = ["BACKLOG", "Addresses", "Listening", "Sockets", "url_of"]

BACKLOG = 1024

Sockets: TypeAlias = "socket.socket | Iterable[socket.socket] | str"


@dataclass(frozen=True)
class Listening:
    """What a server listens on, and what becomes of it.

    Attributes:
        sockets: those that listen.
        path: that of a unix socket, for its URL.
        file: the file to delete when listening ends.
        shared: whether another process may accept from these sockets too.
        backlog: how many may wait in each to be accepted.
    """

    sockets: list[socket.socket]
    path: str | None = None
    file: UnixFile | None = None
    shared: bool = False
    backlog: int = BACKLOG


@dataclass(frozen=True)
class Addresses:
    """The options of `serve` that say where to listen, checked."""

    hosts: tuple[str, ...]
    port: int
    path: str | None
    sockets: tuple[socket.socket, ...]
    backlog: int
    reuse_port: bool
    access: Access

    @classmethod
    def check(
        cls,
        host: str | Sequence[str] | None,
        port: int,
        path: str | os.PathLike[str] | None,
        sock: Any,
        *,
        backlog: int = BACKLOG,
        reuse_port: bool = False,
        mode: int | None = None,
        owner: Owner | None = None,
    ) -> Self:
        """Raises InvalidOption for what cannot be used."""
        if sum(given is not None for given in (host, path, sock)) > 1:
            raise InvalidOption("give one of host, path and sock", "host")
        hosts = ("127.0.0.1",) if host is None else _hosts(host)
        checked = Options(path=path).path
        sockets = () if sock is None else _sockets(sock)
        check_int("port", port, 0, 65535)
        if port and (path is not None or sock is not None):
            raise InvalidOption("port is for TCP: leave it out with path or sock", "port")
        check_int("backlog", backlog, 1, 2**31 - 1)
        if not isinstance(reuse_port, bool):
            raise wrong_type("reuse_port", "bool", reuse_port)
        if reuse_port and (path is not None or sock is not None):
            raise InvalidOption(
                "reuse_port is for TCP: leave it out with path or sock", "reuse_port"
            )
        if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise InvalidOption("this platform has no SO_REUSEPORT", "reuse_port")
        if mode is not None:
            hint = ", in octal as 0o660" if is_int(mode) and mode > 0o777 else ""
            check_int("mode", mode, 0, 0o777, span=f"from 0 to 0o777{hint}")
        for name, given in (("mode", mode), ("owner", owner)):
            if given is not None and (checked is None or checked.startswith("\0")):
                raise InvalidOption(
                    f"{name} is that of a unix socket's file: give path, and no abstract name", name
                )
        access = Access(mode, *check_owner(owner))
        return cls(hosts, port, checked, sockets, backlog, reuse_port, access)

    def on_port(self, port: int) -> Self:
        """The same, on this port."""
        return replace(self, port=port)

    async def listen(self, loop: SocketLoop) -> Listening:
        """Raises ServeError where that cannot be had."""
        if self.sockets:
            return Listening(list(self.sockets), shared=True)
        if self.path is not None:
            listener, file = await listen_unix(loop, self.path, self.backlog, self.access)
            return Listening([listener], self.path, file, backlog=self.backlog)
        listeners = await listen_tcp(
            loop, self.hosts, self.port, self.backlog, reuse_port=self.reuse_port
        )
        # With reuse_port, too, each socket has a backlog of its own.
        return Listening(listeners, backlog=self.backlog)


def url_of(listeners: Iterable[socket.socket], path: str | None, *, tls: bool) -> str:
    """A URL under which a client on this machine reaches one of them; "" if none listens."""
    for listener in listeners:
        address = listener.getsockname()
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            host, port = host_with_zone(address), address[1]
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            return str(URL(host, port, tls, "/"))
        name = path or os.fsdecode(address)
        if name:
            return str(URL("localhost", default_port(tls), tls, "/", path=name))
    return ""


def _hosts(host: object) -> tuple[str, ...]:
    several = isinstance(host, Sequence) and not isinstance(host, (str, bytes, bytearray))
    hosts = tuple(host) if several else (host,)  # type: ignore[arg-type]
    if not hosts:
        raise InvalidOption("host is an empty list: give at least one address", "host")
    for each in hosts:
        if is_int(each) and not several:
            raise InvalidOptionType(f"host must be str, not int: did you mean port={each}?", "host")
        if not isinstance(each, str):
            raise wrong_type("host", "str or a list of str", each)
        if "\0" in each:  # a resolver would take what comes before it
            raise InvalidOption("host contains a NUL", "host")
        if "@" in each:  # what stands before it may be a password
            raise InvalidOption("host contains an '@': expected only a name or an address", "host")
    return tuple(dict.fromkeys(map(str, hosts)))


def _sockets(sock: object) -> tuple[socket.socket, ...]:
    if isinstance(sock, str):
        if sock != "systemd":
            raise InvalidOption(f"sock must be a socket or 'systemd', not {clip(sock)}", "sock")
        sockets: tuple[Any, ...] = tuple(systemd_sockets())
        if not sockets:
            raise InvalidOption(
                "sock='systemd', but systemd has passed no socket to this process (LISTEN_FDS): "
                "start it by its socket unit",
                "sock",
            )
    elif isinstance(sock, Iterable):
        sockets = tuple(sock)
        if not sockets:
            raise InvalidOption("sock is an empty list: give at least one socket", "sock")
    else:
        sockets = (sock,)
    for each in sockets:
        check_listening(stream_socket("sock", each))
    if len({each.fileno() for each in sockets}) < len(sockets):
        raise InvalidOption("sock has the same socket twice", "sock")
    return sockets
