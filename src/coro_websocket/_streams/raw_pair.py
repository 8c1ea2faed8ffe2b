"""The raw pair of `wrap_io`, as a transport: frames are read and written by tasks of ours.

The rules: one raw read and one raw write at a time, neither of which is interrupted by anybody
who waits for the connection. The raw writer is told of the end once, behind all that is written,
and the stream is lost only then, or when that has taken longer than `close_timeout`.

Where there can be no tasks of ours, whoever waits for the connection reads and writes instead.
"""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._errors import ProtocolError
from .._rfc6455.frames import decode_frame, encode_frame
from .._rfc6455.messages import Message, as_message
from .pair_stream import PairStream

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import Event, Loop, Running
    from .._runtimes.runtime import Runtime

__all__ = ["Frame", "RawPair", "RawRead", "RawWrite"]

Frame = Message | Mapping[str, Any]
RawRead = Callable[[], Awaitable[Frame | None]]
RawWrite = Callable[[Message | None], Awaitable[object]]

CLOSE = 8
AHEAD = 65536  # bytes that are read before other tasks have their turn
FULL = 65536  # bytes that are taken before the raw writer has; more wait in the connection
FRAME = 1024  # bytes that each frame counts for besides its own

# Until their end, whoever else has let go of them, or until their loop is closed
RUNNING: dict[Runtime, tuple[Loop, set[RawPair]]] = {}


