"""The socket that a connection is bound to, as `res.socket` shows it, and what it is bound to."""

from __future__ import annotations

import contextlib
import errno
import io
import socket
from typing import TYPE_CHECKING, Any

from .._headers import clip

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["ConnectionSocket", "host_with_zone", "scoped"]


def scoped(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """A socket address with the zone of its host as a scope id, without which it is not used.

    Raises OSError if this machine has no such network interface (RFC 4007 section 11).
    """
    host, _, zone = str(address[0]).partition("%")
    if not zone:
        return address
    try:
        if zone.isdigit():
            scope = int(zone)
            socket.if_indextoname(scope)
        else:
            scope = socket.if_nametoindex(zone)
    except (OSError, OverflowError, ValueError):  # no name, and no number of one
        raise OSError(
            f"this machine has no network interface {clip(zone, 64)} (the IPv6 zone)"
        ) from None
    return host, address[1], 0, scope


def host_with_zone(address: tuple[Any, ...]) -> str:
    """The host of a socket address as the system gives it, with its zone, if it has one."""
    host, scope = str(address[0]), address[3] if len(address) > 3 else 0
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface has gone
        return f"{host}%{scope}"


class ConnectionSocket(socket.socket):
    """A socket that knows whether its own side has shut it down.

    `shutdown()` ends the connection from our side: the read loop ends without an
    error, as in the original's example. `close()` does the same, so that the file
    descriptor stays with the connection, which closes it.

    `in_use` says that a connection reads and writes the descriptor itself.
    `transport` is asyncio's, where there is one: it closes the socket before it says so.
    """

    __slots__ = ("_on_release", "bound", "in_use", "shut_down", "transport")

    _on_release: Callable[[], object] | None

    bound: bool
    in_use: bool
    shut_down: bool
    transport: asyncio.BaseTransport | None

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # the name that socket.socket gives it
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        self._on_release = None
        self.bound = True
        self.in_use = False
        self.shut_down = False
        self.transport = None
        super().__init__(family, type, proto, fileno)
        self.setblocking(False)
        if self.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Shut the connection down from our side (both directions unless `how` says less)."""
        self.shut_down = True
        try:
            super().shutdown(how)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):  # it has ended already
                raise

    def half_close(self) -> None:
        """Say that nothing more will be sent, as a step of the closing handshake."""
        super().shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Neither send nor wait for more; what has come can still be received."""
        super().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; the descriptor is closed by its owner."""
        if self.bound:
            ours = self.transport is None or not self.transport.is_closing()
            self.shut_down = self.shut_down or ours
            with contextlib.suppress(OSError):
                super().shutdown(socket.SHUT_RDWR)
        else:
            super().close()

    def detach(self) -> int:
        """Raise `io.UnsupportedOperation` while a connection uses the descriptor."""
        if self.in_use:
            raise io.UnsupportedOperation(
                "a WebSocket connection's socket cannot be detached: the connection reads from "
                "it, writes to it and closes it"
            )
        return super().detach()

    def release(self) -> None:
        """Close the descriptor: the owner's close."""
        self.bound = self.in_use = False
        self.transport = None
        self.close()
        callback, self._on_release = self._on_release, None
        if callback is not None:
            with contextlib.suppress(Exception):  # whatever it does, the connection has ended
                callback()

    def when_released(self, callback: Callable[[], object]) -> None:
        """Call this once the descriptor is closed; at once if it is."""
        if self.bound:
            self._on_release = callback
        else:
            callback()
