"""Reading: what `read` gives, when, and to whom. RFC 6455 sections 5, 7 and 8."""

from __future__ import annotations

import asyncio
import contextvars
import random
import struct
import sys

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    both_ends,
    client_and_peer,
    client_of_echo,
    close_payload,
    end_and_peer,
    frame,
    turns_of_the_loop,
    until,
    watchdog,
)

from coro_websocket import (
    ConnectionClosedError,
    Message,
    ProtocolError,
    connect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["client", "server"])
def side(request):
    """Which end of the connection is the library's."""
    return request.param


async def waiting(coroutine) -> asyncio.Task:
    """A task of the coroutine that has come as far as it can."""
    task = asyncio.create_task(coroutine)
    await turns_of_the_loop()
    assert not task.done()
    return task


async def consume(read) -> list:
    return [msg.payload async for msg in read]


# What comes


async def test_frames_in_the_segment_of_the_handshake_are_delivered(side):
    masked = side == "server"
    leftover = b"".join(frame(TEXT, f"{i}", masked=masked) for i in range(3))
    async with end_and_peer(side, leftover=leftover) as (end, _peer):
        assert [(await end.read()).payload for _ in range(3)] == ["0", "1", "2"]


async def test_a_whole_conversation_in_the_segment_of_the_handshake(side):
    masked = side == "server"
    leftover = b"".join(
        [
            frame(TEXT, "one", masked=masked),
            frame(PING, "alive?", masked=masked),
            frame(CLOSE, close_payload(1000, "bye"), masked=masked),
        ]
    )
    async with end_and_peer(side, leftover=leftover) as (end, peer):
        assert (await peer.read()).payload == b"alive?"
        assert await end.read() == Message("one", 1, mask=masked)
        reading = asyncio.create_task(end.read())
        assert (await peer.read()).close == (1000, "")
        peer.hang_up()
        assert await reading is None
        assert (end.read.close_code, end.read.close_reason) == (1000, "bye")


async def test_bytes_that_come_one_at_a_time(side):
    async with end_and_peer(side) as (end, peer):
        stream = (
            peer.frame(TEXT, "é" * 63)
            + peer.frame(TEXT, "fragm", fin=False)
            + peer.frame(PING, "p")
            + peer.frame(CONT, "ented")
            + peer.frame(CLOSE, close_payload(1000))
        )
        reading = asyncio.create_task(consume(end.read))
        for i in range(len(stream)):
            await peer.send(stream[i : i + 1])
            await asyncio.sleep(0)
        assert (await peer.read()).opcode == PONG
        assert await peer.close_received() == (1000, "")
        peer.hang_up()
        assert await reading == ["é" * 63, "fragmented"]


async def test_a_large_message_in_many_fragments_arrives_whole():
    data = random.Random(1).randbytes(3_000_000)
    async with both_ends() as (client, server):
        reading = asyncio.create_task(server.read())
        await client.write(data[i : i + 4099] for i in range(0, len(data), 4099))
        assert (await reading).payload == data


async def test_tls_carries_messages_of_every_size(certificates):
    async with client_of_echo(server_tls=certificates.server, tls=certificates.client) as end:
        for size in (0, 1, 125, 126, 16384, 65535, 65536, 1_000_000):
            data = random.Random(size).randbytes(size)
            await end.write(data)
            assert (await end.read()).payload == data


async def test_tls_a_large_message_both_ways_at_once(certificates):
    async with serve(gather_both, tls=certificates.server) as server:
        async with asyncio.timeout(10):
            async with connect(server.url, tls=certificates.client) as (_, read, write):
                reading = asyncio.create_task(read())
                await write(b"c" * 4_000_000)
                assert (await reading).payload == b"s" * 4_000_000
                assert (await read()).payload == "4000000"


async def gather_both(req, read, write):
    reading = asyncio.create_task(read())
    await write(b"s" * 4_000_000)
    await write(str((await reading).len))
    await read()


# The end


@pytest.mark.parametrize(("payload", "code"), [(None, 1005), (1000, 1000), (1001, 1001)])
async def test_a_clean_end_is_none_and_stays_none_rfc_6455_7_1_4(side, payload, code):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "last words")
        await peer.write(CLOSE, b"" if payload is None else close_payload(payload, "bye"))
        assert (await end.read()).payload == "last words"
        reading = asyncio.create_task(end.read())
        # The Close is answered with its code (section 5.5.1).
        assert (await peer.read()).close == (payload, "")
        peer.hang_up()
        assert await reading is None
        for _ in range(3):
            assert await end.read() is None
        assert await consume(end.read) == []
        assert await consume(end.read.fragments()) == []
        assert end.read.close_code == code
        assert end.read.close_reason == ("" if payload is None else "bye")


