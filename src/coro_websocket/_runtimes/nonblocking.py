"""Non-blocking sockets on a loop that tells when they are ready."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

__all__ = ["NonBlockingSockets"]

CONNECTING = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


class NonBlockingSockets:
    """What a `SocketLoop` does with sockets, where it has `readable` and `writable`."""

    __slots__ = ()

    async def readable(self, sock: socket.socket) -> None:
        """Wait until something can be received, or accepted."""
        raise NotImplementedError

    async def writable(self, sock: socket.socket) -> None:
        """Wait until something can be sent, or it is known whether it is connected."""
        raise NotImplementedError

    async def connect(self, sock: socket.socket, address: Any) -> None:
        error = sock.connect_ex(address)
        if error in CONNECTING:
            await self.writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))

    async def receive(self, sock: socket.socket, most: int) -> bytes:
        while True:
            with contextlib.suppress(BlockingIOError):
                return sock.recv(most)
            await self.readable(sock)

    async def send(self, sock: socket.socket, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                await self.writable(sock)

    async def accept(self, listener: socket.socket) -> tuple[socket.socket, Any]:
        while True:
            with contextlib.suppress(BlockingIOError):
                return listener.accept()
            await self.readable(listener)
