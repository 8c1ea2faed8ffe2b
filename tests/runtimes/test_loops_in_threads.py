"""An event loop in each of several threads: all use the library at once, with or without a GIL."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from coro_websocket import ConnectionClosedError, Message, Read, Write, broadcast, connect, serve
from coro_websocket.extensions import Deflate

if TYPE_CHECKING:
    from tests.conftest import Certificates

THREADS = 4
BOUND = 60  # seconds, for all of it
SHARED = [Message("ä" * 500, opcode=1), Message(b"\x00\xff" * 40_000), Message("", opcode=1)]
COMPRESSION = Deflate(threshold=0)


class Connections:
    """The servers' ends of all threads' connections, for those who look at them from elsewhere."""

    def __init__(self) -> None:
        self.writes: list[dict[Write, Read]] = [{} for _ in range(THREADS)]
        self.loops: dict[int, asyncio.AbstractEventLoop] = {}
        self.done = threading.Semaphore(0)
        self.looked_at = threading.Event()
        self.over = threading.Event()
        self.failed: list[BaseException] = []

    async def visit(self, number: int, options: dict[str, Any], certificates: Certificates) -> None:
        """Serve, and have three clients of the same thread send and read."""

        async def echo(request, read, write) -> None:
            self.writes[number][write] = read
            try:
                async for message in read:
                    await write(message.payload)
            finally:
                del self.writes[number][write]

        async def client(url: str, seed: int) -> None:
            chosen = random.Random(seed)
            async with connect(url, **options, **trust) as (_, read, write):
                for _ in range(40):
                    message = chosen.choice(SHARED)
                    await write(message)
                    while (received := await read()) is not None:
                        if received.payload != "to all":
                            break
                    assert received is not None
                    assert received.payload == message.payload

        tls: dict[str, Any] = {"tls": certificates.server} if number % 2 else {}
        trust: dict[str, Any] = {"tls": certificates.client} if number % 2 else {}
        async with serve(echo, host="127.0.0.1", **options, **tls) as server:
            url = f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}/"
            await asyncio.gather(*(client(url, 10 * number + seed) for seed in range(3)))

    def live(self, number: int, certificates: Certificates) -> None:
        options: dict[str, Any] = {
            "ping_interval": 0.005,
            "compression": COMPRESSION if number < 2 else None,
        }

        async def main() -> None:
            self.loops[number] = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(BOUND):
                    await self.visit(number, options, certificates)
            finally:
                self.done.release()
            await asyncio.to_thread(self.over.wait)  # what others have asked of the loop is done

        try:
            asyncio.run(main())
        except BaseException as error:
            self.failed.append(error)

    def look(self) -> None:
        """Use the connections of all threads from one that has no loop."""
        while not self.looked_at.is_set():
            for number, loop in list(self.loops.items()):
                for write, read in list(self.writes[number].items()):
                    try:
                        assert write.stats.bytes_in >= 0
                        assert repr(read)
                        assert read.close_code in (None, 1000, 1005, 1006)
                        self.call(broadcast([write], "to all"), loop)  # type: ignore[arg-type]
                        self.call(write.pong(), loop)
                    except BaseException as error:
                        self.failed.append(error)

    def call(self, coroutine: Coroutine, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(ConnectionClosedError):
            asyncio.run_coroutine_threadsafe(coroutine, loop).result(BOUND)


@pytest.fixture
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_threads_with_loops_of_their_own_do_not_meet(switching_often, certificates):
    connections = Connections()
    living = [
        threading.Thread(target=connections.live, args=(number, certificates))
        for number in range(THREADS)
    ]
    looking = threading.Thread(target=connections.look)
    for thread in (*living, looking):
        thread.start()
    for _ in living:
        connections.done.acquire()
    connections.looked_at.set()
    looking.join()
    connections.over.set()
    for thread in living:
        thread.join()
    assert not connections.failed
