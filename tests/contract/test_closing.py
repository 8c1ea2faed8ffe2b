"""The closing handshake (RFC 6455 section 7): who begins, what is told, what comes after."""

from __future__ import annotations

from typing import Any

import pytest

from coro_websocket import ConnectionClosedError, InvalidMessage, Message

from .behaviour import behaviour
from .ends import End
from .peers import binary, close, frame, last, ping, text

# We begin


@behaviour()
async def test_close_sends_a_close_and_waits_for_the_peers(end: End) -> None:
    closing = end.spawn(end.write.close)
    assert await end.peer.close_received() == (1000, "")
    await end.settle()
    assert not closing.done
    await end.peer.send(close())
    await end.peer.finish()
    assert await closing.result() is None
    assert await end.read() is None
    assert (end.read.close_code, end.read.close_reason) == (1000, "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1001, ""), (1011, "why"), (4999, "\u00e9" * 61), (3000, "x" * 123), (None, "")],
)
@behaviour()
async def test_close_sends_its_code_and_reason(end: End, code: int | None, reason: str) -> None:
    closing = end.spawn(end.write.close, code, reason)
    assert await end.peer.answer_close() == (code, reason)
    await closing.result()
    assert (end.read.close_code, end.read.close_reason) == (code or 1005, reason)


MESSAGES: dict[str, tuple[Any, Any]] = {
    "None": (None, (1000, "")),
    "a Close": ({"opcode": 8}, (None, "")),
    "a Close with a code": (Message(b"\x0f\xa0bye", 8), (4000, "bye")),
}


@pytest.mark.parametrize("message", MESSAGES)
@behaviour()
async def test_a_message_can_be_a_close(end: End, message: str) -> None:
    closing = end.spawn(end.write, MESSAGES[message][0])
    assert await end.peer.close_received() == MESSAGES[message][1]
    await end.settle()
    assert not closing.done
    await end.peer.send(close())
    await end.peer.finish()
    await closing.result()


@behaviour()
async def test_write_without_a_message_closes(end: End) -> None:
    closing = end.spawn(end.write)
    assert await end.peer.answer_close() == (1000, "")
    await closing.result()


REFUSED: list[tuple[Any, Any]] = [
    (-1, ""),
    (0, ""),
    (999, ""),
    (1004, ""),
    (1005, ""),
    (1006, ""),
    (1015, ""),
    (1016, ""),
    (2999, ""),
    (5000, ""),
    (True, ""),
    ("1000", ""),
    (1000.0, ""),
    (1000, "x" * 124),
    (1000, "\u00e9" * 62),
    (1000, None),
    (1000, "\ud800"),
    (1000, b"bytes"),
    (None, "a reason without a code"),
]


@behaviour()
async def test_a_close_that_may_not_be_sent_is_refused_and_nothing_is_sent(end: End) -> None:
    for code, reason in REFUSED:
        with pytest.raises(InvalidMessage):
            await end.write.close(code, reason)
    await end.write("open")
    await end.peer.expect(text("open"))


@behaviour()
async def test_what_was_written_before_the_close_goes_out_before_it(end: End) -> None:
    writing = end.spawn(end.write, b"x" * 300_000)
    await end.settle()
    closing = end.spawn(end.write.close)
    await end.peer.expect(binary(b"x" * 300_000))
    await end.peer.answer_close()
    await writing.result()
    await closing.result()


