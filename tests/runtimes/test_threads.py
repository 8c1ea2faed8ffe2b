"""Calls from another thread, or in another event loop, than the connection's own."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import websockets
from tests.conftest import Certificates, TransportsOnlyLoop
from tests.helpers.raw_peer import CLOSE, PING, PONG, TEXT, Frame, echo, end_and_peer, watchdog

from coro_websocket import (
    ConnectionClosedError,
    InvalidMessageType,
    OtherEventLoopError,
    broadcast,
    connect,
    serve,
)

__all__ = ["watchdog"]

LOOPS: list[Any] = [asyncio.SelectorEventLoop, TransportsOnlyLoop]
if sys.platform != "win32":
    import uvloop

    LOOPS.append(uvloop.new_event_loop)

every_loop = pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "transports", "uvloop"])


async def from_a_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> Any:
    """What the call returns in another thread, awaited in this loop, as asyncio documents it."""

    def wait() -> Any:
        return asyncio.run_coroutine_threadsafe(call(), loop).result(8)

    return await asyncio.to_thread(wait)


# Several threads at once, against another library


@contextlib.asynccontextmanager
async def collecting_server(
    tls: ssl.SSLContext | None, expected: int
) -> AsyncIterator[tuple[str, collections.Counter[str], asyncio.Event]]:
    """A server of `websockets` that counts the messages, and says when all have come."""
    received: collections.Counter[str] = collections.Counter()
    complete = asyncio.Event()

    async def handler(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            received[str(message)] += 1
            if received.total() == expected:
                complete.set()

    async with websockets.serve(handler, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://localhost:{port}/", received, complete


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_what_four_threads_send_arrives_once_and_whole(
    secure: bool, certificates: Certificates
):
    threads, each = 4, 250
    loop = asyncio.get_running_loop()
    messages = [
        [json.dumps({"thread": thread, "n": n, "data": os.urandom(480).hex()}) for n in range(each)]
        for thread in range(threads)
    ]
    tls = certificates.server if secure else None
    async with collecting_server(tls, threads * each) as (url, received, complete):
        options: dict[str, Any] = {"tls": certificates.client} if secure else {}
        async with connect(url, **options) as (_, _, write):

            def send_all(mine: list[str]) -> None:
                for message in mine:
                    asyncio.run_coroutine_threadsafe(write(message), loop).result(8)

            await asyncio.gather(*(asyncio.to_thread(send_all, mine) for mine in messages))
            await complete.wait()
    assert received == collections.Counter(message for mine in messages for message in mine)


# Each call


@pytest.fixture(params=["client", "server"])
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_write_from_a_thread_sends_once_the_loop_awaits_it(role: str):
    loop = asyncio.get_running_loop()
    async with end_and_peer(role) as (end, peer):
        later = await asyncio.to_thread(end.write, "from a thread")
        await end.write("from the loop")
        await later
        assert await peer.message() == (TEXT, b"from the loop")
        assert await peer.message() == (TEXT, b"from a thread")
        await from_a_thread(loop, lambda: end.write(["in ", "fragments"]))
        assert await peer.message() == (TEXT, b"in fragments")


async def test_bytes_that_a_thread_writes_are_taken_as_they_are_then(role: str):
    async with end_and_peer(role) as (end, peer):
        data = bytearray(b"before")
        later = await asyncio.to_thread(end.write, data)
        data[:] = b"after!"
        await later
        assert await peer.message() == (2, b"before")


async def test_what_is_no_message_is_refused_in_the_thread(role: str):
    async with end_and_peer(role) as (end, _):
        with pytest.raises(InvalidMessageType):
            await asyncio.to_thread(end.write, 5)


async def test_ping_and_pong_from_a_thread(role: str):
    loop = asyncio.get_running_loop()
    async with end_and_peer(role) as (end, peer):
        reading = asyncio.ensure_future(end.read())
        asking = asyncio.ensure_future(
            from_a_thread(loop, lambda: end.write.ping(b"are you there"))
        )
        assert await peer.read() == Frame(PING, b"are you there")
        await peer.write(PONG, b"are you there")
        assert 0 < await asking < 8
        await from_a_thread(loop, lambda: end.write.pong(b"I am"))
        assert await peer.read() == Frame(PONG, b"I am")
        reading.cancel()


async def test_close_from_a_thread(role: str):
    loop = asyncio.get_running_loop()
    async with end_and_peer(role) as (end, peer):
        closing = asyncio.ensure_future(
            from_a_thread(loop, lambda: end.write.close(4000, "enough"))
        )
        assert (await peer.read()).close == (4000, "enough")
        await peer.write(CLOSE, b"\x0f\xa0")
        peer.hang_up()
        await closing
        assert end.read.close_code == 4000
        with pytest.raises(ConnectionClosedError):
            await from_a_thread(loop, lambda: end.write("too late"))


async def test_broadcast_from_a_thread():
    loop = asyncio.get_running_loop()
    async with end_and_peer("server") as (one, peer), end_and_peer("client") as (two, other):
        writes = [one.write, two.write]
        assert await from_a_thread(loop, lambda: broadcast(writes, "to all")) == []
        assert await peer.message() == await other.message() == (TEXT, b"to all")


async def test_read_awaited_in_a_thread_is_refused_and_takes_nothing(role: str):
    async with end_and_peer(role) as (end, peer):
        await peer.write(TEXT, b"first")
        assert (await end.read()).payload == "first"
        await peer.write(TEXT, b"second")
        for call in (end.read, end.read.batch, end.read.stream, end.write.wait_closed):
            with pytest.raises(OtherEventLoopError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(asyncio.run, awaited(call))
        assert (await end.read()).payload == "second"
        message = await from_a_thread(asyncio.get_running_loop(), one_more(end, peer))
        assert message.payload == "third"


def one_more(end: Any, peer: Any) -> Callable[[], Any]:
    async def read() -> Any:
        await peer.write(TEXT, b"third")
        return await end.read()

    return read


async def awaited(call: Callable[..., Any], *arguments: Any) -> Any:
    return await call(*arguments)


async def test_threads_with_loops_of_their_own_are_refused(role: str):
    async with end_and_peer(role) as (end, peer):
        calls: list[tuple[Any, ...]] = [
            (end.write, "lost"),
            (end.write, ["lost", "too"]),
            (end.write.ping,),
            (end.write.pong,),
            (end.write.close,),
        ]
        for call in calls:
            with pytest.raises(OtherEventLoopError, match="belongs to the loop in which it was"):
                await asyncio.to_thread(asyncio.run, awaited(*call))
        await end.write("the only one")
        assert await peer.message() == (TEXT, b"the only one")


async def test_a_thread_that_awaits_nothing_is_warned_and_sends_nothing():
    async with end_and_peer("client") as (end, peer):
        with pytest.warns(RuntimeWarning, match="coroutine 'write' was never awaited"):
            await asyncio.to_thread(lambda: bool(end.write("lost")))
        await end.write("the only one")
        assert await peer.message() == (TEXT, b"the only one")


# One thread, another loop


@every_loop
def test_a_connection_of_a_stopped_loop_is_refused_in_another(new_loop: Any):
    loop = new_loop()
    received: list[str] = []

    async def handler(_: Any, read: Any, write: Any) -> None:
        async for message in read:
            received.append(message.payload)
            await write("got " + message.payload)

    async def open_both() -> Any:
        server = await serve(handler)
        return server, await connect(server.url)

    server, (_, read, write) = loop.run_until_complete(open_both())
    loop.run_until_complete(write("before"))  # called where no loop runs
    assert loop.run_until_complete(read()).payload == "got before"
    for call, *arguments in (
        (write, "a"),
        (write, "b"),
        (write.ping,),
        (write.pong,),
        (write.close,),
        (write.wait_closed,),
        (read,),
        (read.stream,),
    ):
        with pytest.raises(OtherEventLoopError):
            asyncio.run(awaited(call, *arguments))

    async def send_to_all() -> None:
        await broadcast([write], "c")  # type: ignore[misc]

    with pytest.raises(OtherEventLoopError):
        asyncio.run(send_to_all())
    loop.run_until_complete(write("after"))
    assert loop.run_until_complete(read()).payload == "got after"
    assert received == ["before", "after"]
    loop.run_until_complete(write.close())
    loop.run_until_complete(server.close())
    loop.close()


@every_loop
def test_a_loop_may_go_on_in_another_thread(new_loop: Any):
    loop = new_loop()

    async def open_both() -> Any:
        server = await serve(echo)
        return server, await connect(server.url)

    server, (_, read, write) = loop.run_until_complete(open_both())

    async def exchange(text: str) -> str:
        await write(text)
        return (await read()).payload

    assert loop.run_until_complete(exchange("here")) == "here"
    running = threading.Thread(target=loop.run_forever)
    running.start()
    try:
        assert asyncio.run_coroutine_threadsafe(exchange("there"), loop).result(8) == "there"
        assert asyncio.run_coroutine_threadsafe(write("from here"), loop).result(8) is None
        assert asyncio.run_coroutine_threadsafe(read(), loop).result(8).payload == "from here"
        asyncio.run_coroutine_threadsafe(write.close(), loop).result(8)
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(8)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


async def test_broadcast_to_connections_of_two_loops_is_refused():
    other = asyncio.new_event_loop()
    running = threading.Thread(target=other.run_forever)
    running.start()
    try:
        async with end_and_peer("client") as (end, peer):
            server = asyncio.run_coroutine_threadsafe(awaited(serve, echo), other).result(8)
            _, read, write = asyncio.run_coroutine_threadsafe(
                awaited(connect, server.url), other
            ).result(8)
            for writes in ([end.write, write], [write, end.write]):
                with pytest.raises(OtherEventLoopError):
                    broadcast(writes, "lost")
            await end.write("the only one")
            assert await peer.message() == (TEXT, b"the only one")
            await asyncio.to_thread(
                asyncio.run_coroutine_threadsafe(write.close(), other).result, 8
            )
            await asyncio.to_thread(
                asyncio.run_coroutine_threadsafe(server.close(), other).result, 8
            )
            del read, write
    finally:
        other.call_soon_threadsafe(other.stop)
        running.join()
        other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_sends_nothing_over_its_parents_connections():
    async with end_and_peer("client") as (end, peer):
        await peer.write(TEXT, b"fork")
        await end.read()  # its task goes on from within a callback of ours
        end.write("queued by the parent")
        child = os.fork()
        if child == 0:
            try:
                end.write("from the child").close()
                broadcast([end.write], "from the child").close()  # type: ignore[attr-defined]
                status = 0
            except BaseException:
                status = 1
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 (it has ended, or is about to)
        await end.write("from the parent")
        assert await peer.message() == (TEXT, b"queued by the parent")
        assert await peer.message() == (TEXT, b"from the parent")
