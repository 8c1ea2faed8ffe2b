"""The one connection on trio, over the least that a transport has."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import threading
from typing import Any

import pytest
import trio
import trio.testing
from tests.helpers.bare_transport import BareTransport
from tests.helpers.raw_peer import close_payload, frame

from coro_websocket import (
    BroadcastStats,
    ConcurrencyError,
    ConnectionClosedError,
    Group,
    OtherEventLoopError,
    PingTimeout,
    broadcast,
)
from coro_websocket._connection.begin import begin_connection
from coro_websocket._options.options import Options
from coro_websocket._runtimes import trio_runtime
from coro_websocket._runtimes.current import current_loop
from coro_websocket._runtimes.trio_runtime import TrioRuntime
from coro_websocket._streams.fed_stream import FedStream
from coro_websocket.extensions import Deflate

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
blocked = trio.testing.wait_all_tasks_blocked


def on_trio(test=None, *, clock=None):
    """Run a test on trio; it may leave no task behind."""
    if test is None:
        return functools.partial(on_trio, clock=clock)

    @functools.wraps(test)
    def run(*args, **more):
        async def main():
            before = living()
            with trio.fail_after(8 if clock is None else 10**6):
                await test(*args, **more)
                while living() > before:
                    await trio.lowlevel.checkpoint()

        trio.run(main, clock=None if clock is None else clock())

    return run


def living():
    return trio.lowlevel.current_statistics().tasks_living


def mock_clock():
    return trio.testing.MockClock(autojump_threshold=0)


class FedEnd:
    """Our end, a server's, and the hand that feeds it."""

    def __init__(self, *, extensions=False, **options):
        self.transport = BareTransport()
        self.stream = FedStream(current_loop().runtime, None, self.transport)
        built = Options.for_wrap_io({"ping_interval": None, **options})
        _, self.extension = Deflate().agree(())
        _, self.read, self.write = begin_connection(
            self, built, client=False, extensions=[self.extension] * extensions
        )

    def become_stream(self, options):
        return self.stream

    def unread(self):
        return b""

    def frame(self, opcode, payload=b"", **bits):
        self.stream.feed(frame(opcode, payload, masked=True, **bits))

    def close(self):
        """The peer closes, and hangs up."""
        if not self.stream.lost:
            self.frame(CLOSE, close_payload(1000))
            self.stream.end()


@pytest.fixture
def ends():
    """Makes an end, and closes it."""
    return FedEnd


# Which runtime


@on_trio
async def test_the_runtime_is_that_of_the_trio_run():
    runtime = current_loop().runtime
    assert isinstance(runtime, TrioRuntime)
    assert current_loop().runtime is runtime


def test_every_run_has_a_runtime_of_its_own():
    async def main():
        return current_loop().runtime

    assert trio.run(main) is not trio.run(main)


def test_trio_may_be_a_guest_of_asyncio():
    got = []

    async def guest(loop):
        assert isinstance(current_loop().runtime, TrioRuntime)
        end = FedEnd()
        loop.call_soon(end.stream.feed, frame(TEXT, "hello", masked=True))
        got.append((await end.read()).payload)
        await end.write("x")
        end.close()

    async def host():
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            loop,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        assert not isinstance(current_loop().runtime, TrioRuntime)
        (await asyncio.wait_for(ended, 8)).unwrap()

    asyncio.run(host())
    assert got == ["hello"]


def test_a_run_may_end_while_connections_are_open():
    """With an alarm that was set, a message that was begun and a thread that compresses."""
    transports = []

    async def main():
        for extensions in (False, True):
            end = FedEnd(extensions=extensions, ping_interval=5)
            transports.append(end.transport)
            await end.write({"opcode": TEXT, "payload": "a", "fin": False})
            with trio.CancelScope() as scope:
                scope.cancel()
                await end.write({"opcode": 0, "payload": "x" * 100_000, "fin": False})

    trio.run(main)
    for transport in transports:
        assert [opcode for opcode, _ in transport.frames()] == [TEXT, 0, CLOSE]


# Reading


@on_trio
async def test_what_is_here_is_read_at_once(ends):
    end = ends()
    end.frame(TEXT, "hello")
    assert (await end.read()).payload == "hello"
    end.close()


@on_trio
async def test_a_read_that_waits_is_resumed(ends):
    end = ends()
    got = []

    async def read():
        async for message in end.read:
            got.append(message.payload)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for text in ("one", "two", "three"):
            await blocked()
            end.frame(TEXT, text)
        await blocked()
        assert got == ["one", "two", "three"]
        end.close()


