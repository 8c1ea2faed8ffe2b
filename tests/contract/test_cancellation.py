"""Cancelled at each await: no message is lost, and no frame is cut in two."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from .behaviour import behaviour
from .ends import End
from .peers import binary, last, more, ping, pong, text

READERS: dict[str, Callable[[End], Any]] = {
    "read": lambda end: end.read(),
    "control": lambda end: end.read(control=True),
    "fragments": lambda end: end.read(fragments=True),
    "for": lambda end: anext(end.read),
    "batch": lambda end: end.read.batch(),
    "stream": lambda end: end.read.stream(),
}


async def run(end: End, reader: str) -> Any:
    return await READERS[reader](end)


@pytest.mark.parametrize("reader", READERS)
@behaviour()
async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing(
    end: End, reader: str
) -> None:
    reading = await end.waiting(run, end, reader)
    reading.cancel()
    await reading.ended()
    assert reading.cancelled
    await end.peer.send(text("next"))
    assert (await end.message()).payload == "next"


@pytest.mark.parametrize("reader", READERS)
@behaviour()
async def test_a_reader_that_is_cancelled_as_its_message_comes_loses_nothing(
    end: End, reader: str
) -> None:
    reading = await end.waiting(run, end, reader)
    await end.peer.send(text("1"), text("2"))
    reading.cancel()
    await reading.ended()
    if reading.cancelled:
        assert (await end.message()).payload == "1"
    if not reading.cancelled and reader == "batch":
        rest = ["2"][len(reading.value) - 1 :]
    else:
        rest = ["2"]
    if rest:
        assert (await end.message()).payload == rest[0]


@behaviour()
async def test_a_reader_that_is_cancelled_before_it_begins_loses_nothing(end: End) -> None:
    await end.peer.send(text("1"))
    await end.settle()
    reading = end.spawn(end.read)
    reading.cancel()
    await reading.ended()
    if reading.cancelled:
        assert (await end.message()).payload == "1"
    else:
        assert reading.value.payload == "1"


@behaviour()
async def test_reads_that_are_cancelled_at_random_lose_nothing(end: End) -> None:
    source = random.Random(12)
    given: list[int] = []
    sent = 0
    while len(given) < 60:
        reading = end.spawn(end.read)
        for _ in range(source.randrange(4)):
            await end.loop.sleep(0)
        if sent < 60 and source.random() < 0.7:
            await end.peer.send(binary(bytes([sent])))
            sent += 1
        for _ in range(source.randrange(3)):
            await end.loop.sleep(0)
        if sent < 60 or source.random() < 0.5:
            reading.cancel()
        elif len(given) == 60:
            break
        await reading.ended()
        if not reading.cancelled:
            given.append(reading.value.payload[0])
    assert given == list(range(60))


@behaviour()
async def test_a_timeout_around_a_read_loses_nothing(end: End) -> None:
    with pytest.raises(TimeoutError):
        async with end.within(0.005):
            await end.read()
    await end.peer.send(text("1"))
    assert (await end.message()).payload == "1"


@behaviour()
async def test_a_read_that_is_cancelled_between_fragments_keeps_them(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(text("a", fin=False), more("b"))
    await end.settle()
    reading.cancel()
    await reading.ended()
    await end.peer.send(last("c"))
    assert (await end.message()).payload == "abc"


@behaviour()
async def test_a_chunk_that_is_cancelled_is_not_lost(end: End) -> None:
    await end.peer.send(binary(b"a", fin=False))
    stream = await end.read.stream()
    assert stream is not None
    assert await anext(stream) == b"a"
    waiting = await end.waiting(stream.__anext__)
    waiting.cancel()
    await waiting.ended()
    assert waiting.cancelled
    await end.peer.send(more(b"b"), last(b"c"))
    assert b"".join([bytes(chunk) async for chunk in stream]) == b"bc"  # type: ignore[arg-type]


@behaviour(needs_bytes=True)
async def test_a_read_that_is_cancelled_inside_a_frame_loses_nothing(end: End) -> None:
    data = end.bytes_peer.encode(binary(b"x" * 100_000), text("next"))
    for at in range(0, len(data), 9_000):
        reading = await end.waiting(end.read)
        await end.bytes_peer.send_bytes(data[at : at + 9_000])
        await end.settle()
        reading.cancel()
        await reading.ended()
        if not reading.cancelled:
            assert reading.value.payload == b"x" * 100_000
            break
    else:
        assert (await end.message()).payload == b"x" * 100_000
    assert (await end.message()).payload == "next"


# Writing


@behaviour()
async def test_a_write_that_is_cancelled_before_it_begins_is_whole_or_not_there(
    end: End,
) -> None:
    writing = end.spawn(end.write, "perhaps")
    writing.cancel()
    await writing.ended()
    await end.write("next")
    received = await end.peer.receive()
    if received == text("perhaps"):
        received = await end.peer.receive()
    assert received == text("next")


@behaviour(narrow=True)
async def test_writes_that_are_cancelled_at_random_leave_whole_frames_in_order(end: End) -> None:
    source = random.Random(12)
    for i in range(40):
        writing = end.spawn(end.write, bytes([i]) * source.choice((0, 10, 5_000)))
        for _ in range(source.randrange(3)):
            await end.loop.sleep(0)
        writing.cancel()
        await writing.ended()
    await end.write("end")
    numbers = []
    while (received := await end.peer.receive()) != text("end"):
        assert len(received.payload) in (0, 10, 5_000)
        assert len(set(received.payload)) <= 1
        numbers += list(received.payload[:1])
    assert numbers == sorted(numbers)


@behaviour()
async def test_a_ping_that_comes_as_its_reader_is_cancelled_is_answered(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(ping("p"))
    reading.cancel()
    await reading.ended()
    again = end.spawn(end.read)
    await end.peer.expect(pong("p"))
    again.cancel()


@behaviour()
async def test_who_reads_after_a_cancelled_reader_is_not_a_second_one(end: End) -> None:
    one = await end.waiting(end.read)
    one.cancel()
    await one.ended()
    other = await end.waiting(end.read)
    await end.peer.send(text("x"))
    assert (await other.result()).payload == "x"
