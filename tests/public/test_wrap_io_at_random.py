"""wrap_io over pairs that do what they please: whatever comes, it ends, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from coro_websocket import Message, WebSocketError, wrap_io
from coro_websocket._streams.raw_pair import RUNNING

BOUND = 8.0  # seconds for one connection, which takes some milliseconds
FOR_EVER = 1000.0

Sleep = Callable[[float], Awaitable[None]]

THEN_READS = {  # what comes behind some messages
    "nothing": None,
    "a flood": Message(b"y" * 3000, 2),
    "Pings": Message(b"p", 9),
    "a Close": Message(b"\x03\xe8", 8),
    "a Close with half a code": Message(b"\x03", 8),
    "a reserved opcode": Message(b"", 3),
    "the end": None,
    "an error": None,
}
WRITES = ["takes all", "takes its time", "is stuck", "gets stuck", "fails"]


class Pair:
    """A raw pair, and whether it was called as it may be."""

    def __init__(self, rng: random.Random, sleep: Sleep, client: bool) -> None:
        self.rng = rng
        self.sleep = sleep
        self.client = client
        self.then_reads = rng.choice([*THEN_READS])
        self.writes = rng.choice(WRITES)
        self.messages = rng.randrange(20)
        self.reading = self.writing = 0
        self.ends = 0

    async def raw_read(self) -> Any:
        assert not self.reading, "two raw reads at once"
        self.reading += 1
        try:
            return await self.next_frame()
        finally:
            self.reading -= 1

    async def next_frame(self) -> Any:
        if self.rng.random() < 0.5:
            await self.sleep(self.rng.choice([0, 0, 0.001]))
        if self.messages:
            self.messages -= 1
            return {"payload": "x" * self.rng.choice([1, 2000]), "opcode": 1}
        if self.then_reads == "an error":
            raise ValueError("this is no frame")
        if self.then_reads == "nothing":
            await self.sleep(FOR_EVER)
        await self.sleep(0.0005 if self.then_reads == "Pings" else 0)
        frame = THEN_READS[self.then_reads]
        return frame and {"payload": frame.payload, "opcode": frame.opcode}

    async def raw_write(self, frame: Message | None) -> None:
        assert not self.writing, "two raw writes at once"
        assert not self.ends, "a raw write behind the end"
        self.writing += 1
        self.ends += frame is None
        try:
            if self.writes == "takes its time":
                await self.sleep(0.001)
            elif self.writes == "is stuck" or (self.writes == "gets stuck" and not self.messages):
                await self.sleep(FOR_EVER)
            elif self.writes == "fails" and not self.messages:
                raise OSError("the wire is cut")
        finally:
            self.writing -= 1


async def use(seed: int, sleep: Sleep, within: Any, run_all: Any) -> None:
    """Read, write and close with a pair, and be cancelled now and then."""
    rng = random.Random(seed)
    pair = Pair(rng, sleep, client=rng.random() < 0.5)
    beats: list[dict[str, Any]] = [
        {},
        {"ping_interval": 0.003, "ping_timeout": 0.01},
        {"heartbeat": 0.002},
    ]
    read, write = wrap_io(
        pair.raw_read,
        pair.raw_write,
        mask=pair.client,
        close_timeout=0.02,
        read_high_water=rng.choice([1, 5000, 262144]),
        write_high_water=rng.choice([1, 5000, 65536]),
        overflow=rng.choice(["wait", "drop_oldest", "keep_latest", "close"]),
        **rng.choice(beats),
    )

    async def reads() -> None:
        with contextlib.suppress(WebSocketError):
            for _ in range(rng.randrange(40)):
                await within(rng.choice([0.0005, 0.05]), read)

    async def writes() -> None:
        with contextlib.suppress(WebSocketError):
            for _ in range(rng.randrange(30)):
                message = rng.choice(["x", b"y" * 3000, ["a", "b"]])
                await within(rng.choice([0.0005, 0.05]), write, message)

    async def closes() -> None:
        await sleep(rng.choice([0, 0.002, 0.02]))
        with contextlib.suppress(WebSocketError):
            await write.close()
        await write.wait_closed()

    await run_all(reads, writes, closes)
    assert read.close_code is not None
    with contextlib.suppress(WebSocketError):
        while await read() is not None:
            pass
    await sleep(0.001)  # for what must not happen any more
    while pair.reading or pair.writing:  # what was cancelled ends, within the caller's time
        await sleep(0)
    assert pair.ends <= 1


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_a_pair_does_the_connection_ends_on_asyncio(seed):
    async def within(seconds, call, *args):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await call(*args)

    async def run_all(*work):
        await asyncio.gather(*(each() for each in work))

    before = asyncio.all_tasks()
    async with asyncio.timeout(BOUND):
        await use(seed, asyncio.sleep, within, run_all)
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0)
    assert not RUNNING


@pytest.mark.parametrize("seed", range(25))
def test_whatever_a_pair_does_the_connection_ends_on_trio(seed):
    async def within(seconds, call, *args):
        with trio.move_on_after(seconds):
            await call(*args)

    async def run_all(*work):
        async with trio.open_nursery() as nursery:
            for each in work:
                nursery.start_soon(each)

    async def main():
        with trio.fail_after(BOUND):
            await use(seed, trio.sleep, within, run_all)

    trio.run(main)
    assert not RUNNING