@pytest.mark.parametrize("code", [1002, 1003, 1008, 1011, 1012, 3000, 4000, 4999])
async def test_an_error_code_raises_with_code_and_reason_each_time_rfc_6455_7_1_6(side, code):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "first")
        await peer.write(CLOSE, close_payload(code, "raison d'être"))
        assert (await end.read()).payload == "first"
        reading = asyncio.create_task(end.read())
        assert (await peer.read()).close == (code, "")
        peer.hang_up()
        with pytest.raises(ConnectionClosedError, match=f"{code}.*raison d'être") as caught:
            await reading
        assert type(caught.value) is ConnectionClosedError
        assert isinstance(caught.value, ConnectionError)
        for attempt in (end.read(), anext(end.read), end.read(fragments=True, control=True)):
            with pytest.raises(ConnectionClosedError) as again:
                await attempt
            assert (again.value.code, again.value.reason) == (code, "raison d'être")
        assert (end.read.close_code, end.read.close_reason) == (code, "raison d'être")


@pytest.mark.parametrize("how", ["hang_up", "reset"])
async def test_an_end_without_close_is_1006_rfc_6455_7_1_5(side, how):
    async with end_and_peer(side) as (end, peer):
        reading = await waiting(end.read())
        getattr(peer, how)()
        with pytest.raises(ConnectionClosedError) as caught:
            await reading
        assert (caught.value.code, caught.value.reason) == (1006, "")
        with pytest.raises(ConnectionClosedError):
            await end.read()
        assert end.read.close_code == 1006


async def test_messages_that_came_before_the_connection_was_lost_are_given_first(side):
    async with end_and_peer(side) as (end, peer):
        for i in range(100):
            await peer.write(TEXT, str(i))
        await peer.send(peer.frame(TEXT, "cut off")[:-1])
        peer.half_close()
        await end.write.wait_closed()
        for i in range(100):
            assert (await end.read()).payload == str(i)
        with pytest.raises(ConnectionClosedError):
            await end.read()


@pytest.mark.parametrize("reader", [False, True])
async def test_a_reset_right_behind_a_message_is_noticed(side, reader):
    """uvloop tells of a socket's error once, whether or not there is more to receive."""
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read()) if reader else None
        await turns_of_the_loop()
        peer.send_now(peer.frame(TEXT, "last words"))
        peer.reset()
        assert (await (reading or end.read())).payload == "last words"
        with pytest.raises(ConnectionClosedError):
            async with asyncio.timeout(BOUND):
                await end.read()


def test_a_reset_is_noticed_on_a_loop_that_is_derived_from_uvloops():
    uvloop = pytest.importorskip("uvloop")

    class Derived(uvloop.Loop):  # type: ignore[name-defined]
        pass

    async def main() -> None:
        for side in ("client", "server"):
            for reader in (False, True):
                await test_a_reset_right_behind_a_message_is_noticed(side, reader)

    with asyncio.Runner(loop_factory=Derived) as runner:
        runner.run(main())


@pytest.mark.parametrize("answers", [False, True])
async def test_a_peer_that_always_has_more_does_not_keep_the_loop(side, answers):
    async with end_and_peer(side) as (end, peer):
        n = 0

        async def consume():
            nonlocal n
            async for _ in end.read:
                n += 1
                peer.send_now(peer.frame(TEXT, "more"))
                if answers:
                    await end.write("answer")

        consuming = asyncio.create_task(consume())
        await peer.write(TEXT, "first")
        await until(lambda: n > 100)
        consuming.cancel()
        await asyncio.wait([consuming])


async def test_a_reset_behind_more_than_is_received_at_once_is_noticed(side):
    async with end_and_peer(side, read_high_water=65536) as (end, peer):
        message = peer.frame(BINARY, b"x" * 10_000)
        with pytest.raises(BlockingIOError):  # noqa: PT012
            for _ in range(10_000):
                peer.sock.send(message)
                await asyncio.sleep(0)
        peer.reset()
        n = 0
        with pytest.raises(ConnectionClosedError):  # noqa: PT012
            async with asyncio.timeout(BOUND):
                while True:
                    assert (await end.read()).len == 10_000
                    n += 1
        assert n > 6


