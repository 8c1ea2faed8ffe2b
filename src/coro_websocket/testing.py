"""For tests of programs that use coro_websocket: a connection without sockets, a fake server.

(_, read, write), (_, peer_read, peer_write) = connected_pair()

async def script(peer):
    assert await peer.receive() == "hello"
    await peer.send("world")
    peer.vanish()

async with FakeServer(script) as server:
    await program_under_test(server.url)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import traceback as tracebacks
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ._connection.begin import begin_connection
from ._errors import WebSocketError
from ._http.opening_errors import HandshakeError
from ._http.server_handshake import ServerHandshake
from ._opening.connect import Opened, client_handshake
from ._options.options import Options
from ._options.tls import server_context
from ._rfc6455.close_codes import close_payload
from ._rfc6455.messages import Message, as_message
from ._runtimes.current import current_loop, running_loop
from ._streams.memory import MemoryPipe, memory_pair
from .codec import decode, encode

if TYPE_CHECKING:
    import ssl

    from ._connection.read_write import Read, Write
    from ._http.request_and_response import Request
    from ._options.tls import TLSOptions

__all__ = ["ClientGone", "FakePeer", "FakeServer", "connected_pair"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def connected_pair(
    url: str = "ws://server.test/",
    /,
    *,
    subprotocols: Sequence[str] = (),
    server: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[Opened, tuple[Request, Read, Write]]:
    """A client and a server that are connected in memory, with all that they do over sockets.

        (res, read, write), (req, peer_read, peer_write) = connected_pair()
        await write("hello")
        assert (await peer_read()).payload == "hello"

    The opening handshake has been made, so that `res` and `req` are as they would be. What is
    written arrives in a later turn of the event loop; Pings, closing, limits and backpressure
    are the real ones. Nothing is left behind if both are closed: `await write.close()`.

    Args:
        url: what the client has asked for; nothing is connected to.
        subprotocols: those that the server speaks, as for `serve`.
        server: the options of the server's side, as for `serve`.
        **options: those of the client's side, as for `connect`.

    Returns:
        `(res, read, write)` of the client and `(req, read, write)` of the server.

    Raises:
        NoEventLoopError: called where no event loop runs.
        InvalidURL, InvalidOption: something given cannot be used.
        HandshakeError: the two do not agree.
    """
    running_loop("connected_pair()")
    ours = Options.build(url, **options)
    theirs = Options.for_wrap_io(dict(server or {}))
    asking = client_handshake(ours)
    answering = ServerHandshake(
        subprotocols=subprotocols, origins=None, extensions=theirs.extension_factories
    )
    request = answering.receive(asking.request())
    assert request is not None
    answering.check()
    response = asking.receive(answering.accept())
    assert response is not None
    first, second = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), asyncio.Protocol())
    client, peer = MemoryPipe(first), MemoryPipe(second)
    one = begin_connection(client, ours, client=True, extensions=asking.extensions)
    other = begin_connection(peer, theirs, client=False, extensions=answering.extensions)
    response._bind(socket=client.socket, url=ours.url)
    request._bind(socket=peer.socket, scheme="wss" if ours.url.tls else "ws")
    return (response, *one[1:]), (request, *other[1:])


# A server that follows a script


class ClientGone(EOFError):
    """The client has closed the connection, or has gone. A script that lets it out just ends.

    Attributes:
        code: of the client's Close frame; None where that has none, or did not come.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class FakePeer:
    """The server's end of one connection, played by a script: nothing happens by itself.

    It answers no Ping and no Close unless the script does, and may say what no good server
    would. What it receives it also keeps in `received`. `async for message in peer` gives one
    message after the other until the client closes or goes.

    Attributes:
        request: the client's Request.
        received: the payloads of the messages that have come: str or bytes.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
    ) -> None:
        self.request = request
        self.received: list[str | bytes] = []
        self._reader = reader
        self._writer = writer
        self._data = b""
        self._close_received: bytes | None = None
        self._close_sent = False

    async def receive_frame(self) -> Message:
        """The next frame, control frames too; its payload is bytes.

        Raises ClientGone where the client has gone.
        """
        while (found := decode(self._data)) is None:
            try:
                data = await self._reader.read(65536)
            except OSError as error:
                raise ClientGone(f"the client has gone: {error}") from error
            if not data:
                raise ClientGone("the client has closed the connection")
            self._data += data
        frame, size = found
        self._data = self._data[size:]
        return frame

    async def receive(self) -> str | bytes:
        """The payload of the next text or binary message; Pings and Pongs are passed over.

        Raises ClientGone where the client closes (its `code` says how) or has gone.
        """
        parts: list[bytes] = []
        opcode = 0
        while True:
            frame = await self.receive_frame()
            if frame.opcode == CLOSE:
                self._close_received = frame.payload[:2]
                code = struct.unpack(">H", frame.payload[:2])[0] if frame.payload else None
                raise ClientGone(f"the client closes the connection with {code or 'no code'}", code)
            if frame.opcode in (PING, PONG):
                continue
            opcode = opcode or frame.opcode
            parts.append(frame.payload)
            if frame.fin:
                whole = b"".join(parts)
                message = whole.decode() if opcode == TEXT else whole
                self.received.append(message)
                return message

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(ClientGone):
            while True:
                yield await self.receive()

    async def send(self, message: str | bytes | Message | Mapping[str, Any]) -> None:
        """Send a message, or a frame as the fields of a Message or a mapping say.

        Raises ClientGone where the client has gone.
        """
        as_sent = as_message(message)
        self._close_sent = self._close_sent or as_sent.opcode == CLOSE
        await self.send_bytes(encode(as_sent))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are: half a frame, or nonsense. Raises ClientGone as `send` does."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise ClientGone(f"the client has gone: {error}") from error

    async def ping(self, payload: bytes = b"") -> None:
        """Send a Ping."""
        await self.send(Message(opcode=PING, payload=payload))

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame, wait for the client's, and hang up."""
        await self.send(Message(opcode=CLOSE, payload=close_payload(code, reason)))
        with contextlib.suppress(ClientGone):
            while (await self.receive_frame()).opcode != CLOSE:
                pass
        self.vanish()

    def vanish(self) -> None:
        """Hang up without a Close frame; what was sent still arrives."""
        self._writer.close()

    def reset(self) -> None:
        """Hang up with a TCP reset, as a host does that has crashed and is back."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _answer_close(self) -> None:
        """The answer to a Close at which the script has ended."""
        received = self._close_received
        if received is not None and not self._close_sent and not self._writer.is_closing():
            with contextlib.suppress(ClientGone):
                await self.send(Message(opcode=CLOSE, payload=received))


Script = Callable[[FakePeer], Awaitable[Any]]


@dataclass
class FakeServer:
    """A server on a free port of 127.0.0.1 that follows a script, a new one for each connection.

        async def script(peer):
            await peer.send("hello")
            await peer.close(4000, "bye")

        async with FakeServer(script, refuse=[503]) as server:
            await program_under_test(server.url)    # is refused once, and then let in

    Where a script ends, its connection is closed without a Close frame; but a script that ends
    because the client closes (it lets `ClientGone` out, or its `async for` ends) has answered the
    client's Close. So an echo server is

        async def script(peer):
            async for message in peer:
                await peer.send(message)

    Anything else that a script raises (an `assert` that fails, say) is raised at the end of the
    `async with`: also in place of a WebSocketError of the program, which is then its cause, since
    the script's end was most likely what broke the connection. Another error of the program is
    raised as it is, with a note of the script's.

    Attributes:
        script: a coroutine function of a FakePeer.
        refuse: what the first connections are answered in place of an upgrade: a status each, or
            `(status, headers, body)`.
        subprotocols: those that the server speaks.
        headers: more headers for the answer that accepts.
        tls: an SSLContext, TLSOptions or a mapping with its names, as for `serve`: the server
            speaks TLS.
        url: where the server listens: `ws://127.0.0.1:.../`, or `wss://` with `tls`.
        peers: the FakePeer of each connection that was accepted.
        requests: the Request of each connection.
    """

    script: Script
    refuse: Sequence[int | tuple[int, Sequence[tuple[str, str]], str | bytes]] = ()
    subprotocols: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    tls: ssl.SSLContext | TLSOptions | Mapping[str, Any] | None = field(default=None, repr=False)
    url: str = field(init=False, default="")
    peers: list[FakePeer] = field(init=False, default_factory=list)
    requests: list[Request] = field(init=False, default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(init=False, repr=False, default_factory=set)
    _errors: list[BaseException] = field(init=False, repr=False, default_factory=list)
    _server: asyncio.Server = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        context = None if self.tls is None else server_context(self.tls)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        scheme = "ws" if context is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._server.close()
        for _ in range(3):  # asyncio tells of what it has just accepted a little later
            await asyncio.sleep(0)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        if self._errors:
            self._raise_errors(error)

    def _raise_errors(self, of_program: BaseException | None) -> None:
        first, *others = self._errors
        for other in others:
            first.add_note(f"Another script raised:\n{_text_of(other)}")
        if of_program is None:
            raise first
        if _is_of_connection(of_program):
            raise first from of_program
        of_program.add_note(f"The script of the FakeServer raised:\n{_text_of(first)}")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # its TLS handshake has taken until now
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._follow_script(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        except asyncio.CancelledError:
            writer.transport.abort()  # its client perhaps takes nothing
            raise

    async def _follow_script(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            peer = await self._shake_hands(reader, writer)
            if peer is not None:
                self.peers.append(peer)
                with contextlib.suppress(ClientGone):
                    await self.script(peer)
                await peer._answer_close()
        except BaseException as error:  # what `pytest.fail` raises is not an Exception
            if current_loop().is_cancellation(error) or isinstance(
                error, (KeyboardInterrupt, SystemExit)
            ):
                raise
            if isinstance(error, asyncio.CancelledError):  # raised, it would look like ours
                cancelled, error = error, RuntimeError("the script let a CancelledError out")
                error.__cause__ = cancelled
            self._errors.append(error)

    async def _shake_hands(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> FakePeer | None:
        handshake = ServerHandshake(subprotocols=self.subprotocols, origins=None)
        request = None
        try:
            while request is None:
                request = handshake.receive(await reader.read(65536))
            handshake.check()
        except HandshakeError as error:
            writer.write(handshake.refusal())
            if error.response is not None:
                self._errors.append(error)
            return None
        except OSError:
            return None
        self.requests.append(request)
        if len(self.requests) <= len(self.refuse):
            refusal = self.refuse[len(self.requests) - 1]
            status, headers, body = (refusal, (), "") if isinstance(refusal, int) else refusal
            writer.write(handshake.reject(status, None, headers, body))
            return None
        writer.write(handshake.accept(self.headers))
        peer = FakePeer(reader, writer, request)
        peer._data = handshake.leftover
        return peer


def _is_of_connection(error: BaseException) -> bool:
    """Whether it is a WebSocketError, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(WebSocketError)[1] is None
    return isinstance(error, WebSocketError)


def _text_of(error: BaseException) -> str:
    return "".join(tracebacks.format_exception(error)).rstrip()
