"""Any number of tasks write at once, each message whole: whose turn it is, and who learns what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from coro_websocket import ConnectionClosedError, InvalidMessage, Message

from .behaviour import behaviour
from .ends import End
from .peers import close, last, more, ping, text

BROKEN_OFF = "a fragmented message was broken off"


class Broken(Exception):
    pass


async def slowly(end: End, *pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        await end.loop.sleep(0)
        yield piece


@pytest.mark.parametrize("kind", ["whole", "list", "async", "by hand"])
@behaviour()
async def test_another_tasks_message_waits_for_the_end_of_a_fragmented_one(
    end: End, kind: str
) -> None:
    async def other() -> None:
        if kind == "by hand":
            await end.write(Message("x", 1, fin=False))
            await end.write(Message("y", 0))
        else:
            message: Any = {"whole": "xy", "list": ["x", "y"], "async": slowly(end, "x", "y")}
            await end.write(message[kind])

    await end.write(Message("a", 1, fin=False))
    waiting = await end.waiting(other)
    assert not waiting.done
    await end.write(Message("b", 0))
    await waiting.result()
    assert await end.peer.messages(2) == [b"ab", b"xy"]


@behaviour()
async def test_control_frames_wait_for_no_turn(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    await end.spawn(end.write, {"opcode": 9, "payload": "p"}).result()
    await end.spawn(end.write.pong, b"q").result()
    await end.write(Message("b", 0))
    assert [(await end.peer.receive()).payload for _ in range(4)] == [b"a", b"p", b"q", b"b"]


@behaviour()
async def test_messages_of_a_hundred_tasks_never_interleave(end: End) -> None:
    async def write(n: int) -> None:
        pieces = [f"{n}.{i};" for i in range(1 + n % 4)]
        if n % 3 == 0:
            await end.write("".join(pieces))
        elif n % 3 == 1:
            await end.write(pieces)
        else:
            await end.write(slowly(end, *pieces))

    tasks = [end.spawn(write, n) for n in range(100)]
    given = await end.peer.messages(100)
    for task in tasks:
        await task.result()
    expected = ["".join(f"{n}.{i};" for i in range(1 + n % 4)) for n in range(100)]
    assert sorted(given) == sorted(each.encode() for each in expected)


@behaviour()
async def test_turns_are_given_in_the_order_of_asking(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    tasks = [await end.waiting(end.write, [str(i), "!"]) for i in range(5)]
    await end.write(Message("b", 0))
    for task in tasks:
        await task.result()
    assert await end.peer.messages(6) == [b"ab", *(b"%d!" % i for i in range(5))]


@behaviour()
async def test_a_task_that_is_cancelled_while_it_waits_for_its_turn_sends_nothing(
    end: End,
) -> None:
    await end.write(Message("a", 1, fin=False))
    tasks = [await end.waiting(end.write, [str(i), "!"]) for i in range(3)]
    tasks[0].cancel()
    tasks[1].cancel()
    await tasks[0].ended()
    await end.write(Message("b", 0))
    await tasks[2].result()
    assert tasks[0].cancelled
    assert tasks[1].cancelled
    assert await end.peer.messages(2) == [b"ab", b"2!"]


@behaviour()
async def test_a_turn_that_comes_with_the_cancellation_is_passed_on(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    tasks = [await end.waiting(end.write, str(i)) for i in range(2)]
    await end.write(Message("b", 0))
    tasks[0].cancel()
    await tasks[1].result()
    given = await end.peer.messages(2)
    assert given[0] == b"ab"
    if given[1] == b"0":  # it was sent, whole
        given += await end.peer.messages(1)
    assert given[-1] == b"1"


@behaviour()
async def test_an_invalid_message_does_not_keep_its_turn(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    bad = [await end.waiting(end.write, Message("x", 1, rsv1=True)) for _ in range(2)]
    good = await end.waiting(end.write, "good")
    await end.write(Message("b", 0))
    for task in bad:
        with pytest.raises(InvalidMessage):
            await task.result()
    await good.result()
    assert await end.peer.messages(2) == [b"ab", b"good"]


@behaviour()
async def test_a_task_that_ends_after_its_message_disturbs_nobody(end: End) -> None:
    async def in_two() -> None:
        await end.write(Message("a", 1, fin=False))
        await end.write(Message("b", 0))

    await end.spawn(in_two).result()
    await end.settle()
    await end.write("c")
    assert await end.peer.messages(2) == [b"ab", b"c"]


# A message that is broken off


@behaviour()
async def test_a_task_that_ends_inside_its_message_blocks_no_other(end: End) -> None:
    await end.spawn(end.write, Message("a", 1, fin=False)).result()
    for message in ("x", ["y", "z"]):
        with pytest.raises(ConnectionClosedError, match="cannot send"):
            await end.write(message)
    await end.peer.expect(text("a", fin=False), close(1011, BROKEN_OFF))


@behaviour()
async def test_who_writes_learns_why_a_broken_off_message_closed_the_connection(end: End) -> None:
    await end.spawn(end.write, Message("a", 1, fin=False)).result()
    with pytest.raises(ConnectionClosedError, match=BROKEN_OFF) as caught:
        await end.write("x")
    assert caught.value.code == 1011


@behaviour()
async def test_who_waits_behind_a_task_that_ends_inside_its_message_is_told(end: End) -> None:
    go_on = end.event()

    async def half() -> None:
        await end.write(Message("a", 1, fin=False))
        await go_on.wait()

    ending = await end.waiting(half)
    waiting = [await end.waiting(end.write, message) for message in ("x", ["y", "z"])]
    go_on.set()
    await ending.result()
    for task in waiting:
        with pytest.raises(ConnectionClosedError, match="cannot send"):
            await task.result()


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
@behaviour()
async def test_an_iterable_that_raises_closes_with_1011(end: End, kind: str) -> None:
    def pieces() -> Any:
        yield "a"
        yield "b"
        yield "c"
        raise Broken

    async def async_pieces() -> Any:
        for piece in pieces():
            yield piece

    with pytest.raises(Broken):
        await end.write(pieces() if kind == "iterable" else async_pieces())
    await end.peer.expect(text("a", fin=False), more("b"))
    received = await end.peer.receive()
    if kind != "iterable":  # each goes out as it comes
        assert received == more("c")
        received = await end.peer.receive()
    assert received == close(1011, BROKEN_OFF)
    with pytest.raises(ConnectionClosedError):
        await end.write("too late")


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
@behaviour()
async def test_an_iterable_that_raises_before_its_first_fragment_sends_nothing(
    end: End, kind: str
) -> None:
    def pieces() -> Any:
        yield from ()
        raise Broken

    async def async_pieces() -> Any:
        for piece in pieces():
            yield piece
        raise Broken

    with pytest.raises(Broken):
        await end.write(pieces() if kind == "iterable" else async_pieces())
    await end.write("unharmed")
    await end.peer.expect(text("unharmed"))


@behaviour()
async def test_a_fragmented_write_that_is_cancelled_closes_with_1011(end: End) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        await end.event().wait()

    writing = end.spawn(end.write, pieces())
    await end.peer.expect(text("a", fin=False))
    waiting = await end.waiting(end.write, "x")
    writing.cancel()
    await writing.ended()
    assert writing.cancelled
    await end.peer.expect(close(1011, BROKEN_OFF))
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await waiting.result()


@behaviour()
async def test_a_fragmented_write_cancelled_before_its_first_fragment_sends_nothing(
    end: End,
) -> None:
    async def pieces() -> AsyncIterator[str]:
        await end.event().wait()
        yield "never"

    writing = await end.waiting(end.write, pieces())
    waiting = await end.waiting(end.write, "x")
    writing.cancel()
    await writing.ended()
    await waiting.result()
    await end.peer.expect(text("x"))


# The end, to who waits for a turn


@pytest.mark.parametrize("who", ["we", "the peer", "nobody"])
@behaviour()
async def test_who_waits_for_a_turn_learns_of_the_end(end: End, who: str) -> None:
    await end.write(Message("a", 1, fin=False))
    waiting = [await end.waiting(end.write, message) for message in ("x", ["y", "z"])]
    reading = end.spawn(end.read)
    await end.peer.expect(text("a", fin=False))
    if who == "we":
        end.spawn(end.write.close)
        assert await end.peer.answer_close() == (1000, "")
    elif who == "the peer":
        await end.peer.close()
    else:
        end.peer.cut()
    for task in waiting:
        with pytest.raises(ConnectionClosedError, match="cannot send"):
            await task.result()
    await reading.ended()


@behaviour()
async def test_a_ping_is_answered_inside_a_fragmented_message(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.write(Message("a", 1, fin=False))
    await end.peer.send(ping("p"))
    await end.settle()
    await end.write(Message("b", 0))
    frames = [await end.peer.receive() for _ in range(3)]
    assert [each.opcode for each in frames] == [1, 10, 0]
    assert frames[2] == last("b")
    reading.cancel()
