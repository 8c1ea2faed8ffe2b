"""Python code that runs inside TLS's calls and uses, or breaks, the connection that is in them.

Signal handlers and finalizers run there, and the callbacks of a context. OpenSSL's message
callback runs at the head of each record, which makes these tests deterministic.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import ssl
import threading
from typing import Any

import pytest
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import BINARY, CLOSE, TEXT, close_payload, until, watchdog
from tests.helpers.scripted_server import BOUND, scripted

from coro_websocket import ConcurrencyError, ConnectionClosedError, broadcast, connect

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

SIZES = [0, 10, 200, 5000, 20_000, 70_000]


class Boom(Exception):
    pass


class Inside:
    """A client's context that runs `code` at the head of each record, and what came of that."""

    def __init__(self, certificates, version: str = "TLSv1_3") -> None:
        self.context = ssl.create_default_context(cadata=certificates.ca)
        self.context.minimum_version = self.context.maximum_version = ssl.TLSVersion[version]
        self.context._msg_callback = self._message  # type: ignore[attr-defined]
        self.code: Any = None
        self.where = "read"
        self.runs = 0

    def run(self, where, code) -> None:
        self.where = where
        self.code = code

    def _message(self, _conn, direction, _version, content_type, _kind, _data) -> None:
        code = self.code
        if code is None or direction != self.where or content_type.name != "HEADER":
            return
        self.runs += 1
        self.code = None  # while it runs
        code()
        if self.code is None:
            self.code = code

    def once(self, where, code) -> None:
        def then_no_more():
            self.code = self.stop
            code()

        self.run(where, then_no_more)

    def stop(self) -> None:
        """No code runs any more."""


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def inside(request, certificates):
    return Inside(certificates, request.param)


@pytest.fixture
async def no_transports():
    """asyncio's own TLS has rules of its own for what runs inside it."""
    if isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
        pytest.skip("TLS is asyncio's own here")


@pytest.fixture
async def reported():
    """What the loop's exception handler is told."""
    loop = asyncio.get_running_loop()
    errors = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context.get("exception")))
    yield errors
    loop.set_exception_handler(None)


@pytest.fixture
def go_on():
    """What a script, in its thread, waits for."""
    return threading.Event()


def try_now(awaitable):
    """What an awaitable gives without waiting; None if it would wait."""
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    awaitable.close()
    return None


