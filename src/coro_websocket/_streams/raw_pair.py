"""The raw pair of `wrap_io`, as a transport: frames are read and written by tasks of ours.

The rules: one raw read and one raw write at a time, neither of which is interrupted by anybody
who waits for the connection. The raw writer is told of the end once, behind all that is written,
and the stream is lost only then, or when that has taken longer than `close_timeout`.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._errors import ProtocolError
from .._rfc6455.frames import decode_frame, encode_frame
from .._rfc6455.messages import Message, as_message
from .pair_stream import PairStream

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.loops import Event, Loop, Running

__all__ = ["Frame", "RawPair", "RawRead", "RawWrite"]

Frame = Message | Mapping[str, Any]
RawRead = Callable[[], Awaitable[Frame | None]]
RawWrite = Callable[[Message | None], Awaitable[object]]

CLOSE = 8
AHEAD = 65536  # bytes that are read before other tasks have their turn
FRAME = 1024  # bytes that each frame counts for besides its own


class RawPair:
    """What a PairStream has for its transport."""

    running: set[RawPair] = set()  # until their end, whoever else has let go of them

    def __init__(
        self, raw_read: RawRead, raw_write: RawWrite, options: Options, loop: Loop
    ) -> None:
        self.raw_read = raw_read
        self.raw_write = raw_write
        self.options = options
        self.client = bool(options.mask)
        self.loop = loop
        # What reading owns
        self.reader: Running | None = None
        self.in_raw_read = False
        self.arrived: list[bytes] = []  # not yet fed to the stream
        self.ahead = 0
        self.reading_paused = False
        self.resumed: Event | None = None  # for a reader that waits
        self.close_arrived = False
        # What writing owns
        self.writer: Running | None = None
        self.in_raw_write = False
        self.frames: collections.deque[tuple[Message, int]] = collections.deque()
        self.unsent = 0  # bytes that the raw writer has not taken
        self.full = False
        self.more: Event | None = None  # for a writer that waits
        self.close_written = False
        high = options.write_high_water
        self.high: float = float("inf") if high is None else high
        # The end
        self.closing = False
        self.aborted = False
        self.telling = False  # the raw writer is told of it
        self.over = False
        self.error: BaseException | None = None
        self.deadline: Any = None

    # What has been opened, for a connection

    def become_stream(self, options: Options) -> PairStream:
        self.stream = PairStream(self.loop.runtime, self)
        return self.stream

    def unread(self) -> bytes:
        return b""

    def begin(self) -> None:
        self.running.add(self)
        self.reader = self.loop.spawn(self.read_frames)
        self.writer = self.loop.spawn(self.write_frames)

    # Reading

    async def read_frames(self) -> None:
        error: Exception | None = None
        try:
            while (frame := await self.read_frame()) is not None:
                self.arrive(self.as_received(frame))
                if self.close_arrived:
                    self.end_if_closed()
                    return
                await self.wait_for_room()
        except ProtocolError as violation:  # the decoder's
            refused = violation
            self.stream.call_soon(lambda: self.stream.refuse(refused))
            return
        except (EOFError, StopAsyncIteration):
            pass
        except Exception as failure:
            error = failure
        except BaseException as cancelled:
            self.interrupted(cancelled)
            raise
        self.end_reading(error)

    async def read_frame(self) -> Frame | None:
        if self.closing:
            return None
        self.in_raw_read = True
        try:
            return await self.raw_read()
        finally:
            self.in_raw_read = False

    def as_received(self, frame: Frame) -> Message:
        """The frame as a Message; a mapping that does not say is masked as it should be."""
        if isinstance(frame, Mapping):
            return as_message(frame if "mask" in frame else {**frame, "mask": not self.client})
        if not isinstance(frame, Message):
            raise TypeError(
                "raw_read must give a Message, a mapping with its fields or None, "
                f"not {type(frame).__name__}"
            )
        return frame

    def arrive(self, frame: Message) -> None:
        data = encode_frame(frame, check=False)
        self.close_arrived = frame.opcode == CLOSE
        if not self.arrived:
            self.stream.call_soon(self.feed)
        self.arrived.append(data)
        self.ahead += len(data) + FRAME

    def feed(self) -> None:
        arrived, self.arrived = self.arrived, []
        self.ahead = 0
        self.stream.feed(arrived[0] if len(arrived) == 1 else b"".join(arrived))

    async def wait_for_room(self) -> None:
        """Wait while the stream takes no more; let others have their turn in between."""
        if self.ahead >= AHEAD:
            await self.loop.sleep(0)
        while self.reading_paused and not self.closing:
            self.resumed = self.loop.event()
            await self.resumed.wait()

    def end_reading(self, error: Exception | None) -> None:
        if not self.closing:
            self.error = error
            self.stream.feed_eof()
            self.close()

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False
        if self.resumed is not None:
            self.resumed.set()

    # Writing

    def write(self, data: bytes) -> None:
        index = 0
        while (found := decode_frame(data, index, None)) is not None:
            frame, end = found
            self.frames.append((frame, end - index))
            index = end
            self.close_written |= frame.opcode == CLOSE
        self.unsent += index
        if self.unsent > self.high and not self.full:
            self.full = True
            self.stream.pause_writing()
        self.wake_writer()
        self.end_if_closed()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def wake_writer(self) -> None:
        if self.more is not None:
            self.more.set()

    async def write_frames(self) -> None:
        try:
            while self.frames or not self.closing:
                if self.frames:
                    await self.write_frame(*self.frames.popleft())
                else:
                    self.more = self.loop.event()
                    await self.more.wait()
                    self.more = None
            await self.tell_end()
        except BaseException as cancelled:
            if self.aborted and not self.over:
                self.writer = self.loop.spawn(self.tell_end)
            else:
                self.interrupted(cancelled)
            raise

    async def write_frame(self, frame: Message, size: int) -> None:
        try:
            await self.hand_over(frame)
        except Exception as error:
            self.lose_writing(error)
        self.unsent -= min(size, self.unsent)
        if self.full and self.unsent <= self.high // 4:
            self.full = False
            self.stream.resume_writing()

    async def hand_over(self, frame: Message | None) -> None:
        self.in_raw_write = True
        try:
            await self.raw_write(frame)
        finally:
            self.in_raw_write = False

    def lose_writing(self, error: Exception) -> None:
        self.frames.clear()
        self.stream.fail_writing(error)

    # The end

    def end_if_closed(self) -> None:
        """The closing handshake is over once there was a Close each way."""
        if self.close_arrived and self.close_written:
            self.close()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        """Read no more, write what is left, and tell the raw writer that this was all."""
        if self.closing:
            return
        self.closing = True
        if self.in_raw_read and self.reader is not None:
            self.reader.cancel()
        self.resume_reading()
        self.wake_writer()

    def abort(self) -> None:
        """Write no more, and tell the raw writer."""
        self.close()
        if self.aborted or self.over:
            return
        self.aborted = True
        self.frames.clear()
        if self.options.close_timeout is not None:
            self.deadline = self.stream.call_later(self.options.close_timeout, self.end)
        if self.in_raw_write and not self.telling and self.writer is not None:
            self.writer.cancel()

    async def tell_end(self) -> None:
        self.telling = True
        try:
            with contextlib.suppress(Exception):
                await self.hand_over(None)
        finally:
            self.stream.call_soon(self.end)  # behind what has arrived

    def interrupted(self, error: BaseException) -> None:
        """A task of ours was cancelled. Unless we have done that, the loop is about to end."""
        if not self.closing:
            self.error = error
            self.end()

    def end(self) -> None:
        """Nothing is read or written any more, or ought to be."""
        if self.over:
            return
        self.over = self.closing = True
        self.running.discard(self)
        if self.deadline is not None:
            self.deadline.cancel()
        for task, busy in ((self.reader, self.in_raw_read), (self.writer, self.in_raw_write)):
            if busy and task is not None:
                task.cancel()
        self.resume_reading()
        self.wake_writer()
        self.stream.end(self.error)
