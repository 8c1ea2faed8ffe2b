"""read.stats and write.stats: what a connection has counted."""

from __future__ import annotations

import pytest
from tests.helpers.raw_peer import (
    PONG,
    TEXT,
    both_ends,
    end_and_peer,
    until,
    watchdog,
)

from coro_websocket import broadcast

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


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