async def test_a_socket_that_we_shut_down_ends_reading_without_an_error(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "Hello There!")
        payloads = []
        async for msg in end.read:
            payloads.append(msg.payload)
            end.socket.shutdown()
        assert payloads == ["Hello There!"]
        assert await end.read() is None


# Waiting in every way that asyncio has


async def test_a_task_may_be_made_of_a_read(side):
    async with end_and_peer(side) as (end, peer):
        task = await waiting(end.read())
        assert "read()" in repr(task) or "NextMessage" in repr(task)
        await peer.write(TEXT, "x")
        assert (await task).payload == "x"
        assert task.done()
        repr(task)
        task.get_stack()


async def test_wait_for_gives_a_message_that_comes_in_time():
    async with client_and_peer() as (end, peer):
        waiting_for = asyncio.create_task(asyncio.wait_for(end.read(), BOUND))
        await peer.write(TEXT, "x")
        assert (await waiting_for).payload == "x"
        await peer.write(TEXT, "y")
        await peer.write(TEXT, "z")
        assert (await asyncio.wait_for(end.read(), BOUND)).payload == "y"
        assert (await asyncio.wait_for(end.read(), None)).payload == "z"


async def test_wait_for_that_times_out_loses_nothing():
    async with client_and_peer() as (end, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(end.read(), 0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(end.read(), 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await end.read()
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"


async def test_timeout_around_an_iteration():
    async with client_and_peer() as (end, peer):
        await peer.write(TEXT, "x")
        got = []
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.05):
                async for msg in end.read:
                    got.append(msg.payload)
        await peer.write(TEXT, "y")
        got.append((await end.read()).payload)
        assert got == ["x", "y"]


async def test_gather_reads_from_many_connections():
    async with both_ends() as (one, other), both_ends() as (third, fourth):
        gathered = asyncio.gather(one.read(), other.read(), third.read(), fourth.read())
        await turns_of_the_loop()
        for i, end in enumerate([other, one, fourth, third]):
            await end.write(str(i))
        assert [msg.payload for msg in await gathered] == ["0", "1", "2", "3"]


async def test_gather_of_a_read_and_a_write_on_one_connection():
    async with client_of_echo() as end:
        msg, done = await asyncio.gather(end.read(), end.write("x"))
        assert (msg.payload, done) == ("x", None)


async def test_a_task_group_reads_and_writes_at_once():
    async with client_of_echo() as end:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(end.read())
            group.create_task(end.write("x"))
        assert reading.result().payload == "x"


async def test_a_task_group_that_fails_cancels_the_read_and_loses_nothing():
    async with client_and_peer() as (end, peer):
        with pytest.raises(ExceptionGroup):  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(end.read())
                await turns_of_the_loop()
                raise ValueError
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"


async def test_a_shielded_read_goes_on_when_its_waiter_is_cancelled():
    async with client_and_peer() as (end, peer):
        reading = asyncio.create_task(end.read())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), 0.01)
        await peer.write(TEXT, "x")
        assert (await reading).payload == "x"


async def test_asyncio_wait_says_which_connection_has_a_message():
    async with both_ends() as (one, other), both_ends() as (third, fourth):
        reads = {asyncio.create_task(end.read()) for end in (one, third)}
        await fourth.write("x")
        done, pending = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().payload for task in done] == ["x"]
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
        await other.write("y")
        assert (await one.read()).payload == "y"


async def test_anext_with_and_without_a_default():
    async with client_and_peer() as (end, peer):
        await peer.write(TEXT, "x")
        assert (await anext(end.read)).payload == "x"
        await peer.write(TEXT, "y")
        assert (await anext(end.read, None)).payload == "y"
        await peer.write(CLOSE)
        peer.half_close()
        assert await anext(end.read, "no more") == "no more"
        with pytest.raises(StopAsyncIteration):
            await anext(end.read)


async def test_run_in_debug_mode(recwarn):
    asyncio.get_running_loop().set_debug(True)
    async with client_of_echo() as end:
        reading = await waiting(end.read())
        await end.write("x")
        assert (await reading).payload == "x"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_tasks_read_and_write():
    def eager(loop, coroutine, **options):
        return asyncio.Task(coroutine, loop=loop, **{**options, "eager_start": True})

    asyncio.get_running_loop().set_task_factory(eager)
    async with client_of_echo() as end:
        reading = asyncio.create_task(end.read())
        assert not reading.done()
        writing = asyncio.create_task(end.write("x"))
        await writing
        assert (await reading).payload == "x"
        await end.write("y")
        await end.write("z")
        assert (await end.read()).payload == "y"
        await until(lambda: True)
        assert (await asyncio.create_task(end.read())).payload == "z"


