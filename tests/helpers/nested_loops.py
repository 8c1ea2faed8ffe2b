"""A program that runs the event loop from within a task that a read() has resumed.

nest_asyncio lets it, and changes asyncio for the whole process, so that
tests/runtimes/test_nested_loops.py runs this in a process of its own:
`python -m tests.helpers.nested_loops LOOP CONNECTIONS [CA CERT KEY]`. It prints the scenarios that
have failed, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import nest_asyncio
from tests.conftest import TransportsOnlyLoop

from coro_websocket import connect, serve

BOUND = 8.0  # seconds

Scenario = Callable[..., Coroutine[Any, Any, None]]

scenarios: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    scenarios[function.__name__] = function
    return function


def blocking(awaitable: Any) -> Any:
    """As a facade for people who do not write coroutines has it."""
    return asyncio.get_event_loop().run_until_complete(asyncio.wait_for(awaitable, BOUND))


@scenario
async def question(read: Any, write: Any, *_: Any) -> None:
    """Write, and wait for the answer."""
    for n in range(3):
        blocking(write(f"question {n}"))
        assert blocking(read()).payload == f"question {n}"


@scenario
async def written_before(read: Any, write: Any, *_: Any) -> None:
    """What was written before the nested loop began is sent in it."""
    before = read.stats.bytes_out
    await write("question")
    answer = asyncio.ensure_future(read())
    blocking(asyncio.sleep(0.05))
    assert read.stats.bytes_out > before
    assert blocking(answer).payload == "question"


@scenario
async def ping(read: Any, write: Any, *_: Any) -> None:
    reading = asyncio.ensure_future(read())
    assert blocking(write.ping()) < BOUND
    reading.cancel()


@scenario
async def close(read: Any, write: Any, *_: Any) -> None:
    blocking(write.close())
    assert read.close_code == 1000


@scenario
async def another_connection(read: Any, write: Any, dial: Any) -> None:
    """The nested loop opens, uses and closes another connection."""
    async with contextlib.AsyncExitStack() as stack:
        _, other_read, other_write = blocking(stack.enter_async_context(dial()))
        blocking(other_write("to another"))
        assert blocking(other_read()).payload == "to another"
        blocking(write("to this"))
        assert blocking(read()).payload == "to this"


@scenario
async def nested_twice(read: Any, write: Any, *_: Any) -> None:
    async def inner() -> None:
        await write("outer")
        assert (await read()).payload == "outer"
        blocking(write("inner"))
        assert blocking(read()).payload == "inner"

    blocking(inner())
    blocking(write("after"))
    assert (await read()).payload == "after"


@scenario
async def large(read: Any, write: Any, *_: Any) -> None:
    """More than is received at once."""
    payload = "x" * 3_000_000
    sending = asyncio.ensure_future(write(payload))
    assert blocking(read()).payload == payload
    blocking(sending)


@scenario
async def others_end(read: Any, write: Any, dial: Any) -> None:
    """The nested loop frees connections whose turn in the outer one is still to come."""

    async def inner() -> None:
        dialled = [await connection for connection in [dial() for _ in range(8)]]
        for _, _, other_write in dialled:
            await other_write("to each")
        for _, other_read, _ in dialled:
            assert (await other_read()).payload == "to each"
        await asyncio.gather(*(other_write.close() for _, _, other_write in dialled))
        dialled.clear()
        gc.collect()
        async with dial() as (_, new_read, new_write):
            await new_write("to a new one")
            assert (await new_read()).payload == "to a new one"

    blocking(inner())
    gc.collect()


@scenario
async def the_ended_are_freed(read: Any, write: Any, dial: Any) -> None:
    """What ends in the nested loop is freed in it, not only once the outer callback ends."""

    async def end_one() -> weakref.ref[Any]:
        res, _, other_write = await dial()
        await other_write.close()
        return weakref.ref(res.socket)

    sockets = [blocking(end_one()) for _ in range(3)]
    gc.collect()
    assert [socket() for socket in sockets] == [None] * 3


async def run(
    play: Scenario, connections: int, ca: str | None, cert: str | None, key: str | None
) -> None:
    loop = asyncio.get_running_loop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))

    async def echo(_: Any, read: Any, write: Any) -> None:
        async for message in read:
            await write(message.payload)

    secure: dict[str, Any] = {} if cert is None else {"tls": {"cert": cert, "key": key}}
    trusting: dict[str, Any] = {} if ca is None else {"tls": {"ca": ca}}
    # The keepalive would come to the rescue of what was not sent.
    async with serve(echo, ping_interval=None, **secure) as server:

        def dial() -> Any:
            return connect(server.url, ping_interval=None, close_timeout=4, **trusting)

        async with contextlib.AsyncExitStack() as stack:
            ends = [await stack.enter_async_context(dial()) for _ in range(connections)]
            await asyncio.sleep(0)
            for _, _, write in ends:
                await write("go")
            busy = [asyncio.ensure_future(read()) for _, read, _ in ends[1:]]
            _, read, write = ends[0]
            assert (await read()).payload == "go"  # resumed from the readable callback
            await play(read, write, dial)
            for reading in busy:
                assert (await reading).payload == "go"
    assert failures == []


def main(kind: str, connections: int, ca: Any = None, cert: Any = None, key: Any = None) -> None:
    for name, play in scenarios.items():
        loop = TransportsOnlyLoop() if kind == "transports" else asyncio.SelectorEventLoop()
        asyncio.set_event_loop(loop)
        nest_asyncio.apply(loop)
        playing = asyncio.wait_for(run(play, connections, ca, cert, key), 3 * BOUND)
        try:
            loop.run_until_complete(playing)
        except BaseException:
            print(f"{name}: {traceback.format_exc()}")
        loop.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
