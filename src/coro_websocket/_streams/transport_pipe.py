"""A connection while its opening handshake runs over an asyncio transport; TLS is asyncio's.

For loops without `add_reader`, and wherever TLS runs within TLS: only asyncio's does that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._runtimes.asyncio_loop import AsyncioLoop
from .context_errors import context_errors
from .transport_stream import TransportStream

if TYPE_CHECKING:
    import ssl

    from .._options.options import Options
    from .._runtimes.event_loop import SocketLoop
    from .stream import Stream
    from .user_socket import ConnectionSocket

__all__ = ["TransportPipe", "open_transport", "secure_tunnel"]

RECEIVE_SIZE = 65536


class TransportPipe(asyncio.Protocol):
    """A socket under a transport, which has this for its protocol."""

    def __init__(
        self, loop: AsyncioLoop, sock: ConnectionSocket, *, half_open: bool = False
    ) -> None:
        """half_open: whether a peer that has closed its side may still be answered."""
        self.loop = loop
        self._half_open = half_open
        self.socket = sock
        self.transport: Any = None
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self.socket.transport = transport
        self.transport.set_write_buffer_limits(high=1, low=0)  # 0 and 0 would pause TLS for ever

    def pause_writing(self) -> None:
        self._sent.clear()

    def resume_writing(self) -> None:
        self._sent.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= RECEIVE_SIZE:
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._news.set()
        return self._half_open

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._error = error
        self._news.set()
        self._sent.set()
        self.socket.release()

    @property
    def ssl_object(self) -> Any:
        """The ssl module's object of the connection, where there is TLS; else None."""
        return self.transport.get_extra_info("ssl_object")

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        if not self._received and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._received and self._error is not None:
            with context_errors():
                raise self._error
        data = bytes(self._received)
        self._received.clear()
        self.transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        await self._sent.wait()

    def become_stream(self, options: Options) -> Stream:
        if self._ended and self._half_open:
            self.transport.close()
        return TransportStream(
            self.loop.runtime,
            self.socket,
            self.transport,
            options.write_high_water,
            self._ended,
            self._error,
        )

    def unread(self) -> bytes:
        return bytes(self._received)

    async def finish(self) -> None:
        """Say that no more will be sent and wait until the peer has closed."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        while not self._ended:
            await self.receive()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.socket.release()


async def open_transport(
    loop: SocketLoop,
    sock: ConnectionSocket,
    *,
    tls: ssl.SSLContext | None = None,
    server_side: bool = False,
    server_hostname: str | None = None,
    close_timeout: float | None = None,
) -> TransportPipe:
    """A pipe over a transport of asyncio's for a connected socket; with `tls` once that is set up.

    Raises OSError (ssl.SSLError among them); the socket is then closed.
    """
    assert isinstance(loop, AsyncioLoop), "only asyncio has transports"
    pipe = TransportPipe(loop, sock, half_open=server_side and tls is None)
    settings = {} if tls is None else {"ssl": tls, **_tls_timeouts(close_timeout)}
    try:
        with context_errors():
            if server_side:
                await loop.loop.connect_accepted_socket(lambda: pipe, sock, **settings)
            else:
                if tls is not None:
                    settings["server_hostname"] = server_hostname or ""
                await loop.loop.create_connection(lambda: pipe, sock=sock, **settings)
    except BaseException:
        pipe.close()
        raise
    return pipe


async def secure_tunnel(
    pipe: TransportPipe, tls: ssl.SSLContext, server_hostname: str, close_timeout: float | None
) -> None:
    """Set TLS up inside the tunnel. Raises OSError; the pipe is then closed."""
    try:
        with context_errors():
            pipe.transport = pipe.socket.transport = await pipe.loop.loop.start_tls(
                pipe.transport,
                pipe,
                tls,
                server_hostname=server_hostname,
                **_tls_timeouts(close_timeout),
            )
    except BaseException:
        pipe.close()
        raise


def _tls_timeouts(close_timeout: float | None) -> dict[str, Any]:
    # The deadline for opening is the caller's; asyncio has no way to say "none".
    timeouts = {"ssl_handshake_timeout": 86400.0}
    if close_timeout is not None:
        timeouts["ssl_shutdown_timeout"] = close_timeout
    return timeouts