# One reader at a time


async def test_a_read_that_two_tasks_await_at_once_is_refused_to_the_second():
    async with client_and_peer() as (end, peer):
        reading = end.read()

        async def wait():
            return await reading

        first = await waiting(wait())
        second = asyncio.create_task(wait())
        try:
            await turns_of_the_loop()
            await peer.write(TEXT, "x")
            async with asyncio.timeout(BOUND):
                results = await asyncio.gather(first, second, return_exceptions=True)
            assert results[0] == Message("x", 1)
            assert isinstance(results[1], RuntimeError)
        finally:
            first.cancel()
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)


async def test_a_read_that_is_never_awaited_takes_nothing(recwarn):
    async with client_and_peer() as (end, peer):
        await peer.write(TEXT, "x")
        end.read()  # type: ignore[unused-coroutine]
        abandoned = end.read()
        assert (await end.read()).payload == "x"
        await peer.write(TEXT, "y")
        abandoned.close()
        assert (await end.read()).payload == "y"
    assert not recwarn.list


async def test_a_read_that_was_closed_cannot_be_awaited():
    async with client_and_peer() as (end, _peer):
        reading = end.read()
        reading.close()
        with pytest.raises(RuntimeError):
            await reading


# Cancelling


async def test_a_cancelled_read_loses_no_message(side):
    async with end_and_peer(side) as (end, peer):
        got = []
        for i in range(40):
            reading = asyncio.create_task(end.read())
            await turns_of_the_loop(i % 4)
            if i % 3:
                await peer.write(TEXT, str(i))
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                got.append(reading.result().payload)
        await peer.write(CLOSE)
        peer.half_close()
        assert got + await consume(end.read) == [str(i) for i in range(40) if i % 3]


async def test_a_cancelled_read_gives_the_message_of_the_cancellation():
    async with client_and_peer() as (end, _):
        reading = await waiting(end.read())
        reading.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await reading


async def test_a_task_may_swallow_its_cancellation_and_read_on():
    async with client_and_peer() as (end, peer):

        async def stubborn():
            try:
                return await end.read()
            except asyncio.CancelledError:
                return await end.read()

        task = await waiting(stubborn())
        task.cancel()
        await turns_of_the_loop()
        assert not task.done()
        await peer.write(TEXT, "x")
        assert (await task).payload == "x"


async def test_a_read_cancelled_in_the_moment_its_message_comes_loses_nothing():
    """Two sockets are readable at once, and the first one's task cancels the second's."""
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):
        second = asyncio.create_task(two.read())

        async def cancel_second():
            await one.read()
            second.cancel()

        first = await waiting(cancel_second())
        peer.send_now(peer.frame(TEXT, "go"))
        other.send_now(other.frame(TEXT, "x") + other.frame(PING, "alive?"))
        await first
        try:
            payloads = [(await second).payload]
        except asyncio.CancelledError:
            payloads = []
        # Whether or not anybody reads (section 5.5.2).
        async with asyncio.timeout(BOUND):
            assert (await other.read()).payload == b"alive?"
        await other.write(TEXT, "y")
        while len(payloads) < 2:
            payloads.append((await two.read()).payload)
        assert payloads == ["x", "y"]


async def test_a_close_that_comes_as_the_read_is_cancelled_is_answered_rfc_6455_5_5_1():
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):
        second = asyncio.create_task(two.read())

        async def cancel_second():
            await one.read()
            second.cancel()

        first = await waiting(cancel_second())
        peer.send_now(peer.frame(TEXT, "go"))
        other.send_now(other.frame(CLOSE, close_payload(1000)))
        await first
        await asyncio.wait([second])
        async with asyncio.timeout(BOUND):
            assert (await other.read()).close == (1000, "")


async def test_a_frame_that_a_cancelled_iteration_of_fragments_left_is_no_message():
    """Driven by hand: the awaitable is woken and closed before it takes its frame."""
    async with client_and_peer() as (end, peer):
        frames = end.read.fragments()()
        frames.send(None)
        await peer.write(TEXT, "half ", fin=False)
        await peer.write(CONT, "a message")
        await until(lambda: end.read.stats.bytes_in >= 18)
        frames.close()
        msg = await end.read()
        assert (msg.payload, msg.fin) == ("half a message", True)


