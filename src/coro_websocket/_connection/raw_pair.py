"""The engine between a raw pair of coroutine functions and what the user reads and writes.

The rules: a raw read belongs to whoever reads or closes, and is cancelled with it. A raw
write belongs to the connection: one piece of work hands frame after frame to the raw writer,
whoever is cancelled meanwhile, so that none is lost, written twice or cut in two.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from .._errors import ConcurrencyError, ConnectionClosedError, NoEventLoopError, ProtocolError
from .._rfc6455.close_codes import ABNORMAL, broken_off, describe
from .._rfc6455.engine import Engine
from .._rfc6455.frames import decode_frame, encode_frame
from .._rfc6455.messages import Message, as_fragment, as_message, empty_end
from .._rfc6455.sending import control_payload
from .._runtimes.loops import Signal, Turn, current_loop
from .stats import Stats

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import Limit, Running

__all__ = ["Channel", "FrameStream", "RawRead", "RawWrite", "RoundTrip"]

Frame = Message | Mapping[str, Any]
RawRead = Callable[[], Awaitable[Frame | None]]
RawWrite = Callable[[Message | None], Awaitable[object]]


class Channel:
    """One connection over a raw pair."""

    def __init__(self, raw_read: RawRead, raw_write: RawWrite, options: Options) -> None:
        self.raw_read = raw_read
        self.raw_write = raw_write
        self.options = options
        self.client = bool(options.mask)
        self.engine = Engine(self.client, max_message_size=options.max_message_size)
        # What reading owns
        self.reading = False
        self.fragments = options.fragments  # what was asked for last
        self.streaming: FrameStream | None = None  # whose message has not ended
        self.skipping = False  # what is left of a message that was given up
        self.pumping = Turn()  # one raw read at a time, whether to read or to close
        self.raw_reading: Limit | None = None
        self.ready: collections.deque[Message] = collections.deque()
        self.held = 0  # bytes of what is in `ready`
        self.deaf = False  # so much is in `ready`, while closing, that what follows is dropped
        self.dropped = 0
        self.ended = False
        self.bytes_in = 0
        # What writing owns
        self.frames: collections.deque[Message] = collections.deque()  # taken from the engine
        self.flushing = False  # `flush` runs
        self.flusher: Running | None = None
        self.frames_written = Signal()  # when `frames` is empty
        self.frames_written.give()
        self.all_written = Signal()  # when what is still in the engine has gone the same way
        self.broken = False  # the raw writer has failed
        self.turn = Turn()  # held for as long as a message takes
        self.turn_owner: Any = None  # the task that sends it frame by frame
        self.unwatch: Callable[[], None] | None = None  # to learn no more of that task's end
        self.broken_off: ConnectionClosedError | None = None  # once a message of ours was
        self.pings: dict[bytes, RoundTrip] = {}
        self.latency: float | None = None
        # What closing owns
        self.cause: BaseException | None = None  # the raw pair's first error
        self.closing = False  # `complete_closing` runs by itself
        self.closed = False
        self.closers: list[Running] = []
        self.over = Signal()  # the raw side has been told
        self.heartbeat: Running | None = None
        if options.heartbeat is not None:
            loop = current_loop()
            if not loop.spawns:
                raise NoEventLoopError(
                    "wrap_io() with heartbeat must be called where an event loop runs, asyncio's "
                    "or trio's: call it from a coroutine"
                )
            self.heartbeat = loop.spawn(self.beat)

    # Reading

    async def read(
        self, fragments: bool, control: bool, stream: FrameStream | None = None
    ) -> Message | None:
        if self.reading:
            raise ConcurrencyError(
                "another task is reading from this connection: one task reads at a time"
            )
        if self.streaming is not None and self.streaming is not stream:
            # Whoever reads on has given up the message that was streamed.
            self.streaming = None
            self.skipping = True
        self.reading = True
        try:
            while self.skipping and (message := await self.take(True, False)) is not None:
                self.skipping = not message.fin
            message = await self.take(fragments, control)
            if message is None:
                await self.over.wait()
        finally:
            self.reading = False
        if message is None:
            error = self.end_error()
            if error is not None:
                raise error.with_traceback(None) from (error.__cause__ or self.cause)
        return message

    def end_error(self) -> ConnectionClosedError | None:
        """How the connection ended: None if cleanly."""
        if self.engine.error is None and self.broken_off is not None:
            return self.broken_off
        return self.engine.end_error(self.cause, given_up=self.deaf or self.skipping)

    async def take(self, fragments: bool, control: bool) -> Message | None:
        """The next message, or None if there will be none."""
        self.fragments = fragments
        while not self.ready and not self.closed:
            await self.pumping.take()
            try:
                if not self.ready and not self.closed:
                    await self.advance(fragments, control)
            finally:
                self.pumping.pass_on()
        if not self.ready:
            return None
        message = self.ready.popleft()
        self.held -= message.len
        return message

    def batch(self, first: Message) -> list[Message]:
        """The message and those that are here already, up to `read_high_water` bytes."""
        limit = self.options.read_high_water
        messages = [first]
        size = first.len
        while self.ready and (limit is None or size < limit):
            message = self.ready.popleft()
            self.held -= message.len
            size += message.len
            messages.append(message)
        return messages

    def keep(self, message: Message) -> None:
        """Hold a message for whoever reads; what nobody reads must not keep us from the end."""
        limit = self.options.read_high_water
        if self.closing and not self.reading and limit is not None and self.held >= limit:
            self.deaf = True
        if self.deaf:
            self.dropped += message.fin
        else:
            self.ready.append(message)
            self.held += message.len

    async def stream(self) -> FrameStream | None:
        message = await self.read(True, False)
        if message is None:
            return None
        stream = FrameStream(self, message)
        if not message.fin:
            self.streaming = stream
        return stream

    async def advance(self, fragments: bool, control: bool) -> None:
        """Parse a message that is here, else read a frame; finish once nothing more will come."""
        engine = self.engine
        message = None
        with contextlib.suppress(ConnectionClosedError):  # the engine keeps it for `end_error`
            message = engine.next_message(fragments=fragments, control=control)
            if message is not None:
                self.keep(message)  # before any await: cancelling loses nothing
        self.settle_pings()
        self.start_flushing()
        loop = current_loop()
        if not loop.spawns and not self.flushing:
            await self.flush()
        if message is not None:
            return
        if engine.finished or self.ended:
            await self.finish()
            return
        try:
            async with loop.limit(None) as self.raw_reading:
                if self.broken:
                    self.raw_reading.shorten(self.options.close_timeout)
                frame = await self.raw_read()
            data = None if frame is None else encode_frame(self.as_received(frame), check=False)
        except ProtocolError as error:  # the decoder's
            engine.fail_connection(error)
        except (EOFError, StopAsyncIteration):
            self.ended = True
        except Exception as error:
            self.ended = True
            if not self.closed:  # else this read was ended by us
                self.cause = self.cause or error
        else:
            if data is None:
                self.ended = True
            else:
                self.bytes_in += len(data)
                engine.receive(data)
        finally:
            self.raw_reading = None

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

    # Writing

    async def write(self, message: Message) -> None:
        """A whole message, a fragment or a control frame."""
        self.check_can_wait()
        if message.opcode >= 8:
            await self.send(message)
            return
        task = current_loop().current_task()
        if self.turn_owner is None or self.turn_owner is not task:
            await self.turn.take()
            self.check_can_wait()
        try:
            self.encode(message)
        except ConnectionClosedError:
            await self.told()
            raise
        finally:
            if not self.engine.sending_fragments or self.engine.close_sent:
                self.pass_turn()
            elif self.turn_owner is None:
                self.turn_owner = task
                if task is not None:
                    self.unwatch = current_loop().watch(
                        task, functools.partial(self.owner_ended, task)
                    )
        await self.sent()

    def pass_turn(self) -> None:
        if self.unwatch is not None:
            self.unwatch()
        self.turn_owner = self.unwatch = None
        self.turn.pass_on()

    def owner_ended(self, task: object) -> None:
        """The task that has begun a fragmented message is done: has it ended it?"""
        if self.turn_owner is task:
            self.break_off()
            self.pass_turn()

    def break_off(self) -> None:
        """Close: a part of a message has been sent, and cannot be taken back."""
        if self.closed or self.engine.close_sent:
            return
        self.broken_off = broken_off()
        self.engine.send_close(self.broken_off.code, self.broken_off.reason)
        self.start_closing()

    async def write_fragments(self, fragments: Any) -> None:
        self.check_can_wait()
        if self.turn_owner is not None and self.turn_owner is current_loop().current_task():
            raise ConcurrencyError(
                "this task is sending a fragmented message: its last fragment (fin=True) must "
                "come before a new message (RFC 6455 section 5.4)"
            )
        await self.turn.take()
        begun = False
        opcode = 0
        try:
            previous = None
            async with contextlib.aclosing(_async_items(fragments)) as items:
                async for item in items:
                    message = as_fragment(item, opcode, begun, False)
                    opcode = opcode or message.opcode
                    if not isinstance(fragments, AsyncIterable):
                        # The last one is known only when no other follows.
                        item, previous = previous, item
                        if item is None:
                            continue
                        message = as_fragment(item, opcode, begun, False)
                    begun = True
                    await self.send(message)
            if previous is None:
                previous = empty_end(fragments, opcode)
            self.encode(as_fragment(previous, opcode, begun, True))
        except BaseException as error:
            if self.engine.sending_fragments:
                self.break_off()
            if isinstance(error, ConnectionClosedError):
                await self.told()
            raise
        finally:
            self.turn.pass_on()
        await self.sent()

    async def send(self, message: Message) -> None:
        self.check_can_wait()
        self.encode(message)
        await self.sent()

    def encode(self, message: Message) -> None:
        """Put a message among what the engine has to send, or raise: nothing was sent then."""
        if self.closed or self.broken:
            raise self.closed_error() from self.cause
        if self.broken_off is not None:
            raise self.closed_error()
        self.engine.send_message(message)

    async def sent(self) -> None:
        """Wait until the raw writer has taken all that the engine has to send now."""
        if current_loop().spawns:
            await self.start_flushing().wait()
        else:
            await self.flush()
        if self.broken:
            raise self.closed_error() from self.cause

    async def told(self) -> None:
        """A message was refused: wait until the peer has been told why, by the Close frame."""
        if current_loop().spawns:
            await self.start_flushing().wait()

    def check_can_wait(self) -> None:
        """Before anything is sent: can be waited for a raw write that another task has begun?"""
        if self.flushing:
            loop = current_loop()
            if not loop.spawns:
                loop.event()

    def start_flushing(self) -> Signal:
        """See to it that what the engine has to send is written, and tell when it has been."""
        if self.flushing:
            return self.all_written
        if self.take_frames() and (loop := current_loop()).spawns:
            self.flushing = True
            self.flusher = loop.spawn(self.flush_by_itself)
        return self.frames_written

    def take_frames(self) -> bool:
        """Whether there are frames to write, those taken from the engine included."""
        data = self.engine.data_to_send()
        index = 0
        while (found := decode_frame(data, index, None)) is not None:
            frame, index = found
            self.frames.append(frame)
        if self.frames:
            self.frames_written, self.all_written = self.all_written, Signal()
        return bool(self.frames)

    async def flush_by_itself(self) -> None:
        try:
            await self.flush()
        except BaseException as error:
            self.lose_writing(error)
            raise

    async def flush(self) -> None:
        """Hand the raw writer every frame that the engine has made."""
        self.flushing = True
        try:
            while not self.broken and (self.frames or self.take_frames()):
                # Taken before it is written: a frame is never written twice.
                await self.raw_write(self.frames.popleft())
                if not self.frames:
                    self.frames_written.give()
        except Exception as error:
            self.lose_writing(error)
        finally:
            self.flushing = False
            self.frames_written.give()
            self.all_written.give()
            self.all_written = Signal()

    def lose_writing(self, error: BaseException) -> None:
        """The raw writer has failed. What has come can still be read."""
        self.broken = True
        self.cause = self.cause or error
        self.frames.clear()
        self.engine.data_to_send()
        self.turn.end()
        self.fail_pings()
        if self.raw_reading is not None:
            self.raw_reading.shorten(self.options.close_timeout)

    def ping(self, payload: str | bytes | None) -> RoundTrip:
        if not current_loop().spawns:
            raise NoEventLoopError("write.ping() works only where asyncio or trio runs")
        if self.closed or self.broken:
            raise self.closed_error() from self.cause
        payload = os.urandom(8) if payload is None else control_payload(payload)
        if payload in self.pings:
            raise ConcurrencyError(
                "a Ping with this payload still waits for its Pong: "
                "give it another payload, or none"
            )
        self.engine.send_ping(payload)
        self.start_flushing()
        answered = self.pings[payload] = RoundTrip()
        return answered

    def settle_pings(self) -> None:
        for payload in self.engine.pop_answered():
            answered = self.pings.pop(payload, None)
            if answered is not None:
                self.latency = answered.settle()

    def fail_pings(self) -> None:
        pings, self.pings = self.pings, {}
        for answered in pings.values():
            answered.fail(self.closed_error())

    def closed_error(self) -> ConnectionClosedError:
        if self.broken_off is not None:
            code, reason = self.broken_off.code, self.broken_off.reason
            return ConnectionClosedError(
                f"cannot send: the connection was closed with {describe(code, reason)}",
                code,
                reason,
            )
        if self.engine.close_sent:
            return self.engine.refuse()
        how = "the connection is lost"
        if self.cause is not None:
            how += f" ({str(self.cause) or type(self.cause).__name__})"
        return ConnectionClosedError(f"cannot send: {how}", ABNORMAL)

    # Closing

    async def close(self, code: int | None, reason: str) -> None:
        loop = current_loop()
        if not loop.spawns and not self.closed and (self.pumping.taken or self.flushing):
            loop.event()  # no way to wait for the other task
        self.engine.send_close(code, reason)
        if loop.spawns:
            self.start_closing()
            await self.over.wait()
        else:
            await self.complete_closing()

    def start_closing(self) -> None:
        """Take the closing handshake to its end, whoever is cancelled meanwhile."""
        loop = current_loop()
        if loop.spawns and not self.closing and not self.closed:
            self.closing = True
            self.closers.append(loop.spawn(self.complete_closing))

    async def complete_closing(self) -> None:
        """The Close frame is among what is to be sent: wait for the peer's, and end."""
        self.start_flushing()
        try:
            with contextlib.suppress(TimeoutError):
                async with current_loop().limit(self.options.close_timeout):
                    while not self.closed and not self.broken:
                        await self.pumping.take()
                        try:
                            if not self.closed and not self.broken:
                                await self.advance(self.fragments, False)
                        finally:
                            self.pumping.pass_on()
            await self.finish()
        finally:
            self.over.give()

    async def finish(self) -> None:
        """The closing handshake is over, or will never be: end the raw side, once."""
        if not self.closed:
            self.closed = True
            if self.heartbeat is not None:
                self.heartbeat.cancel()
            self.fail_pings()
            self.turn.end()
            if self.raw_reading is not None:
                self.raw_reading.shorten(0)
            loop = current_loop()
            if loop.spawns:
                self.closers.append(loop.spawn(self.end))
            else:
                await self.end()
        await self.over.wait()

    async def end(self) -> None:
        """Let the raw writer take what is left, and tell it that no more will come."""
        loop = current_loop()
        timeout = self.options.close_timeout
        written = self.all_written
        try:
            if self.flushing:
                try:
                    async with loop.limit(timeout):
                        await written.wait()
                except TimeoutError:
                    self.lose_writing(TimeoutError("the raw writer was stuck"))
                    if self.flusher is not None:
                        self.flusher.cancel()
            with contextlib.suppress(Exception):
                async with loop.limit(timeout):
                    if self.flushing:
                        await written.wait()  # the cancelled call must have ended
                    await self.raw_write(None)
        finally:
            self.over.give()

    async def beat(self) -> None:
        """An unsolicited Pong every so often (RFC 6455 section 5.5.3)."""
        heartbeat = self.options.heartbeat
        assert heartbeat is not None
        while not self.engine.close_sent and not self.broken:
            await current_loop().sleep(heartbeat)
            with contextlib.suppress(ConnectionClosedError):
                self.engine.send_pong()
                await self.sent()

    @property
    def stats(self) -> Stats:
        engine = self.engine
        return Stats(
            messages_in=engine.messages_in,
            messages_out=engine.messages_out,
            frames_in=engine.frames_in,
            frames_out=engine.frames_out,
            bytes_in=self.bytes_in,
            bytes_out=engine.bytes_encoded,
            dropped=self.dropped,
            latency=self.latency,
            compression_in=None,
            compression_out=None,
        )

    def __repr__(self) -> str:
        role = "client" if self.client else "server"
        if self.closed:
            return f"{role}, closed"
        return f"{role}, closing" if self.engine.close_sent else f"{role}, open"


