"""Memory of an idle connection, as a server sees it, with and without permessage-deflate.

    python benchmarks/compression_memory.py [connections]

For each setting a server is started in a process of its own. Connections are opened to
it; over each a large message goes and comes back, so that both contexts are in use, then
a short one; then the connections idle. What is printed is the growth of the server's
resident memory, divided by the number of connections. Linux only: it reads
/proc/self/statm.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import sys
from typing import TYPE_CHECKING

from coro_websocket import Deflate, Read, Write, connect, serve

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# One fills both contexts, however large they are; the other leaves no more than itself behind.
MESSAGES = (" ".join(str(n * n) for n in range(20_000)), "a short one")

SETTINGS: dict[str, Deflate | None] = {
    "compression=None": None,
    "window bits 9, memory level 1": Deflate(
        server_max_window_bits=9, client_max_window_bits=9, memory_level=1
    ),
    "window bits 10": Deflate(server_max_window_bits=10, client_max_window_bits=10),
    "window bits 12 (the default)": Deflate(),
    "window bits 15": Deflate(server_max_window_bits=15, client_max_window_bits=15),
    "window bits 15, memory level 8": Deflate(
        server_max_window_bits=15, client_max_window_bits=15, memory_level=8
    ),
    "window bits 12, no context takeover": Deflate(
        server_no_context_takeover=True, client_no_context_takeover=True
    ),
}


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve_until_told(pipe: Connection, compression: Deflate | None) -> None:
    async def echo(req: object, read: Read, write: Write) -> None:
        async for msg in read:
            await write(msg.payload)

    loop = asyncio.get_running_loop()
    async with serve(echo, compression=compression, ping_interval=None) as server:
        # What the first connections bring about once is not theirs.
        pipe.send(server.url)
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(resident())


def server_process(pipe: Connection, compression: Deflate | None) -> None:
    asyncio.run(serve_until_told(pipe, compression))


async def measure(pipe: Connection, compression: Deflate | None, count: int) -> float:
    url = pipe.recv()
    open_ones = []

    async def open_one() -> None:
        _, read, write = await connect(url, compression=compression, ping_interval=None)
        for message in MESSAGES:
            await write(message)
            msg = await read()
            assert msg is not None
            assert msg.payload == message
        open_ones.append((read, write))

    for _ in range(50):
        await open_one()
    pipe.send(True)
    before = pipe.recv()
    for _ in range(count):
        await open_one()
    pipe.send(True)
    after = pipe.recv()
    await asyncio.gather(*(write.close() for _, write in open_ones))
    pipe.send(False)
    return float(after - before) / count


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 200)), hard))
    spawn = multiprocessing.get_context("spawn")
    for name, compression in SETTINGS.items():
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=server_process, args=(theirs, compression))
        process.start()
        bytes_each = asyncio.run(measure(ours, compression, count))
        process.join()
        print(f"{name:38} {bytes_each / 1024:7.1f} KiB a connection")


if __name__ == "__main__":
    main()
