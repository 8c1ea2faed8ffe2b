"""What goes wrong on our own side: no memory, a log or a stream that fails, calls from within.

The rules: the connection that it happens to ends or goes on as if nothing had been; no other
connection notices; no memory is used that is not ours any more (fuzz/sanitize.py sees that).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import gc
import io
import logging
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CONT,
    PING,
    PONG,
    TEXT,
    both_ends,
    end_and_peer,
    frame,
    head,
    server_and_peer,
    until,
    watchdog,
)

from coro_websocket import ConnectionClosedError, LimitError, Message
from coro_websocket._connection import awaitables as _awaitables
from coro_websocket._connection.connection import Connection
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._streams.memory import MemoryTransport
from coro_websocket.extensions import Extension, ExtensionFactory
from coro_websocket.testing import connected_pair

testcapi = pytest.importorskip("_testcapi")  # CPython's own: it can fail an allocation

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

FRAMES = "coro_websocket.frames"


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


@pytest.fixture
def told():
    """A handler of the frame log that calls whatever is put in its `then`."""

    class Told(logging.Handler):
        then = None

        def emit(self, record):
            if self.then is not None:
                self.then(record.getMessage())

    log = logging.getLogger(FRAMES)
    handler = Told()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield handler
    log.removeHandler(handler)
    log.setLevel(before[0])
    log.propagate = before[1]


# Limits


async def test_a_message_given_up_as_a_stream_is_no_way_around_the_limit(side):
    options = {"max_message_size": 10_000, "compression": None, "close_timeout": 0.05}
    async with end_and_peer(side, **options) as (end, peer):
        streaming = asyncio.create_task(end.read.stream())
        await end.settle()
        start = peer.frame(BINARY, bytes(100_000))
        await peer.send(start[: len(start) - 100_000])
        await end.settle(20)
        streaming.cancel()
        await asyncio.wait([streaming])
        await peer.send(start[len(start) - 100_000 : 60_000])
        await until(lambda: end.read.stats.bytes_in >= 60_000)
        with pytest.raises(LimitError, match="max_message_size is 10000"):
            await end.read()


def test_what_pieces_were_asked_of_and_a_message_is_then_wanted_of_is_measured():
    engine = Engine(False, max_message_size=1000)
    engine.receive(head(0x82, 70_000, True) + bytes(4))
    assert engine.next_message(pieces=True) is None
    engine.receive(bytes(70_000))
    with pytest.raises(LimitError):
        engine.next_message()
    assert engine.finished


# Memory


@pytest.mark.parametrize("n", range(6))
def test_no_memory_for_a_text_is_no_fault_of_the_peers(n):
    engine = Engine(True)
    engine.receive(b"\x81\x7e" + struct.pack(">H", 3000) + b"t" * 3000)
    testcapi.set_nomemory(n, n + 1)
    try:
        try:
            message = engine.next_message()
        finally:
            testcapi.remove_mem_hooks()
    except MemoryError:
        assert engine.data_to_send() == b""
        assert engine.error is None
        assert engine.finished
    else:
        assert message.payload == "t" * 3000


ROOT = str(Path(__file__).parents[2])

OUT_OF_MEMORY = """
import asyncio, sys, _testcapi
sys.path.insert(0, {root!r})
from tests.helpers.raw_peer import server_and_peer, frame, BINARY

async def main():
    async with server_and_peer(compression=None) as (a, pa), server_and_peer() as (b, pb):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        pa.sock.send(frame(BINARY, b"A" * 3000, masked=True))
        loop.call_soon(_testcapi.set_nomemory, {n}, {n} + 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _testcapi.remove_mem_hooks()
        await pb.send(frame(BINARY, b"SECRET" * 40, masked=True))
        assert (await b.read()).payload == b"SECRET" * 40
        try:
            async with asyncio.timeout(0.2):
                message = await a.read()
        except Exception as error:
            print(type(error).__name__)
        else:
            assert message.payload == b"A" * 3000, message

asyncio.run(main())
"""


def test_without_memory_no_connection_gets_the_bytes_of_another():
    """Each allocation of the first callback fails in turn, in a process of its own each."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", OUT_OF_MEMORY.format(root=ROOT, n=n)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8, 11)
    ]
    for each in running:
        _, errors = each.communicate(timeout=60)
        assert "SECRET" not in errors
        assert "AssertionError" not in errors