@on_trio
async def test_a_read_may_itself_be_a_task(ends):
    end = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.read)
        await blocked()
        end.frame(TEXT, "hello")
    end.frame(TEXT, "again")
    assert (await end.read()).payload == "again"
    end.close()


@on_trio
async def test_a_read_that_is_cancelled_loses_nothing(ends):
    end = ends()
    for text in ("one", "two"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.read)
            await blocked()
            nursery.cancel_scope.cancel()
        end.frame(TEXT, text)
        assert (await end.read()).payload == text
    end.close()


@on_trio(clock=mock_clock)
async def test_a_read_that_takes_too_long_loses_nothing(ends):
    end = ends()
    data = frame(TEXT, "hello", masked=True)
    end.stream.feed(data[:8])
    for _ in range(3):
        with trio.move_on_after(1) as scope:
            await end.read()
        assert scope.cancelled_caught
    end.stream.feed(data[8:])
    assert (await end.read()).payload == "hello"
    end.close()


@on_trio
async def test_a_read_that_is_cancelled_and_woken_in_one_pass_loses_nothing(ends):
    """Whichever is first."""
    for cancelled_first in (True, False):
        end = ends()
        got: list[Any] = []

        async def read(end=end, got=got):
            got.append(await end.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await blocked()
            if cancelled_first:
                nursery.cancel_scope.cancel()
                end.frame(TEXT, "hello")
            else:
                end.frame(TEXT, "hello")
                nursery.cancel_scope.cancel()
        assert len(got) == (0 if cancelled_first else 1)
        end.frame(TEXT, "next")
        assert (await end.read()).payload == ("hello" if cancelled_first else "next")
        end.close()


@pytest.mark.parametrize("seed", range(5))
@on_trio(clock=mock_clock)
async def test_reads_that_are_cancelled_at_any_time_lose_nothing_and_repeat_nothing(ends, seed):
    """Many a deadline is that of the very pass in which the message comes."""
    chance = random.Random(seed)
    end = ends()
    sent = [str(i) for i in range(150)]
    got: list[str] = []
    cancelled = 0

    async def feed():
        data = b"".join(frame(TEXT, text, masked=True) for text in sent)
        while data:
            await trio.sleep(chance.randrange(3))
            size = chance.randrange(1, 25)
            end.stream.feed(data[:size])
            data = data[size:]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        while len(got) < len(sent):
            with trio.move_on_after(chance.randrange(3)) as scope:
                got.append((await end.read()).payload)
            cancelled += scope.cancelled_caught
    assert got == sent
    assert cancelled > 10
    end.close()


@on_trio
async def test_a_read_in_a_scope_that_is_cancelled_already_takes_what_is_here(ends):
    end = ends()
    with trio.CancelScope() as scope:
        scope.cancel()
        end.frame(TEXT, "hello")
        assert (await end.read()).payload == "hello"
        await end.read()
    assert scope.cancelled_caught
    end.frame(TEXT, "next")
    assert (await end.read()).payload == "next"
    end.close()


@on_trio
async def test_a_read_that_is_woken_before_it_is_suspended_goes_on(ends):
    """The transport gives what it has held back in the call that has it read on."""
    end = ends(read_high_water=1000)
    data = frame(BINARY, bytes(4000), masked=True)
    end.stream.feed(data[:2000])
    assert not end.transport.reading
    end.transport.resume_reading = functools.partial(end.stream.feed, data[2000:])
    assert (await end.read()).payload == bytes(4000)
    end.close()


@on_trio
async def test_one_task_reads_at_a_time(ends):
    end = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.read)
        await blocked()
        with pytest.raises(ConcurrencyError):
            await end.read()
        end.frame(TEXT, "hello")
    end.close()


@on_trio
async def test_a_read_is_awaited_once(ends):
    end = ends()
    reading = end.read()
    got = []

    async def read():
        got.append(await reading)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await blocked()
        with pytest.raises(RuntimeError, match="awaited already"):
            await reading
        with pytest.raises(RuntimeError, match="awaited already"):
            reading.send(None)
        end.frame(TEXT, "hello")
    assert got[0].payload == "hello"
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await reading
    end.close()


