"""broadcast: one message to many connections, encoded once, waiting for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc

import pytest
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    CONT,
    TEXT,
    Frame,
    close_payload,
    end_and_peer,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import (
    ConnectionClosedError,
    InvalidMessage,
    InvalidMessageType,
    Message,
    broadcast,
    connect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def test_every_connection_gets_it_in_both_roles():
    async with contextlib.AsyncExitStack() as stack:
        pairs = [
            await stack.enter_async_context(end_and_peer(side)) for side in ("server", "client") * 3
        ]
        writes = [end.write for end, _ in pairs]
        assert broadcast(writes, "Grüße") == []
        assert broadcast(iter(writes), bytes(100_000)) == []
        for _, peer in pairs:
            assert await peer.message() == (TEXT, "Grüße".encode())
            assert await peer.message() == (BINARY, bytes(100_000))


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_messages_of_each_connection_keep_their_order(size):
    messages = [each * size for each in "1234"]
    async with end_and_peer("server", write_high_water=None) as (end, peer):
        writing = end.write(messages[0])
        assert broadcast([end.write], messages[1]) == []
        assert broadcast([end.write], messages[2]) == []
        last = end.write(messages[3])
        for message in messages:
            assert await peer.message() == (TEXT, message.encode())
        await writing
        await last
        stats = end.read.stats
        assert (stats.messages_out, stats.bytes_out) == (4, 4 * size + frame_headers(size, 4))


def frame_headers(size: int, count: int) -> int:
    return (2 if size < 126 else 4 if size < 65536 else 10) * count


async def test_a_large_message_is_not_copied_for_each_connection():
    if isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
        pytest.skip("asyncio's transports are given copies")
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(end_and_peer("server")) for _ in range(20)]
        writes = [end.write for end, _ in pairs]
        tracemalloc.start()
        try:
            assert broadcast(writes, bytes(50_000)) == []
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        for _, peer in pairs:
            assert await peer.message() == (BINARY, bytes(50_000))
    assert most < 500_000  # not twenty times as much


async def test_a_connection_whose_turn_is_taken_is_left_out_when_too_much_waits_for_it():
    async with end_and_peer("server", write_high_water=10_000) as (end, peer):
        await end.write(Message("begin", TEXT, fin=False))
        missed = [len(broadcast([end.write], bytes(1000))) for _ in range(100)]
        waiting = missed.count(0)
        assert 8 <= waiting <= 12
        assert missed == [0] * waiting + [1] * (100 - waiting)
        await end.write(Message("end", CONT, fin=True))
        assert await peer.message() == (TEXT, b"beginend")
        for _ in range(waiting):
            assert await peer.message() == (BINARY, bytes(1000))
        await turns_of_the_loop(3)
        assert broadcast([end.write], "again") == []
        assert await peer.message() == (TEXT, b"again")


async def test_it_comes_uncompressed_and_compression_goes_on_after_it():
    received = []

    async def handler(req, read, write):
        await write("before " * 1000)
        assert broadcast([write], "to all " * 1000) == []
        await write("before " * 1000)

    async with serve(handler) as server, connect(server.url) as (_, read, _):
        async for msg in read:
            received.append(msg.payload)
    assert received == ["before " * 1000, "to all " * 1000, "before " * 1000]


async def test_a_closed_connection_is_left_out():
    async with end_and_peer("server") as (end, peer), end_and_peer("server") as (other, _):
        await peer.write(CLOSE, close_payload(1000))
        peer_closed = await peer.read()
        assert peer_closed.opcode == CLOSE
        assert broadcast([end.write, other.write], "x") == [end.write]
        peer.hang_up()


async def test_a_peer_that_does_not_read_is_left_out_and_costs_bounded_memory():
    async with (
        end_and_peer("server", receive_buffer=4096, write_high_water=100_000) as (slow, _),
        end_and_peer("server") as (fast, peer),
    ):
        missed = 0
        for _ in range(200):
            left_out = broadcast([slow.write, fast.write], bytes(50_000))
            assert left_out in ([], [slow.write])
            missed += bool(left_out)
            assert await peer.message() == (BINARY, bytes(50_000))
        assert missed > 100


async def test_a_fragmented_message_goes_first():
    async with end_and_peer("server") as (end, peer):
        await end.write(Message("a", 1, fin=False))
        assert broadcast([end.write], "after") == []
        await turns_of_the_loop()
        await end.write(Message("b", 0))
        assert await peer.read() == Frame(TEXT, b"a", fin=False)
        assert await peer.read() == Frame(CONT, b"b")
        assert await peer.message() == (TEXT, b"after")


async def test_what_waits_behind_a_fragmented_message_needs_no_task_and_keeps_its_place():
    async with end_and_peer("server") as (end, peer):
        await end.write(Message("a", 1, fin=False))
        tasks = asyncio.all_tasks()
        assert broadcast([end.write], "first") == []
        assert asyncio.all_tasks() == tasks
        second = asyncio.create_task(write_message(end, "second"))
        await turns_of_the_loop()
        assert broadcast([end.write], "third") == []
        await end.write(Message("b", 0))
        expected = [(TEXT, b"ab"), (TEXT, b"first"), (TEXT, b"second"), (TEXT, b"third")]
        assert [await peer.message() for _ in expected] == expected
        await second


async def write_message(end, message):
    await end.write(message)


async def test_what_waits_behind_a_fragmented_message_is_dropped_with_the_connection():
    async with end_and_peer("server", write_high_water=1000) as (end, peer):
        await end.write(Message("a", 1, fin=False))
        assert broadcast([end.write], bytes(1000)) == []
        closing = asyncio.create_task(end.write.wait_closed())
        peer.hang_up()
        await closing
        with pytest.raises(ConnectionClosedError):
            await end.read()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("\ud800", InvalidMessage),
        (Message(b"\xff", 1), InvalidMessage),
        (Message("part", 1, fin=False), InvalidMessage),
        (Message("rest", 0), InvalidMessage),
        (Message(b"", 9), InvalidMessage),
        (Message("x", 1, rsv1=True), InvalidMessage),
        (7, InvalidMessageType),
        (None, InvalidMessageType),
        (["a", "b"], InvalidMessageType),
    ],
)
async def test_what_is_no_whole_message_is_sent_to_nobody(message, error):
    async with end_and_peer("server") as (end, peer):
        with pytest.raises(error):
            broadcast([end.write], message)
        await end.write("first")
        assert await peer.message() == (TEXT, b"first")


async def test_only_a_write_can_be_sent_to():
    async with end_and_peer("server") as (end, _):
        with pytest.raises(TypeError):
            broadcast([end.read], "x")
        await asyncio.sleep(0)
