"""The option `overflow`: what becomes of messages that nobody reads in time."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    end_and_peer,
    until,
    watchdog,
)

from coro_websocket import InvalidOption, InvalidOptionType, LimitError, Options

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


async def flood(peer, count: int, size: int = 1000) -> None:
    for first in range(0, count, 100):
        await peer.send(
            b"".join(
                peer.frame(BINARY, n.to_bytes(4, "big") + bytes(size - 4))
                for n in range(first, min(first + 100, count))
            )
        )


def number(message) -> int:
    return int.from_bytes(message.payload[:4], "big")


async def test_drop_oldest_keeps_the_newest_that_have_room(side):
    options = {"overflow": "drop_oldest", "read_high_water": 50_000}
    async with end_and_peer(side, **options) as (end, peer):
        await flood(peer, 5000)
        await peer.write(TEXT, "end")
        await peer.write(PING)
        assert (await peer.read()).opcode == PONG  # all of it has come
        numbers = []
        async for message in end.read:
            if message.payload == "end":
                break
            numbers.append(number(message))
        assert numbers == list(range(5000 - len(numbers), 5000))
        assert 10 < len(numbers) <= 60
        assert end.read.stats.dropped == 5000 - len(numbers)
        assert end.read.stats.messages_in == 5001


async def test_keep_latest_keeps_one(side):
    options = {"overflow": "keep_latest", "read_high_water": 20_000}
    async with end_and_peer(side, **options) as (end, peer):
        await flood(peer, 1000)
        await peer.write(PING)
        assert (await peer.read()).opcode == PONG
        newest = await end.read()
        dropped = end.read.stats.dropped
        assert number(newest) == dropped  # all before it, and no other, were dropped
        assert dropped >= 900
        rest = [number(await end.read()) for _ in range(999 - dropped)]
        assert rest == list(range(dropped + 1, 1000))


@pytest.mark.parametrize("overflow", ["drop_oldest", "keep_latest"])
async def test_memory_is_bounded_however_much_comes(side, overflow):
    async with end_and_peer(side, overflow=overflow, read_high_water=100_000) as (end, peer):
        frames = peer.frame(BINARY, bytes(10_000)) * 10
        tracemalloc.start()
        for _ in range(200):  # 20 MB
            await peer.send(frames)
        await peer.write(PING)
        assert (await peer.read()).opcode == PONG
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert end.read.stats.dropped > 1000
        assert peak < 5_000_000


async def test_wait_makes_the_peer_wait(side):
    async with end_and_peer(side, read_high_water=50_000) as (end, peer):
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        sending = asyncio.create_task(flood(peer, 12_000))
        await asyncio.sleep(0.05)
        assert not sending.done()
        for n in range(12_000):
            assert number(await end.read()) == n
        await sending
        assert end.read.stats.dropped == 0


async def test_close_says_why_to_both(side):
    options = {"overflow": "close", "read_high_water": 20_000}
    async with end_and_peer(side, **options) as (end, peer):
        await flood(peer, 200)
        assert await peer.close_received() == (1013, "the receiver cannot keep up")
        await peer.write(CLOSE, b"\x03\xf5")
        peer.half_close()
        with pytest.raises(LimitError, match=r"read_high_water is 20000.*overflow") as caught:
            while await end.read() is not None:
                pass
        assert caught.value.limit == "read_high_water"
        assert caught.value.code == 1013


async def test_a_reader_that_keeps_up_loses_nothing(side):
    options = {"overflow": "drop_oldest", "read_high_water": 100_000}
    async with end_and_peer(side, **options) as (end, peer):
        sending = asyncio.create_task(flood(peer, 3000))
        for n in range(3000):
            assert number(await end.read()) == n
        await sending
        assert end.read.stats.dropped == 0


async def test_a_message_that_is_read_in_parts_is_never_dropped(side):
    options = {"overflow": "keep_latest", "read_high_water": 20_000}
    async with end_and_peer(side, **options) as (end, peer):
        await peer.write(BINARY, b"first", fin=False)
        stream = await end.read.stream()
        assert await anext(stream) == b"first"
        sending = asyncio.create_task(peer.write(CONT, bytes(3_000_000)))
        await asyncio.sleep(0.02)
        assert sum([len(chunk) async for chunk in stream]) == 3_000_000
        await sending


async def test_a_ping_behind_the_flood_is_answered(side):
    async with end_and_peer(side, overflow="keep_latest", read_high_water=1000) as (end, peer):
        await flood(peer, 100)
        await peer.write(PING, "now")
        assert (await peer.read()).payload == b"now"
        await until(lambda: end.read.stats.dropped)


def test_the_option_is_checked():
    assert Options(overflow="drop_oldest").overflow == "drop_oldest"
    with pytest.raises(InvalidOption, match=r"wait.*drop_oldest.*keep_latest.*close.*'newest'"):
        Options(overflow="newest")
    with pytest.raises(InvalidOptionType, match="overflow must be str, not NoneType"):
        Options(overflow=None)


@pytest.mark.parametrize("overflow", ["drop_oldest", "keep_latest"])
async def test_a_message_larger_than_can_be_read_whole_waits_to_be_streamed(side, overflow):
    options = {"overflow": overflow, "read_high_water": 20_000, "max_message_size": 100_000}
    async with end_and_peer(side, **options) as (end, peer):
        sending = asyncio.create_task(peer.write(BINARY, bytes(400_000)))
        await until(lambda: end.read.stats.bytes_in >= 20_000)
        message = await end.read.stream()
        assert sum([len(chunk) async for chunk in message]) == 400_000
        await sending
        assert end.read.close_code is None
