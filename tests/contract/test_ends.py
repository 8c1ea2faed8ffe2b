"""How a connection ended: what is raised, where, with which code, text and cause."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from coro_websocket import (
    ConnectionClosedError,
    LimitError,
    Message,
    ProtocolError,
    WebSocketError,
)

from .behaviour import behaviour
from .ends import End
from .peers import CONT, PING, binary, close, frame, last, more, ping, text

LIMIT = 1000  # max_message_size


# How it ends


async def peer_closes(end: End) -> None:
    await end.peer.close(1011, "why")


async def peer_goes(end: End) -> None:
    end.peer.cut()


async def connection_is_reset(end: End) -> None:
    end.peer.reset()


async def protocol_is_broken(end: End) -> None:
    await end.peer.send(frame(3, "reserved"))
    await end.peer.close_received()
    end.peer.cut()


async def text_is_not_utf8(end: End) -> None:
    await end.peer.send(text(b"\xff"))
    await end.peer.close_received()
    end.peer.cut()


async def limit_is_crossed(end: End) -> None:
    await end.peer.send(binary(bytes(LIMIT + 1)))
    await end.peer.close_received()
    end.peer.cut()


async def our_message_is_broken_off(end: End) -> None:
    await end.spawn(end.write, Message("a", 1, fin=False)).result()
    await end.peer.expect(text("a", fin=False))
    await end.peer.answer_close()


@dataclass
class Way:
    end: Callable[[End], Awaitable[None]]
    kind: type[ConnectionClosedError]
    code: int
    said: str
    reason: str = ""


WAYS = {
    "the peer closes": Way(
        peer_closes, ConnectionClosedError, 1011, r"the peer closed.*1011.*: why", "why"
    ),
    "the peer goes": Way(peer_goes, ConnectionClosedError, 1006, "without a Close frame"),
    "the protocol is broken": Way(
        protocol_is_broken, ProtocolError, 1002, r"opcode.*5\.2", "reserved opcode 0x3"
    ),
    "text is not UTF-8": Way(
        text_is_not_utf8, ProtocolError, 1007, r"UTF-8.*8\.1", "text message that is not UTF-8"
    ),
    "a limit is crossed": Way(
        limit_is_crossed,
        LimitError,
        1009,
        "max_message_size is 1000",
        "message larger than 1000 bytes",
    ),
    "our message is broken off": Way(
        our_message_is_broken_off,
        ConnectionClosedError,
        1011,
        "we closed the connection: a fragmented message was broken off",
        "a fragmented message was broken off",
    ),
}

RESET = Way(connection_is_reset, ConnectionClosedError, 1006, r"the connection was lost \(")


async def iterate(end: End) -> list[Any]:
    return [message async for message in end.read]


async def iterate_over_fragments(end: End) -> list[Any]:
    return [message async for message in end.read.fragments()]


READERS: dict[str, Callable[[End], Awaitable[Any]]] = {
    "read": lambda end: end.read(),
    "control": lambda end: end.read(control=True),
    "fragments": lambda end: end.read(fragments=True),
    "batch": lambda end: end.read.batch(),
    "stream": lambda end: end.read.stream(),
    "for": iterate,
    "for fragments": iterate_over_fragments,
}


async def run(end: End, reader: str) -> Any:
    return await READERS[reader](end)


def check(error: BaseException, way: Way) -> None:
    assert type(error) is way.kind
    assert (error.code, error.reason) == (way.code, way.reason)
    assert isinstance(error, ConnectionError)
    assert isinstance(error, WebSocketError)


# Reading


@pytest.mark.parametrize("how", WAYS)
@behaviour(max_message_size=LIMIT)
async def test_the_end_is_raised_to_who_waits_and_to_whoever_reads_after(
    end: End, how: str
) -> None:
    way = WAYS[how]
    reading = await end.waiting(end.read)
    await way.end(end)
    with pytest.raises(ConnectionClosedError, match=way.said) as caught:
        await reading.result()
    check(caught.value, way)
    for reader in READERS:
        with pytest.raises(ConnectionClosedError, match=way.said) as caught:
            await run(end, reader)
        check(caught.value, way)
    assert end.read.close_code == way.code


@pytest.mark.parametrize("reader", READERS)
@behaviour()
async def test_the_end_is_raised_wherever_somebody_waits_for_a_message(
    end: End, reader: str
) -> None:
    way = WAYS["the peer goes"]
    reading = await end.waiting(run, end, reader)
    await way.end(end)
    with pytest.raises(ConnectionClosedError, match=way.said) as caught:
        await reading.result()
    check(caught.value, way)


@pytest.mark.parametrize("how", WAYS)
@behaviour(max_message_size=LIMIT)
async def test_what_came_before_the_end_is_given_first(end: End, how: str) -> None:
    async def read_all() -> list[Any]:
        given = []
        with pytest.raises(ConnectionClosedError, match=WAYS[how].said):
            while True:
                given.append((await end.message()).payload)
        return given

    await end.peer.send(text("1"), binary(b"2"), text("3", fin=False), last("!"))
    reading = end.spawn(read_all)
    await WAYS[how].end(end)
    assert await reading.result() == ["1", b"2", "3!"]


@behaviour()
async def test_what_came_before_the_peer_went_is_given_to_who_comes_later(end: End) -> None:
    await end.peer.send(text("1"), text("2"))
    end.peer.cut()
    await end.settle()
    assert [(await end.message()).payload for _ in range(2)] == ["1", "2"]
    with pytest.raises(ConnectionClosedError, match="without a Close frame"):
        await end.read()


@behaviour(needs_errors=True)
async def test_an_error_of_the_system_is_the_cause(end: End) -> None:
    reading = await end.waiting(end.read)
    end.peer.reset()
    for _ in range(2):
        with pytest.raises(ConnectionClosedError, match=RESET.said) as caught:
            await reading.result()
        check(caught.value, RESET)
        assert isinstance(caught.value.__cause__, OSError)
        reading = end.spawn(end.read)
    assert end.read.close_code == 1006


@pytest.mark.parametrize("how", WAYS)
@behaviour(max_message_size=LIMIT)
async def test_an_end_that_no_error_of_the_system_brought_about_has_no_cause(
    end: End, how: str
) -> None:
    reading = await end.waiting(end.read)
    await WAYS[how].end(end)
    await reading.ended()
    assert reading.error is not None
    assert reading.error.__cause__ is None


@behaviour()
async def test_an_error_that_is_raised_again_does_not_gather_tracebacks(end: End) -> None:
    def length(error: BaseException) -> int:
        traceback, n = error.__traceback__, 0
        while traceback is not None:
            traceback, n = traceback.tb_next, n + 1
        return n

    reading = await end.waiting(end.read)
    await protocol_is_broken(end)
    await reading.ended()
    lengths = set()
    for _ in range(5):
        with pytest.raises(ConnectionClosedError) as caught:
            await end.read()
        lengths.add(length(caught.value))
    assert len(lengths) == 1


@behaviour()
async def test_a_broken_off_message_is_the_end_though_the_peer_does_not_answer(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.spawn(end.write, Message("a", 1, fin=False)).result()
    await end.peer.expect(text("a", fin=False))
    assert (await end.peer.close_received())[0] == 1011
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match="broken off") as caught:
        await reading.result()
    assert caught.value.code == 1011
    assert end.read.close_code == 1006


# Writing


async def fragments() -> AsyncGenerator[str, None]:
    yield "x"


async def write_fragments(end: End) -> None:
    async with contextlib.aclosing(fragments()) as pieces:
        await end.write(pieces)


WRITERS: dict[str, Callable[[End], Awaitable[Any]]] = {
    "str": lambda end: end.write("x"),
    "bytes": lambda end: end.write(b"x"),
    "mapping": lambda end: end.write({"payload": "x"}),
    "fragments": lambda end: end.write(["x", "y"]),
    "async fragments": write_fragments,
    "first fragment": lambda end: end.write(Message("x", 1, fin=False)),
    "ping message": lambda end: end.write(Message("x", 9)),
    "ping": lambda end: end.write.ping(),
    "pong": lambda end: end.write.pong(),
}


@pytest.mark.parametrize("how", WAYS)
@behaviour(max_message_size=LIMIT)
async def test_the_end_is_raised_to_whoever_writes_after(end: End, how: str) -> None:
    reading = await end.waiting(end.read)
    await WAYS[how].end(end)
    await reading.ended()
    for writer in WRITERS.values():
        with pytest.raises(ConnectionClosedError, match="cannot send") as caught:
            await writer(end)
        assert caught.value.code == WAYS[how].code


@behaviour()
async def test_an_async_generator_that_cannot_be_sent_to_its_end_is_closed(end: End) -> None:
    closed = end.event()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "x"
        finally:
            closed.set()

    end.peer.cut()
    with pytest.raises(ConnectionClosedError):
        await end.read()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ConnectionClosedError):
            await end.write(pieces())
        gc.collect()
        await end.settle()
    assert closed.is_set()
    assert not caught


@behaviour()
async def test_a_clean_end_is_raised_to_whoever_writes_after(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.close(1001, "bye")
    await reading.result()
    for writer in WRITERS.values():
        with pytest.raises(ConnectionClosedError, match=r"cannot send.*1001.*bye") as caught:
            await writer(end)
        assert (caught.value.code, caught.value.reason) == (1001, "bye")


@behaviour(needs_errors=True)
async def test_an_error_of_the_system_is_the_cause_of_what_writers_are_told(end: End) -> None:
    reading = await end.waiting(end.read)
    end.peer.reset()
    await reading.ended()
    with pytest.raises(
        ConnectionClosedError, match="cannot send: the connection is lost"
    ) as caught:
        await end.write("x")
    assert isinstance(caught.value.__cause__, OSError)


# Waiting for the end, and closing


@pytest.mark.parametrize("how", WAYS)
@behaviour(max_message_size=LIMIT)
async def test_who_waits_for_the_end_is_told_of_it_without_an_error(end: End, how: str) -> None:
    reading = await end.waiting(end.read)
    waiting = await end.waiting(end.write.wait_closed)
    await WAYS[how].end(end)
    await waiting.result()
    await reading.ended()
    await end.write.wait_closed()
    await end.write.close()
    await end.write(None)
    assert end.read.close_code == WAYS[how].code


@behaviour()
async def test_that_the_peer_has_gone_is_noticed_though_nobody_reads(end: End) -> None:
    asked = end.write.ping()
    end.peer.cut()
    await end.write.wait_closed()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await asked
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await end.write("x")
    assert end.read.close_code == 1006


# Messages that are not whole


@pytest.mark.parametrize("code", [None, 1000, 1001])
@behaviour()
async def test_a_close_inside_a_message_is_an_error_whatever_its_code(
    end: End, code: int | None
) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(text("a", fin=False), more("b"))
    await end.peer.close(code)
    with pytest.raises(ConnectionClosedError, match="before the message had ended") as caught:
        await reading.result()
    assert caught.value.code == (code or 1005)


@behaviour()
async def test_an_error_code_inside_a_message_is_told_as_it_is(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(text("a", fin=False))
    await end.peer.close(1011, "why")
    with pytest.raises(ConnectionClosedError, match=r"1011.*why"):
        await reading.result()


@behaviour()
async def test_a_message_that_the_peer_goes_inside_of_is_not_given(end: End) -> None:
    await end.peer.send(text("whole"), text("a", fin=False))
    assert (await end.message()).payload == "whole"
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match="without a Close frame"):
        await end.read()


@behaviour(needs_bytes=True)
async def test_half_a_frame_is_not_given(end: End) -> None:
    data = end.bytes_peer.encode(text("whole"), text("half of this"))
    await end.bytes_peer.send_bytes(data[:-6])
    assert (await end.message()).payload == "whole"
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match="without a Close frame"):
        await end.read()


# Violations

VIOLATIONS: dict[str, tuple[list[Any], int, str]] = {
    "rsv1": ([text("x", rsv=4)], 1002, "5.2"),
    "rsv2": ([text("x", rsv=2)], 1002, "5.2"),
    "rsv3 on a Ping": ([frame(PING, "x", rsv=1)], 1002, "5.2"),
    "opcode 3": ([frame(3, "x")], 1002, "5.2"),
    "opcode 11": ([frame(11, "x")], 1002, "5.2"),
    "fragmented Ping": ([frame(PING, "x", fin=False)], 1002, "5.4"),
    "long Ping": ([ping(b"x" * 126)], 1002, "5.5"),
    "continuation of nothing": ([frame(CONT, "x")], 1002, "5.4"),
    "message inside a message": ([text("x", fin=False), text("y")], 1002, "5.4"),
    "Close of one byte": ([frame(8, b"\x03")], 1002, "5.5.1"),
    "close code 999": ([close(999)], 1002, "7.4"),
    "close code 1005": ([close(1005)], 1002, "7.4"),
    "close code 5000": ([close(5000)], 1002, "7.4"),
    "close reason not UTF-8": ([frame(8, b"\x03\xe8\xc0\xaf")], 1007, "8.1"),
    "overlong text": ([text(b"\xc0\xaf")], 1007, "8.1"),
    "text cut off": ([text(b"abc\xe2\x82")], 1007, "8.1"),
    "fragmented text": ([text(b"\xe2", fin=False), last(b"x")], 1007, "8.1"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
@behaviour()
async def test_a_violation_is_told_to_both_and_the_end(end: End, name: str) -> None:
    frames, code, section = VIOLATIONS[name]
    reading = await end.waiting(end.read)
    await end.peer.send(*frames)
    assert (await end.peer.close_received())[0] == code
    await end.peer.finish()
    with pytest.raises(ProtocolError) as caught:
        await reading.result()
    assert caught.value.code == end.read.close_code == code
    assert f"section {section}" in str(caught.value)


@behaviour()
async def test_a_frame_that_is_masked_for_the_other_role_is_refused(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(text("x"), wrongly_masked=True)
    assert (await end.peer.close_received())[0] == 1002
    await end.peer.finish()
    with pytest.raises(ProtocolError, match=r"5\.1"):
        await reading.result()


@behaviour()
async def test_what_comes_behind_a_violation_is_nobodys(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(frame(3), text("no"), ping("no"), close(4000))
    assert (await end.peer.close_received())[0] == 1002
    await end.peer.finish()
    with pytest.raises(ProtocolError):
        await reading.result()
    with pytest.raises(ProtocolError):
        await end.read()


@behaviour(close_timeout=0.05)
async def test_a_peer_that_does_not_go_after_its_violation_is_left(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(frame(3))
    with pytest.raises(ProtocolError):
        await reading.result()
    await end.write.wait_closed()


# Limits


@pytest.mark.parametrize("pieces", [1, 2, 50])
@behaviour(max_message_size=LIMIT)
async def test_a_message_over_the_limit_names_the_limit(end: End, pieces: int) -> None:
    reading = await end.waiting(end.read)
    size = LIMIT // pieces + 1
    await end.peer.send(
        *(frame(0 if i else 2, bytes(size), fin=i == pieces - 1) for i in range(pieces))
    )
    assert (await end.peer.close_received())[0] == 1009
    await end.peer.finish()
    with pytest.raises(LimitError, match="max_message_size is 1000") as caught:
        await reading.result()
    error = caught.value
    assert (error.code, error.limit, error.value) == (1009, "max_message_size", LIMIT)
    assert error.actual > LIMIT


@behaviour(max_message_size=LIMIT)
async def test_a_message_of_the_limit_is_given(end: End) -> None:
    half = bytes(LIMIT // 2)
    await end.peer.send(binary(bytes(LIMIT)), binary(half, fin=False), last(half))
    assert [(await end.message()).len for _ in range(2)] == [LIMIT, LIMIT]


@behaviour(max_message_size=None)
async def test_no_limit_takes_what_is_larger_than_the_default(end: End) -> None:
    piece = bytes(1 << 20)
    frames = [binary(piece, fin=False), *(more(piece) for _ in range(15)), last(b"x")]
    sending = end.spawn(end.peer.send, *frames)
    assert (await end.message()).len == (16 << 20) + 1
    await sending.result()


@behaviour(needs_bytes=True)
async def test_a_header_that_announces_too_much_is_refused_before_its_payload_comes(
    end: End,
) -> None:
    reading = await end.waiting(end.read)
    mask = b"mask" if end.peer.client else b""
    second = 127 | end.peer.client << 7
    await end.bytes_peer.send_bytes(bytes([0x82, second]) + (2**62).to_bytes(8, "big") + mask)
    assert (await end.peer.close_received())[0] == 1009
    end.peer.cut()
    with pytest.raises(LimitError) as caught:
        await reading.result()
    assert caught.value.actual == 2**62