async def test_the_end_of_each_awaitable_has_a_message_of_its_own():
    """Driven by hand: what one of them has raised is not changed by the next."""
    async with client_and_peer() as (end, peer):
        for text in ("one", "two", "three"):
            await peer.write(TEXT, text)
        await turns_of_the_loop(20)
        ends = []
        for _ in range(3):
            with pytest.raises(StopIteration) as caught:
                next(end.read())  # type: ignore[call-overload]
            ends.append(caught.value)
        assert [each.value.payload for each in ends] == ["one", "two", "three"]
        assert len({id(each) for each in ends}) == 3
        await peer.write(TEXT, "four")
        assert (await end.read()).payload == "four"
        assert ends[-1].value.payload == "three"


async def test_no_message_is_kept_but_a_small_one_until_the_next():
    async with client_and_peer() as (end, peer):
        await peer.write(BINARY, bytes(100_000))
        large = await end.read()
        await turns_of_the_loop()  # the stream resumes this task while it still holds the message
        assert sys.getrefcount(large) == 2  # this variable's, and the call's
        await peer.write(TEXT, "small")
        small = await end.read()
        await peer.write(TEXT, "next")
        await end.read()
        await turns_of_the_loop()
        assert sys.getrefcount(small) == 2


# The resumed task


async def test_a_resumed_task_has_its_own_context_and_is_the_current_task():
    who = contextvars.ContextVar("who", default="nobody")

    async def reader(end, name):
        who.set(name)
        seen = []
        async for _ in end.read:
            seen.append((who.get(), asyncio.current_task()))
            who.set(who.get() + "'")
        return seen

    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):
        tasks = [await waiting(reader(one, "one")), await waiting(reader(two, "two"))]
        for _ in range(3):
            await other.write(TEXT, "x")
            await peer.write(TEXT, "x")
        for each in (peer, other):
            await each.write(CLOSE)
            each.half_close()
        assert await tasks[0] == [(f"one{quotes}", tasks[0]) for quotes in ("", "'", "''")]
        assert await tasks[1] == [(f"two{quotes}", tasks[1]) for quotes in ("", "'", "''")]
        assert who.get() == "nobody"


async def test_two_tasks_may_share_one_context():
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):

        async def relay():
            msg = await one.read()
            await two.write(msg.payload)

        tasks = [
            loop.create_task(relay(), context=context),
            loop.create_task(two.read(), context=context),
        ]
        await turns_of_the_loop()
        await other.write(TEXT, "x")
        await peer.write(TEXT, "y")
        await asyncio.gather(*tasks)
        assert tasks[1].result().payload == "x"
        assert await other.message() == (TEXT, b"y")


async def test_an_exception_in_the_resumed_task_leaves_the_connection_as_it_was(side):
    async with end_and_peer(side) as (end, peer):

        async def fail():
            await end.read()
            raise ValueError("mine")

        task = await waiting(fail())
        await peer.send(peer.frame(TEXT, "1") + peer.frame(PING, "p") + peer.frame(TEXT, "2"))
        with pytest.raises(ValueError, match="mine"):
            await task
        assert (await peer.read()).payload == b"p"
        assert (await end.read()).payload == "2"
        await end.write("still here")
        assert await peer.message() == (TEXT, b"still here")


class Interrupt(KeyboardInterrupt):
    """As if somebody had pressed Ctrl-C."""


@pytest.mark.parametrize("kind", [Interrupt, SystemExit])
@pytest.mark.parametrize("name", ["asyncio", "transports", "uvloop"])
def test_an_interrupt_in_the_resumed_task_leaves_the_connection_as_it_was(kind, name):
    from tests.conftest import pytest_asyncio_loop_factories

    loop = pytest_asyncio_loop_factories()[name]()
    context = client_and_peer()

    async def interrupt(end):
        await end.read()
        raise kind

    async def trigger(peer):
        await peer.send(peer.frame(TEXT, "1") + peer.frame(PING, "p") + peer.frame(TEXT, "2"))
        await asyncio.sleep(1)

    async def go_on(end, peer):
        assert (await peer.read()).payload == b"p"
        assert (await end.read()).payload == "2"
        await end.write("still here")
        assert await peer.message() == (TEXT, b"still here")
        reading = await waiting(end.read())
        await peer.write(TEXT, "3")
        assert (await reading).payload == "3"

    async def everything():
        async with context as (end, peer):
            ready.append((end, peer))
            await finish.wait()

    ready: list = []
    try:
        finish = asyncio.Event()
        main = loop.create_task(everything())
        while not ready:
            loop.run_until_complete(asyncio.sleep(0.001))
        end, peer = ready[0]
        victim = loop.create_task(interrupt(end))
        loop.run_until_complete(asyncio.sleep(0))
        triggering = loop.create_task(trigger(peer))
        with pytest.raises(kind):
            loop.run_until_complete(triggering)
        triggering.cancel()
        assert isinstance(victim.exception(), kind)
        loop.run_until_complete(asyncio.wait_for(go_on(end, peer), BOUND))
        finish.set()
        loop.run_until_complete(main)
    finally:
        loop.close()


