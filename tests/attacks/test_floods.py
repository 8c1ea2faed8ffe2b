"""Floods of Pings, and peers that stop reading. RFC 6455 sections 5.5.2, 5.5.3 and 10.4.

What must be answered is bounded, what waits for a slow peer is bounded, and whoever waits
for it can give up.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    end_and_peer,
    turns_of_the_loop,
    until,
    watchdog,
)

from coro_websocket import ConnectionClosedError

from .bounds import KIB, MIB, measured

__all__ = ["watchdog"]

both_sides = pytest.mark.parametrize("side", ["client", "server"])

HIGH_WATER = 32 * KIB
SMALL = {"receive_buffer": 4096, "write_high_water": HIGH_WATER, "read_high_water": HIGH_WATER}


async def send_until_it_is_not_taken(peer, data: bytes, most: int) -> int:
    """Send data again and again until the other end takes no more; how often it was sent."""
    sent = 0
    refused = 0
    rest = b""
    while sent < most and refused < 50:
        try:
            taken = peer.sock.send(rest or data)
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0.001)
            continue
        refused = 0
        rest = (rest or data)[taken:]
        sent += not rest
        await asyncio.sleep(0)
    return sent


@both_sides
@pytest.mark.parametrize("reads", [True, False], ids=["application reads", "application idle"])
async def test_a_flood_of_pings_whose_pongs_nobody_takes_costs_no_memory(side, reads):
    async with end_and_peer(side, **SMALL) as (end, peer):
        reading = asyncio.ensure_future(end.read()) if reads else None
        await end.settle()
        pings = b"".join(peer.frame(PING, bytes([i]) * 125) for i in range(250))
        with measured() as cost:
            sent = await send_until_it_is_not_taken(peer, pings, 400)
        assert sent == 400  # 100,000 Pings, 12 MiB of Pongs
        assert cost.memory < 512 * KIB
        assert cost.seconds < 5
        # Then it is like any other connection: the newest Ping is answered, messages come through.
        await peer.write(PING, b"the last")
        await peer.write(TEXT, b"still there")
        while (received := await peer.read()) != Frame(PONG, b"the last"):
            assert received.opcode == PONG
        message = await (reading or end.read())
        assert message.payload == "still there"


@both_sides
async def test_pings_among_messages_that_nobody_reads_stop_the_socket_not_the_process(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        data = b"".join(
            peer.frame(BINARY, b"m" * 100) + peer.frame(PING, b"p" * 100) for _ in range(100)
        )
        with measured() as cost:
            sent = await send_until_it_is_not_taken(peer, data, 2000)
        assert sent < 2000
        assert cost.memory < MIB
        assert cost.seconds < 5
        for _ in range(100):
            assert (await end.read()).payload == b"m" * 100


@both_sides
async def test_pings_behind_a_message_that_nobody_reads_are_answered_without_end(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        await peer.write(TEXT, b"not read yet")
        with measured() as cost:
            for i in range(100):
                await peer.write(PING, b"%d" % i)
                assert await peer.read() == Frame(PONG, b"%d" % i)
        assert cost.memory < 512 * KIB  # what the peer here receives into included
        assert (await end.read()).payload == "not read yet"


@both_sides
async def test_a_flood_of_pongs_that_nobody_asked_for_costs_nothing(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        pongs = b"".join(peer.frame(PONG, bytes([i]) * 125) for i in range(250))
        with measured() as cost:
            assert await send_until_it_is_not_taken(peer, pongs, 200) == 200
        assert cost.memory < 512 * KIB
        assert cost.seconds < 5
        await peer.write(TEXT, b"still there")
        assert (await end.read()).payload == "still there"
        assert peer.received == b""


@both_sides
async def test_single_bytes_behind_a_close_that_waits_take_linear_time(side):
    """However much was looked at before: Pings, a message that nobody reads and the Close."""

    async def seconds(pings: int) -> float:
        async with end_and_peer(side, read_high_water=None, compression=None) as (end, peer):
            before = peer.frame(PING) * pings + peer.frame(BINARY, b"m") + peer.frame(CLOSE)
            await peer.send(before)
            await until(lambda: end.read.stats.bytes_in == len(before))
            start = time.process_time()
            for _ in range(1000):
                peer.send_now(b"x")
                await turns_of_the_loop(3)
            took = time.process_time() - start
            assert end.read.close_code is None
            return took

    few, many = await seconds(100), await seconds(100_000)
    assert many < (few + 0.01) * 4, (few, many)


# A peer that stops reading while we write


async def written_until_it_blocks(end, message) -> int:
    """Write until a write has to wait; how many were written, that one included."""
    for count in range(1, 100_000):
        writing = asyncio.ensure_future(end.write(message))
        await end.settle(3)
        if not writing.done():
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            return count
        await writing
    raise AssertionError("no write ever waited")


@both_sides
@pytest.mark.parametrize("message", [b"m" * 10_000, "t" * 10_000])
async def test_writing_to_a_peer_that_does_not_read_waits_with_bounded_memory(side, message):
    async with end_and_peer(side, **SMALL) as (end, peer):
        with measured() as cost:
            await written_until_it_blocks(end, message)
        assert cost.memory < 8 * HIGH_WATER
        assert cost.seconds < 5
        # And it goes on to wait: nothing is added to what is there by trying again.
        with measured() as cost:
            for _ in range(10):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await end.write("x")
        assert cost.memory < 64 * KIB


@both_sides
async def test_a_write_that_waits_can_be_timed_out_and_cancelled_and_the_stream_stays_whole(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        with measured() as cost:
            count = await written_until_it_blocks(end, b"m" * 10_000)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await end.write("timed out")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(end.write("waited for"), 0.02)
        assert cost.memory < 8 * HIGH_WATER
        assert cost.seconds < 5
        # A message that was given to write is whole, or not there at all.
        for _ in range(count):
            assert await peer.message() == (BINARY, b"m" * 10_000)
        assert await peer.message() == (TEXT, b"timed out")
        assert await peer.message() == (TEXT, b"waited for")
        await end.write("and on")
        assert await peer.message() == (TEXT, b"and on")


@both_sides
async def test_closing_gets_out_of_a_write_to_a_peer_that_does_not_read(side):
    async with end_and_peer(side, close_timeout=0.2, **SMALL) as (end, peer):
        count = await written_until_it_blocks(end, b"m" * 10_000)
        assert count > 0
        with measured() as cost:
            writing = asyncio.ensure_future(end.write(b"m" * 10_000))
            await end.settle()
            assert not writing.done()
            async with asyncio.timeout(BOUND):
                await end.write.close()
                with pytest.raises(ConnectionClosedError):
                    await writing
        assert cost.memory < 8 * HIGH_WATER
        assert cost.seconds < 1
        with pytest.raises(ConnectionClosedError):
            await end.write("too late")


@both_sides
async def test_the_keepalive_gives_up_a_peer_that_does_not_read_and_frees_the_writer(side):
    async with end_and_peer(side, ping_interval=0.1, ping_timeout=0.1, **SMALL) as (end, peer):
        with measured() as cost:
            async with asyncio.timeout(BOUND):
                with pytest.raises(ConnectionClosedError):
                    while True:
                        await end.write(b"m" * 10_000)
        assert cost.memory < 8 * HIGH_WATER
        assert cost.seconds < 3


@both_sides
async def test_a_peer_that_reads_slowly_gets_everything_in_order(side):
    async with end_and_peer(side, **SMALL) as (end, peer):

        async def write_all():
            for i in range(60):
                await end.write(b"%d" % i * 3000)
            await end.write.close()

        with measured() as cost:
            writing = asyncio.ensure_future(write_all())
            for i in range(60):
                assert await peer.message() == (BINARY, b"%d" % i * 3000)
            assert (await peer.read()).opcode == CLOSE
        assert cost.memory < 16 * HIGH_WATER
        peer.hang_up()
        await writing
