"""How long an established connection waits while others connect as fast as they can.

    python benchmarks/accept_flood.py [--seconds 2] [--rounds 3] [--loop asyncio]

Each library, as a server in a process of its own, echoes one message after the other for a client
that is connected already, while a program in C connects and resets. Prints the longest and the
mean time that an echo took, in milliseconds, and how many connections were made meanwhile; the
rounds are interleaved. The client shares its core with the flood: compare only within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import native

from coro_websocket import connect

LIBRARIES = ("coro-websocket", "websockets", "picows", "picows (awaited)")


async def echoes(port: int, flood: list[str]) -> tuple[list[float], int]:
    """The seconds that each echo took while the flood lasted, and its connections."""
    taken = []
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, ping_interval=None) as (
        _,
        read,
        write,
    ):
        flooding = await asyncio.create_subprocess_exec(
            *flood, stdout=asyncio.subprocess.PIPE, preexec_fn=native.pin(native.CLIENT)
        )
        while flooding.returncode is None:
            start = time.perf_counter()
            await write("x")
            await read()
            taken.append(time.perf_counter() - start)
            await asyncio.sleep(0.005)
        said, _ = await flooding.communicate()
    return taken, json.loads(said)["messages"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", default="asyncio")
    options = parser.parse_args()
    program = native.compiled("flood", Path("build/benchmarks"))
    for number in range(options.rounds):
        for library in (*LIBRARIES[number % 4 :], *LIBRARIES[: number % 4]):
            try:
                with native.server(native.python("servers.py", library, options.loop)) as (_, port):
                    flood = [str(program), str(port), str(options.seconds)]
                    taken, made = asyncio.run(echoes(port, flood))
            except native.Failed as error:
                print(f"{library:17} {error}", flush=True)
                continue
            print(
                f"{library:17} longest {max(taken) * 1000:6.1f} ms, "
                f"mean {sum(taken) / len(taken) * 1000:5.1f} ms, {len(taken):4} echoes, "
                f"{made:7} connections",
                flush=True,
            )


if __name__ == "__main__":
    main()