async def test_a_resumed_task_writes_to_and_reads_from_another_connection():
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):

        async def relay():
            for _ in range(3):
                msg = await one.read()
                await two.write(msg.payload)
                back = await two.read()
                await one.write(back.payload)

        task = await waiting(relay())
        for i in range(3):
            await peer.send(peer.frame(TEXT, str(i)) + peer.frame(PING, "p"))
            assert await other.message() == (TEXT, b"%d" % i)
            await other.write(TEXT, "back")
            while (received := await peer.read()).opcode == PONG:
                pass
            assert received.payload == b"back"
        await task


async def test_a_resumed_task_reads_ready_messages_of_another_connection():
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):
        await other.send(b"".join(other.frame(BINARY, bytes([i]) * 1000) for i in range(50)))
        assert (await two.read()).len == 1000

        async def both():
            got = [(await one.read()).payload]
            for _ in range(49):
                got.append((await two.read()).payload)
            got.append((await one.read()).payload)
            return got

        task = await waiting(both())
        await peer.send(peer.frame(TEXT, "a") + peer.frame(TEXT, "b"))
        got = await task
        assert got == ["a", *[bytes([i]) * 1000 for i in range(1, 50)], "b"]


@pytest.mark.parametrize("which", ["own", "other"])
async def test_a_resumed_task_closes_a_connection_in_the_callback(which):
    async with both_ends() as (one, one_server), both_ends() as (two, two_server):

        async def close():
            await one.read()
            await (one if which == "own" else two).write.close(4000, "enough")

        closed_one, open_one = (one_server, two_server) if which == "own" else (two_server, None)
        task = await waiting(close())
        await one_server.write("go")
        await one_server.write("and more")
        with pytest.raises(ConnectionClosedError) as caught:
            await closed_one.read()
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
        await task
        if open_one is not None:
            await two.write("alive")
            assert (await open_one.read()).payload == "alive"


async def test_a_resumed_task_shuts_its_own_socket_down_with_more_to_read():
    async with client_and_peer() as (end, peer):

        async def shut():
            msg = await end.read()
            end.socket.shutdown()  # type: ignore[call-arg]
            return msg, await end.read(), await end.read()

        task = await waiting(shut())
        await peer.send(peer.frame(TEXT, "1") + peer.frame(TEXT, "2"))
        one, two, none = await task
        assert (one.payload, two.payload, none) == ("1", "2", None)


async def test_a_resumed_task_may_cancel_itself():
    async with client_and_peer() as (end, peer):
        got = []

        async def cancel_myself():
            got.append((await end.read()).payload)
            asyncio.current_task().cancel()
            while True:
                got.append((await end.read()).payload)

        task = await waiting(cancel_myself())
        await peer.send(peer.frame(TEXT, "1") + peer.frame(TEXT, "2"))
        await asyncio.wait([task])
        assert task.cancelled()
        await peer.write(TEXT, "3")
        while len(got) < 3:
            got.append((await end.read()).payload)
        assert got == ["1", "2", "3"]


# Fragments and control frames


@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("how", ["option", "argument", "reader"])
async def test_fragments_and_control_frames_are_shown_as_asked(side, fragments, control, how):
    options = {"fragments": fragments, "control": control} if how == "option" else {}
    async with end_and_peer(side, **options) as (end, peer):
        await peer.write(TEXT, "a", fin=False)
        await peer.write(PING, "p")
        await peer.write(CONT, "b", fin=False)
        await peer.write(PONG, "q")
        await peer.write(CONT, "c")
        await peer.write(BINARY, b"d")
        await peer.write(CLOSE, close_payload(1000, "end"))
        peer.half_close()
        got = []
        if how == "argument":
            while (msg := await end.read(fragments=fragments, control=control)) is not None:
                got.append(msg)
        elif how == "reader" and fragments:
            got = [msg async for msg in end.read.fragments(control=control)]
        else:
            while (msg := await end.read(control=control)) is not None:
                got.append(msg)
        if fragments:
            expected = [("a", 1, False), (b"p", 9, True), ("b", 0, False), (b"q", 10, True)]
            expected += [("c", 0, True), (b"d", 2, True), (b"\x03\xe8end", 8, True)]
        else:
            expected = [(b"p", 9, True), (b"q", 10, True), ("abc", 1, True), (b"d", 2, True)]
            expected += [(b"\x03\xe8end", 8, True)]
        if not control:
            expected = [each for each in expected if each[1] < 8]
        assert [(msg.payload, msg.opcode, msg.fin) for msg in got] == expected


