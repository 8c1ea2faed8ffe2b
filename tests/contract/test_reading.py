"""`read()` and iterating over `read`: whole messages, in order, to one task at a time."""

from __future__ import annotations

import pytest

from coro_websocket import ConcurrencyError, Message

from .behaviour import behaviour
from .ends import End
from .peers import binary, close, frame, last, more, ping, pong, text


@behaviour()
async def test_text_is_given_as_str_with_the_fields_of_its_frame(end: End) -> None:
    await end.peer.send(text("h\u00e9llo"))
    message = await end.read()
    assert message == Message("h\u00e9llo", 1, mask=not end.client)
    assert message is not None
    assert (message.payload, message.opcode, message.fin) == ("h\u00e9llo", 1, True)
    assert (message.len, message.mask) == (6, not end.client)
    assert not (message.rsv1 or message.rsv2 or message.rsv3)


@behaviour()
async def test_binary_is_given_as_bytes(end: End) -> None:
    await end.peer.send(binary(b"\x00\xff"))
    assert await end.read() == Message(b"\x00\xff", 2, mask=not end.client)


@behaviour()
async def test_an_empty_message_is_a_message(end: End) -> None:
    await end.peer.send(text(""), binary(b""))
    assert [(await end.message()).payload for _ in range(2)] == ["", b""]


@behaviour()
async def test_messages_of_every_size_are_given_in_order(end: End) -> None:
    sizes = [0, 1, 125, 126, 127, 65535, 65536, 300_000, 2]
    sending = end.spawn(end.peer.send, *(binary(bytes([i]) * n) for i, n in enumerate(sizes)))
    for i, size in enumerate(sizes):
        assert (await end.message()).payload == bytes([i]) * size
    await sending.result()


@behaviour()
async def test_a_read_waits_for_its_message(end: End) -> None:
    reading = await end.waiting(end.read)
    assert not reading.done
    await end.peer.send(text("now"))
    assert (await reading.result()).payload == "now"


@behaviour()
async def test_what_comes_while_nobody_reads_is_kept(end: End) -> None:
    await end.peer.send(text("1"), text("2"))
    await end.settle()
    assert [(await end.message()).payload for _ in range(2)] == ["1", "2"]


@behaviour()
async def test_fragments_are_put_together_whatever_control_frames_are_between(end: End) -> None:
    await end.peer.send(text("a", fin=False), ping("p"), more(), pong("q"), more("b"), last("c"))
    assert await end.read() == Message("abc", 1, mask=not end.client)


@behaviour()
async def test_text_may_be_split_inside_a_character(end: End) -> None:
    await end.peer.send(text(b"\xe2", fin=False), more(b"\x82"), last(b"\xac"))
    assert (await end.message()).payload == "\u20ac"


@behaviour()
async def test_a_message_in_many_fragments_is_whole(end: End) -> None:
    pieces = [bytes([i % 256]) * 100 for i in range(500)]
    frames = [binary(pieces[0], fin=False), *map(more, pieces[1:-1]), last(pieces[-1])]
    sending = end.spawn(end.peer.send, *frames)
    assert (await end.message()).payload == b"".join(pieces)
    await sending.result()


@behaviour(needs_bytes=True)
async def test_frames_may_come_byte_by_byte(end: End) -> None:
    reading = await end.waiting(end.read)
    peer = end.bytes_peer
    for byte in peer.encode(text("a\u20ac", fin=False), ping("p"), last("b" * 126)):
        await peer.send_bytes(bytes([byte]))
        await end.loop.sleep(0)
    assert (await reading.result()).payload == "a\u20ac" + "b" * 126
    await peer.expect(pong("p"))


# Iterating


@behaviour()
async def test_iterating_gives_each_message_until_the_clean_end(end: End) -> None:
    async def read_all() -> list[object]:
        return [message.payload async for message in end.read]

    reading = end.spawn(read_all)
    await end.peer.send(text("1"), binary(b"2"))
    assert await end.peer.close() == 1000
    assert await reading.result() == ["1", b"2"]


