"""The socket that a connection is bound to, as `res.socket` shows it."""

from __future__ import annotations

import contextlib
import errno
import socket

__all__ = ["ConnectionSocket"]


class ConnectionSocket(socket.socket):
    """A socket that knows whether its own side has shut it down.

    `shutdown()` ends the connection from our side: the read loop ends without an
    error, as in the original's example. `close()` does the same, so that the file
    descriptor stays with the connection, which closes it.
    """

    __slots__ = ("bound", "shut_down")

    bound: bool
    shut_down: bool

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # the name that socket.socket gives it
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        self.bound = True
        self.shut_down = False
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

    def close(self) -> None:
        """End the connection; the descriptor is closed by its owner."""
        if self.bound:
            with contextlib.suppress(OSError):
                self.shutdown()
        else:
            super().close()

    def release(self) -> None:
        """Close the descriptor: the owner's close."""
        self.bound = False
        self.close()
