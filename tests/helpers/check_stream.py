"""What every Stream promises its consumer, whatever carries the bytes.

As trio.testing's check_two_way_stream: `check_stream(make)` runs each of CHECKS on a new pair of
streams, each the other end of the other, that `make()` gives as an async context manager. Their
buffers have to be full after 16 MiB.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

from coro_websocket._streams.byte_consumer import ByteConsumer
from coro_websocket._streams.stream import Stream

BOUND = 8.0  # seconds for all that a check waits for
TURNS = 10  # of the loop, after which what was on its way has arrived
CHUNK = 65536
FULL = 16 * 1024 * 1024 // CHUNK

MakePair = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Stream, Stream]]]


def some_bytes(size: int) -> bytes:
    """Bytes that show where one is missing, or at another place."""
    return array.array("I", range(-(-size // 4))).tobytes()[:size]


class Recorder(ByteConsumer):
    """Keeps what it is told, and what it is told too late."""

    def __init__(self, stream: Stream, changed: asyncio.Event) -> None:
        self.changed = changed
        self.received = bytearray()
        self.made_room = 0
        self.causes: list[BaseException | None] = []
        self.wrong: list[str] = []
        self.on_data: Callable[[], object] = lambda: None
        self.on_room: Callable[[], object] = lambda: None
        super().__init__(stream)

    def told(self, what: str) -> None:
        if self.causes:
            self.wrong.append(f"{what} after it was lost")
        self.changed.set()

    def data_received(self, data: bytes) -> None:
        self.told("data_received")
        if not data:
            self.wrong.append("data_received without data")
        self.received += data
        self.on_data()

    def room_made(self) -> None:
        self.told("room_made")
        self.made_room += 1
        self.on_room()

    def sending_failed(self, cause: BaseException | None) -> None:
        self.told("sending_failed")

    def peer_ending(self) -> None:
        self.told("peer_ending")

    def lost(self, cause: BaseException | None) -> None:
        self.told("lost")
        self.causes.append(cause)


class Pair:
    """Two ends; a check sends from `one` to `other`."""

    def __init__(self, one: Stream, other: Stream) -> None:
        self.changed = asyncio.Event()
        self.ends = [Recorder(one, self.changed), Recorder(other, self.changed)]

    @property
    def one(self) -> Recorder:
        return self.ends[0]

    @property
    def other(self) -> Recorder:
        return self.ends[1]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(BOUND):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def arrived(self, data: bytes) -> None:
        """Wait until it has come to the other end, and nothing else."""
        await self.until(lambda: len(self.other.received) >= len(data) or self.other.causes)
        assert self.other.received == data

    async def lost(self) -> None:
        await self.until(lambda: all(end.causes for end in self.ends))

    async def filled(self) -> bytes:
        """Send to an end that receives nothing until no more is taken; what was sent."""
        self.other.pause()
        data = some_bytes(FULL * CHUNK)
        for start in range(0, len(data), CHUNK):
            self.one.send(data[start : start + CHUNK])
            await settle(2)
            if self.one.blocked:
                return data[: start + CHUNK]
        raise AssertionError(f"{len(data)} bytes are taken, though nobody receives them")

    def check(self) -> None:
        """What holds whatever happens."""
        for end in self.ends:
            assert not end.wrong
            assert len(end.causes) <= 1
            for cause in end.causes:
                assert cause is None or isinstance(cause, OSError)


async def settle(turns: int = TURNS) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


# Sending and receiving


async def what_is_sent_arrives_in_order(pair: Pair) -> None:
    data = some_bytes(1_000_000)
    start, size = 0, 1
    while start < len(data):
        pair.one.send(data[start : start + size])
        start, size = start + size, size * 3
        await settle(size % 2)
    await pair.arrived(data)
    await pair.until(lambda: pair.one.backlog == 0)
    assert pair.one.bytes_out >= len(data)


async def both_ends_send_at_once(pair: Pair) -> None:
    data = some_bytes(1_000_000)
    for start in range(0, len(data), CHUNK):
        pair.one.send(data[start : start + CHUNK])
        pair.other.send(data[start : start + CHUNK])
        await settle(1)
    await pair.arrived(data)
    await pair.until(lambda: len(pair.one.received) == len(data))
    assert pair.one.received == data


async def what_is_sent_is_kept_by_the_stream(pair: Pair) -> None:
    """It may be changed at once."""
    data = bytearray(some_bytes(300_000))
    sent = bytes(data)
    pair.one.send(data)
    data[:] = bytes(len(data))
    await pair.arrived(sent)


async def a_consumer_sends_while_it_receives(pair: Pair) -> None:
    def echo() -> None:
        pair.other.send(bytes(pair.other.received[echoed[0] :]))
        echoed[0] = len(pair.other.received)

    echoed = [0]
    pair.other.on_data = echo
    data = some_bytes(500_000)
    pair.one.send(data)
    await pair.until(lambda: len(pair.one.received) == len(data))
    assert pair.one.received == data


async def nothing_is_sent_where_there_is_nothing(pair: Pair) -> None:
    pair.one.send(b"")
    await settle()
    assert pair.one.bytes_out == 0
    assert pair.one.backlog == 0
    pair.one.send(b"x")
    pair.one.send(b"")
    await pair.arrived(b"x")


# A large payload, from where it is


async def a_payload_comes_behind_what_waits(pair: Pair) -> None:
    if not pair.one.uncopied:
        return
    payload = some_bytes(500_000)
    pair.one.send(b"first")
    pair.one.send(b"second")  # which waits for the end of this turn of the loop
    assert pair.one.unsent
    pair.one.send_with_payload(payload)
    pair.one.send(b"behind")
    await pair.arrived(b"firstsecond" + payload + b"behind")


async def a_payload_may_change_once_it_is_sent(pair: Pair) -> None:
    if not pair.one.uncopied:
        return
    pair.other.pause()
    payload = bytearray(some_bytes(FULL * CHUNK))
    sent = bytes(payload)
    pair.one.send_with_payload(payload)
    payload[:] = bytes(len(payload))
    assert pair.one.blocked
    assert 0 < pair.one.backlog < len(sent)
    pair.other.resume()
    await pair.arrived(sent)
    await pair.until(lambda: not pair.one.blocked)


# Holding back


async def what_is_not_received_blocks_the_sender(pair: Pair) -> None:
    data = await pair.filled()
    made_room = pair.one.made_room
    more = some_bytes(100_000)
    taken, waiting = pair.one.bytes_out, pair.one.unsent
    pair.one.send(more)
    await settle()
    assert (pair.one.bytes_out, pair.one.unsent) == (taken, waiting + len(more))
    assert pair.one.backlog >= pair.one.unsent
    assert pair.one.made_room == made_room
    pair.other.resume()
    await pair.arrived(data + more)
    await pair.until(lambda: not pair.one.blocked and not pair.one.backlog)
    assert pair.one.made_room > made_room


async def nothing_is_received_while_it_is_paused(pair: Pair) -> None:
    pair.other.pause()
    pair.one.send(b"later")
    await settle()
    assert not pair.other.received
    pair.other.resume()
    await pair.arrived(b"later")


async def a_consumer_pauses_while_it_receives(pair: Pair) -> None:
    pair.other.on_data = pair.other.pause
    data = some_bytes(1_000_000)
    pair.one.send(data)
    while len(pair.other.received) < len(data):
        had = len(pair.other.received)
        await pair.until(lambda had=had: len(pair.other.received) > had)  # type: ignore[misc]
        had = len(pair.other.received)
        await settle()
        assert len(pair.other.received) == had
        pair.other.resume()
    assert pair.other.received == data


# The end


async def sending_no_more_is_the_end_for_the_other(pair: Pair) -> None:
    data = some_bytes(300_000)
    pair.one.send(data)
    await pair.until(lambda: not pair.one.unsent)
    pair.one.half_close()
    await pair.until(lambda: pair.other.causes)
    assert pair.other.received == data
    await pair.lost()
    assert pair.one.causes == [None]
    assert pair.other.causes == [None]


async def an_abort_ends_both(pair: Pair) -> None:
    pair.one.send(b"before")
    await pair.arrived(b"before")
    pair.one.abort()
    await pair.lost()
    assert pair.one.causes == [None]
    pair.one.abort()
    pair.other.abort()
    await settle()


async def an_abort_does_not_wait_for_what_waits(pair: Pair) -> None:
    data = await pair.filled()
    pair.one.abort()
    await pair.until(lambda: pair.one.causes)
    pair.other.resume()
    await pair.lost()
    assert data.startswith(pair.other.received)


async def a_consumer_aborts_while_it_receives(pair: Pair) -> None:
    pair.other.on_data = pair.other.abort
    data = some_bytes(1_000_000)
    pair.one.send(data)
    await pair.lost()
    assert data.startswith(pair.other.received)


async def a_consumer_aborts_when_it_may_go_on(pair: Pair) -> None:
    data = await pair.filled()
    pair.one.on_room = pair.one.abort
    pair.other.resume()
    await pair.lost()
    assert data.startswith(pair.other.received)


async def a_sender_learns_that_the_other_has_gone(pair: Pair) -> None:
    pair.other.abort()
    pair.one.send(some_bytes(CHUNK))
    await pair.lost()


async def a_lost_stream_lets_go_of_its_consumer(pair: Pair) -> None:
    pair.one.send(b"x")
    await pair.arrived(b"x")
    pair.one.abort()
    await pair.lost()
    await settle()
    streams = [end.stream for end in pair.ends]
    consumers = [weakref.ref(end) for end in pair.ends]
    pair.ends.clear()
    gc.collect()
    assert [consumer() for consumer in consumers] == [None, None]
    assert all(stream.lost for stream in streams)


Check = Callable[[Pair], Awaitable[None]]

CHECKS: list[Check] = [
    what_is_sent_arrives_in_order,
    both_ends_send_at_once,
    what_is_sent_is_kept_by_the_stream,
    a_consumer_sends_while_it_receives,
    nothing_is_sent_where_there_is_nothing,
    a_payload_comes_behind_what_waits,
    a_payload_may_change_once_it_is_sent,
    what_is_not_received_blocks_the_sender,
    nothing_is_received_while_it_is_paused,
    a_consumer_pauses_while_it_receives,
    sending_no_more_is_the_end_for_the_other,
    an_abort_ends_both,
    an_abort_does_not_wait_for_what_waits,
    a_consumer_aborts_while_it_receives,
    a_consumer_aborts_when_it_may_go_on,
    a_sender_learns_that_the_other_has_gone,
    a_lost_stream_lets_go_of_its_consumer,
]


@contextlib.asynccontextmanager
async def opened(make: MakePair) -> AsyncIterator[Pair]:
    async with make() as (one, other):
        pair = Pair(one, other)
        try:
            yield pair
            await settle()
            pair.check()
        finally:
            for end in pair.ends:
                end.abort()
            await pair.lost()


async def run_check(make: MakePair, check: Check) -> None:
    async with opened(make) as pair:
        await check(pair)


async def check_stream(make: MakePair) -> None:
    """Run all checks; raises AssertionError, or TimeoutError where something does not come."""
    for check in CHECKS:
        await run_check(make, check)
