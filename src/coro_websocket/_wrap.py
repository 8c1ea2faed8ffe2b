"""wrap_io: WebSocket behaviour over any pair of coroutine functions.

The pair exchanges decoded frames, as in the original; `codec.decoder` and
`codec.encoder` turn a byte-level pair into it. The engine's rules hold here too: a
frame that breaks the protocol is refused, and the connection failed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any

from ._asyncio._waiting import running_loop
from ._close import ABNORMAL, NORMAL
from ._engine import Engine
from ._errors import ConcurrencyError, ConnectionClosedError, ProtocolError
from ._frames import decode_frame, encode_frame
from ._messages import Message, as_fragment, as_message, is_fragments
from ._options import Options
from ._sending import control_payload

__all__ = ["FrameRead", "FrameWrite", "wrap_io"]

Frame = Message | Mapping[str, Any]
RawRead = Callable[[], Awaitable[Frame | None]]
RawWrite = Callable[[Message | None], Awaitable[object]]


def wrap_io(
    raw_read: RawRead,
    raw_write: RawWrite,
    options: Options | Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[FrameRead, FrameWrite]:
    """Give a pair of coroutine functions WebSocket behaviour (the specification's wrapIo).

    The closing handshake, Pongs, fragments, UTF-8 and limits are seen to, as on a
    connection of `connect`. Not only for sockets: a test, a pipe, a relay.

    Args:
        raw_read: gives the next frame (a Message, or a mapping with its fields), or None
            at the end. `codec.decoder` makes one from a function that reads bytes.
        raw_write: takes the next frame; None says that no more will come.
            `codec.encoder` makes one from a function that writes bytes.
        options: an Options or a mapping, of which these count, also as keywords:
            `mask` (True for the client's side, False, the default, for the server's:
            RFC 6455 section 5.1), `heartbeat` (seconds between unsolicited Pongs; needs
            a running asyncio loop), `max_message_size` (bytes), `close_timeout`
            (seconds), `fragments` and `control`.

    Returns:
        `read` and `write`, to be used as those of `connect`.

    Raises:
        InvalidOption: an option has a value that cannot be used.
        NoEventLoopError: with `heartbeat`, called where no event loop runs.
    """
    channel = Channel(raw_read, raw_write, Options.for_wrap_io(options, **more))
    return FrameRead(channel, channel.options.fragments, channel.options.control), FrameWrite(
        channel
    )


class Channel:
    """The engine between the raw pair and `read` and `write`."""

    def __init__(self, raw_read: RawRead, raw_write: RawWrite, options: Options) -> None:
        self.raw_read = raw_read
        self.raw_write = raw_write
        self.options = options
        self.client = bool(options.mask)
        self.engine = Engine(self.client, max_message_size=options.max_message_size)
        # What reading owns
        self.reading = False
        self.pumping = asyncio.Lock()  # one raw read at a time, whether to read or to close
        self.ready: collections.deque[Message] = collections.deque()
        self.ended = False
        self.cause: OSError | None = None
        # What writing owns
        self.frames: collections.deque[Message] = collections.deque()
        self.flushing = asyncio.Lock()
        self.turn = asyncio.Lock()  # held for as long as a message takes
        self.turn_owner: asyncio.Task[Any] | None = None  # who sends it frame by frame
        self.pings: dict[bytes, tuple[asyncio.Future[float], float]] = {}
        # What closing owns
        self.closed = False
        self.heartbeat: asyncio.Task[None] | None = None
        if options.heartbeat is not None:
            loop = running_loop("wrap_io() with heartbeat")
            self.heartbeat = loop.create_task(self.beat(options.heartbeat))

    # Reading

    async def read(self, fragments: bool, control: bool) -> Message | None:
        if self.reading:
            raise ConcurrencyError(
                "another task is reading from this connection: one task reads at a time"
            )
        self.reading = True
        try:
            while not self.ready and not self.closed:
                async with self.pumping:
                    if not self.ready:
                        await self.advance(fragments, control)
            if self.ready:
                return self.ready.popleft()
        finally:
            self.reading = False
        error = self.engine.end_error(self.cause)
        if error is not None:
            raise error.with_traceback(None)
        return None

    async def advance(self, fragments: bool, control: bool) -> None:
        """Parse a message that is here, else read a frame; finish once nothing more will come."""
        engine = self.engine
        message = None
        with contextlib.suppress(ProtocolError):  # the engine keeps it for `end_error`
            message = engine.next_message(fragments=fragments, control=control)
            if message is not None:
                self.ready.append(message)  # before any await: cancelling loses nothing
        self.settle_pings()
        await self.flush()
        if message is not None:
            return
        if engine.finished or self.ended:
            await self.finish()
            return
        try:
            frame = await self.raw_read()
        except ProtocolError as error:  # the decoder's
            engine.fail_connection(error)
        except OSError as error:
            self.ended = True
            self.cause = error
        else:
            if frame is None:
                self.ended = True
            else:
                engine.receive(encode_frame(self.as_received(frame), check=False))

    def as_received(self, frame: Frame) -> Message:
        """The frame as a Message; a mapping that does not say is masked as it should be."""
        if isinstance(frame, Mapping) and "mask" not in frame:
            frame = {**frame, "mask": not self.client}
        return as_message(frame)

    # Writing

    async def write(self, message: Message) -> None:
        """A whole message, a fragment or a control frame."""
        if message.opcode >= 8:
            await self.send(message)
            return
        task = _current_task()
        if self.turn_owner is None or self.turn_owner is not task:
            await self.turn.acquire()
        in_turn = False
        try:
            await self.send(message)
            in_turn = not message.fin
        finally:
            if in_turn:
                self.turn_owner = task
            elif self.turn_owner is None or not self.engine.sending_fragments:
                self.turn_owner = None
                self.turn.release()

    async def write_fragments(self, fragments: Any) -> None:
        if self.turn_owner is not None and self.turn_owner is _current_task():
            raise ConcurrencyError(
                "this task is sending a fragmented message: its last fragment (fin=True) must "
                "come before a new message (RFC 6455 section 5.4)"
            )
        begun = False
        opcode = 0
        async with self.turn:
            try:
                previous = None
                async for item in _async_items(fragments):
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
                    previous = "" if opcode == 1 else b""
                await self.send(as_fragment(previous, opcode, begun, True))
            except BaseException:
                if begun and not self.closed:
                    # Half a message has been sent and cannot be taken back.
                    await self.close(1011, "a fragmented message was broken off")
                raise

    async def send(self, message: Message) -> None:
        if self.closed:
            raise self.closed_error()
        self.engine.send_message(message)
        await self.flush()

    async def flush(self) -> None:
        """Hand the raw writer every frame that the engine has made."""
        async with self.flushing:
            data = self.engine.data_to_send()
            index = 0
            while (found := decode_frame(data, index, None)) is not None:
                frame, index = found
                self.frames.append(frame)
            while self.frames and not self.closed:
                # Taken before it is written: a frame is never written twice.
                await self.raw_write(self.frames.popleft())

    def ping(self, payload: str | bytes | None) -> Awaitable[float]:
        loop = running_loop("write.ping()")
        if self.closed:
            raise self.closed_error()
        payload = os.urandom(8) if payload is None else control_payload(payload)
        if payload in self.pings:
            raise ConcurrencyError(
                "a Ping with this payload still waits for its Pong: "
                "give it another payload, or none"
            )
        self.engine.send_ping(payload)
        answered: asyncio.Future[float] = loop.create_future()
        self.pings[payload] = (answered, time.perf_counter())

        async def round_trip() -> float:
            await self.flush()
            return await answered

        return round_trip()

    def settle_pings(self) -> None:
        for payload in self.engine.pop_answered():
            answered, sent_at = self.pings.pop(payload, (None, 0.0))
            if answered is not None and not answered.done():
                answered.set_result(time.perf_counter() - sent_at)

    def closed_error(self) -> ConnectionClosedError:
        if self.engine.close_sent:
            return self.engine.refuse()
        return ConnectionClosedError("cannot send: the connection is lost", ABNORMAL)

    # Closing

    async def close(self, code: int | None, reason: str) -> None:
        self.engine.send_close(code, reason)
        if self.closed:
            return
        with contextlib.suppress(TimeoutError):
            async with _deadline(self.options.close_timeout):
                await self.flush()
                while not self.closed:
                    async with self.pumping:
                        await self.advance(False, False)
        await self.finish()

    async def finish(self) -> None:
        """The closing handshake is over, or will never be: end the raw side, once."""
        if self.closed:
            return
        self.closed = True
        if self.heartbeat is not None:
            self.heartbeat.cancel()
        for answered, _ in self.pings.values():
            if not answered.done():
                answered.set_exception(self.closed_error())
                answered.exception()  # it is no fault not to await a ping
        self.pings.clear()
        with contextlib.suppress(OSError):
            async with _deadline(self.options.close_timeout):
                await self.raw_write(None)

    async def beat(self, heartbeat: float) -> None:
        """An unsolicited Pong every so often (RFC 6455 section 5.5.3)."""
        while not self.engine.close_sent:
            await asyncio.sleep(heartbeat)
            try:
                self.engine.send_pong()
                await self.flush()
            except (OSError, ConnectionClosedError):
                return  # whoever reads or writes meets the same end


class FrameRead:
    """`read` of a pair from `wrap_io`: used as `Read` is."""

    def __init__(self, channel: Channel, fragments: bool, control: bool) -> None:
        self._channel = channel
        self._fragments = fragments
        self._control = control

    async def __call__(
        self, *, fragments: bool | None = None, control: bool | None = None
    ) -> Message | None:
        """The next message, or None once the connection has closed cleanly; see Read."""
        return await self._channel.read(
            self._fragments if fragments is None else fragments,
            self._control if control is None else control,
        )

    def __aiter__(self) -> FrameRead:
        return self

    async def __anext__(self) -> Message:
        message = await self()
        if message is None:
            raise StopAsyncIteration
        return message

    def fragments(self, *, control: bool | None = None) -> FrameRead:
        """A reader that gives each frame by itself; see Read.fragments."""
        return FrameRead(self._channel, True, self._control if control is None else control)

    @property
    def close_code(self) -> int | None:
        """The close code, None while the connection is open; see Read.close_code."""
        if self._channel.engine.close_code is not None:
            return self._channel.engine.close_code
        return ABNORMAL if self._channel.closed else None

    @property
    def close_reason(self) -> str:
        """The reason in the Close frame, "" if there is none."""
        return self._channel.engine.close_reason


class FrameWrite:
    """`write` of a pair from `wrap_io`: used as `Write` is."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def __call__(self, message: Any = None) -> None:
        """Send a message, its fragments, or None to close; see Write."""
        if message is None:
            await self._channel.close(NORMAL, "")
        elif is_fragments(message):
            await self._channel.write_fragments(message)
        else:
            await self._channel.write(as_message(message))

    def ping(self, payload: str | bytes | None = None) -> Awaitable[float]:
        """Send a Ping when awaited; the seconds until its Pong, for which a task must read."""
        return self._channel.ping(payload)

    async def pong(self, payload: str | bytes = b"") -> None:
        """Send a Pong that no Ping asked for (RFC 6455 section 5.5.3)."""
        await self._channel.write(Message(payload, 10))

    async def close(self, code: int | None = NORMAL, reason: str = "") -> None:
        """Close with this code and reason, and wait for the closing handshake; see Write.close."""
        await self._channel.close(code, reason)


async def _async_items(items: Any) -> Any:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # another kind of loop
        return None


def _deadline(seconds: float | None) -> contextlib.AbstractAsyncContextManager[object]:
    """asyncio's timeout; without asyncio running there is none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return contextlib.nullcontext()
    return asyncio.timeout(seconds)
