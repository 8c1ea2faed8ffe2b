"""How things end that nobody has ended: without a word on stderr, and with the peer told.

Each program runs in an interpreter of its own, in development mode and with warnings as errors,
against a server that this test keeps in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, echo, turns_of_the_loop

from coro_websocket import connect, serve

PRELUDE = """
import asyncio, gc, signal, sys
from coro_websocket import connect, serve

loop_name, url = sys.argv[1:]

async def echo(req, read, write):
    async for msg in read:
        await write(msg.payload)

async def never(req, read, write):
    await asyncio.Event().wait()

def run(main):
    factory = None
    if loop_name == "uvloop":
        import uvloop
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        # Development mode tells of what took long, which on a busy machine anything may.
        runner.get_loop().slow_callback_duration = 60
        runner.run(main())
"""

PROGRAMS = {
    "a connection is left open": """
        async def main():
            res, read, write = await connect(url)
            await write("x")
            assert (await read()).payload == "x"
            kept.append((res, read, write))
    """,
    "a connection is left open under backpressure": """
        async def main():
            res, read, write = await connect(url, write_high_water=1000)
            kept.append(asyncio.ensure_future(write_much(write)))
            await asyncio.sleep(0.01)

        async def write_much(write):
            await write(bytes(15_000_000), compress=False)
    """,
    "a thread compresses at the end": """
        async def main():
            res, read, write = await connect(url)
            kept.append(write)
            asyncio.ensure_future(write(bytes(15_000_000)))
            await asyncio.sleep(0)
    """,
    "a read, a ping, a close are pending at the end": """
        async def main():
            for _ in range(6):  # enough for the common poller
                res, read, write = await connect(url)
                kept.append((asyncio.ensure_future(read()), write.ping()))
            kept.append(asyncio.ensure_future(write.close()))
            await asyncio.sleep(0)
    """,
    "connections are collected while they are open": """
        async def main():
            for _ in range(6):
                opened = await connect(url)
            del opened
            gc.collect()
            await asyncio.sleep(0)
    """,
    "connecting is under way at the end": """
        async def main():
            for turns in range(20):
                asyncio.ensure_future(connect(url))
                await asyncio.sleep(0)
    """,
    "a server still serves": """
        async def main():
            kept.append(await serve(echo))
    """,
    "a server serves forever in a task": """
        async def main():
            server = await serve(echo)
            kept.append(asyncio.ensure_future(server.serve_forever()))
            await asyncio.sleep(0)
    """,
    "a server has clients in every phase": """
        async def main():
            server = await serve(never)
            for turns in range(20):
                asyncio.ensure_future(connect(server.url))
                await asyncio.sleep(0)
    """,
    "the program exits inside async with": """
        async def main():
            async with serve(echo) as server, connect(server.url) as (res, read, write):
                raise SystemExit(0)
    """,
    "the loop is left, not closed": """
        async def main():
            kept.append(await connect(url, ping_interval=None))

        def run(main):
            loop = asyncio.new_event_loop()
            loop.slow_callback_duration = 60
            loop.run_until_complete(main())
            kept.clear()
            gc.collect()
            loop.close()
    """,
}


LEFT_OPEN = {
    "a connection is left open",
    "a connection is left open under backpressure",
    "a thread compresses at the end",
    "a read, a ping, a close are pending at the end",
    "connections are collected while they are open",
    "connecting is under way at the end",
    "the loop is left, not closed",
}
UNCLOSED = re.compile(
    r"^(Exception ignored in|ResourceWarning): (unclosed )?<coro_websocket.*ConnectionSocket|"
    r"^(Exception ignored in|ResourceWarning): (unclosed event loop )?<\w*(EventLoop|Loop) "
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An echo server in a thread, whose handlers end well however their clients leave."""
    started = threading.Event()
    where: list = []

    async def main() -> None:
        async with serve(echo, close_timeout=0.1) as server:
            stop = asyncio.Event()
            where.extend([server.url, asyncio.get_running_loop(), stop])
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(BOUND)
    yield where[0]
    where[1].call_soon_threadsafe(where[2].set)
    thread.join()


def run_program(source: str, loop: str, url: str) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + "kept = []\n" + textwrap.dedent(source) + "\nrun(main)\n"
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, loop, url],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.deep("uvloop")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_interpreter_ends_silently_though(program, loop, url):
    done = run_program(PROGRAMS[program], loop, url)
    # That it was left open is all that Python says of a socket, and only in development mode.
    said = [line for line in done.stderr.splitlines() if not UNCLOSED.search(line)]
    assert (done.returncode, said) == (0, [])
    assert program in LEFT_OPEN or not done.stderr


def test_a_connect_that_is_not_awaited_is_warned_of_by_its_name(url):
    """As Python does with any coroutine; nothing was opened."""
    done = run_program("async def main():\n    connect(url)\n", "asyncio", url)
    assert done.returncode == 0
    assert "coroutine 'connect' was never awaited" in done.stderr
    assert "ResourceWarning" not in done.stderr


async def test_clients_that_are_accepted_while_the_server_closes_are_closed_too():
    """accept() has given a socket, and its task is cancelled before it begins."""
    try:
        asyncio.get_running_loop().remove_reader(0)
    except NotImplementedError:
        pytest.skip("asyncio's own sock_accept, which this loop needs, drops them")
    for turns in range(12):
        server = await serve(echo)
        connecting = [asyncio.ensure_future(connect(server.url)) for _ in range(3)]
        await turns_of_the_loop(turns)
        await server.close()
        assert server.sockets == ()
        assert clients_of(server) == 0
        for task in connecting:
            with contextlib.suppress(ConnectionError):
                _, read, _ = await task
                assert await read() is None


@pytest.mark.parametrize("turns", range(6))
async def test_closing_a_server_that_is_cancelled_leaves_neither_listener_nor_handler(turns):
    """Handlers that do not end would be waited for `close_timeout` seconds."""
    begun = asyncio.Event()
    cancelled = asyncio.Event()

    async def stubborn(req, read, write):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def inside() -> None:
        async with serve(stubborn, close_timeout=60) as server:
            servers.append(server)
            _, read, _ = await connect(server.url)
            reading.append(asyncio.ensure_future(read()))
            await begun.wait()
            ready.set()
            await asyncio.Event().wait()

    ready = asyncio.Event()
    servers: list = []
    reading: list = []
    async with asyncio.timeout(BOUND):
        task = asyncio.ensure_future(inside())
        await ready.wait()
        task.cancel()
        await turns_of_the_loop(2 + turns)  # it is in close() now
        task.cancel()
        await asyncio.wait([task])
        await cancelled.wait()
        await reading[0]
        while clients_of(servers[0]):
            await asyncio.sleep(0)
        await turns_of_the_loop()
        assert all(listener.fileno() < 0 for listener in servers[0].sockets)
        await servers[0].wait_closed()
