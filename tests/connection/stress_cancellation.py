"""Cancelling everything that can be awaited, at random, and checking what has come of it.

    python -m tests.connection.stress_cancellation  # 100,000 cancellations
    python -m tests.connection.stress_cancellation --cancellations 5000 --seed 7 --place tls

Conversations of the library's client with the library's server: in both directions at once
two tasks write numbered messages of every kind, one reads, and everything that they await is
cancelled at random. The rules that are checked: nothing that was written is lost, nothing comes
twice, out of order or mixed up, no task, timer, descriptor or connection object is left, and
nobody logs an error. `test_cancellation.py` runs a short form of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import ssl
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trustme
from tests.conftest import TransportsOnlyLoop

from coro_websocket import (
    ConnectError,
    ConnectionClosedError,
    Message,
    MessageStream,
    Read,
    Write,
    broadcast,
    connect,
    serve,
)

PLACES = ("tcp", "deflate", "tls", "tls+deflate", "transports", "transports+deflate")
LOOPS = ("asyncio", "uvloop")
# A loop that has transports alone is one of its own, and does not come twice.
COMBINATIONS = [
    (loop, place)
    for loop in LOOPS
    for place in PLACES
    if loop == "asyncio" or "transports" not in place
]
BOUND = 60.0  # seconds for one conversation, which takes some milliseconds
MOMENT = 0.5  # seconds in which a timer of milliseconds has run
SOCKET_BUFFER = 65536  # bytes; small, so that writers are held back
NUMBER = struct.Struct(">BII")  # stream, number, size
BROADCASTS = 9  # the stream of what is broadcast

Client = tuple[Any, Read, Write]


@dataclass
class Figures:
    """What one run has done."""

    cancelled: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    conversations: int = 0
    messages: int = 0
    bytes: int = 0

    @property
    def cancellations(self) -> int:
        return sum(self.cancelled.values())


# What is sent, and the account of it


def numbered(stream: int, number: int, size: int) -> bytes:
    return NUMBER.pack(stream, number, size) + bytes([number % 251]) * size


def number_of(data: bytes) -> tuple[int, int]:
    """Stream and number of a message, every byte of which must be right."""
    stream, number, size = NUMBER.unpack_from(data)
    assert data == numbered(stream, number, size), f"message {number} of {stream} was mixed up"
    return stream, number


@dataclass
class Flow:
    """One direction of a connection: what was written, what has come."""

    begun: dict[int, list[int]] = field(default_factory=dict)  # by stream
    written: dict[int, set[int]] = field(default_factory=dict)  # these must arrive
    came: dict[int, list[int]] = field(default_factory=dict)
    part: bytes = b""  # of a message that is read in fragments
    abandoned: bool = (
        False  # by a receiver that has begun to close: it may drop what it has not read
    )
    wrong: list[str] = field(default_factory=list)  # in what came
    torn: list[str] = field(default_factory=list)  # a message without its beginning, or its end
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, stream: int, number: int) -> None:
        self.begun.setdefault(stream, []).append(number)

    def write(self, stream: int, number: int) -> None:
        self.written.setdefault(stream, set()).add(number)

    def come(self, message: Message) -> bool:
        """Account for a message or a fragment; whether it ends its message."""
        if bool(message.opcode) is bool(self.part):
            self.torn.append("a fragment without its message")
            self.part = b""
            if not message.opcode:  # the rest of a message that was dropped
                return message.fin
        self.part += message.payload
        if not message.fin:
            return False
        data, self.part = self.part, b""
        try:
            stream, number = number_of(data)
        except (AssertionError, struct.error) as error:
            self.wrong.append(str(error))
            return True
        self.came.setdefault(stream, []).append(number)
        self.news.set()
        return True

    def lost(self) -> dict[int, set[int]]:
        """By stream, what was written and has not come."""
        lost = {
            stream: numbers - set(self.came.get(stream, ()))
            for stream, numbers in self.written.items()
        }
        return {stream: numbers for stream, numbers in lost.items() if numbers}

    async def arrived(self) -> None:
        """Wait until everything that was written has come."""
        while self.lost():
            self.news.clear()
            await self.news.wait()

    def check(self) -> None:
        assert not self.wrong, self.wrong
        assert self.abandoned or not self.torn, self.torn
        for stream, numbers in self.came.items():
            assert numbers == sorted(set(numbers)), f"twice, or out of order: {numbers}"
            assert set(numbers) <= set(self.begun.get(stream, ()))
        assert self.abandoned or not self.lost(), f"lost: {self.lost()}"


# Cancelling


async def turns_of_the_loop(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


class Canceller:
    """Awaits things and cancels most of them, in one way or another, after a while."""

    def __init__(self, rng: random.Random, figures: Figures) -> None:
        self.rng = rng
        self.figures = figures

    async def run(
        self, kind: str, start: Callable[[], Awaitable[Any]], *, most: int = 6, share: float = 0.75
    ) -> tuple[bool, Any]:
        """Whether it came to its end, and its result. `most`: turns of the loop before the end."""
        rng = self.rng
        way = rng.random()
        try:
            if way > share:
                result = await start()
            elif way < share * 0.7:
                result = await self._as_a_task(start, rng.randrange(most))
            elif way < share * 0.8:
                result = await asyncio.wait_for(start(), rng.choice([0, 0.0001, 0.002]))
            else:
                async with asyncio.timeout(rng.choice([0, 0.0001, 0.002])):
                    result = await start()
        except (asyncio.CancelledError, TimeoutError) as error:
            if isinstance(error, ConnectError):
                raise
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is we who are to stop
            self.figures.cancelled[kind] += 1
            return False, None
        self.figures.finished[kind] += 1
        return True, result

    async def _as_a_task(self, start: Callable[[], Awaitable[Any]], turns: int) -> Any:
        task = asyncio.ensure_future(start())
        try:
            await turns_of_the_loop(turns)
            task.cancel()
            if self.rng.random() < 0.1:
                await turns_of_the_loop(1)
                task.cancel()
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()


# One conversation


@dataclass
class End:
    """One end of a connection, and the two flows as it sees them."""

    read: Read
    write: Write
    task: asyncio.Task[Any] | None
    sent: Flow
    received: Flow


class Conversation:
    def __init__(self, stress: Stress, number: int, profile: str) -> None:
        self.stress = stress
        self.figures = stress.figures
        self.path = f"/{number}"
        self.profile = profile
        self.rng = random.Random(f"{stress.seed} {stress.place} {number}")
        self.cancel = Canceller(self.rng, stress.figures)
        self.opened: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.done = asyncio.Event()
        self.up, self.down = Flow(), Flow()
        self.events: list[str] = []  # for the message of a failure

    async def handle(self, read: Read, write: Write) -> None:
        self.opened.set_result(End(read, write, asyncio.current_task(), self.down, self.up))
        await self.done.wait()

    async def run(self) -> None:
        if self.profile == "context":
            await self._in_a_context()
        else:
            async with asyncio.timeout(BOUND):
                client = await connect(self.stress.url + self.path, **self.stress.options)
                await self._talk(client)
        for name, flow in (("to the server", self.up), ("to the client", self.down)):
            try:
                flow.check()
            except AssertionError as error:
                error.add_note(f"conversation {self.path}, {self.profile}: {self.events}, {name}")
                raise
            self.figures.messages += sum(map(len, flow.came.values()))
        self.figures.conversations += 1

    async def _talk(self, client: Client) -> None:
        response, read, write = client
        small_buffers(response.socket)
        here = End(read, write, asyncio.current_task(), self.up, self.down)
        there = await self.opened
        receiving = [asyncio.create_task(self._receive(end)) for end in (here, there)]
        sending = [
            asyncio.create_task(self._send(end, stream))
            for end in (here, there)
            for stream in (0, 1)
        ]
        sending.append(asyncio.create_task(self._broadcast(there)))
        try:
            await asyncio.gather(*sending)
            await self._close(here, there)
            await asyncio.gather(*receiving)
        finally:
            self.done.set()
            for task in sending + receiving:
                task.cancel()
            await asyncio.wait(sending + receiving)
        await here.write.wait_closed()
        await there.write.wait_closed()

    # Writing

    async def _send(self, end: End, stream: int) -> None:
        rng = self.rng
        kinds = ["small"] * 8 + ["large"] * 3 + ["ping"] * 2
        if self.profile != "simple":
            kinds += ["fragments"] * (4 if self.profile == "breaking" else 1)
            kinds += ["async fragments"] * (2 if self.profile == "breaking" else 1)
        if "deflate" in self.stress.place and stream == 0 and self.profile == "mixed":
            kinds.append("offloaded")
        try:
            for number in range(rng.randrange(20, 60)):
                await self._send_one(end, stream, number, rng.choice(kinds))
        except ConnectionClosedError as error:
            assert self.profile == "breaking", error

    async def _send_one(self, end: End, stream: int, number: int, kind: str) -> None:
        rng, flow = self.rng, end.sent
        if kind == "ping":
            finished, seconds = await self.cancel.run(kind, end.write.ping)
            assert not finished or seconds > 0
            return
        large = [70_000, 300_000]
        if self.profile == "simple" and "deflate" in self.stress.place:
            large = [20_000, 60_000]  # larger ones are not encoded by the call, but in a thread
        size = {"large": rng.choice(large), "offloaded": 1_100_000}.get(
            kind, rng.choice([0, 100, 5000])
        )
        data = numbered(stream, number, size)

        def write() -> Awaitable[None]:
            flow.begin(stream, number)
            if kind == "fragments":
                return end.write(pieces(data, rng.randrange(1, 5)))
            if kind == "async fragments":
                return end.write(arriving(data, rng.randrange(1, 5)))
            awaitable = end.write(data)
            if self.profile == "simple":
                flow.write(stream, number)  # encoded by the call, whether it is awaited or not
            return awaitable

        # A fragmented message that is cancelled ends the connection, so that is for some.
        may = "fragments" not in kind or self.profile == "breaking"
        share = 0.75 if may and "fragments" not in kind else 0.2 if may else 0
        finished, _ = await self.cancel.run(kind, write, share=share)
        if finished:
            flow.write(stream, number)
        elif "fragments" in kind:
            end.received.abandoned = True  # it has perhaps begun to close
        self.figures.bytes += len(data)

    async def _broadcast(self, end: End) -> None:
        flow = end.sent

        async def some(numbers: Iterator[int]) -> None:
            for _ in range(3):
                number = next(numbers)
                flow.begin(BROADCASTS, number)
                if not broadcast([end.write], numbered(BROADCASTS, number, 200)):
                    flow.write(BROADCASTS, number)
                await asyncio.sleep(0)

        numbers = iter(range(1000))
        for _ in range(self.rng.randrange(6)):
            await self.cancel.run("broadcast", lambda: some(numbers))
        if self.profile == "breaking":
            # One that waits behind a fragmented message goes down with it.
            flow.written.pop(BROADCASTS, None)

    # Reading

    async def _receive(self, end: End) -> None:
        """Read in every way until the end of the connection."""
        flow = end.received
        try:
            while await self._receive_some(end, flow):
                pass
        except ConnectionClosedError as error:
            self.events.append(f"{end.read}: {error}")
            if self.profile == "breaking":
                end.sent.abandoned = True
            # Our own Close may cut off a stream of what a cancelled write has sent; that nothing
            # is lost which was written to its end is for `Flow.check`.
            cut_off = "before the message had ended" in str(error)
            assert cut_off or error.code == 1011, error
            assert self.profile == "breaking" or cut_off, error
        assert self.profile == "breaking" or flow.abandoned or not flow.part

    async def _receive_some(self, end: End, flow: Flow) -> bool:
        """Read once; False at the end."""
        read, rng = end.read, self.rng
        kind = rng.choice(["read", "read", "next", "async for", "batch", "fragments", "stream"])

        async def loop() -> bool:
            async for message in read:
                flow.come(message)
            return False

        async def in_a_coroutine() -> Any:
            return await read()

        if kind == "async for":
            finished, _ = await self.cancel.run(kind, loop)
            return not finished
        if kind == "batch":
            finished, batch = await self.cancel.run(kind, read.batch)
            for message in batch or ():
                flow.come(message)
            return not finished or bool(batch)
        if kind == "stream":
            return await self._receive_in_pieces(end, flow)
        if kind == "next":
            try:
                finished, message = await self.cancel.run(kind, read.__anext__)
            except StopAsyncIteration:
                return False
        elif kind == "fragments":
            finished, message = await self.cancel.run(kind, read.fragments())
        else:
            finished, message = await self.cancel.run(kind, rng.choice([read, in_a_coroutine]))  # type: ignore[arg-type]
        if message is not None:
            flow.come(message)
        return not finished or message is not None

    async def _receive_in_pieces(self, end: End, flow: Flow) -> bool:
        """Read a message as a stream, each chunk of it cancelled at random."""
        if flow.part:  # of a message whose fragments are being read
            return True
        finished, stream = await self.cancel.run("stream", end.read.stream)
        if stream is None:
            return not finished
        chunks: list[bytes] = []
        while True:
            try:
                finished, chunk = await self.cancel.run("chunk", lambda: next_chunk(stream))
            except StopAsyncIteration:
                break
            if finished:
                chunks.append(chunk)
        flow.come(Message(opcode=stream.opcode, payload=b"".join(chunks)))
        return True

    # Closing

    async def _close(self, here: End, there: End) -> None:
        rng = self.rng
        ends = [here, there]
        rng.shuffle(ends)
        how = rng.choice(["one", "both", "handler returns", "handler is cancelled"])
        if self.profile == "breaking":
            how = "one"
        closers = ends if how == "both" else ends[:1] if how == "one" else [there]
        if self.profile == "breaking" or rng.random() < 0.3:
            for end in closers:
                end.received.abandoned = True
        else:
            await here.sent.arrived()
            await there.sent.arrived()
        self.figures.ends[how] += 1
        self.events.append(how)
        if how == "handler returns":
            self.done.set()
        elif how == "handler is cancelled":
            assert there.task is not None
            there.task.cancel()
            self.figures.cancelled["handler"] += 1
        else:
            for end in closers:
                self.events.append(repr(end.write))
                # A close that is cancelled has been sent, and goes on.
                await self.cancel.run("close", end.write.close)
        for _ in range(3):
            await self.cancel.run("wait_closed", rng.choice(ends).write.wait_closed)
        codes = [end.read.close_code for end in ends]
        assert all(code in (None, 1000, 1001, 1011) for code in codes), codes

    async def _in_a_context(self) -> None:
        """A task that is cancelled, or fails, anywhere in `async with`."""
        rng = self.rng

        async def inside() -> None:
            async with connect(self.stress.url + self.path, **self.stress.options) as (_, r, w):
                self.figures.ends["async with"] += 1
                for number in range(10):
                    self.up.begin(0, number)
                    await w(numbered(0, number, 100))
                    await asyncio.sleep(0)
                    await w.ping()
                if rng.random() < 0.3:
                    raise ZeroDivisionError
                await r()

        async def outside() -> None:
            there = await asyncio.shield(self.opened)
            with contextlib.suppress(ConnectionClosedError):
                while (message := await there.read()) is not None:
                    self.up.come(message)
            assert there.read.close_code in (1000, 1001, 1006, 1011), there.read.close_code

        async with asyncio.timeout(BOUND):
            task = asyncio.ensure_future(inside())
            reading = asyncio.ensure_future(outside())
            await turns_of_the_loop(rng.randrange(120))
            task.cancel()
            if rng.random() < 0.3:
                await turns_of_the_loop(rng.randrange(3))
                task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                self.figures.cancelled["async with"] += 1
            else:
                assert isinstance(task.exception(), ZeroDivisionError), task
                self.figures.finished["async with"] += 1
            if not self.opened.done():
                reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()
            self.done.set()


async def next_chunk(stream: MessageStream) -> Any:
    """`anext(stream)`, begun as a coroutine is: only when it is awaited."""
    return await anext(stream)


def pieces(data: bytes, n: int) -> list[bytes]:
    size = len(data) // n + 1
    return [data[i : i + size] for i in range(0, len(data), size)]


async def arriving(data: bytes, n: int) -> AsyncIterator[bytes]:
    for piece in pieces(data, n):
        await asyncio.sleep(0)
        yield piece


def small_buffers(sock: Any) -> None:
    import socket

    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)


# A run


class Stress:
    """Conversations in one place (a kind of stream) until there were enough cancellations."""

    def __init__(self, seed: int, place: str, certificates: Any) -> None:
        self.seed = seed
        self.place = place
        self.rng = random.Random(f"{seed} {place}")
        self.figures = Figures()
        self.conversations: dict[str, Conversation] = {}
        self.failures: list[str] = []
        self.timers = Timers()
        self.url = ""
        limits: dict[str, Any] = {
            "compression": "deflate" if "deflate" in place else None,
            "ping_interval": None,
            "timeout": BOUND,
            "close_timeout": BOUND,
            "write_high_water": 20_000,
            "read_high_water": 100_000,
        }
        tls = "tls" in place
        self.server_options = {**limits, "tls": certificates[0] if tls else None}
        self.options = {**limits, **({"tls": certificates[1]} if tls else {})}

    async def run(self, cancellations: int) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(str(context)))
        before = asyncio.all_tasks()
        while self.figures.cancellations < cancellations:
            # A new server now and then: it too is left at random.
            await self._session(min(cancellations, self.figures.cancellations + 600))
            await settled(before, self)
        assert not self.failures, self.failures

    async def _session(self, enough: int) -> None:
        rng = self.rng
        number = 0
        async with serve(self._handle, **self.server_options) as server:
            self.url = server.url.rstrip("/")
            while self.figures.cancellations < enough and not self.failures:
                batch = []
                for _ in range(rng.choice([1, 1, 3, 6])):
                    number += 1
                    profile = rng.choice(["simple", "mixed", "mixed", "breaking", "context"])
                    conversation = Conversation(self, self.figures.conversations + number, profile)
                    self.conversations[conversation.path] = conversation
                    batch.append(conversation)
                async with asyncio.TaskGroup() as group:
                    for conversation in batch:
                        group.create_task(conversation.run())
                for conversation in batch:
                    del self.conversations[conversation.path]
                await self._connect_and_cancel(rng.randrange(12))
            idle = [await connect(f"{self.url}/idle", **self.options) for _ in range(3)]
            if rng.random() < 0.5:
                await Canceller(rng, self.figures).run("server.close", server.close)
        for _, read, write in idle:
            await read()
            await write.wait_closed()
        assert len(server.connections) + server.handshakes == 0

    async def _handle(self, request: Any, read: Read, write: Write) -> None:
        small_buffers(request.socket)
        conversation = self.conversations.get(request.pathname)
        if conversation is not None:
            await conversation.handle(read, write)
        else:
            await read()

    async def _connect_and_cancel(self, times: int) -> None:
        """Cancel the opening of connections in each phase, by turns of the loop or by time."""
        canceller = Canceller(self.rng, self.figures)
        most = 60 if "tls" in self.place else 30
        for _ in range(times):
            finished, opened = await canceller.run(
                "connect",
                lambda: connect(f"{self.url}/unclaimed", **self.options),
                most=most,
                share=0.95,
            )
            if finished:
                await opened[2].close()


async def settled(before: set[asyncio.Task[Any]], stress: Stress) -> None:
    """Every task has ended, and no timer is left."""
    async with asyncio.timeout(BOUND):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)
    await turns_of_the_loop(3)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MOMENT
    while (timers := stress.timers.waiting()) and loop.time() < deadline:
        await asyncio.sleep(0)
    assert not timers, timers


class Timers:
    """What was asked of a loop's call_later and call_at, and has neither run nor been cancelled.

    It looks at the calls, since not every loop shows its timers.
    """

    def __init__(self) -> None:
        self._asked: dict[int, tuple[asyncio.TimerHandle, str]] = {}
        self._numbers = itertools.count()

    def waiting(self) -> list[str]:
        self._asked = {n: it for n, it in self._asked.items() if not it[0].cancelled()}
        return [text for _, text in self._asked.values()]

    def watch(self, kind: type[asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
        """A loop of a kind derived from that one, whose timers are watched."""
        timers = self

        class Watched(kind):  # type: ignore[misc, valid-type]
            def call_later(self, delay: float, callback: Any, *args: Any, **more: Any) -> Any:
                return timers._ask(super().call_later, delay, callback, args, more)

            def call_at(self, when: float, callback: Any, *args: Any, **more: Any) -> Any:
                return timers._ask(super().call_at, when, callback, args, more)

        return Watched()

    def _ask(self, method: Any, when: float, callback: Any, args: Any, more: Any) -> Any:
        if hasattr(callback, "number"):  # a call_later that calls call_at, or the other way
            return method(when, callback, *args, **more)
        number = next(self._numbers)

        def call(*args: Any) -> None:
            self._asked.pop(number, None)
            callback(*args)

        call.number = number  # type: ignore[attr-defined]
        handle = method(when, call, *args, **more)
        if len(self._asked) > 10_000:
            self.waiting()  # forgets those that were cancelled
        self._asked[number] = handle, f"{callback} in {when:.3f}"
        return handle


class Errors(logging.Handler):
    """Keeps what the library or asyncio logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


