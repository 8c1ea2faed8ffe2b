"""A connected socket while the opening handshake runs on it, plain or under TLS.

A pipe has `receive`, `send` and `close`; `become_stream` then hands the socket over
to the native connection. Which pipe it is decides which stream it becomes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ._transport_stream import TransportStream

try:
    from ._socket_stream import SocketStream
except ImportError:  # Windows: transports serve every connection
    SocketStream = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    import socket
    import ssl

    from .._engine import Engine
    from .._options import Options
    from ._connection import Connection
    from ._socket import ConnectionSocket

RECEIVE_SIZE = 65536


class SocketPipe:
    """A plain socket on a loop that has `add_reader`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ConnectionSocket) -> None:
        self.loop = loop
        self.socket = sock

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        return await self.loop.sock_recv(self.socket, RECEIVE_SIZE)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    def become_stream(self, engine: Engine, options: Options, leftover: bytes) -> Connection:
        return SocketStream(self.loop, engine, options, self.socket, leftover)

    async def finish(self) -> None:
        """Say that no more will be sent and wait until the peer has closed."""
        self.socket.half_close()
        while await self.receive():
            pass

    def close(self) -> None:
        self.socket.release()


class TransportPipe(asyncio.Protocol):
    """A socket under an asyncio transport: TLS, or a loop without `add_reader`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ConnectionSocket) -> None:
        self.loop = loop
        self.socket = sock
        self.transport: Any = None
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= RECEIVE_SIZE:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._error = error
        self._wake()
        self.socket.release()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        if not self._received and not self._ended:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._received and self._error is not None:
            raise self._error
        data = bytes(self._received)
        self._received.clear()
        self.transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        self.transport.write(data)

    def become_stream(self, engine: Engine, options: Options, leftover: bytes) -> Connection:
        leftover += bytes(self._received)
        stream = TransportStream(self.loop, engine, options, self.socket, self.transport, leftover)
        if self._ended:
            stream.connection_lost(self._error)
        return stream

    async def finish(self) -> None:
        """Say that no more will be sent and wait until the peer has closed."""
        self.transport.close()
        while not self._ended:
            await self.receive()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.socket.release()


Pipe = SocketPipe | TransportPipe


async def open_pipe(
    loop: asyncio.AbstractEventLoop,
    sock: ConnectionSocket,
    *,
    tls: ssl.SSLContext | None = None,
    server_side: bool = False,
    server_hostname: str | None = None,
    close_timeout: float | None = None,
) -> Pipe:
    """The pipe over a connected socket; with `tls` once TLS is set up on it.

    Raises OSError (ssl.SSLError among them); the socket is then closed.
    """
    if tls is None and _has_add_reader(loop, sock):
        return SocketPipe(loop, sock)
    settings: dict[str, Any] = {}
    if tls is not None:
        # The deadline for opening is the caller's; asyncio has no way to say "none".
        settings = {"ssl": tls, "ssl_handshake_timeout": 86400.0}
        if close_timeout is not None:
            settings["ssl_shutdown_timeout"] = close_timeout
    pipe = TransportPipe(loop, sock)
    try:
        if server_side:
            await loop.connect_accepted_socket(lambda: pipe, sock, **settings)
        else:
            if tls is not None:
                settings["server_hostname"] = server_hostname or ""
            await loop.create_connection(lambda: pipe, sock=sock, **settings)
    except BaseException:
        pipe.close()
        raise
    return pipe


def _has_add_reader(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bool:
    if SocketStream is None:
        return False
    try:
        loop.remove_reader(sock.fileno())
    except NotImplementedError:
        return False
    return True
