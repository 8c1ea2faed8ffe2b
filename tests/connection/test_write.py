"""Writing: what `write` takes, in which order it goes out, when it waits. RFC 6455 section 5."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from typing import Any

import pytest
from tests.conftest import shown
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    both_ends,
    client_and_peer,
    client_of_echo,
    close_payload,
    end_and_peer,
    turns_of_the_loop,
    until,
    watchdog,
)

from coro_websocket import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidMessage,
    InvalidMessageType,
    Message,
    WebSocketError,
    connect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

SMALL: dict[str, Any] = {"receive_buffer": 4096, "write_high_water": 4096}
MANY = b"x" * 8_000_000  # more than the kernel takes for a peer that does not read


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


async def write_as_task(end, message):
    """Written, and encoded, by the task that this becomes."""
    await end.write(message)


async def aiter_of(*items):
    for item in items:
        yield item


# What may be written


class Text(str):
    pass


class Data(bytes):
    pass


@pytest.mark.parametrize(
    ("message", "opcode", "payload"),
    [
        ("text ✓", TEXT, "text ✓".encode()),
        ("", TEXT, b""),
        (Text("subclass"), TEXT, b"subclass"),
        (b"\x00\xff", BINARY, b"\x00\xff"),
        (b"", BINARY, b""),
        (Data(b"subclass"), BINARY, b"subclass"),
        (bytearray(b"array"), BINARY, b"array"),
        (memoryview(b"a view")[::2], BINARY, bytes(memoryview(b"a view")[::2])),
        (Message("default"), BINARY, b"default"),
        (Message("text", 1), TEXT, b"text"),
        (Message(b"bytes as text", 1), TEXT, b"bytes as text"),
        (Message(b"data", 2, mask=True), BINARY, b"data"),
        (Message(b"data", 2, mask=False), BINARY, b"data"),
        ({"payload": "default"}, BINARY, b"default"),
        ({"payload": "text", "opcode": 1}, TEXT, b"text"),
        ({"payload": b"x", "opcode": 2, "fin": True, "mask": True, "len": 99}, BINARY, b"x"),
        ({"payload": b""}, BINARY, b""),
        ({"payload": b"", "opcode": 9}, PING, b""),
        ({"payload": b"pong", "opcode": 10}, PONG, b"pong"),
        (Message("ping", 9), PING, b"ping"),
    ],
    ids=shown,
)
async def test_every_kind_of_message_goes_out_as_one_frame(message, opcode, payload):
    async with client_and_peer() as (end, peer):
        assert await end.write(message) is None  # type: ignore[func-returns-value]
        assert await peer.read() == Frame(opcode, payload)


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 1_000_000])
async def test_every_length_is_encoded_shortest_rfc_6455_5_2(side, size):
    async with end_and_peer(side) as (end, peer):
        data = random.Random(size).randbytes(size)
        writing = asyncio.create_task(end.write(data))
        while len(peer.received) < 14:
            await peer.more()
        length = peer.received[1] & 127
        assert length == (size if size < 126 else 126 if size < 65536 else 127)
        assert await peer.read() == Frame(BINARY, data)
        await writing


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (5, InvalidMessageType),
        (1.5, InvalidMessageType),
        (True, InvalidMessageType),
        (object(), InvalidMessageType),
        ("lone \ud800", InvalidMessage),
        ({"text": "x"}, InvalidMessageType),
        ({"payload": 5}, InvalidMessageType),
        ({"payload": None}, InvalidMessageType),
        ({"payload": "x", "opcode": "1"}, InvalidMessageType),
        ({"payload": "x", "opcode": 3}, InvalidMessage),
        ({"payload": "x", "opcode": 11}, InvalidMessage),
        ({"payload": "x", "opcode": 16}, InvalidMessage),
        ({"payload": "x", "opcode": -1}, InvalidMessage),
        ({"payload": "x", "rsv1": True}, InvalidMessage),
        ({"payload": "x", "opcode": 0}, InvalidMessage),
        ({"payload": "x" * 126, "opcode": 9}, InvalidMessage),
        ({"payload": "x", "opcode": 9, "fin": False}, InvalidMessage),
        ({"payload": "x", "opcode": 8}, InvalidMessage),
        ({"payload": b"\x03\xee", "opcode": 8}, InvalidMessage),
        ({"payload": b"\xff", "opcode": 1}, InvalidMessage),
        ({"payload": b"\xe2\x82", "opcode": 1}, InvalidMessage),
        (range(3), InvalidMessageType),
        ([b"x", "mixed"], InvalidMessage),
        (["x", b"mixed"], InvalidMessage),
        ([None], InvalidMessageType),
        ([Message("x")], InvalidMessageType),
        ([["nested"]], InvalidMessageType),
        (["lone \ud800"], InvalidMessage),
        (aiter_of, InvalidMessageType),
    ],
    ids=shown,
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(message, kind):
    async with client_and_peer() as (end, peer):
        with pytest.raises(kind) as caught:
            await end.write(message)
        assert isinstance(caught.value, WebSocketError)
        assert isinstance(caught.value, ValueError)
        await end.write("next")
        assert await peer.read() == Frame(TEXT, b"next")


async def test_a_write_need_not_wait_and_may_be_awaited_in_any_way():
    async with client_and_peer() as (end, peer):
        await asyncio.create_task(end.write("1"))
        await asyncio.gather(end.write("2"), end.write("3"), end.write(b"4"))
        await asyncio.wait_for(end.write("5"), BOUND)
        async with asyncio.TaskGroup() as group:
            group.create_task(end.write("6"))
        await asyncio.shield(asyncio.ensure_future(end.write("7")))
        end.write("8")  # type: ignore[unused-coroutine]
        for i in range(1, 9):
            assert (await peer.message())[1] == str(i).encode()


# Fragments


@pytest.mark.parametrize("kind", ["iterator", "async iterator"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_generator_that_raises_leaves_no_message_that_looks_whole(kind, after):
    class Broken(Exception):
        pass

    def pieces():
        for i in range(after):
            yield f"{i}"
        raise Broken

    async def async_pieces():
        for piece in pieces():
            yield piece

    async with client_and_peer() as (end, peer):
        with pytest.raises(Broken):
            await end.write(pieces() if kind == "iterator" else async_pieces())
        begun = after > (kind == "iterator")
        if not begun:
            await end.write("unharmed")
            assert await peer.message() == (TEXT, b"unharmed")
            return
        while (received := await peer.read()).opcode != CLOSE:
            assert not received.fin
        assert received.close[0] == 1011
        with pytest.raises(ConnectionClosedError):
            await end.write("too late")


async def test_a_fragmented_write_that_is_cancelled_leaves_no_message_that_looks_whole():
    async with client_and_peer() as (end, peer):
        forever = asyncio.Event()

        async def pieces():
            yield "begun"
            await forever.wait()

        writing = asyncio.create_task(end.write(pieces()))
        assert await peer.read() == Frame(TEXT, b"begun", fin=False)
        waiting = asyncio.create_task(end.write(["waits", "for its turn"]))
        await turns_of_the_loop()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert (await peer.read()).close[0] == 1011
        with pytest.raises(ConnectionClosedError):
            await waiting


@pytest.mark.parametrize("kind", ["list", "async generator", "by hand"])
async def test_a_fragmented_write_cancelled_while_it_waits_for_room_does_not_block_the_others(kind):
    """The first fragment has gone out, and no more of it will come."""
    async with client_and_peer(**SMALL) as (end, peer):
        pieces = [MANY, b"more"]
        if kind == "by hand":
            writing = asyncio.create_task(end.write(Message(MANY, 2, fin=False)))
        else:
            writing = asyncio.create_task(
                end.write(pieces if kind == "list" else aiter_of(*pieces))
            )
        await turns_of_the_loop(10)
        assert not writing.done()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        if kind == "by hand":
            # Encoded at the call, whole: the message can be ended.
            ending = asyncio.create_task(end.write(Message(b"end", 0)))
            assert await peer.read() == Frame(BINARY, MANY, fin=False)
            await asyncio.wait([ending])
            if ending.exception() is None:
                assert await peer.read() == Frame(CONT, b"end")
            return
        assert await peer.read() == Frame(BINARY, MANY, fin=False)
        # Either it was given up openly, or it must be possible to write.
        try:
            async with asyncio.timeout(BOUND):
                await end.write("next")
        except ConnectionClosedError:
            assert (await peer.read()).close[0] == 1011
        else:
            raise AssertionError("a message was begun inside another one")


async def test_a_task_that_began_a_message_cannot_start_another_rfc_6455_5_4():
    async with client_and_peer() as (end, peer):
        await end.write(Message("a", 1, fin=False))
        for other in ("new", b"new", Message("new", 1), Message("new", 1, fin=False)):
            with pytest.raises(ConcurrencyError, match="fin=True"):
                await end.write(other)
        await end.write(Message("b", 0))
        await end.write("new")
        assert await peer.message() == (TEXT, b"ab")
        assert await peer.message() == (TEXT, b"new")


@pytest.mark.parametrize("kind", ["list", "async generator"])
async def test_a_task_that_began_a_message_cannot_write_fragments(kind):
    async with client_and_peer() as (end, peer):
        await end.write(Message("a", 1, fin=False))
        with pytest.raises(ConcurrencyError):
            async with asyncio.timeout(BOUND):
                await end.write(["b", "c"] if kind == "list" else aiter_of("b", "c"))
        await end.write(Message("b", 0))
        assert await peer.message() == (TEXT, b"ab")


async def test_a_generator_of_fragments_cannot_write_another_message():
    async with client_and_peer() as (end, peer):

        async def pieces():
            yield "a"
            with pytest.raises(ConcurrencyError):
                await end.write("in between")
            yield "b"

        await end.write(pieces())
        assert await peer.message() == (TEXT, b"ab")


async def test_control_frames_may_go_between_fragments_rfc_6455_5_4():
    async with client_and_peer() as (end, peer):

        async def pieces():
            yield "a"
            end.write.ping(b"1")
            await end.write.pong(b"2")
            await end.write(Message(b"3", 9))
            yield "b"

        await end.write(pieces())
        opcodes = [(await peer.read()).opcode for _ in range(6)]
        assert opcodes == [TEXT, PING, PONG, PING, CONT, CONT]


async def test_another_task_waits_for_the_end_of_a_fragmented_message():
    async with client_and_peer() as (end, peer):
        await end.write(Message("a", 1, fin=False))
        others = [
            asyncio.create_task(write_as_task(end, message))
            for message in ("x", ["y", "z"], aiter_of("w"))
        ]
        await turns_of_the_loop()
        assert not any(task.done() for task in others)
        pinged = end.write.ping(b"p")
        await end.write(Message("b", 0))
        await asyncio.gather(*others)
        assert await peer.read() == Frame(TEXT, b"a", fin=False)
        assert await peer.read() == Frame(PING, b"p")
        assert await peer.read() == Frame(CONT, b"b")
        assert [await peer.message() for _ in range(3)] == [(1, b"x"), (1, b"yz"), (1, b"w")]
        assert not pinged.done()


async def test_a_task_that_waits_for_its_turn_may_be_cancelled():
    async with client_and_peer() as (end, peer):
        await end.write(Message("a", 1, fin=False))
        others = [asyncio.create_task(end.write([f"{i}", "!"])) for i in range(4)]
        await turns_of_the_loop()
        others[0].cancel()
        others[2].cancel()
        await end.write(Message("b", 0))
        others[1].cancel()  # in the moment when its turn came
        results = await asyncio.gather(*others, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert isinstance(results[2], asyncio.CancelledError)
        assert results[3] is None
        assert await peer.message() == (TEXT, b"ab")
        if results[1] is None:
            assert await peer.message() == (TEXT, b"1!")
        assert await peer.message() == (TEXT, b"3!")
        await end.write("free")
        assert await peer.message() == (TEXT, b"free")


@pytest.mark.parametrize("begins", ["we", "peer"])
async def test_who_waits_for_a_turn_learns_of_the_close_rfc_6455_5_5_1(begins):
    """At once: the peer has not hung up, and may take its time."""
    async with client_and_peer(close_timeout=None) as (end, peer):
        await end.write(Message("a", 1, fin=False))
        others = [
            asyncio.create_task(write_as_task(end, message))
            for message in ("x", ["y", "z"], aiter_of("w"))
        ]
        await turns_of_the_loop()
        if begins == "we":
            closed = end.write.close()
        else:
            closed = end.write.wait_closed()
            await peer.write(CLOSE, close_payload(1000))
        async with asyncio.timeout(BOUND):
            for writing in (*others, asyncio.create_task(write_as_task(end, "late"))):
                with pytest.raises(ConnectionClosedError, match="cannot send"):
                    await writing
            with pytest.raises(ConnectionClosedError, match="cannot send"):
                await end.write(Message("b", 0))
        await peer.read()
        assert (await peer.read()).close == (1000, "")
        peer.hang_up()
        await closed


async def test_a_task_that_ends_inside_its_message_blocks_no_other():
    async with client_and_peer() as (end, peer):
        await asyncio.create_task(write_as_task(end, Message("a", 1, fin=False)))
        async with asyncio.timeout(BOUND):
            for message in ("x", ["y", "z"]):
                with pytest.raises(ConnectionClosedError, match="cannot send"):
                    await end.write(message)
        assert await peer.read() == Frame(TEXT, b"a", fin=False)
        close = await peer.read()
        assert close.payload == close_payload(1011, "a fragmented message was broken off")


async def test_who_reads_learns_that_a_message_was_broken_off():
    async with client_and_peer() as (end, peer):
        reading = asyncio.create_task(anext(aiter(end.read)))
        with pytest.raises(ZeroDivisionError):
            await end.write(str(1 // n) for n in (1, 1, 0))
        assert await peer.read() == Frame(TEXT, b"1", fin=False)
        assert (await peer.read()).close[0] == 1011
        await peer.write(CLOSE, close_payload(1011))
        peer.half_close()
        with pytest.raises(ConnectionClosedError, match="broken off") as caught:
            await reading
        assert caught.value.code == 1011


async def test_an_invalid_message_does_not_keep_its_turn():
    async with client_and_peer() as (end, peer):
        await end.write(Message("a", 1, fin=False))
        bad = [
            asyncio.create_task(write_as_task(end, message))
            for message in (
                Message("x", 3, fin=False),
                Message("x", 1, rsv1=True),
                Message("x", 0, fin=False),
                Message("x", 0),
            )
        ]
        good = asyncio.create_task(write_as_task(end, "good"))
        await turns_of_the_loop()
        await end.write(Message("b", 0))
        async with asyncio.timeout(BOUND):
            for result in await asyncio.gather(*bad, return_exceptions=True):
                assert isinstance(result, InvalidMessage)
            await good
        assert await peer.message() == (TEXT, b"ab")
        assert await peer.message() == (TEXT, b"good")


@pytest.mark.parametrize("seed", range(3))
async def test_messages_of_many_tasks_never_interleave(side, seed):
    rng = random.Random(seed)
    async with end_and_peer(side) as (end, peer):
        sent = []

        async def writer(name):
            rng = random.Random(f"{seed}{name}")
            for i in range(15):
                pieces = [f"{name}.{i}.{j};" for j in range(rng.randrange(1, 5))]
                kind = rng.randrange(5)
                sent.append("".join(pieces).encode())
                if kind == 0:
                    await end.write("".join(pieces))
                elif kind == 1:
                    await end.write(pieces)
                elif kind == 2:

                    async def slowly(pieces=pieces):
                        for piece in pieces:
                            await asyncio.sleep(0)
                            yield piece

                    await end.write(slowly())
                elif kind == 3:
                    await end.write(Message(pieces[0], 1, fin=False))
                    for piece in pieces[1:]:
                        await end.write(Message(piece, 0, fin=False))
                        await asyncio.sleep(0)
                    await end.write(Message("", 0))
                else:
                    await end.write(Message("".join(pieces), 1))
                if rng.random() < 0.3:
                    await asyncio.sleep(0)

        names = list("abcdefgh")
        rng.shuffle(names)
        writers = asyncio.gather(*(writer(name) for name in names))
        got = []
        try:
            for _ in range(8 * 15):
                got.append(await peer.message())
                if writers.done():
                    writers.result()
            await writers
        finally:
            writers.cancel()
            await asyncio.gather(writers, return_exceptions=True)
        assert sorted(payload for _, payload in got) == sorted(sent)
        for name in names:  # each task's messages in its order
            own = [p for _, p in got if p.startswith(name.encode())]
            assert own == [p for p in sent if p.startswith(name.encode())]


# Waiting for room


async def test_write_waits_while_the_peer_does_not_read_and_goes_on_when_it_does(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        writing = asyncio.create_task(end.write(MANY))
        await turns_of_the_loop(20)
        assert not writing.done()
        later = asyncio.create_task(end.write("later"))
        await turns_of_the_loop(5)
        assert not later.done()
        assert await peer.read() == Frame(BINARY, MANY)
        await writing
        assert await peer.read() == Frame(TEXT, b"later")
        await later


async def test_a_cancelled_write_that_waits_for_room_leaves_no_half_frame(side):
    async with end_and_peer(side, **SMALL) as (end, peer):
        writings = [asyncio.create_task(end.write(bytes([i]) * 2_000_000)) for i in range(5)]
        await turns_of_the_loop(20)
        for writing in writings[1::2]:
            writing.cancel()
        await turns_of_the_loop()
        for i in range(5):
            assert await peer.read() == Frame(BINARY, bytes([i]) * 2_000_000)
        results = await asyncio.gather(*writings, return_exceptions=True)
        assert [result is None for result in results][0::2] == [True] * 3
        await end.write("whole")
        assert await peer.message() == (TEXT, b"whole")


async def test_writers_go_on_when_the_stream_has_taken_what_was_sent(side):
    """Several tasks, each of which writes more than there is room for."""
    async with end_and_peer(side, receive_buffer=4096) as (end, peer):

        async def write_many():
            for _ in range(20):
                await end.write(b"x" * 20_000)

        writers = [asyncio.create_task(write_many()) for _ in range(4)]
        for _ in range(80):
            assert await peer.read() == Frame(BINARY, b"x" * 20_000)
        await asyncio.gather(*writers)


@pytest.mark.parametrize("how", ["hang_up", "reset"])
async def test_a_write_that_waits_fails_when_the_connection_is_lost(side, how):
    async with end_and_peer(side, **SMALL) as (end, peer):
        writings = [asyncio.create_task(end.write(MANY)) for _ in range(3)]
        turn = asyncio.create_task(end.write([MANY, b"more"]))
        waiting = asyncio.create_task(write_as_task(end, "waits for its turn"))
        await turns_of_the_loop(20)
        getattr(peer, how)()
        for task in [*writings, turn, waiting]:
            with pytest.raises(ConnectionClosedError) as caught:
                await task
            assert caught.value.code == 1006
        with pytest.raises(ConnectionClosedError):
            await end.write("again")


async def test_write_high_water_none_never_waits_and_starves_nobody():
    async with client_and_peer(receive_buffer=4096, write_high_water=None) as (end, _peer):
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(100):
            await end.write(MANY[:500_000])
        counting.cancel()
        await asyncio.wait([counting])
        # 50 MB went by: other tasks must have had their turn more than once or twice.
        assert turns > 10


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_a_task_that_writes_in_an_endless_loop_does_not_starve_the_others(size):
    async with client_and_peer() as (end, peer):
        peer.sock.setblocking(True)
        received = 0

        def drain():
            nonlocal received
            while data := peer.sock.recv(1 << 20):
                received += len(data)

        draining = asyncio.create_task(asyncio.to_thread(drain))
        data = b"x" * size
        stop = False

        async def write_on():
            n = 0
            while not stop and n < 3_000_000:
                await end.write(data)
                n += 1
            return n

        writing = asyncio.create_task(write_on())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not writing.done()
        stop = True
        written = await writing
        await until(lambda: received >= written * (size + 6))
        end.socket.shutdown()  # type: ignore[call-arg]
        await draining


async def test_many_writes_in_one_iteration_of_the_loop_arrive_complete_and_in_order(side):
    async with end_and_peer(side) as (end, peer):
        for i in range(2000):
            end.write(f"{i}")
        for i in range(2000):
            assert await peer.message() == (TEXT, b"%d" % i)


async def test_writes_of_a_resumed_task_arrive_in_order_also_over_several_connections():
    async with client_and_peer() as (one, peer), client_and_peer() as (two, other):

        async def fan_out():
            async for msg in one.read:
                for i in range(100):
                    await one.write(f"{msg.payload}{i}")
                    await two.write(f"{msg.payload}{i}")

        task = asyncio.create_task(fan_out())
        for start in "ab":
            await peer.write(TEXT, start)
            for i in range(100):
                assert await other.message() == (TEXT, f"{start}{i}".encode())
                assert await peer.message() == (TEXT, f"{start}{i}".encode())
        task.cancel()
        await asyncio.wait([task])


async def test_large_and_small_messages_alternate_over_tls(certificates):
    async with client_of_echo(server_tls=certificates.server, tls=certificates.client) as end:
        sizes = [0, 100_000, 1, 1_000_000, 10, 70_000]

        async def send():
            for size in sizes:
                await end.write(b"x" * size)

        sending = asyncio.create_task(send())
        assert [(await end.read()).len for _ in sizes] == sizes
        await sending


# After the end


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("we close", 1006),
        ("we closed", 1000),
        ("peer closed", 4000),
        ("peer hung up", 1006),
        ("peer broke the protocol", 1002),
        ("we shut the socket down", 1006),
    ],
)
async def test_writing_after_the_end_raises_whatever_way_it_ended(side, how, code):
    async with end_and_peer(side) as (end, peer):
        closing = None
        if how in ("we close", "we closed"):
            closing = asyncio.create_task(end.write.close())
            assert await peer.close_received() == (1000, "")
            if how == "we closed":
                await peer.write(CLOSE, close_payload(1000))
                peer.half_close()
                await closing
        elif how == "peer closed":
            await peer.write(CLOSE, close_payload(4000, "why"))
            peer.half_close()
            await end.write.wait_closed()
        elif how == "peer hung up":
            peer.hang_up()
            await end.write.wait_closed()
        elif how == "peer broke the protocol":
            reading = asyncio.create_task(end.read())
            await peer.write(3)
            await peer.close_received()
            peer.half_close()
            await asyncio.wait([reading])
            assert reading.exception() is not None
        else:
            end.socket.shutdown()
            await end.write.wait_closed()
        attempts = [
            lambda: end.write("x"),
            lambda: end.write(b"x"),
            lambda: end.write(Message("x")),
            lambda: end.write({"payload": "x"}),
            lambda: end.write(["x", "y"]),
            lambda: end.write(aiter_of("x")),
            lambda: end.write(Message("x", 1, fin=False)),
            lambda: end.write(Message("x", 9)),
            lambda: end.write.ping(),
            lambda: end.write.pong(),
        ]
        for attempt in attempts:
            with pytest.raises(ConnectionClosedError, match="cannot send") as caught:
                await attempt()
            assert caught.value.code == code
        # Closing what is closed does nothing.
        if how != "we close":
            assert await end.write(None) is None
            assert await end.write.close(4001, "again") is None
        if closing is not None and not closing.done():
            peer.hang_up()
            await closing


@pytest.mark.parametrize("how", ["None", "nothing", "message", "mapping", "close"])
async def test_the_ways_to_close(side, how):
    async with end_and_peer(side) as (end, peer):
        coroutine = {
            "None": lambda: end.write(None),
            "nothing": lambda: end.write(),
            "message": lambda: end.write(Message(close_payload(4000, "bye"), 8)),
            "mapping": lambda: end.write({"opcode": 8}),
            "close": lambda: end.write.close(1001),
        }[how]()
        closing = asyncio.create_task(coroutine)
        expected = {
            "message": (4000, "bye"),
            "mapping": (None, ""),
            "close": (1001, ""),
        }.get(how, (1000, ""))
        assert (await peer.read()).close == expected
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        assert await closing is None


# Pings


async def test_a_ping_gives_the_round_trip_time_rfc_6455_5_5_2(side):
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read())
        pinged = end.write.ping()
        received = await peer.read()
        assert (received.opcode, len(received.payload)) == (PING, 8)
        await asyncio.sleep(0.01)
        assert not pinged.done()
        await peer.write(PONG, received.payload)
        assert 0.009 <= await pinged < 5
        assert isinstance(await pinged, float)
        reading.cancel()
        await asyncio.wait([reading])


@pytest.mark.parametrize("message", ["unread", "compressible " * 100, b"\0" * 100_000], ids=len)
async def test_a_ping_behind_unread_messages_is_measured(message):
    async with client_of_echo() as end:
        for _ in range(2):
            await end.write(message)
            await end.write.ping()
        async with asyncio.timeout(BOUND):
            assert await end.write.ping() > 0
        assert (await end.read()).payload == message
        async with asyncio.timeout(BOUND):
            assert await end.write.ping() > 0
        assert (await end.read()).payload == message


@pytest.mark.parametrize("message", [Message(b"mine", 9), {"payload": b"mine", "opcode": 9}])
@pytest.mark.parametrize("reader", [False, True])
async def test_a_ping_written_as_a_message_is_answered_like_any(side, message, reader, caplog):
    async with end_and_peer(side) as (end, peer):
        await end.write(message)
        assert await peer.read() == Frame(PING, b"mine")
        reading = asyncio.create_task(end.read()) if reader else None
        await turns_of_the_loop()
        await peer.write(PONG, "mine")
        await turns_of_the_loop(10)
        await peer.write(TEXT, "x")
        assert (await (reading or end.read())).payload == "x"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("how", ["hang_up", "reset", "close", "we close"])
async def test_a_ping_fails_when_the_connection_ends_and_nobody_need_care(side, how, caplog):
    caplog.set_level(logging.ERROR)
    async with end_and_peer(side) as (end, peer):
        pinged = end.write.ping()
        end.write.ping()  # nobody awaits this one
        if how == "close":
            await peer.write(CLOSE, close_payload(4000))
            peer.half_close()
        elif how == "we close":
            closing = asyncio.create_task(end.write.close())
            await peer.close_received()
            await peer.write(CLOSE, close_payload(1000))
            peer.half_close()
            await closing
        else:
            getattr(peer, how)()
        with pytest.raises(ConnectionClosedError):
            await pinged
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records


async def test_a_flood_of_pings_that_is_not_read_back_costs_bounded_memory_rfc_6455_5_5_3(side):
    """Behind a backlog only the newest Ping need be answered."""
    async with end_and_peer(side, receive_buffer=4096) as (end, peer):
        writing = asyncio.create_task(end.write(MANY))
        await turns_of_the_loop(20)
        for i in range(1000):
            await peer.write(PING, f"{i:0125}")
        await asyncio.sleep(0.05)
        assert await peer.read() == Frame(BINARY, MANY)
        await writing
        pongs = [await peer.read()]
        while pongs[-1].payload != f"{999:0125}".encode():
            pongs.append(await peer.read())
        assert {pong.opcode for pong in pongs} == {PONG}
        assert len(pongs) < 300


async def test_no_frame_follows_our_close_rfc_6455_5_5_1(side):
    """A Ping that waits to be answered behind a backlog is not answered after the Close."""
    async with end_and_peer(side, receive_buffer=4096) as (end, peer):
        writing = asyncio.create_task(end.write(MANY))
        await turns_of_the_loop(20)
        await peer.write(PING, "late")
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(end.write.close())
        frames = [await peer.read(), await peer.read()]
        while frames[-1].opcode != CLOSE:
            frames.append(await peer.read())
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        await peer.ended()  # and nothing comes
        await asyncio.wait([writing, closing])
        writing.exception()


async def test_writing_from_a_handler_of_ours_to_a_client_of_ours():
    async def count(req, read, write):
        for i in range(500):
            await write(f"{i}")

    async with serve(count) as server:
        async with asyncio.timeout(BOUND), connect(server.url) as (_, read, _):
            assert [msg.payload async for msg in read] == [str(i) for i in range(500)]


@pytest.mark.parametrize("sizes", [(2_000_000, 10), (2_000_000, 2_000_000), (10, 2_000_000)])
async def test_a_fragment_does_not_wait_for_the_one_that_a_thread_compresses(sizes):
    """Neither for its turn, which is its own already, nor is it an error to write it at once."""
    async with both_ends(max_message_size=None, server_options={"max_message_size": None}) as (
        client,
        server,
    ):
        parts = [os.urandom(size) for size in sizes] + [b"end"]
        reading = asyncio.create_task(server.read())
        writing = [
            client.write(Message(part, opcode=0 if i else 2, fin=i == 2))
            for i, part in enumerate(parts)
        ]
        for each in writing:
            await each
        assert (await reading).payload == b"".join(parts)
        await client.write("another")
        assert (await server.read()).payload == "another"


async def test_a_new_message_behind_a_fragment_in_a_thread_is_an_error_at_once():
    async with both_ends() as (client, server):
        first = client.write(Message(os.urandom(2_000_000), opcode=2, fin=False))
        with pytest.raises(ConcurrencyError):
            await client.write(["a", "b"])
        with pytest.raises(ConcurrencyError):
            await client.write("new")
        await first
        await client.write(Message(b"", opcode=0, fin=True))
        assert (await server.read()).len == 2_000_000
