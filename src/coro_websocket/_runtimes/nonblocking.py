"""Non-blocking sockets on a loop that tells when they are ready."""

from __future__ import annotations

import errno
import functools
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .event_loop import Acceptor

__all__ = ["NonBlockingAcceptor", "NonBlockingSockets"]

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
            try:
                return sock.recv(most)
            except BlockingIOError:
                await self.readable(sock)

    async def send(self, sock: socket.socket, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                await self.writable(sock)

    def acceptor(self, listener: socket.socket) -> Acceptor:
        return NonBlockingAcceptor(listener, functools.partial(self.readable, listener))


class NonBlockingAcceptor:
    """Accepts the clients of one listener.

    Args:
        listener: the socket.
        readable: waits until there is a client.
    """

    __slots__ = ("_listener", "_readable")

    def __init__(self, listener: socket.socket, readable: Callable[[], Awaitable[None]]) -> None:
        self._listener = listener
        self._readable = readable

    async def accept(self) -> tuple[socket.socket, Any]:
        while True:
            try:
                return self._listener.accept()
            except BlockingIOError:
                await self._readable()

    def close(self) -> None:
        pass
