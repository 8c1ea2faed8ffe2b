"""`read.stats` and `write.stats`: what a connection has counted."""

from __future__ import annotations

import dataclasses

import pytest

from coro_websocket import Stats

from .behaviour import behaviour
from .ends import End
from .peers import binary, last, ping, pong, text

HEADER = 2  # bytes, of a short frame
KEY = 4  # more, if it is masked


@behaviour()
async def test_nothing_has_been_counted_at_the_beginning(end: End) -> None:
    assert end.read.stats == Stats(
        messages_in=0,
        messages_out=0,
        frames_in=0,
        frames_out=0,
        bytes_in=0,
        bytes_out=0,
        dropped=0,
        latency=None,
        compression_in=None,
        compression_out=None,
    )


@behaviour()
async def test_what_comes_is_counted(end: End) -> None:
    await end.peer.send(text("a", fin=False), ping("pp"), last("b"), binary(b"ccc"))
    assert [(await end.message()).len for _ in range(2)] == [2, 3]
    stats = end.read.stats
    assert (stats.messages_in, stats.frames_in) == (2, 4)
    assert stats.bytes_in == 7 + 4 * (HEADER + KEY * end.peer.client)


@behaviour()
async def test_what_is_sent_is_counted(end: End) -> None:
    await end.write("one")
    await end.write([b"two", b"more"])
    await end.write.pong(b"p")
    await end.peer.expect(text("one"))
    await end.peer.message()
    await end.peer.expect(pong("p"))
    stats = end.write.stats
    assert (stats.messages_out, stats.frames_out) == (2, 4)
    assert stats.bytes_out == 11 + 4 * (HEADER + KEY * end.client)


@behaviour(narrow=True)
async def test_bytes_out_are_those_that_have_left(end: End) -> None:
    end.peer.stop_reading()
    writing = await end.waiting(end.write, bytes(8_000_000))
    assert end.write.stats.bytes_out < 8_000_000
    assert (await end.peer.receive()).payload == bytes(8_000_000)
    await writing.result()
    await end.until(lambda: end.write.stats.bytes_out > 8_000_000)


@behaviour()
async def test_the_latency_is_that_of_the_last_ping(end: End) -> None:
    reading = await end.waiting(end.read)
    for _ in range(2):
        asked = end.write.ping()
        await end.peer.send(pong((await end.peer.receive()).payload))
        assert await asked == end.read.stats.latency
    reading.cancel()


@behaviour()
async def test_there_are_no_ratios_where_nothing_was_compressed(end: End) -> None:
    await end.write("x" * 1000)
    await end.peer.send(text("x" * 1000))
    await end.read()
    assert end.read.stats.compression_in is None
    assert end.read.stats.compression_out is None


@behaviour()
async def test_read_and_write_count_the_same_and_a_stats_does_not_change(end: End) -> None:
    before = end.read.stats
    assert before == end.write.stats
    await end.write("x")
    assert before.messages_out == 0
    assert end.read.stats == end.write.stats != before
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.messages_out = 1  # type: ignore[misc]


@behaviour()
async def test_they_can_be_read_after_the_end(end: End) -> None:
    reading = end.spawn(end.read)
    await end.peer.send(text("x"))
    assert (await reading.result()).payload == "x"
    ending = end.spawn(end.read)
    await end.peer.close()
    await ending.result()
    assert (end.read.stats.messages_in, end.read.stats.frames_in) == (1, 2)
    assert (end.read.stats.messages_out, end.read.stats.frames_out) == (0, 1)