@behaviour()
async def test_messages_on_their_way_when_we_close_can_be_read(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    await end.peer.send(text("1"), text("2"), close())
    await end.peer.finish()
    await closing.result()
    assert [(await end.message()).payload for _ in range(2)] == ["1", "2"]
    assert await end.read() is None


@behaviour()
async def test_closing_again_waits_for_the_same_end(end: End) -> None:
    first = await end.waiting(end.write.close)
    second = await end.waiting(end.write.close, 4000, "again")
    assert await end.peer.answer_close() == (1000, "")
    await first.result()
    await second.result()


@behaviour()
async def test_closing_what_is_closed_does_nothing(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    await closing.result()
    await end.write.close(4000, "again")
    await end.write(None)
    assert end.read.close_code == 1000


@pytest.mark.parametrize("reader", ["read", "batch", "stream", "for"])
@behaviour()
async def test_closing_ends_a_task_that_reads(end: End, reader: str) -> None:
    async def iterate() -> list[Any]:
        return [message async for message in end.read]

    work: Any = {
        "read": end.read,
        "batch": end.read.batch,
        "stream": end.read.stream,
        "for": iterate,
    }[reader]
    reading = await end.waiting(work)
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    assert not await reading.result()
    await closing.result()


@behaviour(close_timeout=0.05)
async def test_a_peer_that_does_not_answer_is_left_after_close_timeout(end: End) -> None:
    await end.write.close()
    assert await end.read() is None
    assert end.read.close_code == 1006


@behaviour(close_timeout=0.05)
async def test_a_peer_that_talks_on_and_does_not_answer_is_left_after_close_timeout(
    end: End,
) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    while not closing.done:
        await end.peer.send(text("on and on"))
        await end.loop.sleep(0.005)
    await closing.result()


@behaviour()
async def test_a_peer_that_goes_instead_of_answering_ends_the_wait_cleanly(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    end.peer.cut()
    await closing.result()
    assert await end.read() is None
    assert end.read.close_code == 1006


@behaviour()
async def test_a_cancelled_close_goes_on(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    closing.cancel()
    await closing.ended()
    assert closing.cancelled
    await end.peer.send(close())
    await end.peer.finish()
    await end.write.wait_closed()
    assert end.read.close_code == 1000


# The peer begins


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "bye"), (1001, "\u00e9"), (None, "")]
)
@behaviour()
async def test_a_close_of_the_peers_is_answered_with_its_code_and_ends_cleanly(
    end: End, code: int | None, reason: str
) -> None:
    reading = await end.waiting(end.read)
    assert await end.peer.close(code, reason) == code
    assert await reading.result() is None
    assert await end.read() is None
    assert (end.read.close_code, end.read.close_reason) == (code or 1005, reason)


@pytest.mark.parametrize("code", [1002, 1008, 1011, 3000, 4999])
@behaviour()
async def test_an_error_code_of_the_peers_is_answered_and_raised_each_time(
    end: End, code: int
) -> None:
    reading = await end.waiting(end.read)
    assert await end.peer.close(code, "why") == code
    with pytest.raises(ConnectionClosedError, match=f"the peer closed.*{code}.*why") as caught:
        await reading.result()
    assert (caught.value.code, caught.value.reason) == (code, "why")
    with pytest.raises(ConnectionClosedError, match=str(code)):
        await end.read()
    assert (end.read.close_code, end.read.close_reason) == (code, "why")


@behaviour()
async def test_a_close_of_the_peers_is_answered_though_nobody_reads(end: End) -> None:
    assert await end.peer.close(1001) == 1001
    await end.write.wait_closed()
    assert await end.read() is None


@behaviour()
async def test_a_close_behind_unread_messages_is_answered_when_it_is_reached(end: End) -> None:
    await end.peer.send(text("1"), text("2"), close())
    for i in "12":
        assert (await end.message()).payload == i
        await end.write(f"answer to {i}")
        await end.peer.expect(text(f"answer to {i}"))
    reading = end.spawn(end.read)
    await end.peer.expect(close())
    await end.peer.finish()
    assert await reading.result() is None


@behaviour(close_timeout=0.05)
async def test_a_close_behind_unread_messages_is_answered_after_close_timeout(end: End) -> None:
    await end.peer.send(text("unread"))
    assert await end.peer.close(1001) == 1001
    await end.write.wait_closed()
    assert (await end.message()).payload == "unread"
    assert await end.read() is None


@behaviour()
async def test_what_comes_behind_the_peers_close_is_ignored(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(close(), text("late"), ping("late"), close(4000), frame(3, "late"))
    await end.peer.expect(close())
    await end.peer.finish()
    assert await reading.result() is None
    assert end.read.close_code == 1000


@behaviour()
async def test_the_close_code_is_none_while_the_connection_is_open(end: End) -> None:
    codes = [end.read.close_code]
    assert end.read.close_reason == ""
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    codes.append(end.read.close_code)
    assert codes == [None, None]
    await end.peer.send(close(4000, "mine"))
    await end.peer.finish()
    await closing.result()
    assert (end.read.close_code, end.read.close_reason) == (4000, "mine")


# Both at once


@behaviour()
async def test_closes_that_cross_are_not_answered_again(end: End) -> None:
    reading = await end.waiting(end.read)
    closing = end.spawn(end.write.close)
    await end.peer.send(close(4000, "crossing"))
    received = await end.peer.close_received()
    await end.peer.finish()
    await closing.result()
    assert received in ((1000, ""), (4000, ""))  # whichever was first
    assert end.read.close_code == 4000
    await reading.ended()


@behaviour()
async def test_a_close_that_crosses_ours_ends_cleanly_whatever_its_code(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    await end.peer.send(close(1011, "crossing"))
    await end.peer.finish()
    await closing.result()
    assert await end.read() is None
    assert end.read.close_code == 1011


# Afterwards


@behaviour()
async def test_nothing_can_be_sent_behind_our_close(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    for message in ("x", b"x", ["x", "y"], {"opcode": 9}):
        with pytest.raises(ConnectionClosedError, match=r"cannot send.*being closed") as caught:
            await end.write(message)
        assert caught.value.code == 1006
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        end.write.ping()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await end.write.pong()
    await end.peer.send(close())
    await end.peer.finish()
    await closing.result()


@behaviour()
async def test_our_close_may_come_inside_a_message_of_ours(end: End) -> None:
    await end.write({"opcode": 1, "payload": "a", "fin": False})
    closing = end.spawn(end.write.close)
    await end.peer.expect(text("a", fin=False))
    await end.peer.answer_close()
    await closing.result()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        await end.write({"opcode": 0, "payload": "b"})


@behaviour()
async def test_wait_closed_waits_whoever_closes(end: End) -> None:
    reading = end.spawn(end.read)
    waiting = [await end.waiting(end.write.wait_closed) for _ in range(2)]
    assert not waiting[0].done
    await end.peer.close()
    for task in waiting:
        await task.result()
    await reading.result()
    await end.write.wait_closed()


@behaviour()
async def test_who_is_cancelled_while_waiting_for_the_end_disturbs_nobody(end: End) -> None:
    one, other = [await end.waiting(end.write.wait_closed) for _ in range(2)]
    one.cancel()
    await one.ended()
    await end.peer.send(text("x"))
    assert (await end.message()).payload == "x"
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    await closing.result()
    await other.result()
    assert one.cancelled


@behaviour()
async def test_the_last_message_before_a_close_in_the_same_segment_is_given(end: End) -> None:
    reading = await end.waiting(end.read)
    await end.peer.send(text("a", fin=False), last("b"), close(1001))
    assert (await reading.result()).payload == "ab"
    ending = end.spawn(end.read)
    await end.peer.expect(close(1001))
    await end.peer.finish()
    assert await ending.result() is None
