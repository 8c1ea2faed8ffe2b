"""A side that is slow: what waits for it, where, and how much of it."""

from __future__ import annotations

from typing import Any

import pytest

from coro_websocket import ConnectionClosedError, LimitError

from .behaviour import behaviour
from .ends import End
from .loops import Task
from .peers import binary, close, frame, text

SIZE = 65_536  # bytes: of a message, and of the default write_high_water
MANY = 100  # of them are more than any system's buffers hold in a narrow connection


async def write_until_full(end: End) -> tuple[Task, int]:
    """Write until there is no room; the writer that waits, and how many it has begun to write."""
    begun = 0

    async def write_on() -> None:
        nonlocal begun
        while begun < MANY:
            begun += 1
            await end.write(bytes([begun]) * SIZE)

    end.peer.stop_reading()
    writing = end.spawn(write_on)
    before = -1
    while begun != before and not writing.done:
        before = begun
        for _ in range(3):
            await end.settle()
    assert not writing.done
    return writing, begun


# Ours writes, and the peer does not read


@behaviour(narrow=True)
async def test_a_write_waits_while_the_peer_does_not_read_and_goes_on_when_it_does(
    end: End,
) -> None:
    writing, begun = await write_until_full(end)
    assert begun < MANY
    for i in range(MANY):
        assert await end.peer.receive() == binary(bytes([i + 1]) * SIZE)
    await writing.result()


@behaviour(narrow=True)
async def test_a_write_does_not_wait_while_little_is_on_its_way(end: End) -> None:
    end.peer.stop_reading()
    for i in range(50):
        await end.write(str(i))
    await end.peer.expect(*(text(str(i)) for i in range(50)))


@behaviour(narrow=True, write_high_water=None)
async def test_write_high_water_none_never_waits(end: End) -> None:
    end.peer.stop_reading()
    for i in range(MANY):
        await end.write(bytes([i]) * SIZE)
    for i in range(MANY):
        assert await end.peer.receive() == binary(bytes([i]) * SIZE)


@behaviour(narrow=True)
async def test_all_who_wait_for_room_go_on(end: End) -> None:
    end.peer.stop_reading()
    tasks = [await end.waiting(end.write, bytes([i]) * 10 * SIZE) for i in range(8)]
    assert not tasks[-1].done
    for i in range(8):
        assert await end.peer.receive() == binary(bytes([i]) * 10 * SIZE)
    for task in tasks:
        await task.result()


@behaviour(narrow=True)
async def test_a_write_that_is_cancelled_while_it_waits_for_room_leaves_no_half_frame(
    end: End,
) -> None:
    writing, begun = await write_until_full(end)
    writing.cancel()
    await writing.ended()
    assert writing.cancelled
    after = await end.waiting(end.write, "after")
    numbers = []
    while (received := await end.peer.receive()) != text("after"):
        assert received == binary(received.payload[:1] * SIZE)
        numbers.append(received.payload[0])
    assert numbers == list(range(1, begun + 1))
    await after.result()


@behaviour(narrow=True)
async def test_a_write_that_waits_for_room_fails_when_the_peer_goes(end: End) -> None:
    writing, _ = await write_until_full(end)
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match="cannot send") as caught:
        await writing.result()
    assert caught.value.code == 1006


@behaviour(narrow=True)
async def test_a_close_goes_out_behind_what_waits_for_room(end: End) -> None:
    writing, begun = await write_until_full(end)
    closing = await end.waiting(end.write.close)
    for i in range(begun):
        assert await end.peer.receive() == binary(bytes([i + 1]) * SIZE)
    await end.peer.answer_close()
    await closing.result()
    await writing.ended()
    assert isinstance(writing.error, ConnectionClosedError)


@behaviour(narrow=True, close_timeout=0.05)
async def test_a_peer_that_does_not_take_our_close_is_left_after_close_timeout(end: End) -> None:
    writing, _ = await write_until_full(end)
    await end.write.close()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await writing.result()


# The peer writes, and ours does not read


async def send_many(end: End, count: int, size: int) -> None:
    for n in range(count):
        await end.peer.send(binary(n.to_bytes(4, "big") + bytes(size - 4)))


