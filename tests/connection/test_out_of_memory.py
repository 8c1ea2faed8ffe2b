"""What becomes of those who wait where a call of the event loop, or zlib, finds no memory.

The rule: whoever waits for a connection goes on, with a result or with an error; and a connection
goes on as if nothing had been, or is lost as a whole: its socket closed, and everybody told.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import zlib
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, both_ends, turns_of_the_loop, until, watchdog

from coro_websocket import (
    ConnectionClosedError,
    Deflate,
    Group,
    ProtocolError,
    WebSocketError,
    connect,
)
from coro_websocket._rfc6455.deflate import DeflateExtension
from coro_websocket._rfc6455.engine import Engine
from coro_websocket.testing import FakeServer

__all__ = ["watchdog"]


# An event loop without memory


def ours(value: object) -> bool:
    """Whether it is a native object of the library's, or a method of one."""
    owner = getattr(value, "__self__", value)
    return type(owner).__module__.startswith("coro_websocket.")


AnyLoop: Any = object


class Failing(AnyLoop):
    """Mixed into an event loop: from the n-th after `fail` on, the library's own calls fail."""

    def __init__(self) -> None:
        super().__init__()
        self.passing = self.failing = self.failed = 0
        self.watched: set[tuple[str, int]] = set()

    def fail(self, n: int, times: int) -> None:
        self.passing, self.failing = n, times

    def count(self, counts: bool) -> None:
        if counts and self.failing:
            if self.passing:
                self.passing -= 1
            else:
                self.failing -= 1
                self.failed += 1
                raise MemoryError

    def call_soon(self, callback, *args, context=None):
        self.count(any(map(ours, (callback, *args))))
        return super().call_soon(callback, *args, context=context)

    def call_later(self, delay, callback, *args, context=None):
        self.count(ours(callback))
        return super().call_later(delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        self.count(ours(callback))
        return super().call_at(when, callback, *args, context=context)

    def add_reader(self, fd, callback, *args):
        self.watch("reader", fd, callback)
        return super().add_reader(fd, callback, *args)

    def add_writer(self, fd, callback, *args):
        self.watch("writer", fd, callback)
        return super().add_writer(fd, callback, *args)

    def remove_reader(self, fd):
        self.unwatch("reader", fd)
        return super().remove_reader(fd)

    def remove_writer(self, fd):
        self.unwatch("writer", fd)
        return super().remove_writer(fd)

    def watch(self, kind: str, fd: int, callback: object) -> None:
        self.count(ours(callback))
        if ours(callback):
            self.watched.add((kind, fd))

    def unwatch(self, kind: str, fd: int) -> None:
        self.count((kind, fd) in self.watched)
        self.watched.discard((kind, fd))


class FailingLoop(Failing, asyncio.SelectorEventLoop):  # type: ignore[misc]
    pass


LOOPS: dict[str, Any] = {"asyncio": FailingLoop}

if sys.platform != "win32":
    import uvloop

    class FailingUvloop(Failing, uvloop.Loop):  # type: ignore[misc]
        pass

    LOOPS["uvloop"] = FailingUvloop


# What happens on a connection


async def a_message_is_read(client, server, fail):
    reading = waiting(server.read())
    await turns_of_the_loop()
    client.write("hello")
    fail()
    await told(reading)


async def a_message_is_read_in_many_parts(client, server, fail):
    async def chunks():
        message = await server.read.stream()
        return message and [chunk async for chunk in message]

    reading = waiting(chunks())
    await turns_of_the_loop()
    client.write(bytes(500_000))
    fail()
    await told(reading)


async def a_peer_takes_what_was_written(client, server, fail):
    writing = [waiting(server.write(bytes(3_000_000))) for _ in range(3)]
    await turns_of_the_loop()
    reading = waiting(until_the_end(client.read))
    fail()
    await told(*writing)
    server.socket.shutdown(socket.SHUT_RDWR)
    await told(reading)


async def what_is_written_is_not_taken_at_once(client, server, fail):
    fail()
    writing = []
    for _ in range(3):
        with contextlib.suppress(MemoryError, WebSocketError):
            writing.append(waiting(server.write(bytes(3_000_000))))
    reading = waiting(until_the_end(client.read))
    await told(*writing)
    server.socket.shutdown(socket.SHUT_RDWR)
    await told(reading)


async def a_paused_connection_is_read_again(client, server, fail):
    sending = [waiting(client.write(bytes(50_000))) for _ in range(20)]
    await turns_of_the_loop(20)  # much more than read_high_water waits now
    fail()
    reading = waiting(until_the_end(server.read))
    await told(*sending)
    await told(waiting(client.write.close()), reading)


async def a_connection_is_paused(client, server, fail):
    fail()
    sending = [waiting(client.write(bytes(50_000))) for _ in range(20)]
    await turns_of_the_loop(20)
    reading = waiting(until_the_end(server.read))
    await told(*sending)
    await told(waiting(client.write.close()), reading)


async def it_is_closed(client, server, fail):
    waiters = everybody_waits(client) + everybody_waits(server)
    await turns_of_the_loop()
    fail()
    await told(waiting(client.write.close()), *waiters)


async def both_close_it(client, server, fail):
    waiters = everybody_waits(client) + everybody_waits(server)
    await turns_of_the_loop()
    fail()
    await told(waiting(client.write.close()), waiting(server.write.close()), *waiters)


async def the_protocol_is_broken(client, server, fail):
    waiters = everybody_waits(server)
    await turns_of_the_loop()
    reading = waiting(until_the_end(client.read))
    fail()
    client.socket.send(b"\x83\x80abcd") if client.plain else client.socket.shutdown(2)
    await told(*waiters)
    client.socket.shutdown(socket.SHUT_RDWR)
    await told(reading)


async def the_peer_is_gone(client, server, fail):
    waiters = everybody_waits(server)
    await turns_of_the_loop()
    fail()
    client.socket.shutdown(socket.SHUT_RDWR)
    await told(*waiters)


async def a_read_is_cancelled_behind_what_comes(client, server, fail):
    reading = waiting(server.read())
    await turns_of_the_loop()
    client.write.ping()
    client.write("hello")
    fail()
    with contextlib.suppress(MemoryError):
        reading.cancel()
    await told(reading)


async def fragmented_messages_take_turns(client, server, fail):
    async def fragments():
        for _ in range(3):
            yield b"x"
            await asyncio.sleep(0)

    fail()
    writing = [waiting(server.write(fragments())) for _ in range(4)]
    await told(*writing)


async def pings_are_answered(client, server, fail):
    fail()
    pings = []
    for _ in range(3):
        with contextlib.suppress(MemoryError, WebSocketError):
            pings.append(asyncio.ensure_future(server.write.ping()))
    await told(*pings)


async def the_keepalive_goes_on(client, server, fail):
    fail()
    for _ in range(3):
        seen = client.read.stats.bytes_in
        await until(lambda: client.read.stats.bytes_in > seen or closed(server))  # noqa: B023


async def a_group_is_sent_messages(client, server, fail):
    group = Group()
    group.add(server.write)
    while group.broadcast(bytes(50_000)).sent:
        pass
    group.broadcast("waits", slow="latest")
    fail()
    reading = waiting(until_the_end(client.read))
    while group.broadcast(bytes(50_000), slow="latest").waiting:
        await asyncio.sleep(0)
    counted = group.broadcast("x", slow="close")
    assert counted.sent + counted.closed + counted.dropped == len(group) + counted.closed
    server.socket.shutdown(socket.SHUT_RDWR)
    await told(reading)
    await until(lambda: not group)
    assert group.stats.waiting == 0


HAPPENINGS = [
    a_group_is_sent_messages,
    a_message_is_read,
    a_message_is_read_in_many_parts,
    a_peer_takes_what_was_written,
    what_is_written_is_not_taken_at_once,
    a_paused_connection_is_read_again,
    a_connection_is_paused,
    it_is_closed,
    both_close_it,
    the_protocol_is_broken,
    the_peer_is_gone,
    a_read_is_cancelled_behind_what_comes,
    fragmented_messages_take_turns,
    pings_are_answered,
    the_keepalive_goes_on,
]


def waiting(awaitable):
    """A task that waits for it; its end, whatever it is, is for `told`."""

    async def wait():
        return await awaitable

    return asyncio.ensure_future(wait())


async def until_the_end(read):
    async for _ in read:
        pass


def everybody_waits(end):
    """A task for each thing that can be waited for: a message, room to write, a Pong, the end."""
    waiters = [waiting(end.read()), waiting(end.write.wait_closed())]
    with contextlib.suppress(MemoryError, WebSocketError):
        waiters.append(asyncio.ensure_future(end.write.ping()))
    return waiters


async def told(*tasks):
    """Each of the tasks ends, with a result or with an error that says why."""
    _, left = await asyncio.wait(tasks, timeout=BOUND / 2) if tasks else ((), ())
    assert not left, left
    for task in tasks:
        if not task.cancelled():
            assert isinstance(task.exception(), (MemoryError, WebSocketError, type(None))), task


def closed(end):
    return "closed" in repr(end.read)


async def whole_or_lost(end, other):
    """The connection carries messages both ways, or its socket is closed."""
    if not closed(end) and not closed(other):
        try:
            for here, there in ((end, other), (other, end)):
                await here.write("still there")
                while (message := await there.read()) is not None:
                    if message.payload == "still there":
                        break
        except (WebSocketError, MemoryError):
            pass
        else:
            if not closed(end) and not closed(other) and message is not None:
                return
    # What one end has lost, the other learns of.
    await told(waiting(until_the_end(end.read)), waiting(until_the_end(other.read)))
    await until(lambda: closed(end) and closed(other))
    await until(lambda: end.socket.fileno() == other.socket.fileno() == -1)


async def go_through(happening, kind, n, times, certificates):
    """Let it happen without memory for some calls; how many failed."""
    loop: Any = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    served = {
        "compression": None,
        "close_timeout": 0.2,
        "read_high_water": 100_000,
        "write_high_water": 10_000,
        "heartbeat": 0.01 if happening is the_keepalive_goes_on else None,
    }
    options = dict(served)
    if kind == "tls":
        served["tls"] = certificates.server
        options["tls"] = certificates.client
    async with both_ends(server_options=served, **options) as (client, server):
        client.plain = kind == "plain"  # type: ignore[attr-defined]
        await happening(client, server, lambda: loop.fail(n, times))
        await whole_or_lost(server, client)
        loop.failing = 0
    return loop.failed


@pytest.mark.deep("uvloop", "3")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["plain", "tls"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("happening", HAPPENINGS)
def test_nobody_waits_for_ever_whichever_call_of_the_loop_fails(
    happening, times, kind, loop, certificates
):
    for n in range(20):
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            failed = runner.run(go_through(happening, kind, n, times, certificates))
        if not failed:
            break


# Compression without memory


def deflate():
    return DeflateExtension(
        Deflate(), send_bits=12, receive_bits=15, send_takeover=True, receive_takeover=True
    )


class Failed:
    """zlib's object, of which the call named has no memory."""

    def __init__(self, real, name):
        self.real = real
        self.name = name

    def __getattr__(self, name):
        if name == self.name:
            raise zlib.error(f"Error -4 while {name}ing data")
        return getattr(self.real, name)


def test_no_memory_for_inflating_is_no_fault_of_the_peers():
    receiving = Engine(True, extensions=[extension := deflate()])
    extension._inflate = Failed(zlib.decompressobj(-15), "decompress")
    receiving.receive(b"\xc1\x07" + b"\xf2\x48\xcd\xc9\xc9\x07\x00")  # RFC 7692 section 7.2.3.1
    with pytest.raises(MemoryError):
        receiving.next_message()
    assert receiving.error is None
    assert receiving.data_to_send() == b""
    assert receiving.finished


def test_what_cannot_be_inflated_is_the_peers_fault():
    receiving = Engine(True, extensions=[deflate()])
    receiving.receive(b"\xc1\x03" + b"\xff\xff\xff")
    with pytest.raises(ProtocolError, match="cannot be inflated"):
        receiving.next_message()


@pytest.mark.parametrize("name", ["compress", "flush"])
def test_nothing_refers_to_a_message_for_whose_compression_there_was_no_memory(name):
    sending = deflate()
    receiving = deflate()
    messages = [bytes([i]) * 500 + b"abc" * 100 for i in range(3)]
    first = sending.encode(messages[0], opcode=2, begins=True, ends=True)
    sending._deflate = Failed(sending._deflate, name)
    with pytest.raises(MemoryError):
        sending.encode(messages[1], opcode=2, begins=True, ends=True)
    second = sending.encode(messages[1], opcode=2, begins=True, ends=True)
    for message, encoded in zip(messages, (first, second), strict=False):
        assert receiving.decode(encoded, ends=True, limit=10_000) == message


# What ends while nobody but its stream holds it


async def silent(peer):
    with contextlib.suppress(EOFError):
        while True:
            await peer.receive_frame()


@pytest.mark.parametrize("n", range(4))
@pytest.mark.parametrize("kind", list(LOOPS))
def test_a_task_ends_inside_its_message_and_nobody_holds_the_connection(kind, n):
    """Its end closes the connection, which is freed in the midst of that."""

    async def use():
        loop: Any = asyncio.get_running_loop()

        async def begin(url):
            _, _, write = await connect(url, ping_interval=None)
            await write({"payload": "x", "opcode": 1, "fin": False})
            loop.fail(n, 1)

        async with FakeServer(silent) as server:
            for _ in range(5):
                await asyncio.create_task(begin(server.url))
                await turns_of_the_loop(10)
                loop.fail(0, 0)

    gc.disable()  # so that references alone free it
    try:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            runner.run(asyncio.wait_for(use(), 20))
    finally:
        gc.enable()


def fill(sock):
    """Send until the system takes not a byte more."""
    for size in (100_000, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(size))


@pytest.mark.parametrize("n", range(3))  # the last is to wait for room on the socket
@pytest.mark.parametrize("kind", list(LOOPS))
def test_fragments_that_are_cancelled_on_a_full_socket_raise_what_happened(kind, n):
    """Their Close cannot be sent, nor is there memory to wait until it can be."""

    async def use():
        loop: Any = asyncio.get_running_loop()

        async def fragments():
            yield "a"
            begun.set()
            await asyncio.Event().wait()

        async def unheard(peer):
            await ended.wait()

        begun, ended = asyncio.Event(), asyncio.Event()
        async with FakeServer(unheard) as server:
            res, read, write = await connect(server.url, ping_interval=None)
            writing = asyncio.create_task(write(fragments()))
            await begun.wait()
            await turns_of_the_loop()
            fill(res.socket)
            loop.fail(n, 1)
            writing.cancel()
            with pytest.raises((MemoryError, asyncio.CancelledError, ConnectionClosedError)):
                await writing
            assert loop.failed == 1
            loop.fail(0, 0)
            ended.set()
            with pytest.raises(ConnectionClosedError):
                await read()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(use(), 20))
