"""What a round trip costs over `wrap_io`, and what its raw pair alone costs.

    python benchmarks/wrap_io.py [--messages 5000] [--rounds 5] [--against DIRECTORY]

Two ends in one process exchange small messages over a socket pair, by `codec.decoder` and
`codec.encoder`, on asyncio and on trio. "raw pair" exchanges the same frames without `wrap_io`.
With `--against` a built `src` directory of another version has its turns between ours. The medians
of all rounds are given, in microseconds.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent / "src"
LOOPS = ("asyncio", "trio")
KINDS = ("raw pair", "wrap_io")


def byte_functions(loop: str, sock: socket.socket) -> tuple[Any, Any]:
    """`read` and `write` of bytes, for `decoder` and `encoder`."""
    sock.setblocking(False)
    if loop == "asyncio":
        import asyncio

        running = asyncio.get_running_loop()

        async def read() -> bytes:
            return await running.sock_recv(sock, 65536)

        async def write(data: bytes | None) -> None:
            if data is None:
                sock.shutdown(socket.SHUT_WR)
            else:
                await running.sock_sendall(sock, data)
    else:
        import trio

        theirs = trio.SocketStream(trio.socket.from_stdlib_socket(sock))

        async def read() -> bytes:
            return bytes(await theirs.receive_some(65536))

        async def write(data: bytes | None) -> None:
            if data is None:
                await theirs.send_eof()
            else:
                await theirs.send_all(data)

    return read, write


async def round_trips(loop: str, kind: str, messages: int, spawn: Any) -> float:
    from coro_websocket import Message, decoder, encoder, wrap_io

    ends: list[tuple[Any, Any]] = []
    for mask, sock in zip((True, False), socket.socketpair(), strict=True):
        read, write = byte_functions(loop, sock)
        pair = decoder(read), encoder(write)
        ends.append(wrap_io(*pair, mask=mask) if kind == "wrap_io" else pair)
    (read, write), (their_read, their_write) = ends

    async def echo() -> None:
        while (message := await their_read()) is not None:
            await their_write(message.payload if kind == "wrap_io" else message)

    async def ask(count: int) -> None:
        message: Any = "x" * 32 if kind == "wrap_io" else Message(b"x" * 32, 1, mask=True)
        for _ in range(count):
            await write(message)
            await read()

    spawn(echo)
    await ask(messages // 10)
    started = time.perf_counter()
    await ask(messages)
    took = time.perf_counter() - started
    await (write.close() if kind == "wrap_io" else write(None))
    return took / messages * 1e6


def measure(loop: str, kind: str, messages: int) -> float:
    """Microseconds of a round trip."""
    if loop == "asyncio":
        import asyncio

        async def main() -> float:
            tasks: list[Any] = []
            result = await round_trips(
                loop, kind, messages, lambda work: tasks.append(asyncio.create_task(work()))
            )
            await asyncio.wait(tasks)
            return result

        return asyncio.run(main())

    import trio

    async def trio_main() -> float:
        async with trio.open_nursery() as nursery:
            return await round_trips(loop, kind, messages, nursery.start_soon)

    return trio.run(trio_main)


def in_a_process(source: Path, loop: str, kind: str, messages: int) -> float:
    command = [sys.executable, __file__, "--one", loop, kind, "--messages", str(messages)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return float(subprocess.check_output(command, env=environment, text=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        loop, kind = options.one
        print(measure(loop, kind, options.messages))
        return
    sources = [HERE] if options.against is None else [options.against.resolve(), HERE]
    results: dict[tuple[str, str, Path], list[float]] = {}
    for _ in range(options.rounds):
        for loop in LOOPS:
            for kind in KINDS:
                for source in sources:
                    took = in_a_process(source, loop, kind, options.messages)
                    results.setdefault((loop, kind, source), []).append(took)
    for (loop, kind, source), all_took in results.items():
        print(f"{loop:8} {kind:9} {statistics.median(all_took):7.1f} us  {source}")


if __name__ == "__main__":
    main()