async def test_without_memory_a_transport_is_given_up(monkeypatch):
    (_, read, write), (_, _, peer_write) = connected_pair(compression=None, close_timeout=0.2)
    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    real = MemoryTransport._hand_over

    def hand_over(self, peer):
        protocol = peer._protocol
        buffer = protocol.get_buffer(len(self._sent))
        size = min(len(buffer), len(self._sent))
        buffer[:size] = self._sent[:size]
        del self._sent[:size]
        monkeypatch.setattr(MemoryTransport, "_hand_over", real)
        testcapi.set_nomemory(0, 1)
        try:
            protocol.buffer_updated(size)
        finally:
            testcapi.remove_mem_hooks()

    monkeypatch.setattr(MemoryTransport, "_hand_over", hand_over)
    peer_write(b"x" * 20_000)  # type: ignore[unused-coroutine]
    async with asyncio.timeout(BOUND):
        with pytest.raises(ConnectionClosedError, match="out of memory"):
            await reading
        await write.wait_closed()
        await peer_write.wait_closed()  # its transport has told it


@pytest.mark.parametrize("failing", [4, 7, 8, 12])
async def test_connections_that_end_for_want_of_memory_share_no_error(monkeypatch, failing):
    """There may be no memory for the error either, at first: none is kept for them all."""

    async def ended() -> ConnectionClosedError:
        (_, read, write), (_, _, peer_write) = connected_pair(compression=None, close_timeout=0.2)
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)

        def hand_over(self, peer):
            protocol = peer._protocol
            buffer = protocol.get_buffer(len(self._sent))
            size = min(len(buffer), len(self._sent))
            buffer[:size] = self._sent[:size]
            del self._sent[:size]
            patched.undo()
            testcapi.set_nomemory(0, failing)
            try:
                protocol.buffer_updated(size)
            finally:
                testcapi.remove_mem_hooks()

        with monkeypatch.context() as patched:
            patched.setattr(MemoryTransport, "_hand_over", hand_over)
            peer_write(b"x" * 20_000)  # type: ignore[unused-coroutine]
            async with asyncio.timeout(BOUND):
                with contextlib.suppress(MemoryError, ConnectionClosedError):
                    await reading
                await write.wait_closed()
                await peer_write.wait_closed()
        with pytest.raises(ConnectionClosedError, match="out of memory") as caught:
            await read()
        return caught.value

    assert await ended() is not await ended()


async def test_a_message_that_never_ends_is_not_kept_after_the_connection(side):
    async with end_and_peer(side, compression=None) as (end, peer):
        tracemalloc.start()
        try:
            reading = asyncio.create_task(end.read())
            await peer.send(peer.frame(BINARY, bytes(3_000_000))[:-5])
            await until(lambda: end.read.stats.bytes_in >= 3_000_000)
            peer.hang_up()
            with pytest.raises(ConnectionClosedError):
                await reading
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()


async def test_what_came_whole_is_still_read_after_the_connection(side):
    async with end_and_peer(side, compression=None) as (end, peer):
        await peer.send(peer.frame(TEXT, "one") + peer.frame(TEXT, "two")[:-1])
        peer.hang_up()
        await until(lambda: "closed" in repr(end.read))
        assert (await end.read()).payload == "one"
        with pytest.raises(ConnectionClosedError):
            await end.read()


async def test_a_closed_connection_goes_without_the_garbage_collector():
    gc.collect()
    before = connections()
    gc.disable()
    try:
        async with both_ends() as (client, server):
            await client.write("x")
            await server.read()
            assert connections() >= before + 2
            await client.write.close()
            await server.write.wait_closed()
            for each in (client, server):
                each.socket = each.response = None
            client.read = client.write = server.read = server.write = None
        await asyncio.sleep(0)
        del client, server
        await until(lambda: connections() <= before)
    finally:
        gc.enable()


def connections():
    return sum(isinstance(each, Connection) for each in gc.get_objects())


# Calls from within


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "keep_latest", "close"])
@pytest.mark.parametrize("at", ["received ping", "sent pong", "received binary", "sent close"])
@pytest.mark.parametrize("call", ["close", "write", "read", "socket"])
async def test_what_is_told_of_frames_may_call_the_connection(told, overflow, at, call):
    async with server_and_peer(
        read_high_water=1000, compression=None, overflow=overflow, close_timeout=0.02
    ) as (end, peer):
        done: list[Any] = []

        def then(line):
            if at in line and not done:
                done.append(line)
                if call == "close":
                    end.write.close().close()
                elif call == "write":
                    with contextlib.suppress(ConnectionClosedError):
                        end.write("from within")  # type: ignore[unused-coroutine]
                elif call == "read":
                    nested = end.read()
                    with contextlib.suppress(StopIteration, ConnectionClosedError):
                        nested.send(None)
                    nested.close()
                else:
                    end.socket.shutdown()  # type: ignore[call-arg]

        told.then = then
        data = b"".join(
            frame(PING, b"%d" % i, masked=True) + frame(BINARY, bytes(700), masked=True)
            for i in range(4)
        )
        await peer.send(data)
        await until(lambda: done or end.read.stats.bytes_in == len(data))
        peer.half_close()
        with contextlib.suppress(ConnectionClosedError):
            async for message in end.read:
                assert message.payload == bytes(700)


