"""What a slow reader gets of a flood: is it mistaken for a dead peer?

    python benchmarks/slow_reader.py [--messages 3000] [--size 10000] [--pause 0.1] [--ping 1]

A server, in a process of its own, sends messages as fast as they are taken; each library as a
client takes `--pause` seconds for each, with a Ping every `--ping` seconds and as long for its
answer. All libraries run at the same time, as they do little but wait. Says how many messages each
was given, and how it ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from typing import Any


async def flood(options: argparse.Namespace, ready: Any) -> None:
    from coro_websocket import WebSocketError, serve

    async def handler(request: Any, read: Any, write: Any) -> None:
        with contextlib.suppress(WebSocketError):
            for n in range(options.messages):
                await write(n.to_bytes(4, "big") + bytes(options.size - 4))
            await write("end")
            await read()

    async with serve(handler, ping_interval=None, compression=None, close_timeout=600) as server:
        ready.send(server.url)
        await server.serve_forever()


async def coro_websocket(url: str, options: argparse.Namespace, got: list[bytes]) -> None:
    from coro_websocket import connect

    pings = {"ping_interval": options.ping, "ping_timeout": options.ping}
    async with connect(url, compression=None, **pings) as (_, read, _):
        async for message in read:
            if message.payload == "end":
                break
            got.append(message.payload[:4])
            await asyncio.sleep(options.pause)


async def websockets(url: str, options: argparse.Namespace, got: list[bytes]) -> None:
    from websockets.asyncio.client import connect

    await awaited(connect, url, options, got)


async def picows(url: str, options: argparse.Namespace, got: list[bytes]) -> None:
    from picows.websockets import connect

    await awaited(connect, url, options, got)


async def awaited(connect: Any, url: str, options: argparse.Namespace, got: list[bytes]) -> None:
    pings = {"ping_interval": options.ping, "ping_timeout": options.ping}
    async with connect(url, compression=None, **pings) as connection:
        async for message in connection:
            if message == "end":
                break
            got.append(message[:4])
            await asyncio.sleep(options.pause)


async def aiohttp(url: str, options: argparse.Namespace, got: list[bytes]) -> None:
    from aiohttp import ClientSession

    async with ClientSession() as session:
        async with session.ws_connect(url, heartbeat=options.ping) as connection:
            async for message in connection:
                if message.data == "end":
                    break
                got.append(message.data[:4])
                await asyncio.sleep(options.pause)
            else:
                raise connection.exception() or RuntimeError(f"closed with {connection.close_code}")


CLIENTS = (coro_websocket, websockets, picows, aiohttp)


def serving(options: argparse.Namespace, ready: Any) -> None:
    asyncio.run(flood(options, ready))


async def measured(client: Any, url: str, options: argparse.Namespace) -> str:
    got: list[bytes] = []
    end = "all of it, in order"
    start = time.perf_counter()
    try:
        await client(url, options, got)
    except Exception as error:
        end = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    if got != [n.to_bytes(4, "big") for n in range(len(got))]:
        end += "; not in order"
    return (
        f"{client.__name__:15} {len(got):5} of {options.messages} "
        f"in {time.perf_counter() - start:.0f} s: {end}"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--ping", type=float, default=1.0)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serving, args=(options, there), daemon=True)
    server.start()
    url = here.recv()
    for line in asyncio.as_completed([measured(client, url, options) for client in CLIENTS]):
        print(await line, flush=True)
    server.kill()


if __name__ == "__main__":
    asyncio.run(main())
