"""The other end of a connection, by hand: frames as bytes, on a plain socket.

It knows only RFC 6455 section 5.2, and nothing of the library, so that it can do what
a good peer would not: say wrong things, stop reading, hang up at any point.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from coro_websocket import Read, Response, Server, Write, connect, serve

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

BOUND = 8.0  # seconds for everything that a test waits for


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A loop that never yields ends its test, where asyncio.timeout cannot."""

    def bark(*_: object) -> None:
        raise AssertionError("the test took too long, perhaps without yielding to the event loop")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, 2 * BOUND)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# Frames


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = field(default=False, compare=False)

    @property
    def close(self) -> tuple[int | None, str]:
        """Code and reason of a Close frame."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return None, ""
        return struct.unpack(">H", self.payload[:2])[0], self.payload[2:].decode()


def head(bits: int, length: int, masked: bool) -> bytes:
    """A frame's header without the masking key, with the shortest length."""
    mask = 0x80 if masked else 0
    if length < 126:
        return bytes([bits, mask | length])
    if length < 65536:
        return struct.pack(">BBH", bits, mask | 126, length)
    return struct.pack(">BBQ", bits, mask | 127, length)


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    masked: bool,
    fin: bool = True,
    rsv: int = 0,
) -> bytes:
    """The bytes of one frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    start = head((0x80 if fin else 0) | rsv << 4 | opcode, len(payload), masked)
    if not masked:
        return start + payload
    key = os.urandom(4)
    return start + key + apply_mask(payload, key)


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack(">H", code) + reason.encode()


def apply_mask(payload: bytes, key: bytes) -> bytes:
    n = len(payload)
    whole = int.from_bytes((key * (n // 4 + 1))[:n], "big")
    return (int.from_bytes(payload, "big") ^ whole).to_bytes(n, "big")


def parse(data: bytes | bytearray) -> tuple[Frame, int] | None:
    """The frame at the beginning of data and its size; None if it is not all there."""
    if len(data) < 2:
        return None
    length, size = data[1] & 127, 2
    if length == 126:
        size = 4
        if len(data) < size:
            return None
        length = struct.unpack(">H", data[2:4])[0]
    elif length == 127:
        size = 10
        if len(data) < size:
            return None
        length = struct.unpack(">Q", data[2:10])[0]
    masked = bool(data[1] & 128)
    end = size + (4 if masked else 0) + length
    if len(data) < end:
        return None
    payload = bytes(data[end - length : end])
    if masked:
        payload = apply_mask(payload, bytes(data[size : size + 4]))
    return (
        Frame(data[0] & 15, payload, bool(data[0] & 128), data[0] >> 4 & 7, masked),
        end,
    )


# The peer


class Peer:
    """A connected socket after the opening handshake; `client` is the role it plays."""

    def __init__(self, sock: socket.socket, *, client: bool, received: bytes = b"") -> None:
        self.sock = sock
        self.client = client
        self.received = bytearray(received)
        self.loop = asyncio.get_running_loop()

    def frame(self, opcode: int, payload: bytes | str = b"", **bits: Any) -> bytes:
        """A frame as this peer should send it; `masked` says otherwise."""
        return frame(opcode, payload, **{"masked": self.client, **bits})

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.loop.sock_sendall(self.sock, data)

    async def write(self, opcode: int, payload: bytes | str = b"", **bits: Any) -> None:
        """Send a frame."""
        await self.send(self.frame(opcode, payload, **bits))

    def send_now(self, data: bytes) -> None:
        """Send a few bytes without letting the event loop run."""
        self.sock.send(data)

    async def more(self) -> bool:
        """Receive more; False at the end of the stream."""
        data = await self.loop.sock_recv(self.sock, 1 << 18)
        self.received += data
        return bool(data)

    async def read(self) -> Frame:
        """The next frame."""
        while (found := parse(self.received)) is None:
            assert await self.more(), f"the stream ended, with {bytes(self.received)!r} left"
        received, size = found
        del self.received[:size]
        assert received.masked is not self.client  # RFC 6455 section 5.1
        return received

    async def message(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next message: control frames are an error."""
        first = last = await self.read()
        payload = first.payload
        assert first.opcode in (TEXT, BINARY), first
        while not last.fin:
            last = await self.read()
            assert last.opcode == CONT, last
            payload += last.payload
        return first.opcode, payload

    async def ended(self) -> None:
        """Wait for the end of the stream; nothing may come before it."""
        with contextlib.suppress(ConnectionError):
            while await self.more():
                pass
        assert not self.received

    async def close_received(self) -> tuple[int | None, str]:
        """Skip whatever comes before a Close frame; its code and reason."""
        while (received := await self.read()).opcode != CLOSE:
            pass
        return received.close

    def half_close(self) -> None:
        """Say that no more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Close the socket."""
        # uvloop keeps a socket open for as long as it waits for it.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Close the socket with a reset, as a host does that has crashed."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