class RoundTrip:
    """The awaitable of a Ping's round-trip time. It need not be awaited."""

    def __init__(self) -> None:
        self.answered = Signal()
        self.sent_at = time.perf_counter()
        self.seconds = 0.0
        self.error: ConnectionClosedError | None = None

    def settle(self) -> float:
        self.seconds = time.perf_counter() - self.sent_at
        self.answered.give()
        return self.seconds

    def fail(self, error: ConnectionClosedError) -> None:
        self.error = error
        self.answered.give()

    def __await__(self) -> Generator[Any, Any, float]:
        yield from self.answered.wait().__await__()
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.seconds


class FrameStream:
    """A message that is being read frame by frame: used as MessageStream is."""

    def __init__(self, channel: Channel, first: Message) -> None:
        self._channel = channel
        self._next: Message | None = first
        self._ended = False
        self.opcode = first.opcode

    def __aiter__(self) -> FrameStream:
        return self

    async def __anext__(self) -> str | bytes:
        channel = self._channel
        while not self._ended:
            message, self._next = self._next, None
            if message is None:
                if channel.streaming is not self:
                    raise ConcurrencyError(
                        "this message was given up when the next one was asked for: what was left "
                        "of it is dropped"
                    )
                message = await channel.read(True, False, self)
            if message is None:
                raise channel.engine.cut_off_error()
            if message.fin:
                self._ended = True
                channel.streaming = None
            if message.payload:
                payload: str | bytes = message.payload
                return payload
        raise StopAsyncIteration

    def __repr__(self) -> str:
        kind = "text" if self.opcode == 1 else "binary"
        return f"<{kind} message{', ended' if self._ended else ''}>"


async def _async_items(items: Any) -> Any:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
