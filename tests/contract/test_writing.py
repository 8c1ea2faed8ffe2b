"""`write`: what it takes, what goes out for it, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from coro_websocket import ConcurrencyError, InvalidMessage, InvalidMessageType, Message

from .behaviour import behaviour
from .ends import End
from .peers import Frame, binary, close, frame, last, more, ping, pong, text


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


KINDS: dict[str, tuple[Any, Frame]] = {
    "str": ("h\u00e9llo", text("h\u00e9llo")),
    "empty str": ("", text("")),
    "bytes": (b"\x00\xff", binary(b"\x00\xff")),
    "bytearray": (bytearray(b"x"), binary(b"x")),
    "memoryview": (memoryview(b"xyz")[::2], binary(b"xz")),
    "text Message": (Message("x", 1), text("x")),
    "Message": (Message("x"), binary(b"x")),
    "mapping": ({"payload": "x"}, binary(b"x")),
    "text mapping": ({"payload": "x", "opcode": 1}, text("x")),
    "Ping": ({"opcode": 9, "payload": b"p"}, ping(b"p")),
    "Pong": ({"opcode": 10}, pong()),
}


@pytest.mark.parametrize("kind", KINDS)
@behaviour()
async def test_each_kind_of_message_goes_out_as_one_frame(end: End, kind: str) -> None:
    message, expected = KINDS[kind]
    await end.write(message)
    await end.peer.expect(expected)


@behaviour()
async def test_messages_of_every_size_go_out_whole(end: End) -> None:
    sizes = [0, 1, 125, 126, 65535, 65536, 300_000, 2]

    async def write_all() -> None:
        for i, size in enumerate(sizes):
            await end.write(bytes([i]) * size)

    writing = end.spawn(write_all)
    await end.peer.expect(*(binary(bytes([i]) * size) for i, size in enumerate(sizes)))
    await writing.result()


@pytest.mark.parametrize("mask", [True, False])
@behaviour()
async def test_masking_is_by_role_whatever_a_message_says(end: End, mask: bool) -> None:
    await end.write(Message("x", 1, mask=mask))
    assert (await end.peer.receive()).masked is end.client


@behaviour()
async def test_writes_of_one_task_go_out_in_order(end: End) -> None:
    for i in range(200):
        await end.write(str(i))
    await end.peer.expect(*(text(str(i)) for i in range(200)))


@behaviour()
async def test_compress_makes_no_difference_where_nothing_was_agreed_on(end: End) -> None:
    await end.write("a", compress=False)
    await end.write("b", compress=True)
    await end.write(["c", "d"], compress=False)
    await end.write(message="e")
    assert await end.peer.messages(4) == [b"a", b"b", b"cd", b"e"]


# When a message is taken


@behaviour()
async def test_a_write_that_is_not_awaited_is_sent(end: End) -> None:
    written = [end.write("1"), end.write(b"2"), end.write({"payload": "3"})]
    try:
        await end.peer.expect(text("1"), binary(b"2"), binary(b"3"))
    finally:
        for each_one in written:
            await each_one


@behaviour()
async def test_a_pong_and_a_close_that_are_not_awaited_are_sent(end: End) -> None:
    called = [end.write.pong(b"p"), end.write.close(4000)]
    try:
        await end.peer.expect(pong("p"), close(4000))
    finally:
        end.peer.cut()
        for each_one in called:
            await each_one


@behaviour()
async def test_bytes_are_taken_when_write_is_called(end: End) -> None:
    data = bytearray(b"before")
    written = end.write(data)
    data[:] = b"AFTER!"
    await written
    await end.peer.expect(binary(b"before"))


@behaviour()
async def test_what_cannot_be_sent_is_refused_by_the_call_itself(end: End) -> None:
    refused = False
    try:
        written = end.write(5)  # type: ignore[arg-type]
    except InvalidMessageType:
        refused = True
    else:
        written.close()
    assert refused


@behaviour()
async def test_writes_go_out_in_the_order_of_their_calls(end: End) -> None:
    first, second = end.write("1"), end.write("2")
    await second
    await first
    await end.peer.expect(text("1"), text("2"))


# Fragments


@pytest.mark.parametrize(
    ("fragments", "frames"),
    [
        (["a"], [text("a")]),
        (["a", "b", "c"], [text("a", fin=False), more("b"), last("c")]),
        (
            (b"a", bytearray(b"b"), memoryview(b"c")),
            [binary(b"a", fin=False), more("b"), last("c")],
        ),
        (["", "", "x", ""], [text(fin=False), more(), more("x"), last()]),
        ([b""], [binary()]),
        ({"a": 1}.keys(), [text("a")]),
    ],
    ids=["one", "three", "bytes-like", "empty ones", "an empty one", "a view"],
)
@behaviour()
async def test_an_iterable_is_one_message_in_fragments(
    end: End, fragments: Any, frames: list[Any]
) -> None:
    await end.write(fragments)
    await end.write(piece for piece in fragments)
    await end.peer.expect(*frames, *frames)


@behaviour()
async def test_fragments_of_an_async_iterable_go_out_as_they_come(end: End) -> None:
    go_on = [end.event() for _ in range(3)]

    async def pieces() -> AsyncIterator[str]:
        for i, event in enumerate(go_on):
            await event.wait()
            yield str(i)

    writing = end.spawn(end.write, pieces())
    for i, event in enumerate(go_on):
        event.set()
        await end.peer.expect(frame(0 if i else 1, str(i), fin=False))
    await end.peer.expect(last())
    await writing.result()


@behaviour()
async def test_a_message_can_be_written_fragment_by_fragment(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    await end.write({"opcode": 0, "payload": "b", "fin": False})
    await end.write(Message("", 0))
    await end.write("next")
    await end.peer.expect(text("a", fin=False), more("b"), last(""), text("next"))


@behaviour()
async def test_a_character_may_be_split_over_fragments_of_bytes(end: End) -> None:
    await end.write(Message(b"\xe2", 1, fin=False))
    await end.write(Message(b"\x82", 0, fin=False))
    await end.write(Message(b"\xac", 0))
    assert await end.peer.message() == (1, "\u20ac".encode())


@behaviour()
async def test_control_frames_may_go_between_fragments(end: End) -> None:
    await end.write(Message("a", 1, fin=False))
    end.write.ping(b"1")
    await end.write.pong(b"2")
    await end.write(Message(b"3", 9))
    await end.write(Message("b", 0))
    await end.peer.expect(text("a", fin=False), ping("1"), pong("2"), ping("3"), last("b"))


@pytest.mark.parametrize("message", ["x", ["x", "y"], Message("x", 1, fin=False)], ids=repr)
@behaviour()
async def test_a_task_that_began_a_message_cannot_begin_another(end: End, message: Any) -> None:
    await end.write(Message("a", 1, fin=False))
    with pytest.raises((ConcurrencyError, InvalidMessage), match=r"5\.4"):
        await end.write(message)
    await end.write(Message("b", 0))
    await end.write("next")
    assert await end.peer.messages(2) == [b"ab", b"next"]


# What is refused


REFUSED: list[tuple[Any, type[Exception]]] = [
    (5, InvalidMessageType),
    (True, InvalidMessageType),
    (object(), InvalidMessageType),
    ("lone \ud800", InvalidMessage),
    ({}, InvalidMessage),
    ({"text": "x"}, InvalidMessageType),
    ({"payload": None}, InvalidMessageType),
    ({"payload": "x", "opcode": 3}, InvalidMessage),
    ({"payload": "x", "opcode": 16}, InvalidMessage),
    ({"payload": "x", "rsv1": True}, InvalidMessage),
    ({"payload": "x", "opcode": 0}, InvalidMessage),
    ({"payload": "x" * 126, "opcode": 9}, InvalidMessage),
    ({"payload": "x", "opcode": 9, "fin": False}, InvalidMessage),
    ({"payload": "x", "opcode": 8}, InvalidMessage),
    ({"payload": b"\xff", "opcode": 1}, InvalidMessage),
    ([], InvalidMessage),
    ([b"x", "mixed"], InvalidMessage),
    ([None], InvalidMessageType),
    ([Message("x")], InvalidMessageType),
    (["lone \ud800"], InvalidMessage),
]


@behaviour()
async def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(end: End) -> None:
    for message, kind in REFUSED:
        with pytest.raises(kind):
            await end.write(message)
    await end.write("next")
    await end.peer.expect(text("next"))


@behaviour()
async def test_an_async_iterable_without_fragments_is_refused(end: End) -> None:
    with pytest.raises(InvalidMessage, match="to send an empty message"):
        await end.write(each())
    await end.write("next")
    await end.peer.expect(text("next"))


@behaviour()
async def test_text_that_is_not_utf8_is_refused_in_its_fragment(end: End) -> None:
    await end.write(Message(b"\xe2", 1, fin=False))
    with pytest.raises(InvalidMessage, match="UTF-8"):
        await end.write(Message(b"x", 0))
    with pytest.raises(InvalidMessage, match="UTF-8"):
        await end.write(Message(b"\x82", 0))
    await end.write(Message(b"\x82\xac", 0))
    assert await end.peer.message() == (1, "\u20ac".encode())