def loop_kind(name: str, place: str) -> type[asyncio.AbstractEventLoop]:
    if "transports" in place:
        return TransportsOnlyLoop
    if name == "uvloop":
        import uvloop

        return uvloop.Loop
    return asyncio.SelectorEventLoop


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server at 127.0.0.1, and for its client."""
    ca = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return server, client


def run(seed: int, loop: str, place: str, cancellations: int, certs: Any = None) -> Figures:
    """Run, and check that nothing is left; an AssertionError says what was wrong."""
    stress = Stress(seed, place, certs or certificates())
    kind = loop_kind(loop, place)
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("coro_websocket", "asyncio")]
    unraisable: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda event: unraisable.append(str(event))
    before = resources()
    for logger in loggers:
        logger.addHandler(errors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with asyncio.Runner(loop_factory=partial(stress.timers.watch, kind)) as runner:
                runner.run(stress.run(cancellations))
            gc.collect()
        after = resources()
        assert not errors.records, errors.records
        assert not unraisable, unraisable
        assert all(after[what] <= before[what] for what in after), (
            f"left over: {before} before, {after} after"
        )
    except BaseException as error:
        error.add_note(f"seed {seed}, on {loop}, over {place}")
        raise
    finally:
        sys.unraisablehook = hook
        for logger in loggers:
            logger.removeHandler(errors)
    return stress.figures


def resources() -> dict[str, int]:
    """Open descriptors, and the library's objects that are alive."""
    gc.collect()
    kinds = (
        "SocketStream",
        "TLSStream",
        "TransportStream",
        "Waiter",
        "Server",
        "ConnectionSocket",
        "Task",
    )
    alive = Counter(type(thing).__name__ for thing in gc.get_objects())
    return {"descriptors": descriptors(), **{kind: alive[kind] for kind in kinds}}


