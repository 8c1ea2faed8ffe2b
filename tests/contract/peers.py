"""The other side of an end, played by hand: it says and does only what the test tells it to.

It knows RFC 6455 section 5.2, from `raw_peer`, and nothing of the library. It receives only when
it is asked to, so that a peer that does not read is one that is not asked.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import socket
import ssl
from typing import Any, Protocol

from tests.helpers import raw_peer
from tests.helpers.raw_peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame

from coro_websocket import Message

from .loops import Bell, Loop

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "PING",
    "PONG",
    "TEXT",
    "BytePeer",
    "Frame",
    "FramePeer",
    "MemoryWire",
    "Peer",
    "SocketWire",
    "TLSWire",
    "Wire",
    "binary",
    "close",
    "frame",
    "last",
    "more",
    "ping",
    "pong",
    "text",
]

QUEUED = 64  # frames that a peer of `wrap_io` may send before ours takes one


# Frames


def text(payload: str | bytes = "", *, fin: bool = True, rsv: int = 0) -> Frame:
    return frame(TEXT, payload, fin=fin, rsv=rsv)


def binary(payload: bytes = b"", *, fin: bool = True) -> Frame:
    return frame(BINARY, payload, fin=fin)


def more(payload: str | bytes = "", *, fin: bool = False) -> Frame:
    """A fragment behind the first of its message."""
    return frame(CONT, payload, fin=fin)


def last(payload: str | bytes = "") -> Frame:
    """The last fragment of a message."""
    return more(payload, fin=True)


def ping(payload: str | bytes = b"") -> Frame:
    return frame(PING, payload)


def pong(payload: str | bytes = b"") -> Frame:
    return frame(PONG, payload)


def close(code: int | None = 1000, reason: str = "") -> Frame:
    return frame(CLOSE, b"" if code is None else raw_peer.close_payload(code, reason))


def frame(opcode: int, payload: str | bytes = b"", *, fin: bool = True, rsv: int = 0) -> Frame:
    return Frame(opcode, payload.encode() if isinstance(payload, str) else payload, fin, rsv)


# Peers


class Peer(abc.ABC):
    """`client` is the role that it plays: ours is the other."""

    def __init__(self, loop: Loop, client: bool) -> None:
        self.loop = loop
        self.client = client
        self.gone = False

    @abc.abstractmethod
    async def send(self, *frames: Frame, wrongly_masked: bool = False) -> None:
        """Send frames, all at once if that is possible. It waits while ours does not read."""

    @abc.abstractmethod
    async def receive_or_end(self) -> Frame | None:
        """The next frame that ours has sent, None if no more will come."""

    def stop_reading(self) -> None:  # noqa: B027 (most do not read anyway)
        """Take nothing from now on but what the test receives."""

    @abc.abstractmethod
    def cut(self) -> None:
        """End the connection, in the middle of whatever it is."""

    @abc.abstractmethod
    def reset(self) -> None:
        """End it with an error of the operating system."""

    async def receive(self) -> Frame:
        received = await self.receive_or_end()
        assert received is not None, "the stream ended"
        assert received.masked is not self.client  # RFC 6455 section 5.1
        return received

    async def expect(self, *frames: Frame) -> None:
        """These are the next frames that ours sends."""
        for each in frames:
            assert await self.receive() == each

    async def message(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next message, which nothing may come between."""
        frames = [await self.receive()]
        while not frames[-1].fin:
            frames.append(await self.receive())
            assert frames[-1].opcode == CONT
        return frames[0].opcode, b"".join(each.payload for each in frames)

    async def messages(self, count: int) -> list[bytes]:
        return [(await self.message())[1] for _ in range(count)]

    async def close_received(self) -> tuple[int | None, str]:
        """The code and the reason of the Close frame, which is the next."""
        received = await self.receive()
        assert received.opcode == CLOSE, received
        return received.close

    async def ended(self) -> None:
        """Ours sends nothing any more."""
        assert await self.receive_or_end() is None

    async def finish(self) -> None:
        """End the connection after the closing handshake: the server does so first."""
        if self.client:
            await self.ended()
        self.cut()

    async def answer_close(self) -> tuple[int | None, str]:
        """Take the closing handshake that ours has begun to its end."""
        code, reason = await self.close_received()
        await self.send(close(code, reason))
        await self.finish()
        return code, reason

    async def close(self, code: int | None = 1000, reason: str = "") -> int | None:
        """A closing handshake; the code in the answer."""
        await self.send(close(code, reason))
        answered, _ = await self.close_received()
        await self.finish()
        return answered


