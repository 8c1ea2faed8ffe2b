"""The socket that a connection is bound to, as `res.socket` shows it, and what it is bound to."""

from __future__ import annotations

import contextlib
import errno
import io
import socket
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtimes.event_loop import Watch

__all__ = ["ConnectionSocket"]


class Transport(Protocol):
    """What asyncio calls so."""

    def is_closing(self) -> bool: ...


class ConnectionSocket(socket.socket):
    """A socket that knows whether its own side has shut it down.

    `shutdown()` ends the connection from our side: the read loop ends without an
    error, as in the original's example. `close()` does the same, so that the file
    descriptor stays with the connection, which closes it.

    `in_use` says that a connection reads and writes the descriptor itself.
    `watch` is what waits for it during the opening handshake.
    `transport` is what owns the descriptor, where there is one: it closes it before it says so.
    """

    __slots__ = ("_on_release", "bound", "in_use", "shut_down", "transport", "watch")

    _on_release: Callable[[], object] | None

    bound: bool
    in_use: bool
    shut_down: bool
    transport: Transport | None
    watch: Watch | None

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
        self.watch = None
        super().__init__(family, type, proto, fileno)
        self.setblocking(False)
        # The property makes an enum of it, which takes time.
        if (self.family if family == -1 else family) in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def taking_over(cls, sock: socket.socket) -> Self:
        """A ConnectionSocket with the descriptor of `sock`, which then has none."""
        return cls(sock.family, sock.type, sock.proto, sock.detach())

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
        self._watch_no_more()
        return super().detach()

    def release(self) -> None:
        """Close the descriptor: the owner's close."""
        self.bound = self.in_use = False
        self.transport = None
        self._watch_no_more()
        self.close()
        callback, self._on_release = self._on_release, None
        if callback is not None:
            with contextlib.suppress(Exception):  # whatever it does, the connection has ended
                callback()

    def _watch_no_more(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def when_released(self, callback: Callable[[], object]) -> None:
        """Call this once the descriptor is closed; at once if it is."""
        if self.bound:
            self._on_release = callback
        else:
            callback()