# A reader that is slow, or not there


async def test_a_reader_that_does_not_read_stops_the_peer_and_memory_is_bounded(side):
    async with end_and_peer(side, read_high_water=65536) as (end, peer):
        message = peer.frame(BINARY, b"x" * 10_000)
        sent = 0

        async def flood():
            nonlocal sent
            while True:
                await peer.send(message)
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:  # until the peer gets stuck
            before = sent
            await asyncio.sleep(0.05)
        # What the kernel holds is not ours; the rest of it is.
        assert sent * len(message) < 30_000_000
        paused = sent
        for _ in range(paused):
            assert (await end.read()).len == 10_000
        await until(lambda: sent > paused)
        flooding.cancel()
        await asyncio.wait([flooding])


async def test_a_slow_reader_gets_every_message_in_order(side):
    async with end_and_peer(side, read_high_water=5000) as (end, peer):
        rng = random.Random(7)
        sizes = [rng.choice([0, 10, 1000, 4000, 70_000]) for _ in range(300)]

        async def send():
            for i, size in enumerate(sizes):
                await peer.write(BINARY, struct.pack(">I", i) + bytes(size))
            await peer.write(CLOSE)

        sending = asyncio.create_task(send())
        for i, size in enumerate(sizes):
            if i % 10 == 0:
                await asyncio.sleep(0.001)
            msg = await end.read()
            assert msg.payload == struct.pack(">I", i) + bytes(size)
        await sending


async def test_pings_are_answered_though_nobody_reads_rfc_6455_5_5_2(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "unread")
        for i in range(50):
            await peer.write(PING, str(i))
            assert (await peer.read()).payload == str(i).encode()
        assert (await end.read()).payload == "unread"


async def test_control_frames_alone_never_stop_a_connection_that_nobody_reads(side):
    """A program that only writes is pinged for days: more than read_high_water of it."""
    async with end_and_peer(side, read_high_water=1024) as (_end, peer):
        async with asyncio.timeout(BOUND):
            for i in range(1000):
                await peer.write(PING, str(i))
                assert (await peer.read()).payload == str(i).encode()


async def test_pongs_alone_never_stop_a_connection_that_nobody_reads(side):
    async with end_and_peer(side, read_high_water=1024) as (end, peer):
        async with asyncio.timeout(BOUND):
            for _ in range(500):
                pong = end.write.ping()
                await peer.write(PONG, (await peer.read()).payload)
                assert await pong >= 0


# Violations: each closes with its code, names its section, and comes after what was good