@pytest.mark.parametrize("call", ["close", "write", "read"])
async def test_an_extension_may_call_the_connection(call):
    hold: dict[Any, Any] = {}

    class Backwards(Extension):
        rsv = 2

        def encode(self, payload, *, opcode, begins, ends):
            return payload[::-1]

        def decode(self, payload, *, ends, limit):
            if hold:
                end = hold.popitem()[1]
                if call == "close":
                    end.write.close().close()
                elif call == "write":
                    end.write("from within")
                else:
                    nested = end.read()
                    with pytest.raises(Exception, match="another task is reading"):
                        nested.send(None)
                    nested.close()
            return payload[::-1]

    class Factory(ExtensionFactory):
        name = "x-backwards"

        def accept(self, parameters):
            return Backwards()

        def agree(self, parameters):
            return (), Backwards()

    options = {"compression": None, "extensions": [Factory()]}
    async with both_ends(server_options=options, **options) as (client, server):
        reading = asyncio.create_task(server.read())
        await server.settle()
        hold["end"] = server
        await client.write(Message(b"ab" * 400, opcode=2, fin=False))
        await client.write(Message(b"cd", opcode=0, fin=True))
        assert (await reading).payload == b"ab" * 400 + b"cd"
        if call == "close":
            assert await client.read() is None
            return
        await client.write("after")
        if call == "write":
            assert (await client.read()).payload == "from within"
        assert (await server.read()).payload == "after"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["raises", "writes"])
async def test_what_is_told_of_a_large_frame_cannot_get_into_it(told, how):
    async with server_and_peer(compression=None) as (end, peer):

        def then(line):
            if "sent binary" in line:
                told.then = None
                if how == "writes":
                    end.write("and this")  # type: ignore[unused-coroutine]
                else:
                    raise OSError(errno.ENOSPC, "no room for the log")

        told.then = then
        await end.write(b"A" * 20_000)
        await end.write("next")
        expected = [(BINARY, b"A" * 20_000), (TEXT, b"and this"), (TEXT, b"next")]
        if how == "raises":
            del expected[1]
        for each in expected:
            assert await peer.message() == each


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_log_that_fails_changes_no_message(told, side):
    async with end_and_peer(side, compression=None) as (end, peer):

        def then(line):
            raise RuntimeError(line)

        told.then = then
        await end.write([b"one", b"two"])
        assert await peer.message() == (BINARY, b"onetwo")
        await peer.write(TEXT, "a", fin=False)
        await peer.write(PING, "p")
        await peer.write(CONT, "b")
        assert (await end.read()).payload == "ab"
        assert (await peer.read()).opcode == PONG


# Streams that fail


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
async def test_a_stream_that_fails_silences_no_other_connection(monkeypatch, error):
    (_, read, _), (_, _, peer_write) = connected_pair(compression=None)
    (_, other_read, _), (_, _, other_write) = connected_pair(compression=None)
    real = MemoryTransport.write
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def write(self, data):
        if b"boom" in data:
            raise error("one write fails")
        real(self, data)

    monkeypatch.setattr(MemoryTransport, "write", write)
    peer_write("first")  # type: ignore[unused-coroutine]
    peer_write("boom")  # type: ignore[unused-coroutine]
    other_write("for another")  # type: ignore[unused-coroutine]
    async with asyncio.timeout(BOUND):
        assert (await other_read()).payload == "for another"
        other_write("again")  # type: ignore[unused-coroutine]
        assert (await other_read()).payload == "again"
        with pytest.raises(ConnectionClosedError):
            while await read() is not None:
                pass
        await peer_write.wait_closed()
        assert isinstance(reported[0]["exception"], error)
        with pytest.raises(ConnectionClosedError):
            await peer_write("after")
        await other_write.close()


async def test_a_socket_in_use_cannot_be_detached(side):
    async with end_and_peer(side) as (end, _):
        if end.socket.in_use:
            with pytest.raises(io.UnsupportedOperation, match="cannot be detached"):
                end.socket.detach()
        assert end.socket.fileno() >= 0


# Things that only the library makes


@pytest.mark.parametrize("kind", [_awaitables.NextMessage, _awaitables.MessageStream])
def test_a_read_is_made_by_reading_only(kind):
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        kind.__new__(kind)


async def test_a_read_is_not_copied():
    (_, read, write), (_, peer_read, _) = connected_pair()
    for each in (read(), read.stream(), read, write):
        with pytest.raises(TypeError):
            copy.copy(each)
    reading = asyncio.create_task(peer_read())
    await write.close()
    assert await reading is None


def test_a_random_source_that_returns_too_little_is_refused():
    code = (
        "import os; os.urandom = lambda n: b'1234'\n"
        "from coro_websocket._rfc6455.engine import Engine\n"
        "Engine(True).send_ping(b'')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "RuntimeError: os.urandom(4096) must return 4096 bytes" in done.stderr
