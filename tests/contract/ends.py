"""The ends that keep the contract. A new one is a class with `open`, and an entry in PLACES."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import answer_to

from coro_websocket import Message, Options, Read, Write, connect, serve, wrap_io
from coro_websocket._connection.begin import begin_connection
from coro_websocket._streams.memory import MemoryPipe, memory_pair

from . import loops
from .loops import AsyncioLoop, Event, Loop, Task, TrioLoop, Work
from .peers import BytePeer, FramePeer, MemoryWire, Peer, SocketWire, TLSWire, Wire

if TYPE_CHECKING:
    from tests.conftest import Certificates

BOUND = 8.0  # seconds for everything that a test waits for
DEFAULTS = {"ping_interval": None, "close_timeout": BOUND / 2}
NARROW = 32768  # bytes of a buffer of the system's that is soon full

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class End:
    """Ours, connected to a peer by hand, and what a test needs of the loop."""

    read: Read
    write: Write
    peer: Peer
    loop: Loop
    client: bool

    async def message(self, **shape: bool) -> Message:
        """What `read()` gives, where that is a message."""
        message = await self.read(**shape)
        assert message is not None
        return message

    def spawn(self, work: Work, *args: Any) -> Task:
        """Run work beside the test."""
        return self.loop.spawn(work, *args)

    async def waiting(self, work: Work, *args: Any) -> Task:
        """As `spawn`, with time for it to come to where it waits."""
        task = self.spawn(work, *args)
        await self.settle()
        return task

    def event(self) -> Event:
        return self.loop.event()

    def within(self, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
        return self.loop.within(seconds)

    async def settle(self) -> None:
        """Let what is on its way arrive, and whoever can go on do so."""
        await loops.settle(self.loop)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what nothing tells us of."""
        while not condition():
            await self.loop.sleep(0.001)

    async def arrived(self, count: int) -> None:
        """Wait until so many bytes have come in all, whether or not anybody reads."""
        await self.until(lambda: self.read.stats.bytes_in >= count)

    @property
    def bytes_peer(self) -> BytePeer:
        assert isinstance(self.peer, BytePeer)
        return self.peer


Body = Callable[[End], Awaitable[None]]


class Place(abc.ABC):
    """One kind of end, in one role."""

    name: str
    carries_bytes = True  # else whole frames: its peer can send no half of one
    has_errors = True  # its peer can end it with an error of the system
    certificates: Certificates  # of the session, before anything is run

    def __init__(self, client: bool) -> None:
        self.client = client
        self.loop = self.make_loop()

    @abc.abstractmethod
    def make_loop(self) -> Loop: ...

    @abc.abstractmethod
    def open(
        self, options: dict[str, Any], narrow: bool
    ) -> contextlib.AbstractAsyncContextManager[End]:
        """Connect ours to a peer; on the way out, close ours if it is open.

        narrow: with buffers that are soon full.
        """

    def run(self, body: Body, options: dict[str, Any], narrow: bool) -> None:
        async def main() -> None:
            async with self.loop.within(BOUND), self.open({**DEFAULTS, **options}, narrow) as end:
                try:
                    async with self.loop.within(BOUND / 2):
                        await body(end)
                finally:
                    end.peer.cut()
                    await end.write.close()

        self.loop.run(main)

    def __repr__(self) -> str:
        return f"{self.name}, {'client' if self.client else 'server'}"


# Sockets


