"""What a message to many connections costs the server, for each of them.

    python benchmarks/broadcast.py [--connections 1000] [--size 256] [--messages 50] [--rounds 3]

Each library serves so many clients, in a process of its own, and sends them all the same text, as
it is and compressed. The clients are raw sockets in another process, which throw away what comes.
What is given is the CPU time of the server's process, in microseconds for each message and
recipient: the median of all rounds, in which the libraries have their turns, how many times ours
that is, and the bytes that each recipient was sent. picows does not compress.

10,000 connections need `ulimit -n 20100`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

LIBRARIES = ("coro_websocket", "picows", "websockets", "aiohttp")
KINDS = ("plain", "compressed")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

SendAll = Callable[[str], Awaitable[object] | object]


# The clients


def sink(port: int, count: int, compress: bool, pipe: Any) -> None:
    """Connect, say so, and throw away what comes; whenever asked, say how many bytes that was."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    request = (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        f"{offer if compress else ''}\r\n"
    ).encode()
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        assert (b"permessage-deflate" in head) is compress, head
        sock.setblocking(False)
        sockets[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    poll.register(pipe, select.EPOLLIN)
    pipe.send("connected")
    received = 0
    while True:
        for fd, _ in poll.poll():
            if fd == pipe.fileno():
                if pipe.recv() == "end":
                    return
                pipe.send(received)
            else:
                received += len(sockets[fd].recv(65536))


# The servers


@asynccontextmanager
async def coro_websocket(compress: bool) -> AsyncIterator[tuple[int, SendAll]]:
    from coro_websocket import Group, serve

    group = Group()

    async def handler(req: Any, read: Any, write: Any) -> None:
        with group.member(write):
            async for _ in read:
                pass

    async with serve(handler, ping_interval=None) as server:
        yield server.port, lambda text: group.broadcast(text, compress=compress)


@asynccontextmanager
async def picows(compress: bool) -> AsyncIterator[tuple[int, SendAll]]:
    from picows import WSListener, WSMsgType, ws_create_server

    transports: list[Any] = []

    class Listener(WSListener):
        def on_ws_connected(self, transport: Any) -> None:
            transports.append(transport)

    def send(text: str) -> None:
        data = text.encode()
        for transport in transports:
            transport.send(WSMsgType.TEXT, data)

    server = await ws_create_server(lambda _: Listener(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], send
    server.close()


@asynccontextmanager
async def websockets(compress: bool) -> AsyncIterator[tuple[int, SendAll]]:
    from websockets.asyncio.server import broadcast, serve

    connections: set[Any] = set()

    async def handler(connection: Any) -> None:
        connections.add(connection)
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield port, lambda text: broadcast(connections, text)


@asynccontextmanager
async def aiohttp(compress: bool) -> AsyncIterator[tuple[int, SendAll]]:
    from aiohttp import web

    connections: list[web.WebSocketResponse] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=compress)
        await response.prepare(request)
        connections.append(response)
        async for _ in response:
            pass
        return response

    async def send(text: str) -> None:
        for connection in connections:
            await connection.send_str(text)

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], send
    await runner.cleanup()


def text_of(size: int, number: int) -> str:
    """A message as such servers send them."""
    parts = '{"type":"trade","symbol":"BTCUSD","price":%d,"volume":%d,"side":"buy"},'
    text = "".join(parts % (60_000 + number + 7 * i, 13 * i) for i in range(size // 40 + 1))
    return text[:size]


async def measure(library: str, kind: str, options: argparse.Namespace) -> tuple[float, float]:
    """Microseconds of CPU for each message and recipient, and the bytes it was sent."""
    compress = kind == "compressed"
    count = options.connections
    ours, theirs = multiprocessing.Pipe()
    async with globals()[library](compress) as (port, send_all):
        clients = multiprocessing.Process(target=sink, args=(port, count, compress, theirs))
        clients.start()
        try:
            await answer(ours)
            before = await received(ours)
            used = 0.0
            for number in range(options.messages):
                started = time.process_time()
                sent = send_all(text_of(options.size, number))
                if hasattr(sent, "__await__"):
                    await sent
                await asyncio.sleep(0)
                used += time.process_time() - started
                await asyncio.sleep(0.002)
            size = (await received(ours) - before) / options.messages / count
        finally:
            ours.send("end")
            clients.join()
    return used / options.messages / count * 1e6, size


async def answer(pipe: Any) -> Any:
    while not pipe.poll():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return pipe.recv()


async def received(pipe: Any) -> int:
    """The bytes that have come to all clients, once no more come."""
    now: int = -1
    while True:
        await asyncio.sleep(0.1)
        pipe.send("count")
        before = now
        now = await answer(pipe)
        if now == before:
            return now


def in_a_process(library: str, kind: str, arguments: list[str]) -> tuple[float, float]:
    command = [sys.executable, __file__, "--one", library, kind, *arguments]
    took, size = subprocess.check_output(command, text=True).split()
    return float(took), float(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256, help="bytes of a message")
    parser.add_argument("--messages", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.one is not None:
        library, kind = options.one
        # Some leave tasks behind that end with the loop.
        if options.loop == "uvloop":
            import uvloop

            print(*uvloop.run(measure(library, kind, options)), flush=True)
        else:
            print(*asyncio.run(measure(library, kind, options)), flush=True)
        os._exit(0)
    for kind in KINDS:
        print(f"{kind}, {options.size} bytes to {options.connections} connections")
        libraries = [each for each in LIBRARIES if kind == "plain" or each != "picows"]
        results: dict[str, list[tuple[float, float]]] = {each: [] for each in libraries}
        for _ in range(options.rounds):
            for library in libraries:
                results[library].append(in_a_process(library, kind, sys.argv[1:]))
        ours = statistics.median(took for took, _ in results[LIBRARIES[0]])
        for library in libraries:
            took = statistics.median(took for took, _ in results[library])
            size = results[library][0][1]
            print(
                f"  {library:15} {took:8.2f} us  {took / ours:6.2f}  {size:6.0f} bytes", flush=True
            )


if __name__ == "__main__":
    main()
