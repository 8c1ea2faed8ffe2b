"""wrap_io: the protocol over any pair of coroutine functions. RFC 6455 sections 5, 7 and 8."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import types
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import examples
from tests.helpers.raw_peer import (
    answer_to,
    both_ends,
    close_payload,
    echo,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidMessage,
    InvalidOption,
    LimitError,
    Message,
    NoEventLoopError,
    Options,
    ProtocolError,
    codec,
    connect,
    decoder,
    encoder,
    serve,
    wrap_io,
)
from coro_websocket._streams.raw_pair import RUNNING
from coro_websocket.extensions import Deflate

__all__ = ["both_ends", "watchdog"]

CLIENT, SERVER = True, False
BOUND = 8


class Wire:
    """A raw pair over queues; what the library sends is in `sent`, what it gets comes by `feed`."""

    def __init__(self, mask, **options):
        self.mask = mask
        self.incoming: asyncio.Queue = asyncio.Queue()
        self.sent: asyncio.Queue = asyncio.Queue()
        self.reading = 0
        self.read, self.write = wrap_io(self.raw_read, self.raw_write, mask=mask, **options)

    async def raw_read(self):
        assert self.reading == 0, "two raw reads at once"
        self.reading += 1
        try:
            frame = await self.incoming.get()
        finally:
            self.reading -= 1
        if isinstance(frame, BaseException):
            raise frame
        return frame

    async def raw_write(self, frame):
        self.sent.put_nowait(frame)

    def feed(self, *frames):
        """Frames from the peer; a tuple is masked as a good peer would."""
        for frame in frames:
            if isinstance(frame, tuple):
                frame = Message(frame[0], frame[1], fin=(*frame, True)[2], mask=not self.mask)
            self.incoming.put_nowait(frame)

    async def next(self):
        """The next frame that was sent."""
        return await asyncio.wait_for(self.sent.get(), BOUND)


def pair(**options):
    """A client and a server over two queues of frames."""
    to_server: asyncio.Queue = asyncio.Queue()
    to_client: asyncio.Queue = asyncio.Queue()
    client = wrap_io(to_client.get, to_server.put, mask=True, **options)
    server = wrap_io(to_server.get, to_client.put, mask=False, **options)
    return client, server


@pytest.fixture(params=[CLIENT, SERVER], ids=["client", "server"])
def mask(request):
    return request.param


# A client and a server against each other


async def test_a_client_and_a_server_talk():
    async with asyncio.timeout(BOUND):
        (read, write), (server_read, server_write) = pair()
        for message, opcode in (("text ✓", 1), (b"\x00\xff", 2), ("", 1), (b"x" * 100_000, 2)):
            await write(message)
            assert await server_read() == Message(message, opcode, mask=True)
            await server_write(message)
            assert await read() == Message(message, opcode)
        await write({"payload": "default"})
        assert (await server_read()).opcode == 2
        await write(["one ", "message"])
        assert (await server_read()).payload == "one message"


async def test_the_closing_handshake_ends_both():
    async with asyncio.timeout(BOUND):
        (read, write), (server_read, server_write) = pair()
        await write("last")

        async def serve_one():
            return [msg.payload async for msg in server_read]

        serving = asyncio.create_task(serve_one())
        await write(None)
        assert await serving == ["last"]
        assert await read() is None
        assert await server_read() is None
        assert (read.close_code, server_read.close_code) == (1000, 1000)
        for w in (write, server_write):
            with pytest.raises(ConnectionClosedError):
                await w("too late")
            await w.close()


async def test_an_error_code_is_an_error_with_code_and_reason():
    async with asyncio.timeout(BOUND):
        (_, write), (server_read, _) = pair()
        closing = asyncio.create_task(write.close(4001, "why"))
        for _ in range(2):
            with pytest.raises(ConnectionClosedError) as caught:
                await server_read()
            assert (caught.value.code, caught.value.reason) == (4001, "why")
        await closing
        assert (server_read.close_code, server_read.close_reason) == (4001, "why")


async def test_masking_is_by_role_whatever_a_message_says_rfc_6455_5_1(mask):
    wire = Wire(mask)
    for message in ("x", Message("x", 1, mask=True), Message("x", 1, mask=False)):
        await wire.write(message)
        assert await wire.next() == Message(b"x", 1, mask=mask)


async def test_frames_may_be_mappings(mask):
    async with asyncio.timeout(BOUND):
        wire = Wire(mask)
        wire.feed(
            {"payload": "a", "opcode": 1, "fin": False},
            {"opcode": 9, "payload": b"p"},
            {"payload": b"b", "opcode": 0, "mask": not mask, "len": 1},
            {"payload": b"default"},
        )
        assert (await wire.read()).payload == "ab"
        assert await wire.next() == Message(b"p", 10, mask=mask)
        assert (await wire.read()).payload == b"default"


async def test_none_is_the_end(mask):
    async with asyncio.timeout(BOUND):
        wire = Wire(mask)
        wire.feed(("last", 1), None)
        assert (await wire.read()).payload == "last"
        for _ in range(2):
            with pytest.raises(ConnectionClosedError, match="without a Close") as caught:
                await wire.read()
            assert caught.value.code == 1006
        assert await wire.next() is None
        assert wire.read.close_code == 1006
        with pytest.raises(ConnectionClosedError):
            await wire.write("x")


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (close_payload(1001, "bye"), 1001)])
async def test_a_close_of_the_peers_is_answered_and_ends_cleanly_rfc_6455_5_5_1(
    mask, payload, code
):
    async with asyncio.timeout(BOUND):
        wire = Wire(mask)
        wire.feed((payload, 8))
        assert await wire.read() is None
        assert await wire.read() is None
        assert await wire.next() == Message(payload[:2], 8, mask=mask)
        assert await wire.next() is None
        assert wire.read.close_code == code


async def test_fragments_and_control_frames_are_shown_as_asked():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        frames = [("a", 1, False), (b"p", 9), ("b", 0)]
        wire.feed(*frames)
        reader = wire.read.fragments(control=True)
        assert [(await reader()).payload for _ in range(3)] == ["a", b"p", "b"]
        wire.feed(*frames)
        assert (await wire.read(control=True)).opcode == 9
        assert (await wire.read()).payload == "ab"
        wire = Wire(SERVER, fragments=True)
        wire.feed(*frames)
        assert [(await wire.read()).payload for _ in range(2)] == ["a", "b"]


# Violations


@pytest.mark.parametrize(
    ("frames", "code", "section"),
    [
        ([Message("x", 1, mask=False)], 1002, "5.1"),
        ([("x", 0)], 1002, "5.4"),
        ([("x", 1, False), ("y", 1)], 1002, "5.4"),
        ([(b"x" * 126, 9)], 1002, "5.5"),
        ([(b"x", 9, False)], 1002, "5.4"),
        ([Message("x", 3, mask=True)], 1002, "5.2"),
        ([Message("x", 11, mask=True)], 1002, "5.2"),
        ([Message("x", 1, rsv1=True, mask=True)], 1002, "5.2"),
        ([(b"\xff", 1)], 1007, "8.1"),
        ([(b"\xe2\x82", 1, False), (b"x", 0)], 1007, "8.1"),
        ([(b"\x03", 8)], 1002, "5.5.1"),
        ([(close_payload(1005), 8)], 1002, "7.4"),
        ([(close_payload(1000) + b"\xff", 8)], 1007, "8.1"),
    ],
)
async def test_a_frame_that_breaks_the_protocol_is_refused(frames, code, section):
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("good", 1), *frames, ("never", 1))
        assert (await wire.read()).payload == "good"
        for _ in range(2):
            with pytest.raises(ProtocolError, match=f"section {section}\\b") as caught:
                await wire.read()
            assert caught.value.code == code
        close = await wire.next()
        assert (close.opcode, close.payload[:2]) == (8, close_payload(code))
        assert await wire.next() is None
        assert wire.read.close_code == code
        with pytest.raises(ConnectionClosedError):
            await wire.write("x")


async def test_a_masked_frame_to_a_client_is_refused_rfc_6455_5_1():
    async with asyncio.timeout(BOUND):
        wire = Wire(CLIENT)
        wire.feed(Message("x", 1, mask=True))
        with pytest.raises(ProtocolError, match=r"5\.1"):
            await wire.read()


async def test_a_message_over_the_limit_is_refused_rfc_6455_7_4_1():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER, max_message_size=10)
        wire.feed(("x" * 6, 1, False), ("x" * 6, 0))
        with pytest.raises(LimitError, match="max_message_size is 10"):
            await wire.read()
        assert (await wire.next()).payload[:2] == close_payload(1009)


# Reading and closing at once


async def test_two_readers_at_once_are_refused_and_the_first_goes_on():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        first = asyncio.create_task(wire.read())
        await turns_of_the_loop()
        with pytest.raises(ConcurrencyError):
            await wire.read()
        wire.feed(("x", 1))
        assert (await first).payload == "x"


async def test_a_cancelled_read_loses_nothing():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        got = []
        for i in range(60):
            reading = asyncio.create_task(wire.read())
            await turns_of_the_loop(i % 4)
            if i % 3:
                wire.feed((str(i), 1))
                await turns_of_the_loop(i % 2)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                got.append(reading.result().payload)
        wire.feed((b"", 8))
        got += [msg.payload async for msg in wire.read]
        assert got == [str(i) for i in range(60) if i % 3]


async def test_closing_with_a_message_on_its_way_ends_and_the_message_can_be_read():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("on its way", 1), ("and another", 1), (close_payload(1000), 8))
        await wire.write.close()
        assert (await wire.read()).payload == "on its way"
        assert (await wire.read()).payload == "and another"
        assert await wire.read() is None


async def test_closing_with_an_unread_message_and_a_peer_that_does_not_answer_ends():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER, close_timeout=0.05)
        wire.feed(("on its way", 1))
        await wire.write.close()
        assert (await wire.read()).payload == "on its way"
        assert await wire.read() is None


async def test_closing_while_another_task_reads():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        reading = asyncio.create_task(wire.read())
        await turns_of_the_loop()
        closing = asyncio.create_task(wire.write.close())
        assert (await wire.next()).opcode == 8
        wire.feed(("x", 1))
        assert (await reading).payload == "x"
        reading = asyncio.create_task(wire.read())
        wire.feed((close_payload(1000), 8))
        assert await reading is None
        await closing


async def test_reading_while_another_task_closes_makes_no_second_raw_read():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        closing = asyncio.create_task(wire.write.close())
        await wire.next()
        await turns_of_the_loop()
        reading = asyncio.create_task(wire.read())
        await turns_of_the_loop()
        wire.feed(("x", 1), (close_payload(1000), 8))
        results = await asyncio.gather(closing, reading, return_exceptions=True)
        assert results[0] is None
        if not isinstance(results[1], ConcurrencyError):
            assert results[1] == Message("x", 1, mask=True)


async def test_closing_twice_at_once_makes_no_second_raw_read_and_one_close():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        closings = [asyncio.create_task(wire.write.close(4000 + i)) for i in range(3)]
        await turns_of_the_loop()
        wire.feed((close_payload(1000), 8))
        assert await asyncio.gather(*closings) == [None] * 3
        assert (await wire.next()).payload == close_payload(4000)
        assert await wire.next() is None
        assert wire.sent.empty()


async def test_a_peer_that_never_answers_is_left_after_close_timeout(mask):
    async with asyncio.timeout(BOUND):
        wire = Wire(mask, close_timeout=0.1)
        start = time.monotonic()
        await wire.write.close()
        assert 0.09 <= time.monotonic() - start < BOUND / 2
        assert await wire.read() is None
        assert (await wire.next()).opcode == 8
        assert await wire.next() is None


async def test_a_writer_that_is_stuck_does_not_keep_close_beyond_close_timeout():
    async def stuck(_):
        await asyncio.Event().wait()

    async def silent():
        await asyncio.Event().wait()

    _, write = wrap_io(silent, stuck, mask=True, close_timeout=0.05)
    async with asyncio.timeout(BOUND):
        await write.close()


# Writing


async def test_messages_of_many_tasks_never_interleave():
    async with asyncio.timeout(BOUND):
        frames = []

        async def slow(frame):
            await asyncio.sleep(0)
            frames.append(frame)

        _, write = wrap_io(asyncio.Event().wait, slow, write_high_water=1)  # type: ignore[arg-type]

        async def pieces(name):
            for i in range(3):
                await asyncio.sleep(0)
                yield f"{name}{i}"

        await asyncio.gather(*(write(pieces(n)) for n in "ab"), *(write([n, n]) for n in "cd"))
        await asyncio.gather(*(write(n) for n in "ef"))
        got, message = [], b""
        for frame in frames:
            message += frame.payload
            if frame.fin:
                got.append(message)
                message = b""
        assert sorted(got) == [b"a0a1a2", b"b0b1b2", b"cc", b"dd", b"e", b"f"]


async def test_a_cancelled_write_does_not_take_the_messages_of_others_with_it():
    """Three tasks wait for a slow raw writer; the second is cancelled."""
    async with asyncio.timeout(BOUND):
        sent: asyncio.Queue = asyncio.Queue(1)
        _, write = wrap_io(asyncio.Event().wait, sent.put)  # type: ignore[arg-type]
        tasks = [asyncio.create_task(write(name)) for name in "abcd"]
        await turns_of_the_loop()
        got = []
        for _ in range(2):
            got.append((await sent.get()).payload)
            await turns_of_the_loop()
        tasks[1].cancel()
        tasks[2].cancel()
        await turns_of_the_loop()
        while not all(task.done() for task in tasks) or not sent.empty():
            if not sent.empty():
                got.append(sent.get_nowait().payload)
            await asyncio.sleep(0)
        for name, task in zip("abcd", tasks, strict=True):
            assert task.cancelled() or name.encode() in got, f"{name} was written, but not sent"
        assert got == sorted(set(got))


@pytest.mark.parametrize("kind", ["list", "async generator"])
async def test_a_fragmented_write_cancelled_in_the_raw_writer_does_not_block_the_others(kind):
    async with asyncio.timeout(BOUND):
        sent: asyncio.Queue = asyncio.Queue(1)
        incoming: asyncio.Queue = asyncio.Queue()
        _, write = wrap_io(incoming.get, sent.put, write_high_water=1)
        await write("fills the queue")

        async def pieces():
            yield "a"
            yield "b"

        writing = asyncio.create_task(write(["a", "b"] if kind == "list" else pieces()))
        await turns_of_the_loop()
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        with pytest.raises(ConnectionClosedError, match="broken off"):
            await write("next")
        incoming.put_nowait(Message(close_payload(1011), 8, mask=True))
        got = []
        while (frame := await sent.get()) is not None:
            got.append(frame)
        assert [frame.opcode for frame in got] == [1, 1, 8]


@pytest.mark.parametrize("message", [5, {"text": "x"}, ["a", b"b"], {"payload": "x", "opcode": 3}])
async def test_what_cannot_be_sent_is_refused(message):
    wire = Wire(SERVER)
    with pytest.raises(InvalidMessage):
        await wire.write(message)
    await wire.write("next")
    assert (await wire.next()).payload == b"next"


async def test_a_generator_that_raises_closes_with_1011():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER, close_timeout=0.05)

        async def pieces():
            yield "a"
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            await wire.write(pieces())
        assert await wire.next() == Message(b"a", 1, fin=False)
        assert (await wire.next()).payload[:2] == close_payload(1011)


# Pings and heartbeat


async def test_a_ping_gives_the_round_trip_time():
    async with asyncio.timeout(BOUND):
        (read, write), (server_read, _) = pair()
        reads = [asyncio.create_task(each()) for each in (read, server_read)]
        assert await write.ping() > 0
        assert await write.ping(b"payload") > 0
        with pytest.raises(InvalidMessage):
            await write.ping(b"x" * 126)
        for each in reads:
            each.cancel()
        await asyncio.wait(reads)


@pytest.mark.parametrize("message", [Message(b"mine", 9), {"payload": b"mine", "opcode": 9}])
async def test_a_ping_written_as_a_message_is_answered_like_any(message):
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        await wire.write(message)
        assert await wire.next() == Message(b"mine", 9)
        wire.feed((b"mine", 10), ("x", 1))
        assert (await wire.read()).payload == "x"


async def test_a_ping_fails_when_the_connection_ends():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        pinged = asyncio.ensure_future(wire.write.ping())
        await wire.next()
        wire.feed(None)
        with pytest.raises(ConnectionClosedError):
            await wire.read()
        with pytest.raises(ConnectionClosedError):
            await pinged


async def test_heartbeat_sends_pongs_and_ends_with_the_connection(mask):
    async with asyncio.timeout(BOUND):
        before = asyncio.all_tasks()
        wire = Wire(mask, heartbeat=0.01)
        for _ in range(3):
            assert await wire.next() == Message(b"", 10, mask=mask)
        wire.feed((close_payload(1000), 8))
        assert await wire.read() is None
        await turns_of_the_loop()
        assert asyncio.all_tasks() == before


# The raw side fails


@pytest.mark.parametrize("error", [OSError("cable cut"), ConnectionResetError()])
async def test_an_oserror_of_the_raw_reader_is_a_lost_connection(error):
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("x", 1), error)
        assert (await wire.read()).payload == "x"
        with pytest.raises(ConnectionClosedError, match="lost") as caught:
            await wire.read()
        assert caught.value.code == 1006


@pytest.mark.parametrize("error", [RuntimeError("yours"), TimeoutError(), ValueError("no frame")])
async def test_any_error_of_the_raw_reader_ends_the_connection_behind_what_has_come(error):
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("x", 1), ("y", 1), error)
        assert [(await wire.read()).payload for _ in range(2)] == ["x", "y"]
        for _ in range(2):
            said = str(error) or type(error).__name__
            with pytest.raises(ConnectionClosedError, match=f"lost \\({said}\\)") as caught:
                await wire.read()
            assert (caught.value.code, caught.value.__cause__) == (1006, error)
        assert await wire.next() is None
        assert wire.read.close_code == 1006


@pytest.mark.parametrize(
    "error", [EOFError(), asyncio.IncompleteReadError(b"x", 5), StopAsyncIteration()]
)
async def test_the_end_of_a_stream_may_be_an_exception(error):
    async def raw_read():
        raise error

    async with asyncio.timeout(BOUND):
        sent: asyncio.Queue = asyncio.Queue()
        read, _ = wrap_io(raw_read, sent.put)
        with pytest.raises(ConnectionClosedError, match="the peer closed the connection without"):
            await read()
        assert await sent.get() is None


@pytest.mark.parametrize(
    ("frame", "said"),
    [(5, "not int"), ("text", "not str"), ({"foo": 1}, "foo"), ({"opcode": 99}, "opcode")],
)
async def test_what_is_no_frame_is_the_raw_readers_fault(frame, said):
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.incoming.put_nowait(frame)
        with pytest.raises(ConnectionClosedError, match=said) as caught:
            await wire.read()
        assert isinstance(caught.value.__cause__, (TypeError, ValueError))


async def test_a_raw_reader_that_is_cancelled_from_within_ends_the_connection():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("x", 1), asyncio.CancelledError())
        assert (await wire.read()).payload == "x"
        with pytest.raises(ConnectionClosedError, match="lost") as caught:
            await wire.read()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        await wire.write.wait_closed()


async def test_an_error_of_the_raw_writer_when_it_is_told_of_the_end_is_nobodys():
    async with asyncio.timeout(BOUND):
        sent = []

        async def raw_write(frame):
            sent.append(frame)
            if frame is None:
                raise ValueError

        incoming: asyncio.Queue = asyncio.Queue()
        incoming.put_nowait(Message(close_payload(1000), 8))
        read, write = wrap_io(incoming.get, raw_write, mask=True)
        await write.close()
        assert await read() is None
        assert [frame and frame.opcode for frame in sent] == [8, None]


@pytest.mark.parametrize("error", [BrokenPipeError("pipe"), RuntimeError("pipe")])
async def test_what_has_come_can_be_read_after_the_raw_writer_has_failed(error):
    incoming: asyncio.Queue = asyncio.Queue()

    async def broken(_):
        for frame in (Message(b"p", 9), Message("m", 1), Message("n", 1)):
            incoming.put_nowait(frame)
        raise error

    async with asyncio.timeout(BOUND):
        read, write = wrap_io(
            incoming.get, broken, mask=True, close_timeout=0.05, write_high_water=1
        )
        reading = asyncio.create_task(read())
        await turns_of_the_loop()
        for _ in range(2):
            with pytest.raises(ConnectionClosedError, match=r"lost \(pipe\)") as caught:
                await write("x")
            assert caught.value.__cause__ is error
        assert (await reading).payload == "m"
        assert (await read()).payload == "n"
        # Nothing more comes, and nobody can be asked to close.
        with pytest.raises(ConnectionClosedError, match=r"lost \(pipe\)") as caught:
            await read()
        assert caught.value.__cause__ is error
        await write.close()


async def test_closing_ends_a_read_that_the_peer_never_answers():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER, close_timeout=0.05)
        reading = asyncio.create_task(wire.read())
        await turns_of_the_loop()
        await wire.write.close()
        assert await reading is None
        await wire.write.wait_closed()
        assert wire.reading == 0


async def test_a_stuck_raw_write_is_over_before_the_end_is_written():
    calls = []
    release = asyncio.Event()

    async def stuck(frame):
        calls.append(frame)
        try:
            if frame is not None:
                await release.wait()
        finally:
            calls.append("done")

    async with asyncio.timeout(BOUND):
        _, write = wrap_io(asyncio.Event().wait, stuck, mask=True, close_timeout=0.5)  # type: ignore[arg-type]
        await write("x")
        await turns_of_the_loop()
        await write.close()
        assert calls == [Message(b"x", 1, mask=True), "done", None, "done"]


@pytest.mark.parametrize("frame", [Message(b"x", 1), None])
async def test_a_raw_write_that_cannot_be_cancelled_does_not_keep_the_end_away(frame):
    release = asyncio.Event()

    async def deaf(given):
        while given == frame and not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with asyncio.timeout(BOUND):
        read, write = wrap_io(asyncio.Event().wait, deaf, close_timeout=0.05)  # type: ignore[arg-type]
        await write("x")
        await write.close()
        assert await read() is None
        release.set()
        await turns_of_the_loop()


async def test_the_raw_writer_is_not_told_of_an_end_that_is_over():
    """Its time is up in the moment when its last call has been cancelled."""
    calls = []

    async def stuck(frame):
        calls.append(frame)
        await asyncio.Event().wait()

    async def never():
        await asyncio.Event().wait()

    async with asyncio.timeout(BOUND):
        read, write = wrap_io(never, stuck)
        await write("x")
        await turns_of_the_loop()
        ((_, pairs),) = RUNNING.values()
        (pair,) = pairs
        pair.abort()
        await turns_of_the_loop(1)
        pair.end()
        await turns_of_the_loop()
        assert calls == [Message(b"x", 1)]
        with pytest.raises(ConnectionClosedError):
            await read()


async def test_a_read_at_the_end_waits_until_the_raw_writer_has_been_told(mask):
    async with asyncio.timeout(BOUND):
        told = asyncio.Event()
        ended = False

        async def raw_write(frame):
            nonlocal ended
            if frame is None:
                await told.wait()
                ended = True

        incoming: asyncio.Queue = asyncio.Queue()
        incoming.put_nowait(Message(close_payload(1000), 8, mask=not mask))
        read, write = wrap_io(incoming.get, raw_write, mask=mask)
        reading = asyncio.ensure_future(read())
        waiting = asyncio.ensure_future(write.wait_closed())
        await turns_of_the_loop(10)
        assert not reading.done()
        assert not waiting.done()
        told.set()
        assert await reading is None
        assert ended
        await waiting


async def test_what_is_written_goes_on_when_everybody_has_let_go_of_the_connection():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        incoming, sent = wire.incoming, wire.sent
        await wire.write("last words")
        del wire
        gc.collect()
        incoming.put_nowait(Message(close_payload(1000), 8, mask=True))
        frames = [await sent.get() for _ in range(3)]
        assert [frame and frame.opcode for frame in frames] == [1, 8, None]


def test_a_connection_that_is_open_when_its_loop_ends_ends_quietly(caplog):
    ends = []

    async def main():
        wire = Wire(SERVER)
        ends.extend([wire.read, asyncio.create_task(wire.write.wait_closed())])
        await turns_of_the_loop()
        asyncio.create_task(end_of(wire.read))  # noqa: RUF006

    async def end_of(read):
        with pytest.raises(asyncio.CancelledError):
            await read()

    asyncio.run(main())
    gc.collect()
    assert ends[0].close_code == 1006  # type: ignore[attr-defined]
    assert not RUNNING
    assert not caplog.records


def test_a_connection_that_is_open_when_its_loop_is_closed_does_not_keep_it():
    async def open_connection():
        # A queue whose loop is closed raises RuntimeError where it is told to go.
        full: asyncio.Queue = asyncio.Queue(1)
        _, write = wrap_io(asyncio.Queue().get, full.put)
        await write("x")
        asyncio.create_task(write(bytes(100_000)))  # noqa: RUF006
        await turns_of_the_loop()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(open_connection())
    loop.close()
    kept = weakref.ref(loop)
    del loop
    asyncio.run(begin_another())
    gc.collect()
    assert kept() is None
    assert not RUNNING


async def begin_another():
    Wire(SERVER)


async def test_pings_do_not_pile_up_answers_that_the_raw_writer_does_not_take(mask):
    all_come = asyncio.Event()
    pings = [Message(bytes(125), 9, mask=not mask)] * 5000

    async def raw_read():
        if not pings:
            all_come.set()
            await asyncio.Event().wait()
        return pings.pop()

    async def stuck(_):
        await asyncio.Event().wait()

    async with asyncio.timeout(BOUND):
        read, write = wrap_io(raw_read, stuck, mask=mask, write_high_water=None, close_timeout=0.02)
        await all_come.wait()
        await turns_of_the_loop()
        await write("though nobody takes it")
        assert read.stats.frames_out < 1000
        await write.close()


@pytest.mark.parametrize("which", [0, 1], ids=["reader", "writer"])
async def test_a_task_of_ours_that_is_cancelled_before_it_begins_ends_the_connection(which):
    async with asyncio.timeout(BOUND):
        before = asyncio.all_tasks()
        wire = Wire(SERVER)
        ours = sorted(asyncio.all_tasks() - before, key=lambda task: repr(task.get_coro()))
        ours[which].cancel()
        with pytest.raises(ConnectionClosedError):
            await wire.read()


async def test_a_raw_reader_that_never_makes_us_wait_leaves_others_their_turn():
    async with asyncio.timeout(BOUND):
        read_first = 1000
        count = 0

        async def raw_read():
            nonlocal count
            count += 1
            return Message("x", 1, mask=True)

        async def raw_write(frame):
            pass

        read, _ = wrap_io(raw_read, raw_write, read_high_water=None)
        for _ in range(read_first):
            await read()
        ticks = count
        await turns_of_the_loop(3)
        assert count - ticks < 1000


# Cancelling, with a raw writer that makes us wait


async def test_a_cancelled_read_loses_nothing_whatever_the_raw_reader_does():
    """This one forgets what it has taken when it is cancelled."""
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        frames: asyncio.Queue = asyncio.Queue()

        async def raw_read():
            frame = await frames.get()
            await turns_of_the_loop(2)
            return frame

        read, _ = wrap_io(raw_read, wire.raw_write)
        got = []
        for i in range(20):
            frames.put_nowait(Message(str(i), 1, mask=True))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    got.append((await read()).payload)
            await turns_of_the_loop(i % 4)
        while len(got) < 20:
            got.append((await read()).payload)  # noqa: PERF401
        assert got == [str(i) for i in range(20)]


class Narrow:
    """A raw pair whose writer takes a frame only when the one before has been taken."""

    def __init__(self):
        self.incoming: asyncio.Queue = asyncio.Queue()
        self.sent: asyncio.Queue = asyncio.Queue(1)
        self.read, self.write = wrap_io(self.incoming.get, self.sent.put, mask=True)

    async def all_sent(self, last):
        payloads = []
        while last not in payloads:
            payloads.append((await self.sent.get()).payload)
        return payloads


async def test_a_cancelled_read_does_not_take_the_message_of_another_task_with_it():
    async with asyncio.timeout(BOUND):
        wire = Narrow()
        await wire.write("fill")
        ping = wire.write.ping(b"mine")
        await turns_of_the_loop()
        wire.incoming.put_nowait(Message(b"theirs", 9))
        reading = asyncio.create_task(wire.read())
        await turns_of_the_loop()
        writing = asyncio.create_task(wire.write("important"))
        await turns_of_the_loop()
        sent = [(await wire.sent.get()).payload]
        await turns_of_the_loop()
        reading.cancel()
        sent += await wire.all_sent(b"important")
        await writing
        assert sent == [b"fill", b"mine", b"theirs", b"important"]
        del ping


async def test_reading_with_a_timeout_answers_each_ping_rfc_6455_5_5_2():
    async with asyncio.timeout(BOUND):
        wire = Narrow()
        await wire.write("fill")
        wire.incoming.put_nowait(Message(b"ping", 9))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.read(), 0.02)
        wire.incoming.put_nowait(Message("m", 1))
        assert (await wire.read()).payload == "m"  # though the Pong waits for the writer
        assert await wire.all_sent(b"ping") == [b"fill", b"ping"]


async def test_a_cancelled_writer_does_not_take_the_message_of_another_task_with_it():
    async with asyncio.timeout(BOUND):
        wire = Narrow()
        writes = []
        for name in ("c0", "c1", "b1", "b2"):
            writes.append(asyncio.create_task(wire.write(name)))
            await turns_of_the_loop()
        sent = []
        for _ in range(2):
            sent.append((await wire.sent.get()).payload)
            await turns_of_the_loop()
        writes[2].cancel()
        sent += await wire.all_sent(b"b2")
        await writes[3]
        assert sent == [b"c0", b"c1", b"b1", b"b2"]


# What a pair has besides


async def test_a_pair_has_what_a_connection_has(mask):
    async with asyncio.timeout(BOUND):
        wire = Wire(mask)
        role = "client" if mask else "server"
        assert repr(wire.read) == f"<read {role}, open>"
        assert repr(wire.write) == f"<write {role}, open>"
        await wire.write("four", compress=False)
        wire.feed(("xy", 1), (b"", 8))
        waiting = asyncio.create_task(wire.write.wait_closed())
        assert (await wire.read()).payload == "xy"
        assert await wire.read() is None
        await waiting
        assert repr(wire.read) == f"<read {role}, closed>"
        stats = wire.read.stats
        assert (stats.messages_in, stats.messages_out) == (1, 1)
        assert (stats.frames_in, stats.frames_out) == (2, 2)
        # Two frames each way; a masking key has four bytes.
        assert (stats.bytes_out, stats.bytes_in) == ((16, 6) if mask else (8, 14))
        assert wire.write.stats == stats


async def test_a_message_can_be_read_as_its_frames_come():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("a", 1, False), (b"p", 9), ("", 0, False))
        stream = await wire.read.stream()
        assert (stream.opcode, repr(stream)) == (1, "<text message>")
        assert await anext(stream) == "a"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)  # which loses nothing
        wire.feed((b"\xc3", 0, False), (b"\xbc!", 0), (b"x", 2))
        assert [chunk async for chunk in stream] == ["ü!"]
        assert [chunk async for chunk in await wire.read.stream()] == [b"x"]
        wire.feed((b"", 8))
        assert await wire.read.stream() is None


async def test_what_is_left_of_a_message_that_was_given_up_is_dropped():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        wire.feed(("a", 1, False), ("b", 0, False), ("c", 0), ("next", 1), ("d", 1, False))
        stream = await wire.read.stream()
        assert (await wire.read()).payload == "next"
        assert await anext(stream) == "a"  # it was here already
        with pytest.raises(ConcurrencyError, match="given up"):
            await anext(stream)
        stream = await wire.read.stream()
        wire.feed((close_payload(1000), 8))
        assert await anext(stream) == "d"
        with pytest.raises(ConnectionClosedError, match="before the message had ended"):
            await anext(stream)


async def test_closing_goes_on_when_it_is_cancelled():
    async with asyncio.timeout(BOUND):
        wire = Wire(SERVER)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.write.close(4000), 0.01)
        assert (await wire.next()).payload == close_payload(4000)
        wire.feed(("on its way", 1), (close_payload(4000), 8))
        assert await wire.next() is None
        await wire.write.wait_closed()
        assert (await wire.read()).payload == "on its way"
        assert await wire.read() is None


async def test_latency_is_that_of_the_last_ping():
    async with asyncio.timeout(BOUND):
        wire = Wire(CLIENT)
        ping = wire.write.ping(b"p")
        assert (await wire.next()).payload == b"p"  # it is sent whether awaited or not
        wire.feed((b"p", 10), ("x", 1))
        await wire.read()
        assert await ping == wire.write.stats.latency


# Options


def test_options_are_checked_and_need_no_event_loop():
    async def nothing(*_):
        return None

    wrap_io(nothing, nothing)
    wrap_io(nothing, nothing, {"mask": True, "max_message_size": None})
    wrap_io(nothing, nothing, Options(mask=True))
    for wrong in ({"mask": 1}, {"close_timeout": -1}, {"nonsense": 1}):
        with pytest.raises(InvalidOption):
            wrap_io(nothing, nothing, wrong)
    for pair in ((5, nothing), (nothing, None)):
        with pytest.raises(InvalidOption, match="coroutine function"):
            wrap_io(*pair)
    for name in ("heartbeat", "ping_interval"):
        with pytest.raises(NoEventLoopError, match=name):
            wrap_io(nothing, nothing, {name: 1})
        with pytest.raises(NoEventLoopError, match=name):
            wrap_io(nothing, nothing, Options(**{name: 1}))  # type: ignore[arg-type]


class Named(Deflate):
    name = "x-extension"


@pytest.mark.parametrize(("name", "value"), [("compression", "deflate"), ("extensions", [Named()])])
def test_what_an_opening_handshake_negotiates_is_refused(name, value):
    async def nothing(*_):
        return None

    for options, more in (({name: value}, {}), (None, {name: value})):
        with pytest.raises(InvalidOption, match=f"{name}.*negotiated") as caught:
            wrap_io(nothing, nothing, options, **more)
        assert caught.value.option == name


def test_options_of_connecting_are_left_alone_where_connect_would_pass_them_on():
    async def nothing(*_):
        return None

    wrap_io(nothing, nothing, {"host": "h", "pathname": "/x", "timeout": 5, "compression": None})
    wrap_io(nothing, nothing, Options(host="h", tls=True, ping_interval=None))
    wrap_io(nothing, nothing, ping_interval=None, compression=None, extensions=())
    with pytest.raises(InvalidOption, match="host"):
        wrap_io(nothing, nothing, host="h")


# Other event loops


def test_reading_and_writing_need_no_asyncio():
    """Any other event loop, or none at all, may drive it."""
    frames = [Message("x", 1, mask=True), Message(close_payload(1000), 8, mask=True)]
    sent = []

    async def raw_read():
        return frames.pop(0)

    async def raw_write(frame):
        sent.append(frame)

    async def main():
        read, write = wrap_io(raw_read, raw_write)
        assert (await read()).payload == "x"
        await write("y")
        await write(["a", "b"])
        assert await read() is None

    with pytest.raises(StopIteration):
        main().send(None)
    assert [frame and frame.opcode for frame in sent] == [1, 1, 0, 8, None]


class Pipe:
    """A queue for coroutines that take turns, without an event loop that anybody knows."""

    def __init__(self):
        self.frames = []

    @types.coroutine
    def pause(self):
        yield

    async def put(self, frame):
        self.frames.append(frame)
        await self.pause()

    async def get(self):
        while not self.frames:
            await self.pause()
        return self.frames.pop(0)


def take_turns(*coroutines):
    """Run coroutines in turn; what each raised, or None."""
    raised: dict[Any, Any] = {}
    running = dict(enumerate(coroutines))
    for _ in range(1000):
        for number, coroutine in list(running.items()):
            try:
                coroutine.send(None)
            except StopIteration:
                raised[number] = None
            except Exception as error:
                raised[number] = error
            if number in raised:
                running.pop(number, None)
    for coroutine in running.values():
        coroutine.close()
    return [raised.get(number, "running") for number in range(len(coroutines))]


def piped():
    up, down = Pipe(), Pipe()
    return wrap_io(down.get, up.put, mask=True), wrap_io(up.get, down.put), up


def test_two_ends_talk_and_close_on_any_event_loop():
    (read, write), (peer_read, peer_write), _ = piped()
    got = []

    async def client():
        await write("hi")
        await write(["in ", "parts"])
        await write(Message("by ", 1, fin=False))
        await write(Message("hand", 0))
        got.extend([(await read()).payload for _ in range(3)])
        await write.close()
        assert await read() is None

    async def server():
        async for msg in peer_read:
            await peer_write(msg.payload)

    assert take_turns(client(), server()) == [None, None]
    assert got == ["hi", "in parts", "by hand"]


def test_what_would_have_to_wait_for_another_task_is_refused_on_an_unknown_event_loop():
    (read, write), _, up = piped()

    async def writing(text):
        await write(text)

    first, second = take_turns(writing("1"), writing("2"))
    assert first is None
    assert isinstance(second, NoEventLoopError)
    assert "asyncio and trio" in str(second)
    assert [frame.payload for frame in up.frames] == [b"1"]  # nothing of the other was sent

    async def reading():
        await read()

    async def closing():
        await write.close()

    waiting, refused = take_turns(reading(), closing())
    assert waiting == "running"
    assert isinstance(refused, NoEventLoopError)
    assert len(up.frames) == 1
    with pytest.raises(NoEventLoopError):
        write.ping()


def test_a_read_that_is_given_up_on_an_unknown_event_loop_loses_nothing():
    (read, write), (_, peer_write), _ = piped()

    async def reading():
        await read()

    waiting = reading()
    waiting.send(None)
    waiting.close()
    sending = peer_write("kept")
    assert take_turns(reading(), awaiting(sending)) == [None, None]
    with pytest.raises(NoEventLoopError):
        write.ping()


async def awaiting(awaitable):
    return await awaitable


def test_a_write_on_an_unknown_event_loop_is_with_the_raw_writer_when_it_returns():
    for message, sent in (
        ("x", [b"x"]),
        (["a", "b"], [b"a", b"b"]),
        (Message(b"p", 9), [b"p"]),
        (bytes(200_000), [bytes(200_000)]),
    ):
        (_, write), _, up = piped()
        assert take_turns(awaiting(write(message))) == [None]
        assert [frame.payload for frame in up.frames] == sent


def test_a_ping_is_answered_by_whoever_reads_on_an_unknown_event_loop():
    (read, _), (peer_read, peer_write), _ = piped()
    answers = []

    async def peer():
        await peer_write(Message(b"p", 9))
        await peer_write("x")
        answers.append(await peer_read(control=True))

    assert take_turns(awaiting(read()), peer()) == [None, None]
    assert answers == [Message(b"p", 10, mask=True)]


def test_the_peers_end_is_told_of_on_an_unknown_event_loop():
    written = []

    async def raw_read():
        return None

    async def raw_write(frame):
        written.append(frame)

    read, write = wrap_io(raw_read, raw_write)
    raised = take_turns(awaiting(read()), awaiting(write.wait_closed()))
    assert isinstance(raised[0], ConnectionClosedError)
    assert raised[1] is None
    assert written == [None]
    with pytest.raises(ConnectionClosedError):
        write("x")  # type: ignore[unused-coroutine]


def test_a_write_that_is_interrupted_on_an_unknown_event_loop_keeps_no_other_from_writing():
    written = []
    stuck = True

    async def raw_read():
        return Message("come", 1, mask=True)

    async def raw_write(frame):
        if stuck:
            await until_told()
        written.append(frame.payload)

    for end in (interrupt, give_up):
        written.clear()
        read, write = wrap_io(raw_read, raw_write)
        stuck = True
        writing = awaiting(write("interrupted"))
        writing.send(None)
        end(writing)
        stuck = False
        assert take_turns(awaiting(write("next")), awaiting(read())) == [None, None]
        assert written == [b"next"]


@types.coroutine
def until_told():
    yield


class Interrupted(BaseException):
    pass


def give_up(coroutine):
    coroutine.close()


def interrupt(coroutine):
    with pytest.raises(Interrupted):
        coroutine.throw(Interrupted())


def test_the_end_can_be_read_on_an_unknown_event_loop_though_telling_of_it_was_interrupted():
    async def raw_read():
        return None

    async def raw_write(_):
        await until_told()

    for end in (interrupt, give_up):
        read, write = wrap_io(raw_read, raw_write)
        reading = awaiting(read())
        reading.send(None)
        end(reading)
        raised, closed = take_turns(awaiting(read()), awaiting(write.wait_closed()))
        assert isinstance(raised, ConnectionClosedError)
        assert closed is None


def test_a_connection_that_is_open_when_its_trio_run_ends_ends_quietly(caplog):
    trio = pytest.importorskip("trio")
    reads = []

    async def main():
        read, write = wrap_io(trio.sleep_forever, stuck)
        reads.append(read)
        await write("x")
        await trio.testing.wait_all_tasks_blocked()

    async def stuck(_):
        await trio.sleep_forever()

    trio.run(main)
    assert reads[0].close_code == 1006
    assert not RUNNING
    assert not caplog.records


def test_a_raw_write_that_cannot_be_cancelled_on_trio_does_not_keep_the_end_away():
    trio = pytest.importorskip("trio")

    async def main():
        release = trio.Event()

        async def deaf(_):
            with trio.CancelScope(shield=True):
                await release.wait()

        read, write = wrap_io(trio.sleep_forever, deaf, close_timeout=0.05)
        with trio.fail_after(BOUND):
            await write("x")
            await write.close()
            assert await read() is None
        release.set()

    trio.run(main)


def test_a_raw_reader_that_never_makes_us_wait_leaves_others_their_turn_on_trio():
    trio = pytest.importorskip("trio")
    count = 0

    async def raw_read():
        nonlocal count
        count += 1
        return Message("x", 1, mask=True)

    async def raw_write(_):
        pass

    async def main():
        read, _ = wrap_io(raw_read, raw_write, read_high_water=None)
        with trio.fail_after(BOUND):
            for _ in range(1000):
                await read()
            before = count
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            assert count - before < 1000

    trio.run(main)


@pytest.mark.parametrize("failing", ["raw_read", "raw_write", "at the end"])
def test_whatever_the_pair_raises_on_trio_ends_the_connection_and_not_the_run(failing):
    trio = pytest.importorskip("trio")

    async def raw_read():
        if failing == "raw_read":
            raise Interrupted
        await trio.sleep_forever()

    async def raw_write(frame):
        if failing == ("at the end" if frame is None else "raw_write"):
            raise Interrupted

    async def main():
        read, write = wrap_io(raw_read, raw_write, close_timeout=0.02)
        with trio.fail_after(BOUND):
            if failing == "at the end":
                await write.close()
                assert await read() is None
                return
            await write("x")
            with pytest.raises(ConnectionClosedError) as raised:
                await read()
            assert isinstance(raised.value.__cause__, Interrupted)

    trio.run(main)


@pytest.mark.parametrize("failing", ["raw_read", "raw_write"])
def test_a_nursery_that_fails_as_it_is_cancelled_does_not_end_the_trio_run(failing):
    trio = pytest.importorskip("trio")

    async def fail_as_it_ends():
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("reset")

    async def work():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_as_it_ends)
            await trio.sleep_forever()

    async def raw_read():
        await (work if failing == "raw_read" else trio.sleep_forever)()

    async def raw_write(frame):
        if frame is not None and failing == "raw_write":
            await work()

    async def main():
        read, write = wrap_io(raw_read, raw_write, close_timeout=0.02)
        with trio.fail_after(BOUND):
            await write("x")
            await trio.testing.wait_all_tasks_blocked()
            await write.close()
            assert await read() is None

    trio.run(main)


def test_it_works_on_trio():
    trio = pytest.importorskip("trio")

    async def main():
        to_server, from_client = trio.open_memory_channel(0)
        to_client, from_server = trio.open_memory_channel(0)
        read, write = wrap_io(from_server.receive, writer_to(to_server), mask=True)
        peer_read, peer_write = wrap_io(from_client.receive, writer_to(to_client))
        got = []

        async def echo_all():
            async for msg in peer_read:
                await peer_write(msg.payload)

        async def collect():
            async for msg in read:
                got.append(msg.payload)  # noqa: PERF401

        with trio.fail_after(BOUND):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo_all)
                with trio.move_on_after(0.02) as scope:
                    await read()
                assert scope.cancelled_caught
                nursery.start_soon(collect)
                assert await write.ping() > 0
                async with trio.open_nursery() as writers:
                    for text in ("a", "b", ["c", "d"]):
                        writers.start_soon(write, text)
                while len(got) < 3:
                    await trio.sleep(0.001)
                await write.close()
            assert sorted(got) == ["a", "b", "cd"]
            assert await read() is None

            read, write = wrap_io(
                trio.sleep_forever, writer_to(None), heartbeat=0.001, close_timeout=0.02
            )
            with trio.fail_after(BOUND):
                while read.stats.frames_out < 2:
                    await trio.sleep(0.001)
            await write.close()  # which nobody answers

    def writer_to(channel):
        async def send(frame):
            if channel is not None:
                if frame is None:
                    await channel.aclose()
                else:
                    await channel.send(frame)

        return send

    trio.run(main)


# Over bytes


class Stream:
    """A stream of bytes that comes in pieces of given sizes."""

    def __init__(self, sizes):
        self.buffer = bytearray()
        self.sizes = sizes
        self.changed = asyncio.Event()
        self.ended = False
        self.n = 0

    async def write(self, data):
        if data is None:
            self.ended = True
        else:
            self.buffer += data
        self.changed.set()

    async def read(self):
        while not self.buffer:
            if self.ended:
                return None
            self.changed.clear()
            await self.changed.wait()
        size = self.sizes[self.n % len(self.sizes)]
        self.n += 1
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data


payloads = st.lists(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200),
        st.integers(0, 70_000).map(bytes),
        st.lists(st.text(max_size=9), min_size=1, max_size=5),
    ),
    max_size=6,
)


@settings(max_examples=examples(60), deadline=None)
@given(payloads, st.lists(st.integers(1, 5000), min_size=1, max_size=10))
def test_any_messages_over_a_byte_stream_split_anywhere_arrive_as_they_were(messages, sizes):
    async def main():
        async with asyncio.timeout(BOUND):
            there, back = Stream(sizes), Stream(sizes)
            client = wrap_io(decoder(back.read), encoder(there.write), mask=True)
            server = wrap_io(decoder(there.read), encoder(back.write), mask=False)

            async def echo_all():
                async for msg in server[0]:
                    await server[1](msg.payload)

            echoing = asyncio.create_task(echo_all())
            got = []
            for message in messages:
                await client[1](message)
                got.append((await client[0]()).payload)
            await client[1](None)
            await echoing
            assert got == ["".join(m) if isinstance(m, list) else m for m in messages]
            assert await client[0]() is None

    asyncio.run(main())


@pytest.mark.parametrize("url", ["ours", "websockets"])
async def test_it_speaks_to_a_server_through_a_plain_socket(url):
    """The stacking of luvit's page: bytes, decoder, wrap_io."""
    from websockets.asyncio.server import serve as their_serve

    async def their_echo(connection):
        async for message in connection:
            await connection.send(message)

    serving = serve(echo) if url == "ours" else their_serve(their_echo, "127.0.0.1", 0)
    async with asyncio.timeout(BOUND), serving as server:
        port = server.port if url == "ours" else server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def request(request):
            lines = [f"GET {request.pathname} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in request]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")[:-2]
            from coro_websocket import Response

            return Response([line.split(": ", 1) for line in lines], code=int(status.split()[1]))  # type: ignore[misc]

        await codec.handshake({"host": f"127.0.0.1:{port}"}, request)

        async def read_bytes():
            return await reader.read(65536)

        async def write_bytes(data):
            if data is None:
                writer.close()
            else:
                writer.write(data)
                await writer.drain()

        read, write = wrap_io(decoder(read_bytes), encoder(write_bytes), mask=True)
        for message in ("text ✓", b"\x00\xff", "x" * 100_000):
            await write(message)
            assert (await read()).payload == message
        await write(["in ", "pieces"])
        assert (await read()).payload == "in pieces"
        reading = asyncio.create_task(read())
        await turns_of_the_loop()
        assert await write.ping() > 0
        await write.close(4000, "done")
        assert await reading is None
        assert read.close_code == 4000
        await writer.wait_closed()


async def test_it_serves_a_client_over_streams():
    async def handle(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer_to(head))

        async def read_bytes():
            return await reader.read(100)

        async def write_bytes(data):
            if data is None:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

        read, write = wrap_io(decoder(read_bytes), encoder(write_bytes))
        async for msg in read:
            await write(msg.payload)
        await writer.wait_closed()

    async with asyncio.timeout(BOUND):
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with connect(url) as (_, read, write):
                for message in ("text", b"x" * 50_000):
                    await write(message)
                    assert (await read()).payload == message
                assert await write.ping() > 0
            assert await read() is None


async def test_a_header_that_breaks_the_protocol_in_the_byte_stream_is_answered():
    async with asyncio.timeout(BOUND):
        stream, back = Stream([1]), Stream([1000])
        read, _ = wrap_io(decoder(stream.read), encoder(back.write))
        await stream.write(codec.encode(Message("good", 1, mask=True)) + b"\x83\x80mask")
        assert (await read()).payload == "good"
        with pytest.raises(ProtocolError, match=r"5\.2"):
            await read()
        message, _ = codec.decode(bytes(back.buffer))
        assert message.payload[:2] == close_payload(1002)
        assert back.ended
