"""A pair of asyncio transports that are each other's other end, without a socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._runtimes.asyncio_runtime import runtime_of
from .transport_stream import TransportStream

if TYPE_CHECKING:
    from .._options.options import Options

__all__ = ["MemoryPipe", "MemorySocket", "MemoryTransport", "memory_pair"]


class MemorySocket:
    """What `res.socket` is where there is no socket: it can be shut down."""

    def __init__(self) -> None:
        self.shut_down = False
        self.transport: MemoryTransport | None = None

    def fileno(self) -> int:
        """No descriptor."""
        return -1

    def shutdown(self, how: int = 2) -> None:
        """End the connection from our side."""
        self.shut_down = True
        if self.transport is not None:
            self.transport.abort()

    close = shutdown

    def end(self) -> None:
        """End the connection, whoever has asked for it."""
        if self.transport is not None:
            self.transport.abort()

    def release(self) -> None:
        """The owner's close."""
        self.transport = None


class MemoryTransport(asyncio.Transport):
    """One end: what is written here the other end's protocol receives in a later turn of the loop.

    It keeps the promises of asyncio's transports: flow control, half-closing, and one
    `connection_lost`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.loop = loop
        self.peer: MemoryTransport
        self._protocol: Any = protocol
        self._sent = bytearray()  # not yet taken by the peer
        self._high = self._low = 0
        self._writing_paused = False
        self._reading_paused = False
        self._ending = False  # nothing more will be written
        self._closing = False
        self._lost = False
        self._peer_ended = False
        self._delivering = False

    # Reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self.peer._deliver_soon()

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self.peer._deliver_soon()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    # Writing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self._sent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ending or self._lost:
            return
        self._sent += data
        if len(self._sent) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        self._deliver_soon()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._ending = True
        self._deliver_soon()

    # Ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """End once the peer has taken everything."""
        self._closing = self._ending = True
        self._deliver_soon()

    def abort(self) -> None:
        """End at once."""
        self._sent.clear()
        self.close()

    # Moving bytes

    def _deliver_soon(self) -> None:
        if not self._delivering:
            self._delivering = True
            self.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        peer = self.peer
        # Where this is the end, nobody is asked to wait with what came before it.
        taken = self._ending or not peer._reading_paused
        if self._sent and not peer._closing and taken:
            self._hand_over(peer)
        if peer._closing:
            self._sent.clear()
        if not self._sent and self._ending:
            self._end(peer)
        elif self._sent and taken:
            self._deliver_soon()

    def _hand_over(self, peer: MemoryTransport) -> None:
        protocol = peer._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = memoryview(protocol.get_buffer(len(self._sent)))
            size = min(len(buffer), len(self._sent))
            buffer[:size] = self._sent[:size]
            del self._sent[:size]
            protocol.buffer_updated(size)
        else:
            data = bytes(self._sent)
            self._sent.clear()
            protocol.data_received(data)
        if self._writing_paused and len(self._sent) <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _end(self, peer: MemoryTransport) -> None:
        if not self._peer_ended:
            self._peer_ended = True
            if not peer._closing and not peer._protocol.eof_received():
                peer.close()
        if self._closing and not self._lost:
            self._lost = True
            self._protocol.connection_lost(None)


class MemoryPipe:
    """One end of a pair, before it is a connection's."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.socket = MemorySocket()
        self.socket.transport = transport

    def become_stream(self, options: Options) -> TransportStream:
        runtime = runtime_of(self.transport.loop)
        return TransportStream(runtime, self.socket, self.transport, options.write_high_water)

    def unread(self) -> bytes:
        return b""

    def close(self) -> None:
        self.transport.abort()


def memory_pair(
    loop: asyncio.AbstractEventLoop, first: asyncio.BaseProtocol, second: asyncio.BaseProtocol
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two transports, each the other end of the other."""
    one, other = MemoryTransport(loop, first), MemoryTransport(loop, second)
    one.peer, other.peer = other, one
    return one, other
