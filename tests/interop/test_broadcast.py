"""One message to clients of other libraries, compressed once for all, between messages of their own."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect as websockets_connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from coro_websocket import BroadcastStats, Deflate, Read, Request, Write, serve

from .peers import BOUND

pytestmark = pytest.mark.deep("transports", "uvloop")

WORDS = ["alpha ", "beta ", "gamma ", "12345 ", "世界 "]
WINDOWS = range(9, 16)


def texts(count: int, size: int) -> list[str]:
    rng = random.Random(size)
    return ["".join(rng.choice(WORDS) for _ in range(size // 6)) for _ in range(count)]


SHARED = [*texts(3, 300), *texts(2, 3000), *texts(1, 50_000), *texts(2, 300)]
OWN = [*texts(2, 400), *texts(4, 2000), *texts(2, 400)]


class Clients:
    """Serves, and sends every client messages of its own between those to all."""

    def __init__(self, count: int) -> None:
        self.writes: list[Write] = []
        self.count = count
        self.all_here = asyncio.Event()
        self.done = asyncio.Event()

    async def handler(self, req: Request, read: Read, write: Write) -> None:
        self.writes.append(write)
        if len(self.writes) == self.count:
            self.all_here.set()
        await self.done.wait()

    async def send(self, group: Any) -> None:
        await self.all_here.wait()
        for write in self.writes:
            group.add(write)
        for shared, own in zip(SHARED, OWN, strict=True):
            assert group.broadcast(shared) == BroadcastStats(sent=self.count)
            await asyncio.gather(*(write(own) for write in self.writes))
        self.done.set()


EXPECTED = list(itertools.chain.from_iterable(zip(SHARED, OWN, strict=True)))


@pytest.mark.parametrize("takeover", [True, False])
async def test_websockets_reads_all_with_every_window_and_without_compression(
    takeover: bool,
) -> None:
    async def client(uri: str, **options: Any) -> list[str | bytes]:
        async with websockets_connect(uri, proxy=None, **options) as connection:
            return [message async for message in connection]

    windows: list[dict[str, Any]] = [
        {
            "compression": None,
            "extensions": [
                ClientPerMessageDeflateFactory(
                    server_max_window_bits=bits,
                    server_no_context_takeover=not takeover,
                    client_no_context_takeover=bits % 2 == 0,
                )
            ],
        }
        for bits in WINDOWS
    ]
    each = [*windows, {}, {"compression": None}]
    clients = Clients(len(each))
    # The largest window, or the clients could not ask for all of them.
    deflate = Deflate(server_max_window_bits=None)
    async with asyncio.timeout(BOUND), serve(clients.handler, compression=deflate) as server:
        uri = f"ws://127.0.0.1:{server.port}/"
        *received, _ = await asyncio.gather(
            *(client(uri, **options) for options in each), clients.send(server.group("all"))
        )
    assert received == [EXPECTED] * len(each)
    compressed = [write.stats.compression_out for write in clients.writes]
    assert sum(ratio is not None and ratio < 0.5 for ratio in compressed) == len(each) - 1


async def test_aiohttp_reads_all_with_every_window_and_without_compression() -> None:
    async def client(session: aiohttp.ClientSession, url: str, bits: int) -> list[str]:
        async with session.ws_connect(url, compress=bits) as connection:
            return [message.data async for message in connection]

    each = [0, *WINDOWS]
    clients = Clients(len(each))
    async with asyncio.timeout(BOUND), serve(clients.handler) as server:
        url = f"http://127.0.0.1:{server.port}/"
        async with aiohttp.ClientSession() as session:
            *received, _ = await asyncio.gather(
                *(client(session, url, bits) for bits in each), clients.send(server.group("all"))
            )
    assert received == [EXPECTED] * len(each)
