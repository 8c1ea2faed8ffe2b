"""`read` and `write` as objects: what they are, have and say, and what wrong calls are told."""

from __future__ import annotations

from typing import Any

import pytest

from coro_websocket import (
    BroadcastStats,
    Group,
    InvalidMessageType,
    InvalidOptionType,
    Read,
    WebSocketError,
    Write,
    broadcast,
)

from .behaviour import behaviour
from .ends import End
from .peers import pong, text


@behaviour()
async def test_they_are_a_read_and_a_write(end: End) -> None:
    assert type(end.read) is Read
    assert type(end.write) is Write
    assert type(end.read.fragments()) is Read


@behaviour()
async def test_they_have_what_is_documented_and_nothing_else(end: End) -> None:
    def public(each: object) -> set[str]:
        return {name for name in dir(each) if not name.startswith("_")}

    assert public(end.read) == {
        "batch",
        "stream",
        "fragments",
        "close_code",
        "close_reason",
        "stats",
    }
    assert public(end.write) == {"ping", "pong", "close", "wait_closed", "stats"}


@behaviour()
async def test_nothing_can_be_put_on_them(end: End) -> None:
    for each in (end.read, end.write):
        with pytest.raises(AttributeError):
            each.more = 1  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["close_code", "close_reason", "stats"])
@behaviour()
async def test_what_they_tell_of_the_connection_cannot_be_changed(end: End, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(end.read, name, None)


@behaviour()
async def test_their_repr_says_the_role_and_how_it_stands(end: End) -> None:
    role = "client" if end.client else "server"
    assert (repr(end.read), repr(end.write)) == (f"<read {role}, open>", f"<write {role}, open>")
    closing = end.spawn(end.write.close)
    await end.peer.close_received()
    assert repr(end.read) == f"<read {role}, closing>"
    end.peer.cut()
    await closing.result()
    assert repr(end.read) == f"<read {role}, closed>"
    assert repr(end.write) == f"<write {role}, closed>"


@behaviour()
async def test_a_read_is_true_and_is_itself_its_iterator(end: End) -> None:
    assert end.read
    assert end.write
    assert aiter(end.read) is end.read


@behaviour()
async def test_a_reader_of_fragments_reads_from_the_same_connection(end: End) -> None:
    read = end.read.fragments()
    await end.peer.send(text("a"), text("b"))
    assert (await anext(read)).payload == "a"
    assert (await end.message()).payload == "b"
    assert read.stats == end.read.stats


@behaviour()
async def test_broadcast_takes_every_write(end: End) -> None:
    assert broadcast([end.write], "to all") == []
    await end.peer.expect(text("to all"))


@behaviour()
async def test_a_group_takes_every_write(end: End) -> None:
    group = Group()
    with group.member(end.write):
        assert group.broadcast("to all") == BroadcastStats(sent=1)
    assert group.broadcast("to nobody") == BroadcastStats()
    await end.peer.expect(text("to all"))


@behaviour()
async def test_each_call_can_be_a_task(end: End) -> None:
    end.loop.start(end.write, "1")
    await end.peer.expect(text("1"))
    end.loop.start(end.write, ["2", "3"])
    await end.peer.message()
    end.loop.start(end.write.pong, b"p")
    await end.peer.expect(pong("p"))
    for read in (end.read, end.read.batch, end.read.stream, end.read.__anext__):
        end.loop.start(read)
        await end.settle()
        await end.peer.send(text("taken"))
        await end.settle()
        assert end.read.stats.messages_in
    end.loop.start(end.write.close)
    await end.peer.answer_close()
    end.loop.start(end.write.wait_closed)


# Wrong calls


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ((), {"timeout": 5}, "asyncio.timeout(seconds)"),
        ((5,), {}, "read(control=True)"),
        ((), {"decode": True}, "takes fragments and control, and not 'decode'"),
    ],
    ids=["timeout", "a number", "another option"],
)
@behaviour()
async def test_a_read_is_told_what_it_takes(end: End, args: Any, options: Any, said: str) -> None:
    with pytest.raises(InvalidOptionType) as caught:
        await end.read(*args, **options)
    assert said in str(caught.value)
    assert isinstance(caught.value, WebSocketError)
    assert isinstance(caught.value, TypeError)
    await end.peer.send(text("next"))
    assert (await end.message()).payload == "next"


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (("a", "b"), {}, "one message, and 2 came"),
        (("a",), {"timeout": 5}, "asyncio.timeout(seconds)"),
        (("a",), {"opcode": 1}, "Message(...)"),
        (("a",), {"fin": False}, "'fin': ..."),
        (("a",), {"text": True}, "takes a message and compress, not 'text'"),
    ],
    ids=["two messages", "timeout", "opcode", "fin", "another option"],
)
@behaviour()
async def test_a_write_is_told_what_it_takes_and_nothing_is_sent(
    end: End, args: Any, options: Any, said: str
) -> None:
    with pytest.raises((InvalidOptionType, InvalidMessageType)) as caught:
        await end.write(*args, **options)
    assert said in str(caught.value)
    await end.write("next")
    await end.peer.expect(text("next"))


@behaviour()
async def test_a_wrong_call_is_told_so_by_the_call_itself(end: End) -> None:
    async def raises_at_once(call: Any) -> bool:
        try:
            called = call()
        except InvalidOptionType:
            return True
        called.close()
        return False

    read: Any = end.read
    assert await raises_at_once(lambda: read(5))
    assert await raises_at_once(lambda: end.write("a", timeout=5))  # type: ignore[call-arg]


@behaviour()
async def test_what_may_have_been_meant_as_json_is_told_how(end: End) -> None:
    messages: list[Any] = [5, 1.5, True, [1], {"op": 1}, {"payload": {"op": 1}}]
    for message in messages:
        with pytest.raises(InvalidMessageType, match=r"json\.dumps"):
            await end.write(message)


@behaviour()
async def test_an_awaitable_is_no_message_until_it_has_been_awaited(end: End) -> None:
    reading = end.read()
    with pytest.raises(InvalidMessageType, match="await it first"):
        await end.write(reading)  # type: ignore[arg-type]
    reading.close()


@behaviour()
async def test_a_forgotten_await_says_what_to_await(end: End) -> None:
    reading, streaming = end.read(), end.read.stream()
    try:
        with pytest.raises(AttributeError, match=r"await it first, \(await read\(\)\)\.payload"):
            _ = reading.payload  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"\(await read\.stream\(\)\)\.opcode"):
            _ = streaming.opcode  # type: ignore[attr-defined]
    finally:
        reading.close()
        streaming.close()


@pytest.mark.parametrize(
    ("called", "instead"),
    [
        ("read", "async for msg in read', without a call"),
        ("batch", "for msg in await read.batch()"),
        ("stream", "async for chunk in await read.stream()"),
    ],
)
@behaviour()
async def test_iterating_over_a_call_says_over_what_to_iterate(
    end: End, called: str, instead: str
) -> None:
    call: Any = end.read() if called == "read" else getattr(end.read, called)()
    try:
        with pytest.raises(TypeError) as caught:
            async for _ in call:
                pass
        assert instead in str(caught.value)
    finally:
        call.close()