@on_trio
async def test_a_read_that_was_begun_in_one_task_goes_on_in_another(ends):
    """As a coroutine does that is driven by hand: what it yields is trio's."""
    end = ends()
    reading = end.read()

    class Yielded:
        def __await__(self):
            return (yield from reading)

    async with trio.open_nursery() as nursery:

        async def read():
            return await Yielded()

        nursery.start_soon(read)
        await blocked()
        nursery.cancel_scope.cancel()
    end.frame(TEXT, "hello")
    assert (await end.read()).payload == "hello"
    end.close()


@on_trio
async def test_what_is_thrown_into_a_read_ends_it_and_nothing_else(ends):
    end = ends()
    for end_it in ("throw", "close"):
        reading = end.read()
        assert reading.send(None) is not None
        if end_it == "throw":
            with pytest.raises(KeyError):
                reading.throw(KeyError("mine"))
        else:
            reading.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            reading.send(None)
        end.frame(TEXT, end_it)
        assert (await end.read()).payload == end_it
    end.close()


@on_trio
async def test_anext_with_a_default(ends):
    """It asks for the awaitable's iterator again at each step."""
    end = ends()
    got = []

    async def read():
        while (message := await anext(end.read, None)) is not None:
            got.append(message.payload)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for text in ("one", "two"):
            await blocked()
            end.frame(TEXT, text)
        await blocked()
        assert got == ["one", "two"]
        end.close()


@on_trio
async def test_a_message_is_streamed(ends):
    end = ends()
    chunks = []

    async def read():
        async for chunk in await end.read.stream():
            chunks.append(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for i, chunk in enumerate(("a", "b", "c")):
            await blocked()
            end.frame(TEXT if i == 0 else 0, chunk, fin=i == 2)
    assert chunks == ["a", "b", "c"]
    end.close()


@on_trio
async def test_a_batch_is_read(ends):
    end = ends()
    batches = []

    async def read():
        while batch := await end.read.batch():
            batches.append([message.payload for message in batch])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await blocked()
        end.stream.feed(frame(TEXT, "a", masked=True) + frame(TEXT, "b", masked=True))
        await blocked()
        assert batches == [["a", "b"]]
        end.close()


@on_trio
async def test_a_ping_is_answered_though_nobody_reads(ends):
    end = ends()
    end.frame(PING, b"1")
    assert end.transport.frames() == [(PONG, b"1")]
    end.close()


@on_trio
async def test_a_ping_behind_a_message_is_answered_by_the_read_that_comes_to_it(ends):
    end = ends(read_high_water=1000)
    end.stream.feed(frame(TEXT, "hello", masked=True) + frame(PING, b"1", masked=True))
    assert (await end.read()).payload == "hello"
    with trio.CancelScope() as scope:
        scope.cancel()
        await end.read()
    assert end.transport.frames() == [(PONG, b"1")]
    end.close()


# Writing


@on_trio
async def test_what_is_written_is_sent_at_once(ends):
    end = ends()
    await end.write("hello")
    assert end.transport.frames() == [(TEXT, b"hello")]
    end.write("nobody awaits this")
    assert end.transport.frames() == [(TEXT, b"nobody awaits this")]
    end.close()


@on_trio
async def test_writers_that_wait_for_room_go_on_when_there_is(ends):
    end = ends(write_high_water=1000)
    end.stream.pause_writing()
    await end.write(bytes(100))
    done = []

    async def write(n):
        await end.write(bytes(n))
        done.append(n)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, 5000)
        nursery.start_soon(write, 6000)
        await blocked()
        assert not done
        end.stream.resume_writing()
    assert sorted(done) == [5000, 6000]
    assert sorted(len(payload) for _, payload in end.transport.frames()) == [100, 5000, 6000]
    end.close()


@on_trio
async def test_a_writer_that_is_cancelled_while_it_waits_has_sent_all_of_its_message(ends):
    end = ends(write_high_water=1000)
    end.stream.pause_writing()
    with trio.CancelScope() as scope:
        scope.cancel()
        await end.write(bytes(5000))
    assert scope.cancelled_caught
    end.stream.resume_writing()
    assert end.transport.frames() == [(BINARY, bytes(5000))]
    end.close()


@on_trio
async def test_messages_in_fragments_take_turns(ends):
    end = ends()

    async def fragments(*texts):
        for text in texts:
            await trio.lowlevel.checkpoint()
            yield text

    async def write(message):
        await end.write(message)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(write, fragments(name, name, name))
        nursery.start_soon(write, "whole")
    sent = [payload.decode() for _, payload in end.transport.frames()]
    assert sent.count("whole") == 1
    sent.remove("whole")
    assert sorted(sent) == [""] * 3 + [*"aaabbbccc"]
    together = "".join(sent)
    assert all(name * 3 in together for name in "abc")
    end.close()


