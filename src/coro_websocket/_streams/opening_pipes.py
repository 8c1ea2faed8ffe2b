"""A connected socket while the opening handshake runs on it, plain or under TLS.

A pipe has `receive`, `send` and `close`. `become_stream` then hands the socket over to a native
stream, and `unread` gives what the pipe has received and nobody has asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

from .._runtimes.asyncio_runtime import runtime_of
from .transport_stream import TransportStream

try:
    from .socket_stream import SocketStream
    from .tls_stream import TLSStream
except ImportError:  # Windows: transports serve every connection
    SocketStream = TLSStream = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from .._options.options import Options
    from .._runtimes.throttle import Throttle
    from .stream import Stream
    from .user_socket import ConnectionSocket

RECEIVE_SIZE = 65536


@contextlib.contextmanager
def context_errors() -> Iterator[None]:
    """Raise whatever a context of the user's own raises as an SSLError, unless it is an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, TypeError) and isinstance(error.__context__, ssl.SSLError):
            raise error.__context__ from None  # asyncio's TLS within TLS fails to pass it on
        raise ssl.SSLError(f"the SSLContext raised {error!r}") from error


class SocketPipe:
    """A plain socket on a loop that has `add_reader`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ConnectionSocket) -> None:
        self.loop = loop
        self.socket = sock

    @property
    def ssl_object(self) -> Any:
        """The ssl module's object of the connection, where there is TLS; else None."""
        return None

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        return await self.loop.sock_recv(self.socket, RECEIVE_SIZE)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    def become_stream(self, options: Options) -> Stream:
        return SocketStream(runtime_of(self.loop), self.socket)

    def unread(self) -> bytes:
        return b""

    async def finish(self) -> None:
        """Say that no more will be sent and wait until the peer has closed."""
        self.socket.half_close()
        data = True
        while data:
            data = bool(await self.receive())
            await asyncio.sleep(0)  # a peer that sends without end would leave the loop no turn

    def close(self) -> None:
        self.socket.release()