class RawPair:
    """What a PairStream has for its transport."""

    def __init__(
        self, raw_read: RawRead, raw_write: RawWrite, options: Options, loop: Loop
    ) -> None:
        self.raw_read = raw_read
        self.raw_write = raw_write
        self.options = options
        self.client = bool(options.mask)
        self.loop = loop
        self.runtime = loop.runtime
        # What reading owns
        self.reader: Running | None = None
        self.in_raw_read = False
        self.arrived: list[bytes] = []  # not yet fed to the stream
        self.ahead = 0
        self.reading_paused = False
        self.reading_over = False
        self.close_arrived = False
        self.resumed: Event | None = None  # for a reader that waits
        # What writing owns
        self.writer: Running | None = None
        self.in_raw_write = False
        self.frames: collections.deque[tuple[Message, int]] = collections.deque()
        self.unsent = 0  # bytes that the raw writer has not taken
        self.full = False
        self.more: Event | None = None  # for a writer that waits
        self.close_written = False
        high = options.write_high_water
        self.high = FULL if high is None else min(high, FULL)
        # The end
        self.closing = False
        self.aborted = False
        self.telling = False  # the raw writer is told of it
        self.over = False
        self.error: BaseException | None = None
        self.deadline: Any = None

    # What has been opened, for a connection

    def become_stream(self, options: Options) -> PairStream:
        self.stream = PairStream(self.runtime, self)
        return self.stream

    def unread(self) -> bytes:
        return b""

    def begin(self) -> None:
        if self.loop.spawns:
            for runtime, (loop, _) in list(RUNNING.items()):  # other threads may have theirs
                if loop.is_closed():
                    RUNNING.pop(runtime, None)
            RUNNING.setdefault(self.runtime, (self.loop, set()))[1].add(self)
            self.reader = self.loop.spawn(self.read_frames, self.task_ended)
            self.writer = self.loop.spawn(self.write_frames, self.task_ended)

    def task_ended(self, task: Running) -> None:
        """It may have been cancelled before it began."""
        if not self.closing and (task is self.writer or not self.reading_over):
            self.fail(None)

    # Reading

    async def read_frames(self) -> None:
        try:
            while await self.read_next():
                await self.wait_for_room()
        except GeneratorExit:  # its loop has been closed
            raise
        except BaseException as error:
            if not self.closing:  # else it may be we who have cancelled this
                self.fail(error)
            if self.passes_on(error):
                raise

    async def read_next(self) -> bool:
        """Read a frame; False if no more are to be read."""
        error = None
        try:
            frame = None if self.closing else await self.call_raw_read()
            if frame is not None:
                self.arrive(self.as_received(frame))
                return not self.reading_over
        except ProtocolError as violation:  # the decoder's
            self.refuse(violation)
            return False
        except (EOFError, StopAsyncIteration):
            pass
        except Exception as failure:
            error = failure
        if not self.closing:
            self.error = error
            self.stream.feed_eof()
            self.close()
        return False

    async def call_raw_read(self) -> Frame | None:
        self.in_raw_read = True
        try:
            return await self.raw_read()
        except BaseException:
            self.end_if_loop_closed()
            raise
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
        self.ahead += len(data) + FRAME
        self.arrived.append(data)
        if len(self.arrived) == 1:
            self.stream.call_outside_tasks(self.feed)
        if frame.opcode == CLOSE:
            self.close_arrived = self.reading_over = True
            self.end_if_closed()

    def feed(self) -> None:
        arrived, self.arrived = self.arrived, []
        self.stream.feed(arrived[0] if len(arrived) == 1 else b"".join(arrived))

    def refuse(self, violation: ProtocolError) -> None:
        self.reading_over = True
        self.stream.call_outside_tasks(lambda: self.stream.refuse(violation))

    async def wait_for_room(self) -> None:
        """Wait while the stream takes no more; let others have their turn in between."""
        if self.ahead >= AHEAD:
            self.ahead = 0
            await self.loop.sleep(0)
        while self.reading_paused and not self.closing:
            self.resumed = self.loop.event()
            await self.resumed.wait()

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

    def get_extra_info(self, name: str) -> None:
        """Nothing is known of what is behind the pair."""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def wake_writer(self) -> None:
        if self.more is not None:
            self.more.set()

    async def write_frames(self) -> None:
        try:
            while self.frames or not self.closing:
                if self.frames:
                    await self.write_next()
                else:
                    self.more = self.loop.event()
                    await self.more.wait()
                    self.more = None
            if not self.over:
                await self.tell_end()
        except GeneratorExit:  # its loop has been closed
            raise
        except BaseException as error:
            if self.aborted and not self.telling and not self.over:  # we have cancelled this
                self.writer = self.loop.spawn(self.tell_end)
            else:
                self.fail(error)
            if self.passes_on(error):
                raise

    async def write_next(self) -> None:
        frame, size = self.frames.popleft()  # before it is written: it never is twice
        try:
            await self.call_raw_write(frame)
        except Exception as error:
            self.frames.clear()
            if not self.over:
                self.stream.fail_writing(error)
        finally:
            self.unsent -= min(size, self.unsent)
        self.make_room()

    def make_room(self) -> None:
        if self.full and self.unsent <= self.high // 4 and not self.over:
            self.full = False
            self.stream.resume_writing()

    async def call_raw_write(self, frame: Message | None) -> None:
        self.in_raw_write = True
        try:
            await self.raw_write(frame)
        except BaseException:
            self.end_if_loop_closed()
            raise
        finally:
            self.in_raw_write = False

    # Where there are no tasks of ours

    def fetch(self, receiving: bool) -> Awaitable[object] | None:
        """What whoever waits has to do; None if another does it, or there is nothing to do."""
        if self.loop.spawns:
            return None
        if not self.in_raw_write:
            if self.frames:
                return self.write_waiting()
            if self.closing:
                return None if self.telling else self.tell_end()
        if not receiving or self.in_raw_read or self.reading_over or self.reading_paused:
            return None
        return self.read_next()

    def busy(self, receiving: bool) -> bool:
        """Whether another task writes, or reads, if that is asked."""
        return self.in_raw_write or (receiving and self.in_raw_read)

    async def write_waiting(self) -> None:
        try:
            while self.frames:
                await self.write_next()
        finally:  # whoever does this may be interrupted
            self.make_room()

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
        if self.over:  # it took too long to come to this
            return
        try:
            await self.call_raw_write(None)
        except GeneratorExit:  # its loop has been closed, if there is one
            self.over = self.loop.spawns
            raise
        except BaseException as error:
            if self.passes_on(error):
                raise
        finally:
            self.end_soon()

    def passes_on(self, error: BaseException) -> bool:
        """Whether the loop, or whoever drives us, has to see what the pair has raised.

        On trio, whatever a task of ours raised would end the run.
        """
        kinds = (KeyboardInterrupt, SystemExit) if self.loop.spawns else BaseException
        return isinstance(error, kinds) and not isinstance(error, Exception)

    def fail(self, error: BaseException | None) -> None:
        """A task of ours cannot go on: the loop is about to end, or there is no memory."""
        if not self.closing:
            self.error = error
            self.close()
        self.end_soon()

    def end_soon(self) -> None:
        if not self.over:
            self.stream.call_outside_tasks(self.end)  # behind what has arrived

    def end_if_loop_closed(self) -> None:
        """The pair fails because of that, and nobody can be told any more."""
        if self.loop.is_closed():
            self.over = self.closing = True

    def end(self) -> None:
        """Nothing is read or written any more, or ought to be."""
        if self.over:
            return
        self.over = self.closing = True
        self.frames.clear()
        _, running = RUNNING.get(self.runtime, (self.loop, set()))
        running.discard(self)
        if not running:
            RUNNING.pop(self.runtime, None)
        if self.deadline is not None:
            self.deadline.cancel()
        for task, busy in ((self.reader, self.in_raw_read), (self.writer, self.in_raw_write)):
            if busy and task is not None:
                task.cancel()
        self.resume_reading()
        self.wake_writer()
        self.stream.end(self.error)
