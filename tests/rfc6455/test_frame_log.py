"""Frames in the log, at DEBUG."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    CONT,
    PING,
    TEXT,
    both_ends,
    close_payload,
    end_and_peer,
    watchdog,
)

from coro_websocket import broadcast

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

FRAMES = "coro_websocket.frames"


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


def lines(caplog) -> list[str]:
    """What the log says, without whose frame it was."""
    return [
        re.sub(r"^(client|server) \d+ ", "", record.getMessage())
        for record in caplog.records
        if record.name == FRAMES
    ]


async def test_frames_that_come(side, caplog):
    caplog.set_level(logging.DEBUG, FRAMES)
    async with end_and_peer(side, close_timeout=0.2) as (end, peer):
        await peer.write(TEXT, "héllo")
        await peer.write(TEXT, "x" * 1000, fin=False)
        await peer.write(CONT, "")
        await peer.write(BINARY, bytes(range(40)))
        await peer.write(PING, "p")
        await peer.write(CLOSE, close_payload(1000, "bye"))
        while await end.read() is not None:
            pass
        assert [line for line in lines(caplog) if line.startswith("received")] == [
            "received text, 6 bytes: 'héllo'",
            f"received text (not fin), 1000 bytes: {'x' * 64!r}...",
            "received continuation, 0 bytes",
            f"received binary, 40 bytes: {bytes(range(32)).hex(' ')}...",
            "received ping, 1 bytes: 70",
            "received close, 5 bytes: 1000 'bye'",
        ]


async def test_frames_that_are_sent(side, caplog):
    caplog.set_level(logging.DEBUG, FRAMES)
    async with end_and_peer(side) as (end, peer):
        await end.write("one")
        await end.write([b"\x01", b"\x02"])
        assert broadcast([end.write], "to all") == []
        await end.write.pong()
        peer.hang_up()
        assert lines(caplog)[:5] == [
            "sent text, 3 bytes: 'one'",
            "sent binary (not fin), 1 bytes: 01",
            "sent continuation, 1 bytes: 02",
            "sent text, 6 bytes: 'to all'",
            "sent pong, 0 bytes",
        ]


async def test_compressed_frames_say_so(caplog):
    caplog.set_level(logging.DEBUG, FRAMES)
    async with both_ends() as (client, server):
        await client.write("z" * 10_000)
        assert (await server.read()).len == 10_000
        sent, received = lines(caplog)
        assert re.fullmatch(r"sent text rsv1, \d+ bytes: [0-9a-f ]+(\.\.\.)?", sent)
        assert sent.removeprefix("sent") == received.removeprefix("received")


async def test_a_large_frame_is_told_of_when_it_begins(side, caplog):
    caplog.set_level(logging.DEBUG, FRAMES)
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read())
        await end.settle()
        await peer.send(peer.frame(BINARY, bytes(100_000))[:20])
        async with asyncio.timeout(BOUND):
            while not lines(caplog):
                await asyncio.sleep(0.001)
        assert lines(caplog)[0].startswith("received binary, 100000 bytes: 00 00")
        reading.cancel()
        await asyncio.wait([reading])


async def test_each_connection_has_a_number(caplog):
    caplog.set_level(logging.DEBUG, FRAMES)
    async with both_ends() as (client, server):
        await client.write("x")
        await server.read()
    names = {
        record.getMessage().split(" sent")[0].split(" received")[0] for record in caplog.records
    }
    assert {name.split()[0] for name in names} >= {"client", "server"}


async def test_without_debug_no_connection_traces(side, caplog):
    caplog.set_level(logging.INFO, FRAMES)
    async with end_and_peer(side) as (end, peer):
        caplog.set_level(logging.DEBUG, FRAMES)  # too late for this connection
        await end.write("x")
        await peer.read()
        assert lines(caplog) == []
