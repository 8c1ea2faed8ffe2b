"""Many connections of one event loop, which are watched together through one descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import weakref

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    client_and_peer,
    close_payload,
    echo,
    end_and_peer,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import connect, serve

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

MANY = 40


async def exchange(url: str, seed: int) -> None:
    rng = random.Random(seed)
    async with connect(url) as (_, read, write):
        for number in range(20):
            message = f"{seed} {number} " + "x" * rng.choice([0, 100, 70_000])
            await write(message)
            await asyncio.sleep(0)
            answer = await read()
            assert answer.payload == message


async def test_each_gets_its_own_messages():
    async with serve(echo) as server, asyncio.timeout(10), asyncio.TaskGroup() as group:
        for seed in range(MANY):
            group.create_task(exchange(server.url, seed))


async def test_they_may_come_and_go():
    async with serve(echo) as server, asyncio.timeout(10):
        for connections in (1, MANY, 2, 5, 3, MANY):
            async with asyncio.TaskGroup() as group:
                for seed in range(connections):
                    group.create_task(exchange(server.url, seed))


async def test_one_may_close_all_the_others_in_the_moment_when_all_have_something():
    async with asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        pairs = [
            await stack.enter_async_context(end_and_peer("client", close_timeout=0.1))
            for _ in range(MANY)
        ]
        ended = 0

        async def first_one_closes_the_rest(end):
            nonlocal ended
            await end.read()
            for other, _ in pairs:
                if other is not end:
                    other.socket.shutdown(socket.SHUT_RDWR)
                    other.write.close(1000).close()
            ended += 1

        readers = [asyncio.create_task(first_one_closes_the_rest(end)) for end, _ in pairs]
        await turns_of_the_loop()
        for _, peer in pairs:
            peer.send_now(peer.frame(TEXT, "x") + peer.frame(CLOSE, close_payload(1000)))
        await asyncio.wait(readers)
        assert ended >= 1


async def test_a_paused_connection_does_not_keep_the_others_from_reading():
    async with asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        pairs = [
            await stack.enter_async_context(end_and_peer("client", read_high_water=65536))
            for _ in range(8)
        ]
        (slow, flooding), *rest = pairs
        flood = asyncio.create_task(flooding.send(flooding.frame(BINARY, bytes(60_000)) * 400))
        for end, peer in rest:
            await end.write("still here")
            assert await peer.read() == Frame(TEXT, b"still here")
            await peer.write(TEXT, "so are we")
            assert (await end.read()).payload == "so are we"
        for _ in range(400):
            assert (await slow.read()).len == 60_000
        await flood


@pytest.mark.filterwarnings("ignore")  # that they were left open is what they warn of
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open descriptors")
@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
def test_a_loop_that_is_dropped_with_connections_open_takes_them_along():
    async def open_and_leave() -> None:
        server = await serve(echo)
        for _ in range(12):
            kept.append(await connect(server.url))

    kept: list = []
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(open_and_leave())
    gone = weakref.ref(loop)
    loop.close()
    del loop
    kept.clear()
    gc.collect()
    assert gone() is None
    assert len(os.listdir("/proc/self/fd")) == before


class Interrupt(KeyboardInterrupt):
    """As if somebody had pressed Ctrl-C."""


def test_an_interrupt_while_many_send_leaves_the_others_to_the_next_turn(monkeypatch):
    from tests.conftest import TransportsOnlyLoop

    transport_type = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    original = transport_type.write

    def interrupted(transport, data):
        monkeypatch.setattr(transport_type, "write", original)
        original(transport, data)
        raise Interrupt

    async def write_all():
        async with contextlib.AsyncExitStack() as stack:
            pairs = [await stack.enter_async_context(client_and_peer()) for _ in range(6)]
            # The first message is sent at once, the others when the loop has its next turn.
            await pairs[0][0].write("0")
            monkeypatch.setattr(transport_type, "write", interrupted)
            for n in range(1, 6):
                await pairs[n][0].write(str(n))
            for n, (_, peer) in enumerate(pairs):
                assert await peer.message() == (TEXT, str(n).encode())

    loop = TransportsOnlyLoop()
    try:
        task = loop.create_task(write_all())
        with pytest.raises(Interrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(task)
    finally:
        loop.close()
