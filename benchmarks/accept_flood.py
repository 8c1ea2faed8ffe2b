"""How long an established connection waits while others connect as fast as they can.

    python benchmarks/accept_flood.py [--seconds 2] [--rounds 3] [--loop asyncio]
    python benchmarks/accept_flood.py --connections 5000 [--at-once 256] [--only websockets ...]

Each library, as a server in a process of its own, echoes one message after the other for a client
that is connected already, while a program in C connects and resets; or, with --connections, while
it opens so many WebSockets and keeps them. Prints the longest and the mean time that an echo took,
in milliseconds, how many connections were made meanwhile, and how many a second; the rounds are
interleaved. The client shares its core with the flood: compare only within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

import native
import servers

from coro_websocket import connect

LIBRARIES = ("coro-websocket", "websockets", "picows", "picows (awaited)", "aiohttp")


async def echoes(port: int, flood: list[str]) -> tuple[list[float], int, float]:
    """The seconds that each echo took while the flood lasted, its connections, and its seconds."""
    taken = []
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, ping_interval=None) as (
        _,
        read,
        write,
    ):
        begun = time.perf_counter()
        flooding = await asyncio.create_subprocess_exec(
            *flood, stdout=asyncio.subprocess.PIPE, preexec_fn=native.pin(native.CLIENT)
        )
        while flooding.returncode is None:
            start = time.perf_counter()
            await write("x")
            await read()
            taken.append(time.perf_counter() - start)
            await asyncio.sleep(0.005)
        lasted = time.perf_counter() - begun
        said, _ = await flooding.communicate()
    if flooding.returncode:
        raise native.Failed(f"the flood ended with status {flooding.returncode}")
    return taken, json.loads(said)["messages"], lasted


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--connections", type=int, help="open so many instead, and keep them")
    parser.add_argument("--at-once", type=int, default=256, help="how many of them at any time")
    parser.add_argument("--only", nargs="+", default=LIBRARIES, choices=servers.LIBRARIES)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    program = native.compiled("storm" if options.connections else "flood", Path("build/benchmarks"))
    if options.connections:
        arguments = [str(options.connections), str(options.at_once)]
    else:
        arguments = [str(options.seconds)]
    libraries = list(options.only)
    for _ in range(options.rounds):
        for library in libraries:
            try:
                with native.server(native.python("servers.py", library, options.loop)) as (_, port):
                    flood = [str(program), str(port), *arguments]
                    taken, made, lasted = asyncio.run(echoes(port, flood))
            except native.Failed as error:
                print(f"{library:17} {error}", flush=True)
                continue
            print(
                f"{library:17} longest {max(taken) * 1000:6.1f} ms, "
                f"mean {sum(taken) / len(taken) * 1000:5.1f} ms, {len(taken):4} echoes, "
                f"{made:7} connections, {made / lasted:6.0f} a second",
                flush=True,
            )
        libraries.append(libraries.pop(0))  # nobody always comes behind the same one


if __name__ == "__main__":
    main()
