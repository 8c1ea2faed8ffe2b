"""Cancelling at random, many times: nothing lost, nothing twice, no half frame, in order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct

import pytest
from tests.connection import stress_cancellation
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    both_ends,
    client_and_peer,
    client_of_echo,
    end_and_peer,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import ConnectionClosedError, Message

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(scope="module")
def stress_certificates():
    return stress_cancellation.certificates()


SIZES = [4, 4, 4, 100, 125, 126, 5000, 70_000]


def numbered(rng: random.Random, number: int) -> bytes:
    size = rng.choice(SIZES)
    return struct.pack(">I", number) + bytes([number % 256]) * (size - 4)


def number_of(data: bytes) -> int:
    number = struct.unpack(">I", data[:4])[0]
    assert data[4:] == bytes([number % 256]) * (len(data) - 4), "a message was mixed up"
    return number


async def cancel_at_random(rng: random.Random, task: asyncio.Task) -> None:
    """Let it run for a few turns of the loop, then cancel it, perhaps."""
    await turns_of_the_loop(rng.randrange(4))
    if rng.random() < 0.7:
        task.cancel()
    await asyncio.wait([task])


async def read_for(read, seconds: float):
    try:
        async with asyncio.timeout(seconds):
            return await read()
    except TimeoutError:
        return None


@pytest.mark.parametrize("seed", range(2))
async def test_reads_and_writes_cancelled_at_random_over_an_echo(seed):
    rng = random.Random(seed)
    # Uncompressed: what waits behind a message that a thread compresses is not encoded yet.
    async with client_of_echo(compression=None) as end:
        rounds = 1500
        got: list[int] = []
        sent: list[int] = []

        async def writer():
            for number in range(rounds):
                data = numbered(rng, number)
                written = end.write(data)  # encoded at the call, whole
                sent.append(number)
                await cancel_at_random(rng, asyncio.ensure_future(written))
            await end.write(struct.pack(">I", rounds))

        writing = asyncio.create_task(writer())
        while not got or got[-1] != rounds:
            how = rng.randrange(5)
            if how == 0:
                msg = await read_for(end.read, rng.choice([0, 0.0001, 0.001]))
                if msg is not None:
                    got.append(number_of(msg.payload))
                continue
            if how == 1:
                got.append(number_of((await end.read()).payload))
                continue
            task = asyncio.create_task(end.read())
            await cancel_at_random(rng, task)
            if not task.cancelled():
                got.append(number_of(task.result().payload))
        await writing
        assert got == [*sent, rounds]


@pytest.mark.parametrize("seed", range(2))
async def test_pings_and_timeouts_among_them(seed):
    rng = random.Random(seed)
    async with both_ends() as (client, server):
        rounds = 500

        async def talk(end):
            for number in range(rounds):
                await end.write(numbered(rng, number))
                if rng.random() < 0.3:
                    task = asyncio.ensure_future(end.write.ping())
                    await cancel_at_random(rng, task)
                    if not task.cancelled():
                        assert task.result() > 0
                await asyncio.sleep(0)

        async def listen(end):
            got: list[int] = []
            while len(got) < rounds:
                task = asyncio.create_task(end.read())
                await cancel_at_random(rng, task)
                if not task.cancelled():
                    got.append(number_of(task.result().payload))
            assert got == list(range(rounds))

        talking = [asyncio.create_task(talk(end)) for end in (client, server)]
        listening = [asyncio.create_task(listen(end)) for end in (client, server)]
        await asyncio.gather(*listening)
        reads = [asyncio.create_task(end.read()) for end in (client, server)]
        await asyncio.gather(*talking)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("side", ["client", "server"])
async def test_writes_cancelled_under_backpressure_leave_whole_frames_in_order(side, seed):
    rng = random.Random(seed)
    async with end_and_peer(side, receive_buffer=4096, write_high_water=20_000) as (end, peer):
        sent = []

        async def write_all():
            for number in range(300):
                data = struct.pack(">I", number) + bytes([number % 256]) * rng.choice(
                    [0, 1000, 60_000]
                )
                written = end.write(data)
                sent.append(number)
                await cancel_at_random(rng, asyncio.ensure_future(written))

        writing = asyncio.create_task(write_all())
        for number in range(300):
            received = await peer.read()
            assert (received.opcode, received.fin) == (BINARY, True)
            assert number_of(received.payload) == number
        await writing
        assert sent == list(range(300))


@pytest.mark.parametrize("seed", range(3))
async def test_fragmented_writes_cancelled_at_random_never_mix(seed):
    """Cancelled before its first fragment it leaves nothing, after that the connection closes."""
    rng = random.Random(seed)
    for _ in range(30):
        async with client_and_peer() as (end, peer):

            async def pieces(name):
                for i in range(4):
                    await asyncio.sleep(0)
                    yield f"{name}{i}"

            async def write(name):
                await end.write(pieces(name))

            tasks = [asyncio.create_task(write(name)) for name in "abcd"]
            await turns_of_the_loop(rng.randrange(25))
            rng.choice(tasks).cancel()
            await asyncio.wait(tasks)
            closing = asyncio.create_task(end.write.close())
            closed = None
            message = b""
            while closed is None:
                received = await peer.read()
                if received.opcode == CLOSE:
                    closed = received.close[0]
                    continue
                message += received.payload
                if received.fin:
                    name = message[:1].decode()
                    assert message.decode() == "".join(f"{name}{i}" for i in range(4))
                    message = b""
            assert closed == (1011 if message else 1000)
            peer.hang_up()
            await closing
            for task in tasks:
                assert task.cancelled() or isinstance(
                    task.exception(), (ConnectionClosedError, type(None))
                )


@pytest.mark.parametrize("seed", range(2))
async def test_closing_at_a_random_point_of_a_conversation(seed):
    rng = random.Random(seed)
    for _ in range(40):
        async with both_ends() as (client, server):

            async def converse(end):
                n = 0
                try:
                    while True:
                        await end.write(numbered(rng, n))
                        n += 1
                        if rng.random() < 0.5:
                            await end.read()
                        await asyncio.sleep(0)
                except ConnectionClosedError:
                    pass

            async def drain(end):
                async for _ in end.read:
                    pass

            tasks = [asyncio.create_task(converse(client)), asyncio.create_task(drain(server))]
            await turns_of_the_loop(rng.randrange(30))
            closers = [rng.choice([client, server]) for _ in range(rng.randrange(1, 4))]
            closings = [asyncio.create_task(end.write.close()) for end in closers]
            if rng.random() < 0.5:
                closings[0].cancel()
            if rng.random() < 0.5:
                tasks[0].cancel()
            await asyncio.wait(closings)
            await client.write.wait_closed()
            await server.write.wait_closed()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()
            assert client.read.close_code == server.read.close_code == 1000


# The script does more: it goes over the transports' streams too.
IN_SHORT = [
    (loop, place) for loop, place in stress_cancellation.COMBINATIONS if "transports" not in place
]


@pytest.mark.parametrize(("loop", "place"), IN_SHORT)
def test_everything_cancelled_at_random_in_short(loop, place, stress_certificates, pytestconfig):
    """A short form of `stress_cancellation.py`, whose failure names its seed."""
    seed = int(os.environ.get("CORO_WEBSOCKET_SEED", random.randrange(1 << 32)))
    usual = 5000 if pytestconfig.getoption("--deep") else 1000
    cancellations = int(os.environ.get("CORO_WEBSOCKET_CANCELLATIONS", usual))
    signal.setitimer(signal.ITIMER_REAL, 0)  # it has a bound of its own, for a busy machine
    figures = stress_cancellation.run(
        seed,
        loop,
        place,
        -(-cancellations // len(IN_SHORT)),
        stress_certificates,
    )
    assert figures.messages > 0


# That it would notice


def test_the_stress_sees_a_corrupted_message_also_where_some_may_be_lost():
    flow = stress_cancellation.Flow(abandoned=True)
    flow.begin(0, 0)
    data = stress_cancellation.numbered(0, 0, 100)
    flow.come(Message(opcode=BINARY, payload=data[:-1] + b"!"))
    with pytest.raises(AssertionError, match="mixed up"):
        flow.check()


def test_the_stress_lets_an_abandoned_flow_lose_the_rest_of_a_message():
    flow = stress_cancellation.Flow(abandoned=True)
    flow.begin(0, 0)
    flow.come(Message(opcode=BINARY, payload=b"begun", fin=False))
    flow.come(Message(opcode=BINARY, payload=stress_cancellation.numbered(0, 0, 100)))
    flow.come(Message(opcode=0, payload=b"the rest"))
    flow.check()
    flow.abandoned = False
    with pytest.raises(AssertionError, match="without its message"):
        flow.check()


@pytest.mark.parametrize(("loop", "place"), [("asyncio", "tcp"), ("uvloop", "tcp")])
def test_the_stress_sees_a_timer_that_is_left(loop, place):
    timers = stress_cancellation.Timers()
    kind = stress_cancellation.loop_kind(loop, place)

    async def leave_timers():
        running = asyncio.get_running_loop()
        running.call_later(0, str)
        running.call_later(1000, print).cancel()
        running.call_later(1000, print)
        running.call_at(running.time() + 1000, print)
        await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=lambda: timers.watch(kind)) as runner:
        runner.run(leave_timers())
        assert len(timers.waiting()) == 2