class Sockets(Place):
    name = "sockets"
    tls = False

    def make_loop(self) -> Loop:
        return AsyncioLoop(asyncio.SelectorEventLoop)

    @contextlib.asynccontextmanager
    async def open(self, options: dict[str, Any], narrow: bool) -> AsyncIterator[End]:
        connecting = self.open_client if self.client else self.open_server
        async with connecting(options, narrow) as (read, write, sock, peer):
            if narrow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
            yield End(read, write, peer, self.loop, self.client)

    @contextlib.asynccontextmanager
    async def open_client(
        self, options: dict[str, Any], narrow: bool
    ) -> AsyncIterator[tuple[Read, Write, Any, Peer]]:
        with socket.socket() as listener:
            prepare(listener, narrow)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"{'wss' if self.tls else 'ws'}://127.0.0.1:{listener.getsockname()[1]}/"
            if self.tls:
                options = {"tls": self.certificates.client, **options}
            connecting = asyncio.ensure_future(connect(url, **options))
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        prepare(sock, narrow)
        with sock:
            wire = await self.wire(sock, self.certificates.server)
            request = b""
            while b"\r\n\r\n" not in request:
                request += await wire.receive()
            await wire.send(answer_to(request))
            response, read, write = await connecting
            yield read, write, response.socket, BytePeer(self.loop, False, wire)

    @contextlib.asynccontextmanager
    async def open_server(
        self, options: dict[str, Any], narrow: bool
    ) -> AsyncIterator[tuple[Read, Write, Any, Peer]]:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def handler(request: Any, read: Read, write: Write) -> None:
            opened.set_result((request, read, write))
            await done.wait()

        if self.tls:
            options = {"tls": self.certificates.server, **options}
        async with serve(handler, **options) as server:
            with socket.socket() as sock:
                prepare(sock, narrow)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
                wire = await self.wire(sock, self.certificates.client)
                await wire.send(REQUEST)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += await wire.receive()
                request, read, write = await opened
                received = answer.partition(b"\r\n\r\n")[2]
                try:
                    peer = BytePeer(self.loop, True, wire, received)
                    yield read, write, request.socket, peer
                finally:
                    done.set()

    async def wire(self, sock: socket.socket, context: ssl.SSLContext) -> Wire:
        wire = SocketWire(sock)
        if not self.tls:
            return wire
        secure = TLSWire(wire, context, client=not self.client)
        await secure.shake_hands()
        return secure


def prepare(sock: socket.socket, narrow: bool) -> None:
    sock.setblocking(False)
    if narrow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class TLS(Sockets):
    name = "TLS"
    tls = True


class Transports(Sockets):
    name = "transports"

    def make_loop(self) -> Loop:
        return AsyncioLoop(TransportsOnlyLoop)


class TLSTransports(Transports):
    name = "TLS transports"
    tls = True


class UVLoop(Sockets):
    name = "uvloop"

    def make_loop(self) -> Loop:
        import uvloop

        return AsyncioLoop(uvloop.new_event_loop)


# Without sockets


class Memory(Place):
    name = "memory"
    has_errors = False

    def make_loop(self) -> Loop:
        return AsyncioLoop(asyncio.SelectorEventLoop)

    @contextlib.asynccontextmanager
    async def open(self, options: dict[str, Any], narrow: bool) -> AsyncIterator[End]:
        running = asyncio.get_running_loop()
        wire = MemoryWire(self.loop)
        ours, theirs = memory_pair(running, asyncio.Protocol(), wire)
        wire.begin(theirs)
        if self.client:
            built = Options.build("ws://server.test/", **options)
        else:
            built = Options.for_wrap_io(options)
        _, read, write = begin_connection(MemoryPipe(ours), built, client=self.client)
        yield End(read, write, BytePeer(self.loop, not self.client, wire), self.loop, self.client)


class WrapIO(Place):
    name = "wrap_io"
    carries_bytes = False

    def make_loop(self) -> Loop:
        return AsyncioLoop(asyncio.SelectorEventLoop)

    @contextlib.asynccontextmanager
    async def open(self, options: dict[str, Any], narrow: bool) -> AsyncIterator[End]:
        peer = FramePeer(self.loop, not self.client)
        read, write = wrap_io(peer.raw_read, peer.raw_write, mask=self.client, **options)
        yield End(read, write, peer, self.loop, self.client)


class WrapIOOnTrio(WrapIO):
    name = "wrap_io on trio"

    def make_loop(self) -> Loop:
        return TrioLoop()


KINDS: list[type[Place]] = [Sockets, TLS, Transports, TLSTransports, Memory, WrapIO, WrapIOOnTrio]
if sys.platform != "win32":
    KINDS.insert(4, UVLoop)

PLACES = [kind(client) for kind in KINDS for client in (True, False)]