@on_trio
async def test_who_waits_for_a_turn_and_is_cancelled_gives_it_up(ends):
    end = ends()

    async def write(text):
        await end.write(text)

    await end.write({"opcode": TEXT, "payload": "a", "fin": False})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "cancelled")
        await blocked()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "next")
        await blocked()
        await end.write({"opcode": 0, "payload": "b", "fin": True})
    assert [payload for _, payload in end.transport.frames()] == [b"a", b"b", b"next"]
    end.close()


@on_trio
async def test_a_task_that_ends_in_the_middle_of_its_message_breaks_it_off(ends):
    end = ends()

    async def begin():
        await end.write({"opcode": TEXT, "payload": "a", "fin": False})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
        await blocked()
    [first, (opcode, payload)] = end.transport.frames()
    assert first == (TEXT, b"a")
    assert opcode == CLOSE
    assert payload.startswith((1011).to_bytes(2, "big"))
    with pytest.raises(ConnectionClosedError):
        await end.write("late")
    end.close()


@on_trio
async def test_a_task_that_ends_after_its_message_breaks_nothing_off(ends):
    end = ends()

    async def send():
        await end.write({"opcode": TEXT, "payload": "a", "fin": False})
        await end.write({"opcode": 0, "payload": "b", "fin": True})

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
    await end.write("whole")
    assert [payload for _, payload in end.transport.frames()] == [*[b"a", b"b"] * 2, b"whole"]
    end.close()


@on_trio
async def test_much_that_is_written_lets_the_other_tasks_run(ends):
    end = ends(write_high_water=None)
    others = 0

    async def other():
        nonlocal others
        while True:
            others += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(80):
            await end.write(bytes(100_000))
        nursery.cancel_scope.cancel()
    assert others >= 4
    end.close()


@on_trio
async def test_a_thread_compresses_what_is_large(ends):
    end = ends(extensions=True)

    async def write(text):
        await end.write(text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "x" * 100_000)
        await blocked()
        await end.write("y" * 300)
    sent = end.transport.frames()
    assert len(sent) == 2
    assert all(len(payload) < 1000 for _, payload in sent)
    end.close()


@on_trio
async def test_a_writer_that_is_cancelled_while_a_thread_compresses_is_not_waited_for(ends):
    """What the extension has seen is sent all the same."""
    end = ends(extensions=True)
    with trio.CancelScope() as scope:
        scope.cancel()
        await end.write("x" * 100_000)
    assert scope.cancelled_caught
    assert not end.transport.written
    await end.write("y" * 300)
    assert len(end.transport.frames()) == 2
    end.close()


@on_trio
async def test_a_thread_that_fails_to_compress_fails_the_write(ends):
    end = ends(extensions=True)

    def fail(*args, **more):
        raise KeyError("mine")

    end.extension.encode = fail
    with pytest.raises(KeyError):
        await end.write("x" * 100_000)
    end.stream.end()


@on_trio
async def test_a_write_in_a_cancelled_scope_is_sent_whole(ends):
    end = ends(write_high_water=None)
    with trio.CancelScope() as scope:
        scope.cancel()
        for i in range(40):
            await end.write(bytes([i]) * 100_000)
    sent = end.transport.frames()
    assert scope.cancelled_caught
    assert sent == [(BINARY, bytes([i]) * 100_000) for i in range(len(sent))]
    end.close()


# Pings


@on_trio
async def test_a_ping_of_ours_is_answered(ends):
    end = ends()
    pong = end.write.ping(b"1")
    assert end.transport.frames() == [(PING, b"1")]
    assert not pong.done()
    told: list[Any] = []
    pong.add_done_callback(told.append)
    pong.add_done_callback(print)
    assert pong.remove_done_callback(print) == 1
    results = []

    async def wait():
        results.append(await pong)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await blocked()
        end.frame(PONG, b"1")
    assert results == [pong.result()] * 2
    assert pong.result() >= 0
    assert pong.exception() is None
    await blocked()
    assert told == [pong]
    pong.add_done_callback(told.append)
    await blocked()
    assert told == [pong, pong]
    end.close()