class TLSPipe(SocketPipe):
    """A socket under TLS, on a loop that has `add_reader`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: ConnectionSocket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        throttle: Throttle | None,
    ) -> None:
        super().__init__(loop, sock)
        self._throttle = throttle
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        with context_errors():
            self._tls = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_side,
                server_hostname=server_hostname,
            )

    @property
    def ssl_object(self) -> Any:
        return self._tls

    async def shake_hands(self) -> None:
        """Set TLS up (RFC 8446 section 4)."""
        while True:
            try:
                with context_errors():
                    self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError(
                        "the stream ended during the TLS handshake"
                    ) from None
                if self._throttle is not None:
                    await self._throttle.take()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
        await self._flush()

    async def receive(self) -> bytes:
        while True:
            try:
                with context_errors():
                    return self._tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                with context_errors():
                    view = view[self._tls.write(view) :]
            except ssl.SSLWantReadError:  # a renegotiation
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError("the stream ended") from None
        await self._flush()

    def become_stream(self, options: Options) -> Stream:
        return TLSStream(
            runtime_of(self.loop), self.socket, self._tls, self._incoming, self._outgoing
        )

    async def finish(self) -> None:
        # An SSLError: the peer's close_notify is still to come.
        with contextlib.suppress(ssl.SSLError), context_errors():
            self._tls.unwrap()
        await self._flush()
        self.socket.half_close()
        while await self._fill():
            self._incoming.read()
            await asyncio.sleep(0)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self.loop.sock_sendall(self.socket, self._outgoing.read())

    async def _fill(self) -> bool:
        """Receive more of what TLS reads; False at the end of the stream."""
        data = await self.loop.sock_recv(self.socket, RECEIVE_SIZE)
        self._incoming.write(data)
        return bool(data)


class TransportPipe(asyncio.Protocol):
    """A socket under an asyncio transport, on a loop without `add_reader`; TLS is asyncio's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ConnectionSocket) -> None:
        self.loop = loop
        self.socket = sock
        self.transport: Any = None
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self.socket.transport = transport

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

    @property
    def ssl_object(self) -> Any:
        """The ssl module's object of the connection, where there is TLS; else None."""
        return self.transport.get_extra_info("ssl_object")

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        if not self._received and not self._ended:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._received and self._error is not None:
            with context_errors():
                raise self._error
        data = bytes(self._received)
        self._received.clear()
        self.transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        self.transport.write(data)

    def become_stream(self, options: Options) -> Stream:
        return TransportStream(
            runtime_of(self.loop),
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


Pipe = SocketPipe | TLSPipe | TransportPipe


async def open_tls_pipe_to_proxy(
    loop: asyncio.AbstractEventLoop,
    sock: ConnectionSocket,
    tls: ssl.SSLContext,
    server_hostname: str,
) -> TransportPipe:
    """A pipe to a proxy under TLS, through which TLS to a server can run: asyncio's do that.

    Raises OSError (ssl.SSLError among them); the socket is then closed.
    """
    return await _open_transport(loop, sock, tls, server_hostname, None)


async def secure_tunnel(
    pipe: TransportPipe, tls: ssl.SSLContext, server_hostname: str, close_timeout: float | None
) -> None:
    """Set TLS up inside the tunnel. Raises OSError; the pipe is then closed."""
    try:
        with context_errors():
            pipe.transport = pipe.socket.transport = await pipe.loop.start_tls(
                pipe.transport,
                pipe,
                tls,
                server_hostname=server_hostname,
                **_tls_timeouts(close_timeout),
            )
    except BaseException:
        pipe.close()
        raise


async def open_pipe(
    loop: asyncio.AbstractEventLoop,
    sock: ConnectionSocket,
    *,
    tls: ssl.SSLContext | None = None,
    server_side: bool = False,
    server_hostname: str | None = None,
    close_timeout: float | None = None,
    throttle: Throttle | None = None,
) -> Pipe:
    """The pipe over a connected socket; with `tls` once TLS is set up on it.

    `throttle` says when it may go on with a step of that, which costs much.

    Raises OSError (ssl.SSLError among them); the socket is then closed.
    """
    if _has_add_reader(loop, sock):
        if tls is None:
            return SocketPipe(loop, sock)
        try:
            tls_pipe = TLSPipe(
                loop,
                sock,
                tls,
                server_side=server_side,
                server_hostname=server_hostname,
                throttle=throttle,
            )
            await tls_pipe.shake_hands()
        except BaseException:
            sock.release()
            raise
        return tls_pipe
    if not server_side:
        return await _open_transport(loop, sock, tls, server_hostname, close_timeout)
    pipe = TransportPipe(loop, sock)
    settings = {} if tls is None else {"ssl": tls, **_tls_timeouts(close_timeout)}
    try:
        with context_errors():
            await loop.connect_accepted_socket(lambda: pipe, sock, **settings)
    except BaseException:
        pipe.close()
        raise
    return pipe


async def _open_transport(
    loop: asyncio.AbstractEventLoop,
    sock: ConnectionSocket,
    tls: ssl.SSLContext | None,
    server_hostname: str | None,
    close_timeout: float | None,
) -> TransportPipe:
    pipe = TransportPipe(loop, sock)
    settings: dict[str, Any] = {}
    if tls is not None:
        settings = {
            "ssl": tls,
            "server_hostname": server_hostname or "",
            **_tls_timeouts(close_timeout),
        }
    try:
        with context_errors():
            await loop.create_connection(lambda: pipe, sock=sock, **settings)
    except BaseException:
        pipe.close()
        raise
    return pipe


def _tls_timeouts(close_timeout: float | None) -> dict[str, Any]:
    # The deadline for opening is the caller's; asyncio has no way to say "none".
    timeouts = {"ssl_handshake_timeout": 86400.0}
    if close_timeout is not None:
        timeouts["ssl_shutdown_timeout"] = close_timeout
    return timeouts


def _has_add_reader(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bool:
    if SocketStream is None:
        return False
    try:
        loop.remove_reader(sock.fileno())
    except NotImplementedError:
        return False
    return True
