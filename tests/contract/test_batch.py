"""`read.batch()`: the messages that are here, in one go."""

from __future__ import annotations

import pytest

from coro_websocket import ProtocolError

from .behaviour import behaviour
from .ends import End
from .peers import binary, close, frame, last, more, ping, text

READ_HIGH_WATER = 262_144  # bytes: the default


async def payloads(end: End, count: int) -> list[object]:
    """Of so many messages, in as many batches as they come in."""
    given: list[object] = []
    while len(given) < count:
        given += [message.payload for message in await end.read.batch()]
    return given


@behaviour()
async def test_a_batch_waits_for_a_message(end: End) -> None:
    reading = await end.waiting(end.read.batch)
    assert not reading.done
    await end.peer.send(text("1"))
    assert [message.payload for message in await reading.result()] == ["1"]


@behaviour()
async def test_batches_give_every_message_in_order(end: End) -> None:
    await end.peer.send(*(text(str(i)) for i in range(50)))
    assert await payloads(end, 50) == [str(i) for i in range(50)]


@behaviour()
async def test_a_batch_is_more_than_one_message_where_more_are_here(end: End) -> None:
    await end.peer.send(text("1"), text("2"), text("3"))
    await end.arrived(3 * (3 + 4 * end.peer.client))
    assert [message.payload for message in await end.read.batch()] == ["1", "2", "3"]


@behaviour()
async def test_a_batch_of_fragments_is_their_whole_messages(end: End) -> None:
    await end.peer.send(text("a", fin=False), last("b"), binary(b"c"), text("d", fin=False))
    assert await payloads(end, 2) == ["ab", b"c"]
    await end.peer.send(more("e"), last("f"))
    assert [message.payload for message in await end.read.batch()] == ["def"]


@behaviour(fragments=True)
async def test_a_batch_of_a_reader_of_fragments_is_fragments(end: End) -> None:
    await end.peer.send(text("a", fin=False), last("b"))
    assert await payloads(end, 2) == ["a", "b"]


@behaviour()
async def test_a_batch_ends_before_a_control_frame(end: End) -> None:
    await end.peer.send(text("1"), text("2"), ping("p"), text("3"))
    await end.settle()
    assert await payloads(end, 2) == ["1", "2"]
    assert await payloads(end, 1) == ["3"]
    await end.peer.expect(frame(10, "p"))


@behaviour()
async def test_what_is_in_a_batch_can_be_answered_though_a_close_is_behind_it(end: End) -> None:
    await end.peer.send(text("1"), text("2"), close())
    answered = 0
    while answered < 2:
        for message in await end.read.batch():
            await end.write(message.payload)
            answered += 1
    await end.peer.expect(text("1"), text("2"))
    reading = end.spawn(end.read.batch)
    await end.peer.expect(close())
    await end.peer.finish()
    assert await reading.result() == []


@behaviour()
async def test_a_batch_is_empty_once_the_connection_has_closed(end: End) -> None:
    reading = end.spawn(end.read.batch)
    await end.peer.close()
    assert await reading.result() == []
    assert await end.read.batch() == []


@behaviour()
async def test_a_batch_ends_before_a_violation_which_is_raised_then(end: End) -> None:
    await end.peer.send(text("1"), frame(3, "reserved"))
    assert await payloads(end, 1) == ["1"]
    end.peer.cut()
    for _ in range(2):
        with pytest.raises(ProtocolError, match=r"5\.2"):
            await end.read.batch()


@behaviour()
async def test_a_batch_ends_with_the_message_that_makes_it_read_high_water(end: End) -> None:
    size = READ_HIGH_WATER // 4
    sending = end.spawn(end.peer.send, *(binary(bytes(size)) for _ in range(20)))
    await end.settle()
    given = 0
    while given < 20:
        batch = await end.read.batch()
        assert 1 <= len(batch) <= 4
        given += len(batch)
    await sending.result()