@on_trio
async def test_a_task_that_is_cancelled_gives_up_a_ping_for_itself_only(ends):
    end = ends()
    pong = end.write.ping(b"1")
    with trio.CancelScope() as scope:
        scope.cancel()
        await pong
    assert scope.cancelled_caught
    end.frame(PONG, b"1")
    assert await pong >= 0
    end.close()


@on_trio
async def test_a_ping_fails_with_the_connection(ends):
    end = ends()
    pong = end.write.ping()
    end.stream.end()
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            await pong
    assert isinstance(pong.exception(), ConnectionClosedError)


@on_trio
async def test_who_waits_for_a_ping_learns_of_the_end_if_there_was_no_memory_to_wake_it(
    ends, monkeypatch
):
    end = ends()
    pong = end.write.ping(b"1")

    def fail_once(task):
        monkeypatch.undo()
        raise MemoryError

    async def wait_for_pong():
        with pytest.raises(ConnectionClosedError, match="out of memory"):
            await pong

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_pong)
        await blocked()
        monkeypatch.setattr(trio_runtime, "reschedule", fail_once)
        end.frame(PONG, b"1")


@on_trio
async def test_a_callback_of_a_ping_that_fails_is_told_of(ends, caplog):
    end = ends()
    pong = end.write.ping(b"1")

    def fail(_):
        raise KeyError("mine")

    pong.add_done_callback(fail)
    with caplog.at_level(logging.ERROR, "coro_websocket"):
        end.frame(PONG, b"1")
        await blocked()
    assert [record.exc_info[0] for record in caplog.records] == [KeyError]
    end.close()


# Time


@on_trio(clock=mock_clock)
async def test_a_close_that_nobody_answers_takes_close_timeout(ends):
    end = ends(close_timeout=5)
    start = trio.current_time()
    await end.write.close()
    assert trio.current_time() - start == pytest.approx(5, abs=0.1)
    assert end.transport.closed
    assert end.read.close_code == 1006


@on_trio(clock=mock_clock)
async def test_a_silent_peer_is_found_out(ends):
    end = ends(ping_interval=10, ping_timeout=7)
    start = trio.current_time()
    with pytest.raises(PingTimeout):
        await end.read()
    assert trio.current_time() - start == pytest.approx(17, abs=0.1)
    assert [opcode for opcode, _ in end.transport.frames()] == [PING]


@on_trio(clock=mock_clock)
async def test_a_peer_that_answers_is_kept(ends):
    end = ends(ping_interval=10, ping_timeout=7)
    with trio.move_on_after(100):
        while True:
            await trio.sleep(1)
            for opcode, payload in end.transport.frames():
                assert opcode == PING
                end.frame(PONG, payload)
    assert not end.stream.lost
    assert end.read.stats.latency is not None
    end.close()


@on_trio(clock=mock_clock)
async def test_heartbeats_are_sent(ends):
    end = ends(heartbeat=10)
    await trio.sleep(35)
    assert end.transport.frames() == [(PONG, b"")] * 3
    end.close()


@on_trio(clock=mock_clock)
async def test_a_ping_message_that_fails_ends_the_connection_and_not_the_run(ends):
    def fail():
        raise KeyError("mine")

    end = ends(ping_interval=10, ping_message=fail)
    with pytest.raises(ConnectionClosedError, match="ping_message failed"):
        await end.read()
    end.stream.end()


@on_trio(clock=mock_clock)
async def test_a_ping_message_that_exits_is_told_of(ends, caplog):
    """In a task of trio's own that would be the end of the run, and as an internal error."""

    def fail():
        raise SystemExit("mine")

    end = ends(ping_interval=10, ping_message=fail)
    with caplog.at_level(logging.ERROR, "coro_websocket"):
        await trio.sleep(15)
    assert [record.exc_info[0] for record in caplog.records] == [SystemExit]
    end.close()


# The end


@on_trio
async def test_close_is_a_handshake_that_closes_the_transport(ends):
    end = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.write.close, 4000, "bye")
        nursery.start_soon(end.write.wait_closed)
        await blocked()
        assert end.transport.frames() == [(CLOSE, close_payload(4000, "bye"))]
        end.frame(CLOSE, close_payload(4000, "bye"))
        assert end.transport.closed
        end.stream.end()
    assert await end.read() is None
    assert end.read.close_code == 4000