class Wire(Protocol):
    """What carries a peer's bytes."""

    async def send(self, data: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    def cut(self) -> None: ...
    def reset(self) -> None: ...


class BytePeer(Peer):
    """A peer that exchanges bytes with ours."""

    def __init__(self, loop: Loop, client: bool, wire: Wire, received: bytes = b"") -> None:
        super().__init__(loop, client)
        self.wire = wire
        self.received = bytearray(received)

    def encode(self, *frames: Frame, wrongly_masked: bool = False) -> bytes:
        masked = self.client is not wrongly_masked
        return b"".join(
            raw_peer.frame(f.opcode, f.payload, masked=masked, fin=f.fin, rsv=f.rsv) for f in frames
        )

    async def send(self, *frames: Frame, wrongly_masked: bool = False) -> None:
        await self.send_bytes(self.encode(*frames, wrongly_masked=wrongly_masked))

    async def send_bytes(self, data: bytes) -> None:
        await self.wire.send(data)

    async def receive_or_end(self) -> Frame | None:
        while (found := raw_peer.parse(self.received)) is None:
            data = b"" if self.gone else await self.wire.receive()
            if not data:
                assert not self.received, "the stream ended in the middle of a frame"
                return None
            self.received += data
        received, size = found
        del self.received[:size]
        return received

    def cut(self) -> None:
        self.gone = True
        self.wire.cut()

    def reset(self) -> None:
        self.gone = True
        self.wire.reset()


class SocketWire:
    """A plain socket on asyncio."""

    def __init__(self, sock: socket.socket) -> None:
        self.peer = raw_peer.Peer(sock, client=False)

    async def send(self, data: bytes) -> None:
        await self.peer.send(data)

    async def receive(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            await self.peer.more()
        data = bytes(self.peer.received)
        self.peer.received.clear()
        return data

    def cut(self) -> None:
        self.peer.hang_up()

    def reset(self) -> None:
        self.peer.reset()


class TLSWire:
    """TLS over another wire. Cutting it says nothing of the end (no close_notify)."""

    def __init__(self, wire: Wire, context: ssl.SSLContext, client: bool) -> None:
        self.wire = wire
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=not client,
            server_hostname="127.0.0.1" if client else None,
        )

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.fill()
            else:
                await self.flush()
                return

    async def flush(self) -> None:
        if data := self.outgoing.read():
            await self.wire.send(data)

    async def fill(self) -> None:
        if data := await self.wire.receive():
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 1 << 20):
            self.tls.write(data[at : at + (1 << 20)])
            await self.flush()

    async def receive(self) -> bytes:
        while True:
            try:
                return self.tls.read(1 << 18)
            except ssl.SSLWantReadError:
                await self.fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def cut(self) -> None:
        self.wire.cut()

    def reset(self) -> None:
        self.wire.reset()


class MemoryWire(asyncio.Protocol):
    """The other end of a transport in memory."""

    transport: Any

    def __init__(self, loop: Loop) -> None:
        self.bell = Bell(loop)
        self.data = bytearray()
        self.over = False
        self.full = False

    def begin(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(65536)
        transport.pause_reading()

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        while self.full:
            await self.bell.wait()

    async def receive(self) -> bytes:
        while not self.data and not self.over:
            self.transport.resume_reading()
            await self.bell.wait()
        self.transport.pause_reading()
        data = bytes(self.data)
        self.data.clear()
        return data

    def cut(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        raise NotImplementedError("memory has no errors")

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.bell.ring()

    def eof_received(self) -> bool:
        self.over = True
        self.bell.ring()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        self.full = False
        self.bell.ring()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.bell.ring()


class FramePeer(Peer):
    """The raw pair of `wrap_io` is its hands: it exchanges frames with ours."""

    def __init__(self, loop: Loop, client: bool) -> None:
        super().__init__(loop, client)
        self.bell = Bell(loop)
        self.to_read: collections.deque[dict[str, Any]] = collections.deque()
        self.written: collections.deque[Frame] = collections.deque()
        self.over = False  # ours has said that it sends no more
        self.stopped = False
        self.wanted = 0  # frames that the test waits for
        self.error: OSError | None = None

    async def raw_read(self) -> dict[str, Any] | None:
        while not self.to_read:
            if self.error is not None:
                raise self.error
            if self.gone:
                return None
            await self.bell.wait()
        self.bell.ring()
        return self.to_read.popleft()

    async def raw_write(self, message: Message | None) -> None:
        while self.stopped and not self.wanted and not self.gone:
            await self.bell.wait()
        if self.gone:
            raise self.error or BrokenPipeError("the peer has gone")
        if message is None:
            self.over = True
        else:
            assert isinstance(message.payload, bytes)
            rsv = message.rsv1 * 4 + message.rsv2 * 2 + message.rsv3
            self.written.append(
                Frame(message.opcode, message.payload, message.fin, rsv, message.mask)
            )
        self.wanted -= self.wanted > 0
        self.bell.ring()

    async def send(self, *frames: Frame, wrongly_masked: bool = False) -> None:
        for f in frames:
            while len(self.to_read) >= QUEUED:
                await self.bell.wait()
            self.to_read.append(
                {
                    "opcode": f.opcode,
                    "payload": f.payload,
                    "fin": f.fin,
                    "rsv1": bool(f.rsv & 4),
                    "rsv2": bool(f.rsv & 2),
                    "rsv3": bool(f.rsv & 1),
                    "mask": self.client is not wrongly_masked,
                }
            )
            self.bell.ring()

    async def receive_or_end(self) -> Frame | None:
        while not self.written and not self.over and not self.gone:
            self.wanted = 1
            self.bell.ring()
            await self.bell.wait()
        self.wanted = 0
        return self.written.popleft() if self.written else None

    def stop_reading(self) -> None:
        self.stopped = True

    def cut(self) -> None:
        self.gone = True
        self.bell.ring()

    def reset(self) -> None:
        self.error = ConnectionResetError("the peer has reset the connection")
        self.cut()
