"""Echo: CPU per message of a client with many busy connections, ours against websockets.

    python benchmarks/echo.py [--connections 30] [--size 256] [--seconds 1] [--rounds 5]

One echo server (ours, on a core of its own where there are two) serves every variant; each
variant is a fresh process on the other core, and the rounds are interleaved, because
machines are noisy: only ratios within one run mean something. CPU per message is the
figure to compare, since with few connections the wake-up latency between two cores hides
what a message costs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata

Exchange = Callable[[bytes], Awaitable[object]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Exchange]:
    from coro_websocket import connect

    async with connect(url, compression=None, ping_interval=None) as (_, read, write):

        async def exchange(payload: bytes) -> object:
            await write(payload)
            return await read()

        yield exchange


@contextlib.asynccontextmanager
async def peer(url: str) -> AsyncIterator[Exchange]:
    from websockets.asyncio.client import connect

    async with connect(url, compression=None, max_size=None, ping_interval=None) as connection:

        async def exchange(payload: bytes) -> object:
            await connection.send(payload)
            return await connection.recv()

        yield exchange


LIBRARIES = {"coro-websocket": ours, "websockets": peer}
LOOPS = ("asyncio", "uvloop")


async def measure(library: str, url: str, connections: int, size: int, seconds: float) -> None:
    """Keep one message in flight on each connection; print what it cost as JSON."""
    payload = os.urandom(size)
    async with contextlib.AsyncExitStack() as stack:
        exchanges = [
            await stack.enter_async_context(LIBRARIES[library](url)) for _ in range(connections)
        ]

        async def keep_busy(exchange: Exchange, until: float) -> int:
            count = 0
            while time.perf_counter() < until:
                await exchange(payload)
                count += 1
            return count

        async def run(seconds: float) -> int:
            until = time.perf_counter() + seconds
            return sum(await asyncio.gather(*(keep_busy(each, until) for each in exchanges)))

        await run(0.2)
        cpu, wall = time.process_time(), time.perf_counter()
        messages = await run(seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu / messages * 1e6, "rate": messages / wall}))


def pin(core: int) -> Callable[[], None] | None:
    """What puts a child process on this core, where the system can."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {core})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=30)
    parser.add_argument("--size", type=int, default=256, help="bytes of a message")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=3, metavar=("LIBRARY", "LOOP", "URL"))
    options = parser.parse_args()
    if options.measure:
        library, loop, url = options.measure
        work = measure(library, url, options.connections, options.size, options.seconds)
        if loop == "uvloop":
            import uvloop

            uvloop.run(work)
        else:
            asyncio.run(work)
        return

    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    names = ("coro-websocket", "websockets", "uvloop")
    print(", ".join(f"{name} {metadata.version(name)}" for name in names))
    print(f"{options.connections} connections, {options.size} bytes, {options.rounds} rounds\n")
    server = subprocess.Popen(
        [sys.executable, "-m", "coro_websocket", "serve", "--echo"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin(1),
    )
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        for _ in range(options.rounds):
            for loop in LOOPS:
                for library in LIBRARIES:
                    command = [sys.executable, __file__, "--measure", library, loop, url]
                    for name in ("connections", "size", "seconds"):
                        command += [f"--{name}", str(getattr(options, name))]
                    out = subprocess.run(
                        command, stdout=subprocess.PIPE, check=True, preexec_fn=pin(0)
                    ).stdout
                    results.setdefault((library, loop), []).append(json.loads(out))
    finally:
        server.terminate()
        server.communicate()
    print(f"{'client':28} {'CPU us/message':>20} {'messages/s':>12}")
    for (library, loop), rounds in results.items():
        costs = sorted(each["cpu"] for each in rounds)
        spread = f"{statistics.median(costs):.2f} ({costs[0]:.2f}-{costs[-1]:.2f})"
        rate = statistics.median(each["rate"] for each in rounds)
        print(f"{library + ' on ' + loop:28} {spread:>20} {rate:>12,.0f}")
    for loop in LOOPS:
        ratios = [
            theirs["cpu"] / own["cpu"]
            for own, theirs in zip(
                results["coro-websocket", loop], results["websockets", loop], strict=True
            )
        ]
        print(f"\nwebsockets / coro-websocket on {loop}: {statistics.median(ratios):.1f} x CPU")


if __name__ == "__main__":
    main()
