"""Non-blocking sockets on a loop that tells when they are ready."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .event_loop import Acceptor, Watch

__all__ = ["EachTime", "NonBlockingSockets"]

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

    def watch(self, sock: socket.socket) -> Watch:
        return EachTime(self, sock)

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
        return NonBlockingAcceptor(listener, self.watch(listener))


class NonBlockingAcceptor:
    """Accepts the clients of one listener, which `watch` waits for."""

    __slots__ = ("_listener", "_watch")

    ends_with_listener = False

    def __init__(self, listener: socket.socket, watch: Watch) -> None:
        self._listener = listener
        self._watch = watch

    async def accept(self) -> tuple[socket.socket, Any]:
        while True:
            try:
                return self._listener.accept()
            except BlockingIOError:
                await self._watch.readable()

    def close(self) -> None:
        self._watch.close()

    async def last(self) -> None:
        pass


class EachTime:
    """A `Watch` that has the loop watch the socket only while somebody waits."""

    __slots__ = ("_loop", "_sock")

    kept = False

    def __init__(self, loop: NonBlockingSockets, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock

    async def receive(self, most: int) -> bytes:
        return await self._loop.receive(self._sock, most)

    async def readable(self) -> None:
        await self._loop.readable(self._sock)

    async def writable(self) -> None:
        await self._loop.writable(self._sock)

    def close(self) -> None:
        pass
