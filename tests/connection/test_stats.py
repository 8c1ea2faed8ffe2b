"""read.stats and write.stats: what a connection has counted."""

from __future__ import annotations

import asyncio

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    both_ends,
    end_and_peer,
    until,
    watchdog,
)

from coro_websocket import Stats, broadcast

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


async def test_nothing_has_been_counted_at_the_beginning(side):
    async with end_and_peer(side) as (end, _):
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


async def test_what_comes_is_counted(side):
    async with end_and_peer(side) as (end, peer):
        sent = [
            peer.frame(TEXT, "whole"),
            peer.frame(BINARY, b"one", fin=False),
            peer.frame(PING, "p"),
            peer.frame(CONT, b"two"),
            peer.frame(BINARY, bytes(100_000)),
            peer.frame(PONG),
        ]
        await peer.send(b"".join(sent))
        for _ in range(3):
            await end.read()
        reading = asyncio.create_task(end.read())
        await until(lambda: end.read.stats.frames_in == 6)
        stats = end.read.stats
        assert stats.messages_in == 3
        assert stats.bytes_in == sum(map(len, sent))
        reading.cancel()
        await asyncio.wait([reading])


async def test_control_frames_that_were_dropped_unread_are_counted(side):
    async with end_and_peer(side, read_high_water=1000) as (end, peer):
        pongs = 50 * peer.frame(PONG, bytes(100))
        await peer.send(pongs)
        await until(lambda: end.read.stats.bytes_in == len(pongs))
        await peer.write(TEXT, "read")
        await end.read()
        assert end.read.stats.frames_in == 51


async def test_what_is_sent_is_counted(side):
    async with end_and_peer(side) as (end, peer):
        await end.write("whole")
        await end.write([b"one", b"two", b"three"])
        end.write.ping()
        assert broadcast([end.write], "to all") == []
        size = 0
        for _ in range(6):
            frame = await peer.read()
            size += 2 + 4 * frame.masked + len(frame.payload)
        stats = end.write.stats
        assert (stats.messages_out, stats.frames_out, stats.bytes_out) == (3, 6, size)
        assert end.read.stats == stats


async def test_bytes_out_are_those_that_have_left(side):
    async with end_and_peer(side, receive_buffer=4096) as (end, peer):
        writing = asyncio.create_task(end.write(bytes(8_000_000)))
        await end.settle()
        assert 0 < end.write.stats.bytes_out < 8_000_000
        assert len((await peer.read()).payload) == 8_000_000
        await writing
        assert end.write.stats.bytes_out > 8_000_000


async def test_the_latency_is_that_of_the_last_ping():
    async with both_ends() as (client, _server):
        waiting = asyncio.create_task(_server.read())
        assert client.read.stats.latency is None
        assert await client.write.ping() == client.read.stats.latency
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_the_keepalive_measures_it_too(side):
    async with end_and_peer(side, ping_interval=0.02) as (end, peer):
        while end.read.stats.latency is None:  # a Ping is forgotten when the next is sent
            ping = await peer.read()
            await peer.write(PONG, ping.payload)
            await end.settle()
        assert 0 < end.read.stats.latency < 5


async def test_compression_is_bytes_on_the_wire_for_each_byte(side):
    async with both_ends() as (client, server):
        end, other = (client, server) if side == "client" else (server, client)
        await other.write("all the same " * 1000)
        await other.write("short")  # below the threshold: sent as it is
        await other.write("all the same " * 1000, compress=False)
        for _ in range(3):
            await end.read()
        assert end.read.stats.compression_in == other.write.stats.compression_out
        assert 0 < end.read.stats.compression_in < 0.05
        assert end.read.stats.compression_out is None


async def test_they_can_be_read_after_the_end(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"
        peer.hang_up()
        await end.write.wait_closed()
        assert end.read.stats.messages_in == 1
        assert "messages_in=1" in repr(end.write.stats)