@behaviour()
async def test_the_next_item_of_an_ended_iteration_is_its_default(end: End) -> None:
    reading = end.spawn(end.read)
    await end.peer.close()
    assert await reading.result() is None
    assert await anext(aiter(end.read), "over") == "over"
    with pytest.raises(StopAsyncIteration):
        await anext(end.read)


@behaviour()
async def test_iterating_and_reading_may_alternate(end: End) -> None:
    await end.peer.send(text("1"), text("2"), text("3"))
    async for message in end.read:
        assert message.payload == "1"
        break
    assert (await end.message()).payload == "2"
    assert (await anext(end.read)).payload == "3"


# Control frames


@behaviour()
async def test_control_frames_are_given_to_who_asks_for_them(end: End) -> None:
    await end.peer.send(ping("1"), pong("2"), text("3"))
    given = [await end.message(control=True) for _ in range(3)]
    assert [(each.opcode, each.payload) for each in given] == [(9, b"1"), (10, b"2"), (1, "3")]


@behaviour()
async def test_a_control_frame_that_is_given_has_been_answered(end: End) -> None:
    await end.peer.send(ping("1"))
    assert (await end.message(control=True)).opcode == 9
    await end.peer.expect(pong("1"))


@behaviour()
async def test_a_close_is_given_to_who_asks_for_control_frames_and_then_the_end(end: End) -> None:
    async def read_both() -> list[Message | None]:
        return [await end.read(control=True), await end.read(control=True)]

    reading = end.spawn(read_both)
    await end.peer.close(1000, "bye")
    shown, ended = await reading.result()
    assert (shown.opcode, shown.payload) == (8, close(1000, "bye").payload)
    assert ended is None


@behaviour(control=True)
async def test_the_option_control_is_the_default_of_each_read(end: End) -> None:
    await end.peer.send(ping("1"), text("2"), ping("3"), text("4"))
    assert (await end.message()).opcode == 9
    assert (await end.message()).payload == "2"
    assert (await end.message(control=False)).payload == "4"


@behaviour()
async def test_a_control_frame_inside_a_message_is_given_before_it(end: End) -> None:
    await end.peer.send(text("a", fin=False), ping("p"), last("b"))
    assert (await end.message(control=True)).payload == b"p"
    assert (await end.message()).payload == "ab"


# One task at a time


@behaviour()
async def test_a_second_reader_is_refused_and_the_first_goes_on(end: End) -> None:
    reading = await end.waiting(end.read)
    for read in (
        end.read,
        end.read.batch,
        end.read.stream,
        end.read.fragments(),
        end.read.__anext__,
    ):
        with pytest.raises(ConcurrencyError, match="one task reads at a time"):
            await read()
    await end.peer.send(text("for the first"))
    assert (await reading.result()).payload == "for the first"


@behaviour()
async def test_tasks_may_read_one_after_the_other(end: End) -> None:
    await end.peer.send(text("1"), text("2"), text("3"))
    for expected in "123":
        assert (await end.spawn(end.read).result()).payload == expected


@behaviour()
async def test_a_read_is_awaited_once(end: End) -> None:
    await end.peer.send(text("1"), text("2"))
    reading = end.read()
    assert await reading == Message("1", 1, mask=not end.client)
    with pytest.raises(RuntimeError, match="already awaited"):
        await reading
    assert (await end.message()).payload == "2"


@behaviour()
async def test_a_read_that_is_not_awaited_takes_nothing(end: End) -> None:
    await end.peer.send(text("here"))
    await end.settle()
    end.read().close()
    end.read.batch().close()
    assert (await end.message()).payload == "here"


@behaviour()
async def test_reading_and_writing_go_on_at_once(end: End) -> None:
    async def echo() -> None:
        async for message in end.read:
            await end.write(message.payload)

    end.spawn(echo)
    for i in range(20):
        await end.peer.send(frame(1 + i % 2, str(i)))
        await end.peer.expect(frame(1 + i % 2, str(i)))