def number(message: Any) -> int:
    return int.from_bytes(message.payload[:4], "big")


@behaviour(narrow=True)
async def test_a_peer_waits_while_nobody_reads_and_nothing_is_lost(end: End) -> None:
    sending = end.spawn(send_many, end, 200, 20_000)
    for _ in range(5):
        await end.settle()
    assert not sending.done
    for n in range(200):
        assert number(await end.read()) == n
    await sending.result()
    assert end.read.stats.dropped == 0


@behaviour(narrow=True, read_high_water=None)
async def test_read_high_water_none_holds_nothing_back(end: End) -> None:
    await send_many(end, 100, 20_000)
    for n in range(100):
        assert number(await end.read()) == n


@behaviour(read_high_water=1000)
async def test_a_message_larger_than_read_high_water_is_read(end: End) -> None:
    sending = end.spawn(end.peer.send, binary(bytes(300_000)), text("next"))
    assert (await end.message()).len == 300_000
    assert (await end.message()).payload == "next"
    await sending.result()


@behaviour(narrow=True)
async def test_a_peer_waits_while_the_chunks_of_its_message_are_not_taken(end: End) -> None:
    async def send() -> None:
        for i in range(200):
            await end.peer.send(frame(0 if i else 2, bytes(20_000), fin=i == 199))

    sending = end.spawn(send)
    stream = await end.read.stream()
    assert stream is not None
    for _ in range(5):
        await end.settle()
    assert not sending.done
    assert sum([len(chunk) async for chunk in stream]) == 200 * 20_000
    await sending.result()


@behaviour()
async def test_what_is_too_much_while_we_close_is_dropped_so_that_the_end_comes(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    await send_many(end, 100, 20_000)
    await end.peer.send(close())
    await end.peer.finish()
    await closing.result()
    numbers = [number(message) async for message in end.read]
    assert numbers == list(range(len(numbers)))  # there is no hole
    assert len(numbers) < 100
    assert end.read.stats.dropped == 100 - len(numbers)


# Overflow


@behaviour(narrow=True, overflow="wait", read_high_water=50_000)
async def test_overflow_wait_loses_nothing(end: End) -> None:
    sending = end.spawn(send_many, end, 1000, 1000)
    for _ in range(5):
        await end.settle()
    assert not sending.done
    for n in range(1000):
        assert number(await end.read()) == n
    await sending.result()
    assert end.read.stats.dropped == 0


@behaviour(overflow="drop_oldest", read_high_water=50_000)
async def test_overflow_drop_oldest_keeps_the_newest_that_have_room(end: End) -> None:
    await send_many(end, 1000, 1000)
    await end.peer.send(text("end"))
    await end.arrived(1_000_000)
    numbers = []
    while (message := await end.message()).payload != "end":
        numbers.append(number(message))
    assert numbers == list(range(1000 - len(numbers), 1000))
    assert 10 < len(numbers) <= 60
    assert end.read.stats.dropped == 1000 - len(numbers)


@behaviour(overflow="keep_latest", read_high_water=20_000)
async def test_overflow_keep_latest_drops_all_before_the_newest(end: End) -> None:
    await send_many(end, 1000, 1000)
    await end.arrived(1_000_000)
    newest = await end.read()
    dropped = end.read.stats.dropped
    assert number(newest) == dropped >= 900
    rest = [number(await end.read()) for _ in range(999 - dropped)]
    assert rest == list(range(dropped + 1, 1000))


@behaviour(overflow="close", read_high_water=20_000)
async def test_overflow_close_says_why_to_both(end: End) -> None:
    sending = end.spawn(send_many, end, 200, 1000)
    assert await end.peer.close_received() == (1013, "the receiver cannot keep up")
    await sending.ended()
    await end.peer.send(close(1013))
    await end.peer.finish()
    with pytest.raises(LimitError, match=r"read_high_water is 20000.*overflow") as caught:
        while await end.read() is not None:
            pass
    assert (caught.value.code, caught.value.limit) == (1013, "read_high_water")