def violations():
    def case(name, data, code, section):
        return pytest.param(data, code, section, id=name)

    yield case("rsv1", lambda p: p.frame(TEXT, "x", rsv=4), 1002, "5.2")
    yield case("rsv2", lambda p: p.frame(TEXT, "x", rsv=2), 1002, "5.2")
    yield case("rsv3 on a control frame", lambda p: p.frame(PING, "x", rsv=1), 1002, "5.2")
    for opcode in (3, 7, 11, 15):
        yield case(f"opcode {opcode}", lambda p, o=opcode: p.frame(o, "x"), 1002, "5.2")
    yield case("wrong mask", lambda p: p.frame(TEXT, "x", masked=not p.client), 1002, "5.1")
    yield case("ping wrongly masked", lambda p: p.frame(PING, masked=not p.client), 1002, "5.1")
    yield case("fragmented ping", lambda p: p.frame(PING, "x", fin=False), 1002, "5.4")
    yield case("fragmented close", lambda p: p.frame(CLOSE, fin=False), 1002, "5.4")
    yield case("long ping", lambda p: p.frame(PING, b"x" * 126), 1002, "5.5")
    yield case("long close", lambda p: p.frame(CLOSE, close_payload(1000, "x" * 124)), 1002, "5.5")
    yield case("continuation of nothing", lambda p: p.frame(CONT, "x"), 1002, "5.4")
    yield case("empty continuation of nothing", lambda p: p.frame(CONT, fin=False), 1002, "5.4")
    yield case(
        "message inside a message",
        lambda p: p.frame(TEXT, "x", fin=False) + p.frame(TEXT, "y"),
        1002,
        "5.4",
    )
    yield case(
        "length of 2 bytes not minimal",
        lambda p: bytes([0x82, 126 | p.client << 7, 0, 125]) + b"k" * 129,
        1002,
        "5.2",
    )
    yield case(
        "length of 8 bytes not minimal",
        lambda p: bytes([0x82, 127 | p.client << 7, 0, 0, 0, 0, 0, 0, 255, 255]) + b"k" * 99,
        1002,
        "5.2",
    )
    yield case(
        "length with the sign bit",
        lambda p: bytes([0x82, 127 | p.client << 7]) + b"\xff" * 8 + b"k" * 4,
        1002,
        "5.2",
    )
    yield case("close of one byte", lambda p: p.frame(CLOSE, b"\x03"), 1002, "5.5.1")
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
        yield case(
            f"close code {code}", lambda p, c=code: p.frame(CLOSE, close_payload(c)), 1002, "7.4"
        )
    yield case(
        "close reason not UTF-8",
        lambda p: p.frame(CLOSE, close_payload(1000) + b"\xc0\xaf"),
        1007,
        "8.1",
    )
    yield case(
        "close reason cut off",
        lambda p: p.frame(CLOSE, close_payload(1000) + b"\xe2\x82"),
        1007,
        "8.1",
    )
    for name, bad in {
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80",
        "too large": b"\xf4\x90\x80\x80",
        "cut off": b"abc\xe2\x82",
        "stray byte": b"a\x80",
    }.items():
        yield case(f"text {name}", lambda p, b=bad: p.frame(TEXT, b), 1007, "8.1")
        yield case(
            f"fragmented text {name}",
            lambda p, b=bad: p.frame(TEXT, b[:-1], fin=False) + p.frame(CONT, b[-1:]),
            1007,
            "8.1",
        )


@pytest.mark.parametrize(("data", "code", "section"), list(violations()))
async def test_a_violation_fails_the_connection_with_its_code_rfc_6455_7_1_7(
    side, data, code, section
):
    async with end_and_peer(side) as (end, peer):
        reading = await waiting(end.read())
        await peer.send(peer.frame(TEXT, "good") + data(peer))
        # What came before the violation is delivered, and can be answered.
        msg = await reading
        assert msg.payload == "good"
        await end.write("answer")
        with pytest.raises(ProtocolError, match=f"section {section}\\b") as caught:  # noqa: PT012
            async with asyncio.timeout(BOUND):
                task = asyncio.create_task(end.read())
                assert await peer.message() == (TEXT, b"answer")
                received = await peer.read()
                assert received.close[0] == code
                assert received.close[1]
                peer.hang_up()
                await task
        assert caught.value.code == code
        assert caught.value.reason == received.close[1]
        with pytest.raises(ProtocolError):
            await end.read()
        assert end.read.close_code == code
        with pytest.raises(ConnectionClosedError):
            await end.write("too late")


async def test_bad_utf8_fails_on_the_first_impossible_byte_rfc_6455_8_1(side):
    async with end_and_peer(side) as (end, peer):
        reading = await waiting(end.read())
        # The frame announces more, but what is there can become no UTF-8.
        await peer.send(peer.frame(TEXT, b"ok \xf8" + b"x" * 100)[:-100])
        assert (await peer.read()).close[0] == 1007
        peer.hang_up()
        with pytest.raises(ProtocolError):
            await reading


async def test_bad_utf8_fails_in_the_fragment_that_has_it(side):
    async with end_and_peer(side) as (end, peer):
        reading = await waiting(end.read())
        await peer.write(TEXT, b"\xce", fin=False)
        await peer.write(CONT, b"\xba\xe1", fin=False)
        await turns_of_the_loop()
        assert not reading.done()
        await peer.write(CONT, b"x", fin=False)
        assert (await peer.read()).close[0] == 1007
        peer.hang_up()
        with pytest.raises(ProtocolError):
            await reading


async def test_what_comes_after_a_violation_is_nobodys(side):
    async with end_and_peer(side) as (end, peer):
        reading = await waiting(end.read())
        await peer.send(peer.frame(3) + peer.frame(TEXT, "no") + peer.frame(PING, "no"))
        await peer.send(b"garbage" * 10_000)
        assert (await peer.read()).close[0] == 1002
        await peer.ended()
        peer.hang_up()
        with pytest.raises(ProtocolError):
            await reading