def numbered(count):
    """Messages of many sizes that say which they are."""
    return [n.to_bytes(4, "big") * (SIZES[n % len(SIZES)] // 4 + 1) for n in range(count)]


# In the call that reads


async def test_a_chunk_that_is_taken_inside_the_call_leaves_the_message_whole(
    inside, certificates, no_transports, go_on
):
    payload = bytes(range(256)) * 4000

    def script(link):
        link.accept()
        frame = link.frame(BINARY, payload)
        link.send(frame[:300_000])
        assert go_on.wait(BOUND)
        for at in range(300_000, len(frame), 50_000):
            link.send(frame[at : at + 50_000])
        link.close_received()

    with scripted(script, tls=certificates.server) as server:
        async with (
            asyncio.timeout(2 * BOUND),
            connect(
                server.url,
                tls=inside.context,
                read_high_water=1 << 24,
                ping_interval=None,
                close_timeout=0.1,
            ) as (_, read, _),
        ):
            stream = await read.stream()
            chunks = [await anext(stream)]

            def take():
                chunks.append(try_now(stream.__anext__()) or b"")

            inside.run("read", take)
            go_on.set()
            await until(lambda: read.stats.bytes_in > len(payload))
            inside.run("read", inside.stop)
            async for chunk in stream:
                chunks.append(chunk)
    assert inside.runs > 10
    assert b"".join(chunks) == payload  # type: ignore[arg-type]


def read_one(end, taken):
    message = try_now(end.read())
    if message is not None:
        taken.append(message.payload)


def read_batch(end, taken):
    taken.extend(message.payload for message in try_now(end.read.batch()) or ())


def send_one(end, taken):
    end.write("from inside")


def send_much(end, taken):
    end.write(bytes(20_000))


def ask(end, taken):
    end.write.ping()


def send_to_all(end, taken):
    broadcast([end.write], "from inside")


@pytest.mark.parametrize("use", [read_one, read_batch, send_one, send_much, ask, send_to_all])
async def test_the_connection_can_be_used_inside_the_call_that_reads(
    use, inside, certificates, no_transports, go_on
):
    messages = numbered(120)
    answers = []

    def script(link):
        link.accept()
        assert go_on.wait(BOUND)
        for message in messages:
            link.write(BINARY, message)
        while (frame := link.read()).opcode != CLOSE:
            answers.append(frame)
        link.write(CLOSE, close_payload(1000))

    with scripted(script, tls=certificates.server) as server:
        async with (
            asyncio.timeout(2 * BOUND),
            connect(
                server.url,
                tls=inside.context,
                read_high_water=1 << 24,
                write_high_water=1 << 24,
                compression=None,
            ) as opened,
        ):
            end = End(*opened)
            taken: list[Any] = []
            inside.run("read", lambda: use(end, taken))
            go_on.set()
            await until(lambda: end.read.stats.bytes_in > sum(map(len, messages)))
            inside.run("read", inside.stop)
            while len(taken) < len(messages):
                taken.append((await end.read()).payload)
    assert inside.runs > 10
    assert taken == messages
    if use in (send_one, send_much, send_to_all):
        assert len(answers) >= inside.runs - 20
        assert {frame.payload for frame in answers} <= {b"from inside", bytes(20_000)}


class End:
    """One end of a connection, as `connect` gives it."""

    def __init__(self, response, read, write):
        self.response = response
        self.read = read
        self.write = write


def close_it(end):
    end.write.close().close()


def shut_it_down(end):
    end.response.socket.shutdown()


def close_the_socket(end):
    end.response.socket.close()


@pytest.mark.parametrize("where", ["read", "write"])
@pytest.mark.parametrize("finish", [close_it, shut_it_down, close_the_socket])
async def test_the_connection_can_be_ended_inside_a_call(
    finish, where, inside, certificates, no_transports, go_on
):
    messages = numbered(60)

    def script(link):
        link.accept()
        assert go_on.wait(BOUND)
        with contextlib.suppress(OSError):
            for message in messages:
                link.write(BINARY, message)
            link.wait_end()

    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            end = End(*await connect(server.url, tls=inside.context, close_timeout=0.1))
            inside.once(where, lambda: finish(end))
            go_on.set()
            taken = []
            with contextlib.suppress(ConnectionClosedError):
                await end.write(bytes(200_000))
                async for message in end.read:
                    taken.append(message.payload)
            await end.write.close()
    assert inside.runs
    assert taken == messages[: len(taken)]


# In the call that writes


@pytest.mark.parametrize("size", [100, 3000, 100_000])
async def test_what_is_written_inside_the_call_that_writes_is_sent_once_and_whole(
    size, inside, certificates, no_transports
):
    received = []

    def script(link):
        link.accept()
        while (frame := link.read()).opcode != CLOSE:
            received.append(frame)
        link.write(CLOSE, close_payload(1000))

    with scripted(script, tls=certificates.server) as server:
        async with (
            asyncio.timeout(2 * BOUND),
            connect(server.url, tls=inside.context, compression=None, write_high_water=1 << 24) as (
                _,
                _,
                write,
            ),
        ):
            count = 0

            def write_more():
                nonlocal count
                if count < 40:  # each is encrypted too, and runs this again
                    count += 1
                    write(f"{count} " * (size // 4))  # type: ignore[unused-coroutine]
                    broadcast([write], "to all")

            inside.run("write", write_more)
            for n in range(60):
                await write(n.to_bytes(4, "big") * (size // 4))
                if n % 7 == 0:
                    await asyncio.sleep(0)
            inside.run("write", inside.stop)
    outer = [frame.payload for frame in received if frame.opcode == BINARY]
    inner = [frame.payload for frame in received if frame.opcode == TEXT]
    assert outer == [n.to_bytes(4, "big") * (size // 4) for n in range(60)]
    assert inner[::2] == [f"{n} ".encode() * (size // 4) for n in range(1, count + 1)]
    assert inner[1::2] == [b"to all"] * count
    assert count == 40


async def test_what_has_come_can_be_read_inside_the_call_that_writes(
    inside, certificates, no_transports
):
    messages = numbered(60)

    def script(link):
        link.accept()
        for message in messages:
            link.write(BINARY, message)
        assert link.read().payload == bytes(100_000)
        link.write(CLOSE, close_payload(1000))
        link.close_received()

    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            end = End(
                *await connect(
                    server.url, tls=inside.context, read_high_water=1 << 24, compression=None
                )
            )
            await until(lambda: end.read.stats.bytes_in > sum(map(len, messages)))
            taken: list[Any] = []
            inside.run("write", lambda: read_one(end, taken))
            await end.write(bytes(100_000))
            inside.run("write", inside.stop)
            assert taken
            taken += [message.payload async for message in end.read]
            await end.write.close()
    assert taken == messages


# What is raised there


@pytest.mark.parametrize("kind", [Boom, ValueError, OSError, asyncio.CancelledError])
async def test_what_is_raised_inside_the_call_that_reads_ends_the_connection_and_is_told(
    kind, inside, certificates, no_transports, reported, go_on
):
    messages = numbered(60)

    def script(link):
        link.accept()
        link.write(BINARY, messages[0])
        assert go_on.wait(BOUND)
        with contextlib.suppress(OSError):
            for message in messages[1:]:
                link.write(BINARY, message)
            link.wait_end()

    def fail():
        raise error

    error = kind("inside")
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            _, read, write = await connect(server.url, tls=inside.context, compression=None)
            taken = [(await read()).payload]
            inside.run("read", fail)
            go_on.set()
            with pytest.raises(ConnectionClosedError, match="inside") as caught:
                while True:
                    taken.append((await read()).payload)
            assert caught.value.code == 1006
            assert caught.value.__cause__ is error
            with pytest.raises(ConnectionClosedError, match="inside") as caught:
                await write("late")
            assert caught.value.__cause__ is error
            await write.wait_closed()
    assert taken == messages[: len(taken)]
    assert reported == [error]


async def test_no_memory_inside_the_call_that_reads_ends_the_connection(
    inside, certificates, no_transports, go_on
):
    def script(link):
        link.accept()
        assert go_on.wait(BOUND)
        link.write(TEXT, "a")
        link.wait_end()

    def fail():
        raise MemoryError

    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            _, read, write = await connect(server.url, tls=inside.context)
            inside.run("read", fail)
            go_on.set()
            with pytest.raises(ConnectionClosedError, match="memory"):
                await read()
            await write.wait_closed()


@pytest.mark.parametrize("kind", [Boom, MemoryError, ValueError, KeyboardInterrupt])
async def test_what_is_raised_inside_the_call_that_writes_is_raised_and_ends_the_connection(
    kind, inside, certificates, no_transports
):
    received = []

    def script(link):
        link.accept()
        with contextlib.suppress(AssertionError, OSError):
            while True:
                received.append(link.read().payload)

    def fail():
        raise error

    error = kind("inside")
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            _, read, write = await connect(server.url, tls=inside.context, compression=None)
            reading = asyncio.create_task(read())
            await write("first")
            await until(lambda: received)  # it is lost if we reset the connection before
            inside.once("write", fail)
            await asyncio.sleep(0)
            with pytest.raises(kind) as raised:
                await write(bytes(100_000))
            assert raised.value is error
            with pytest.raises(ConnectionClosedError, match="inside") as caught:
                await write("second")
            assert caught.value.__cause__ is error
            with pytest.raises(ConnectionClosedError) as caught:
                await reading
            assert caught.value.__cause__ is error
            await write.wait_closed()
    assert received == [b"first"]


async def test_what_is_raised_where_no_writer_waits_is_told_to_the_loop_and_the_reader(
    inside, certificates, no_transports, reported
):
    def script(link):
        link.accept()
        link.wait_end()

    def fail():
        raise error

    error = Boom("inside")
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            _, read, write = await connect(server.url, tls=inside.context)
            await write("first")
            await write("second")  # which is sent once the loop has its turn
            inside.once("write", fail)
            with pytest.raises(ConnectionClosedError) as caught:
                await read()
            assert caught.value.__cause__ is error
            await write.wait_closed()
    assert reported == [error]


async def test_what_is_raised_while_tls_is_ended_ends_the_connection(
    inside, certificates, no_transports, reported
):
    def script(link):
        link.accept()
        link.close_received()
        inside.once("write", fail)
        link.write(CLOSE, close_payload(1000))
        link.sock.settimeout(BOUND)
        with contextlib.suppress(OSError):
            link.sock.unwrap()

    def fail():
        raise Boom

    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(BOUND):
            _, _, write = await connect(server.url, tls=inside.context)
            await write.close()
    assert [type(error) for error in reported] in ([], [Boom])


# Real signals and finalizers


@contextlib.contextmanager
def signals(handler):
    """SIGVTALRM every millisecond of CPU time."""
    before = signal.signal(signal.SIGVTALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def finalizers(handler):
    """An object whose finalizer runs wherever Python collects what is garbage."""

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            if on:
                handler()
                Garbage()

    threshold = gc.get_threshold()
    on = [True]
    Garbage()
    gc.set_threshold(5)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        on.clear()
        gc.collect()


@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="needs POSIX's signals")
@pytest.mark.parametrize("means", [signals, finalizers])
async def test_handlers_that_read_and_write_lose_and_double_nothing(means, certificates):
    messages = numbered(400)
    received = []

    def script(link):
        link.accept()
        for message in messages:
            link.write(BINARY, message)
        while (frame := link.read()).opcode != CLOSE:
            received.append(frame.payload)
        link.write(CLOSE, close_payload(1000))

    context = ssl.create_default_context(cadata=certificates.ca)
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(2 * BOUND):
            end = End(
                *await connect(
                    server.url,
                    tls=context,
                    compression=None,
                    read_high_water=1 << 25,
                    write_high_water=1 << 25,
                    ping_interval=None,
                )
            )
            taken: list[Any] = []
            inner = outer = 0
            thread = threading.current_thread()
            # asyncio's own TLS cannot be entered again.
            writes = not isinstance(asyncio.get_running_loop(), TransportsOnlyLoop)

            def handler():
                nonlocal inner
                if threading.current_thread() is not thread:  # the scripted server's
                    return
                with contextlib.suppress(ConcurrencyError):  # in the middle of the other read
                    read_one(end, taken)
                if writes and inner <= len(taken):
                    end.write(b"inner" * 1000)
                    inner += 1

            with means(handler):
                while len(taken) < len(messages):
                    read_one(end, taken)
                    if outer <= len(taken):
                        end.write(b"outer" * 1000)
                        outer += 1
                    await asyncio.sleep(0)
            await end.write.close()
    assert sorted(taken) == sorted(messages)  # one may be taken while another is put down
    assert received.count(b"outer" * 1000) == outer
    assert received.count(b"inner" * 1000) == inner
    assert len(received) == outer + inner


# An object in ssl's place


class Keeping:
    """What plays an SSLObject, and keeps what it is given."""

    def __init__(self, tls):
        self.tls = tls
        self.given = []
        self.answer = None

    def __getattr__(self, name):
        if name == "_sslobj":
            raise AttributeError(name)
        return getattr(self.tls, name)

    def read(self, *arguments):
        self.given += arguments
        return self.tls.read(*arguments)

    def write(self, data):
        self.given.append(data)
        return self.tls.write(data)


class KeepingContext(ssl.SSLContext):
    kind = Keeping

    def wrap_bio(self, *arguments, **options):
        self.made = self.kind(super().wrap_bio(*arguments, **options))
        return self.made


@pytest.fixture
def keeping(certificates, no_transports):
    context = KeepingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates.ca)
    return context


async def test_an_object_in_ssls_place_is_given_none_of_our_memory(keeping, certificates):
    messages = numbered(30)

    def script(link):
        link.accept()
        for message in messages:
            link.write(BINARY, message)
            assert link.read().payload == message
        link.close_received()
        link.write(CLOSE, close_payload(1000))

    with scripted(script, tls=certificates.server) as server:
        async with (
            asyncio.timeout(2 * BOUND),
            connect(server.url, tls=keeping, compression=None) as (_, read, write),
        ):
            handshake = len(keeping.made.given)
            for message in messages:
                assert (await read()).payload == message
                await write(message)
            given = keeping.made.given[handshake:]
    assert {type(each) for each in given} == {int, bytes}


class TooMuchRead(Keeping):
    def read(self, *arguments):
        data = self.tls.read(*arguments)
        return data + bytes(1 << 20) if b"sentinel" in data else data


class NoBytesRead(Keeping):
    def read(self, *arguments):
        data = self.tls.read(*arguments)
        return bytearray(data) if b"sentinel" in data else data


@pytest.mark.parametrize("kind", [TooMuchRead, NoBytesRead])
async def test_an_object_that_reads_what_it_must_not_loses_the_connection(
    kind, keeping, certificates, reported
):
    def script(link):
        link.accept()
        link.write(TEXT, "sentinel")
        link.wait_end()

    keeping.kind = kind
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(BOUND):
            _, read, write = await connect(server.url, tls=keeping)
            with pytest.raises(ConnectionClosedError, match="at most n bytes"):
                await read()
            await write.wait_closed()
    assert [type(error) for error in reported] == [TypeError]


class TooMuchWritten(Keeping):
    def write(self, data):
        return self.tls.write(data) + 1_000_000 * (len(data) > 1000)


async def test_an_object_that_says_it_took_too_much_loses_the_connection(keeping, certificates):
    def script(link):
        link.accept()
        link.wait_end()

    keeping.kind = TooMuchWritten
    with scripted(script, tls=certificates.server) as server:
        async with asyncio.timeout(BOUND):
            _, _, write = await connect(server.url, tls=keeping, compression=None)
            with pytest.raises(ValueError, match="took"):
                await write(bytes(2000))
            with pytest.raises(ConnectionClosedError):
                await write("late")
            await write.wait_closed()
