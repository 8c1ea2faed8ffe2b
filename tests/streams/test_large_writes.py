"""Large messages of a server, which are sent from where they are."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from tests.helpers.raw_peer import BINARY, PING, PONG, TEXT, both_ends, server_and_peer, watchdog

from coro_websocket import ConnectionClosedError

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

SIZES = (16_383, 16_384, 16_385, 65_535, 65_536, 100_000, 1_000_000)


@pytest.mark.parametrize("options", [{}, {"compression": None}])
async def test_they_arrive_as_they_are_among_others(options):
    async with both_ends(server_options=options, **options) as (client, server):
        sent = []
        for size in SIZES:
            sent += ["before", os.urandom(size), "between", "é" * (size // 2), "after"]

        async def send():
            for message in sent:
                await server.write(message)  # type: ignore[arg-type]

        sending = asyncio.create_task(send())
        assert [(await client.read()).payload for _ in sent] == sent
        await sending
        assert client.read.stats.messages_in == server.read.stats.messages_out == len(sent)
        assert client.read.stats.bytes_in == server.read.stats.bytes_out


async def test_a_peer_that_takes_a_little_at_a_time_gets_all_of_it():
    async with server_and_peer(receive_buffer=4096, write_high_water=1 << 30) as (end, peer):
        sent = [os.urandom(size) for size in (300_000, 20_000, 5_000_000, 16_384)]
        for message in sent:
            await end.write(message)
        for message in sent:
            received = await peer.read()
            assert (received.opcode, received.payload) == (BINARY, message)


async def test_a_pong_never_gets_between_a_header_and_its_payload():
    """A Ping is answered late, behind a backlog: when the outbox is empty."""
    async with server_and_peer(receive_buffer=4096, write_high_water=1 << 30) as (end, peer):
        await end.write(bytes(3_000_000))
        for i in range(3):
            await peer.write(PING, str(i))
        await end.settle(20)
        await end.write("x" * 50_000)
        seen: list[Any] = []
        while not {(TEXT, b"x" * 50_000), (PONG, b"2")} <= set(seen):
            frame = await peer.read()
            seen.append((frame.opcode, frame.payload))
        assert seen[0] == (BINARY, bytes(3_000_000))
        assert {opcode for opcode, _ in seen[1:]} == {TEXT, PONG}


async def test_writes_of_the_same_turn_keep_their_order():
    async with server_and_peer() as (end, peer):
        writes = [end.write("small"), end.write(b"l" * 40_000), end.write("small again")]
        for write in writes:
            await write
        assert await peer.message() == (TEXT, b"small")
        assert await peer.message() == (BINARY, b"l" * 40_000)
        assert await peer.message() == (TEXT, b"small again")


async def test_they_wait_for_a_fragmented_message_and_for_the_close():
    async with server_and_peer() as (end, peer):
        await end.write({"opcode": 1, "payload": "one ", "fin": False})

        async def write():
            await end.write(b"l" * 40_000)

        waiting = asyncio.create_task(write())
        await end.settle()
        await end.write({"opcode": 0, "payload": "two"})
        await waiting
        assert await peer.message() == (TEXT, b"one two")
        assert await peer.message() == (BINARY, b"l" * 40_000)
        closing = asyncio.create_task(end.write.close())
        await end.settle()
        with pytest.raises(ConnectionClosedError):
            await end.write(b"l" * 40_000)
        peer.hang_up()
        await closing


async def test_a_peer_that_has_gone_is_an_error_of_the_connection():
    async with server_and_peer() as (end, peer):
        peer.reset()
        with pytest.raises(ConnectionClosedError):
            while True:
                await end.write(bytes(100_000))
                await end.settle(1)


async def test_backpressure_holds_for_them():
    async with server_and_peer(receive_buffer=4096) as (end, peer):
        message = bytes(8_000_000)
        writing = asyncio.create_task(end.write(message))
        await end.settle(10)
        assert not writing.done()
        assert (await peer.read()).payload == message
        await writing
