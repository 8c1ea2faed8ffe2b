"""A connected socket while the opening handshake runs on it, plain or under TLS.

A pipe has `receive`, `send` and `close`. `become_stream` then hands the socket over to a native
stream, and `unread` gives what the pipe has received and nobody has asked for.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Protocol

from .context_errors import context_errors
from .transport_pipe import RECEIVE_SIZE, TransportPipe, open_transport

try:
    from .socket_stream import SocketStream
    from .tls_stream import TLSStream
except ImportError:  # Windows: transports serve every connection
    SocketStream = TLSStream = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import SocketLoop
    from .stream import Stream
    from .user_socket import ConnectionSocket

__all__ = ["Pipe", "SocketPipe", "open_pipe"]

RECORD = 16384  # bytes that TLS gives at once, at most (RFC 8446 section 5.1)
NOTHING = memoryview(b"")


class Turns(Protocol):
    """Who may go on with a step that costs much: see `Throttle`."""

    def take_now(self) -> bool: ...
    async def take(self) -> None: ...


class SocketPipe:
    """A plain socket."""

    def __init__(self, loop: SocketLoop, sock: ConnectionSocket) -> None:
        self.loop = loop
        self.socket = sock
        if sock.watch is None:  # else somebody had it before: the tunnel of a proxy
            sock.watch = loop.watch(sock)
        self._watch = sock.watch

    @property
    def ssl_object(self) -> Any:
        """The ssl module's object of the connection, where there is TLS; else None."""
        return None

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the stream."""
        return await self._watch.receive(RECEIVE_SIZE)

    async def send(self, data: bytes) -> None:
        await self.loop.send(self.socket, data)

    def become_stream(self, options: Options) -> Stream:
        stream = SocketStream(self.loop.runtime, self.socket, self._watch.kept)
        self.socket.watch = None
        return stream

    def unread(self) -> bytes:
        return b""

    async def finish(self) -> None:
        """Say that no more will be sent and wait until the peer has closed."""
        self.socket.half_close()
        data = True
        while data:
            data = bool(await self.receive())
            await self.loop.sleep(0)  # a peer that sends without end would leave the loop no turn

    def close(self) -> None:
        self._watch.close()  # also where a stream was to take it over, and failed
        self.socket.release()


class TLSPipe(SocketPipe):
    """A socket under TLS.

    The rule: what TLS has for the peer goes out before we wait for it, and not earlier. A server's
    session tickets go out with its answer, and a client's Finished with its request.
    """

    def __init__(
        self,
        loop: SocketLoop,
        sock: ConnectionSocket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        throttle: Turns | None,
    ) -> None:
        super().__init__(loop, sock)
        self._server_side = server_side
        self._throttle = throttle
        self._unsent: memoryview = NOTHING
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
        if self._server_side:  # the client begins
            await self._next_flight()
        while True:
            try:
                with context_errors():
                    self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._next_flight()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert that says why
                raise

    async def _next_flight(self) -> None:
        """What the peer has to say next for TLS to be set up."""
        if not await self._fill():
            raise ConnectionResetError("the stream ended during the TLS handshake") from None
        if self._throttle is not None and not self._throttle.take_now():
            await self._throttle.take()

    async def receive(self) -> bytes:
        while True:
            try:
                with context_errors():
                    return self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                if not await self._fill():
                    return b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                with context_errors():
                    view = view[self._tls.write(view) :]
            except ssl.SSLWantReadError:  # a renegotiation
                if not await self._fill():
                    raise ConnectionResetError("the stream ended") from None
        await self._flush()

    def become_stream(self, options: Options) -> Stream:
        stream = TLSStream(
            self.loop.runtime,
            self.socket,
            self._tls,
            self._incoming,
            self._outgoing,
            self._watch.kept,
        )
        self.socket.watch = None
        return stream

    async def finish(self) -> None:
        # An SSLError: the peer's close_notify is still to come.
        with contextlib.suppress(ssl.SSLError), context_errors():
            self._tls.unwrap()
        await self._flush()
        self.socket.half_close()
        while await self._fill():
            self._incoming.read()
            await self.loop.sleep(0)

    async def _flush(self) -> bool:
        """Send what TLS has for the peer; whether there was any.

        Whoever is cancelled here has sent a part of it: the rest is kept for whoever sends next.
        """
        if self._outgoing.pending:
            self._unsent = memoryview(bytes(self._unsent) + self._outgoing.read())
        elif not self._unsent:
            return False
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                await self._watch.writable()
        return True

    async def _fill(self) -> bool:
        """Receive more of what TLS reads; False at the end of the stream."""
        if await self._flush():  # which the peer has not answered yet
            await self._watch.readable()
        data = await self._watch.receive(RECEIVE_SIZE)
        self._incoming.write(data)
        return bool(data)


Pipe = SocketPipe | TLSPipe | TransportPipe


async def open_pipe(
    loop: SocketLoop,
    sock: ConnectionSocket,
    *,
    tls: ssl.SSLContext | None = None,
    server_side: bool = False,
    server_hostname: str | None = None,
    close_timeout: float | None = None,
    throttle: Turns | None = None,
) -> Pipe:
    """The pipe over a connected socket; with `tls` once TLS is set up on it.

    `throttle` says when it may go on with a step of that, which costs much. What TLS has left to
    say goes out with what is sent first, at the latest before anything is received.

    Raises OSError (ssl.SSLError among them); the socket is then closed.
    """
    if SocketStream is None or not loop.watches_sockets:
        return await open_transport(
            loop,
            sock,
            tls=tls,
            server_side=server_side,
            server_hostname=server_hostname,
            close_timeout=close_timeout,
        )
    if tls is None:
        return SocketPipe(loop, sock)
    try:
        pipe = TLSPipe(
            loop,
            sock,
            tls,
            server_side=server_side,
            server_hostname=server_hostname,
            throttle=throttle,
        )
        await pipe.shake_hands()
    except BaseException:
        sock.release()
        raise
    return pipe