@on_trio
async def test_everybody_who_waits_learns_of_the_end(ends):
    end = ends(write_high_water=1000)
    failures = []

    async def told(name, function, *args):
        try:
            await function(*args)
        except ConnectionClosedError:
            failures.append(name)

    async def write():
        await end.write({"opcode": TEXT, "payload": "x" * 5000, "fin": False})

    async def write_in_turn():
        await end.write("in turn")

    async def wait_for_pong():
        await pong

    pong = end.write.ping()
    end.stream.pause_writing()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told, "read", end.read)
        nursery.start_soon(told, "drained", write)
        await blocked()
        nursery.start_soon(told, "turn", write_in_turn)
        nursery.start_soon(told, "ping", wait_for_pong)
        nursery.start_soon(end.write.wait_closed)
        await blocked()
        assert not failures
        end.stream.end(OSError("gone"))
    assert sorted(failures) == ["drained", "ping", "read", "turn"]


@on_trio
async def test_a_callback_that_was_to_come_soon_comes(ends):
    end = ends()
    end.stream.pause_writing()
    end.stream.feed_eof()
    await blocked()
    assert end.transport.closed
    end.stream.end()


def test_a_connection_whose_run_has_ended_says_so():
    async def main():
        end = FedEnd()
        reading = end.read()
        async with trio.open_nursery() as nursery:

            async def read():
                await reading

            nursery.start_soon(read)
            await blocked()
            nursery.cancel_scope.cancel()
        return end

    end = trio.run(main)

    async def use():
        for call in (end.read, functools.partial(end.write, "x"), end.write.wait_closed):
            with pytest.raises(OtherEventLoopError, match=r"trio\.from_thread\.run\("):
                await call()

    trio.run(use)
    with pytest.raises(OtherEventLoopError):
        end.read().send(None)
    end.stream.end()
    assert end.transport.closed


# Threads


@on_trio
async def test_another_thread_is_told_what_to_do_instead(ends):
    end = ends()
    group = Group()
    group.add(end.write)
    advice = {}

    def call():
        for name, function in (
            ("read", end.read),
            ("write", functools.partial(end.write, "x")),
            ("ping", end.write.ping),
            ("close", end.write.close),
            ("wait_closed", end.write.wait_closed),
            ("broadcast", functools.partial(broadcast, [end.write], "x")),
            ("group.broadcast", functools.partial(group.broadcast, "x")),
            ("group.add", functools.partial(group.add, end.write)),
            ("group.discard", functools.partial(group.discard, end.write)),
        ):
            try:
                function().send(None)  # type: ignore[union-attr]
            except OtherEventLoopError as error:
                advice[name] = str(error).rpartition("use ")[2]

    thread = threading.Thread(target=call)
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    assert advice == {
        "read": "trio.from_thread.run(read)",
        "write": "trio.from_thread.run(write, message)",
        "ping": "trio.from_thread.run_sync(write.ping)",
        "close": "trio.from_thread.run(write.close)",
        "wait_closed": "trio.from_thread.run(write.wait_closed)",
        "broadcast": "trio.from_thread.run_sync(broadcast, writes, message)",
        "group.broadcast": "trio.from_thread.run_sync(group.broadcast, message)",
        "group.add": "trio.from_thread.run_sync(group.add, write)",
        "group.discard": "trio.from_thread.run_sync(group.discard, write)",
    }
    assert not end.transport.written
    end.close()


@on_trio
async def test_what_another_thread_is_told_to_do_works(ends):
    end = ends()
    group = Group()
    end.frame(TEXT, "hello")

    def call():
        run, run_sync = trio.from_thread.run, trio.from_thread.run_sync
        assert run(end.read).payload == "hello"
        run(end.write, "x")
        run_sync(end.write.ping, b"1")
        assert run_sync(broadcast, [end.write], "y") == []
        assert run_sync(group.broadcast, "to nobody") == BroadcastStats()
        run_sync(group.add, end.write)
        assert run_sync(group.broadcast, "z") == BroadcastStats(sent=1)

    await trio.to_thread.run_sync(call)
    assert end.transport.frames() == [(TEXT, b"x"), (PING, b"1"), (TEXT, b"y"), (TEXT, b"z")]
    end.close()
    assert not group


def test_a_group_goes_from_one_run_to_the_next():
    group = Group()

    async def main():
        assert group.broadcast("to nobody") == BroadcastStats()
        end = FedEnd()
        with group.member(end.write):
            assert group.broadcast("x") == BroadcastStats(sent=1)
        assert end.transport.frames() == [(TEXT, b"x")]
        end.close()

    for _ in range(2):
        trio.run(main)