# Connections


@dataclass
class End:
    """One end of a connection of the library's."""

    read: Read
    write: Write
    socket: socket.socket
    response: Response | None = None

    async def settle(self, turns: int = 5) -> None:
        """Let the event loop go round, so that what is on its way arrives."""
        await turns_of_the_loop(turns)


async def turns_of_the_loop(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def until(condition: Any) -> None:
    """Wait until a condition holds that nothing tells us of."""
    async with asyncio.timeout(BOUND / 2):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def clients_of(server: Server) -> int:
    """How many clients a server has, those in their opening handshake and refused ones too."""
    return len(server.connections) + server.handshakes


async def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """A handshake's head, and what came behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = await asyncio.get_running_loop().sock_recv(sock, 65536)
        assert data, received
        received += data
    request, _, rest = received.partition(b"\r\n\r\n")
    return request, rest


def answer_to(request: bytes) -> bytes:
    key = next(
        line.split(b":", 1)[1].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


@contextlib.asynccontextmanager
async def client_and_peer(
    *, leftover: bytes = b"", receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[End, Peer]]:
    """The library's client, connected to a server by hand.

    leftover: bytes that the server sends in one segment with its answer.
    receive_buffer: the size of the server's receive buffer, to fill it soon.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(BOUND):
        with socket.socket() as listener:
            if receive_buffer is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
            connecting = asyncio.create_task(connect(url, **{"ping_interval": None, **options}))
            sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock, client=False)
        try:
            request, _ = await read_head(sock)
            await peer.send(answer_to(request) + leftover)
            response, read, write = await connecting
            try:
                yield End(read, write, response.socket, response), peer
            finally:
                peer.hang_up()
                await write.close()
        finally:
            peer.hang_up()


@contextlib.asynccontextmanager
async def server_and_peer(
    *, leftover: bytes = b"", receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[End, Peer]]:
    """The library's server, connected to a client by hand; as `client_and_peer`."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[End] = loop.create_future()
    done = asyncio.Event()

    async def handler(req, read, write):
        opened.set_result(End(read, write, req.socket))
        await done.wait()

    async with asyncio.timeout(BOUND):
        async with serve(handler, **{"ping_interval": None, **options}) as server:
            sock = socket.socket()
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, client=True)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", server.port))
                await peer.send(
                    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    b"Sec-WebSocket-Version: 13\r\n\r\n" + leftover
                )
                _, rest = await read_head(sock)
                peer.received += rest
                end = await opened
                try:
                    yield end, peer
                finally:
                    peer.hang_up()
                    await end.write.close()
            finally:
                peer.hang_up()
                done.set()


def end_and_peer(side: str, **options: Any):
    """The library's client or server, as `side` says, against a peer by hand."""
    return (client_and_peer if side == "client" else server_and_peer)(**options)


@contextlib.asynccontextmanager
async def both_ends(
    *, server_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[End, End]]:
    """The library's client connected to the library's server, and both closed in the end."""
    opened: asyncio.Future[End] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def handler(req, read, write):
        opened.set_result(End(read, write, req.socket))
        await done.wait()

    options = {"ping_interval": None, **options}
    served = {"ping_interval": None, **(server_options or {})}
    async with asyncio.timeout(BOUND):
        async with serve(handler, **served) as server:
            async with connect(server.url, **options) as (response, read, write):
                try:
                    yield End(read, write, response.socket, response), await opened
                finally:
                    done.set()


async def echo(req: object, read: Read, write: Write) -> None:
    """A handler that sends back what comes."""
    async for msg in read:
        await write(msg.payload)


@contextlib.asynccontextmanager
async def client_of_echo(
    *, server_tls: Any = None, server_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[End]:
    """The library's client at an echo server of the library's."""
    async with asyncio.timeout(BOUND):
        async with serve(echo, tls=server_tls, **(server_options or {})) as server:
            async with connect(server.url, **options) as (response, read, write):
                yield End(read, write, response.socket, response)