def descriptors() -> int:
    """Open sockets and epolls; uvloop keeps pipes of its own."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            count += target.startswith("socket:") or "eventpoll" in target
    return count


def rss() -> int:
    """Resident memory in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cancellations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--place", choices=PLACES, action="append")
    parser.add_argument("--loop", choices=LOOPS, action="append")
    options = parser.parse_args()
    where = [
        (loop, place)
        for loop, place in COMBINATIONS
        if loop in (options.loop or LOOPS) and place in (options.place or PLACES)
    ]
    print(f"seed {options.seed}", flush=True)
    certs = certificates()
    total: Counter[str] = Counter()
    for loop, place in where:
        run(options.seed, loop, place, 500, certs)  # warm
    before = rss(), resources()
    began = time.monotonic()
    for loop, place in where:
        start = time.monotonic()
        figures = run(options.seed, loop, place, -(-options.cancellations // len(where)), certs)
        total += figures.cancelled
        print(
            f"{loop} {place}: {figures.cancellations:,} cancelled of "
            f"{figures.cancellations + sum(figures.finished.values()):,}; "
            f"{figures.conversations:,} conversations ended by {dict(figures.ends)}; "
            f"{figures.messages:,} messages came, of {figures.bytes >> 20:,} MiB; "
            f"{time.monotonic() - start:.1f} s, RSS {rss():,} KiB",
            flush=True,
        )
    after = rss(), resources()
    print(f"{total.total():,} cancellations in {time.monotonic() - began:.0f} s:")
    for kind, times in total.most_common():
        print(f"  {kind}: {times:,}")
    print(
        f"RSS {before[0]:,} KiB before, {after[0]:,} KiB after; {before[1]} before, {after[1]} after"
    )


if __name__ == "__main__":
    main()
