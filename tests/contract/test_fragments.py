"""`read(fragments=True)` and `read.fragments()`: each frame by itself, as it comes."""

from __future__ import annotations

import pytest

from coro_websocket import ConnectionClosedError, LimitError

from .behaviour import behaviour
from .ends import End
from .peers import binary, last, more, ping, text


@behaviour()
async def test_each_frame_has_its_own_opcode_and_fin(end: End) -> None:
    await end.peer.send(text("a", fin=False), more("b"), last("c"), binary(b"d"))
    frames = [await end.message(fragments=True) for _ in range(4)]
    assert [(f.opcode, f.payload, f.fin) for f in frames] == [
        (1, "a", False),
        (0, "b", False),
        (0, "c", True),
        (2, b"d", True),
    ]


@behaviour()
async def test_a_fragment_is_given_before_the_next_one_comes(end: End) -> None:
    read = end.read.fragments()
    await end.peer.send(text("a", fin=False))
    assert (await anext(read)).payload == "a"
    reading = await end.waiting(read)
    assert not reading.done
    await end.peer.send(last("b"))
    assert (await reading.result()).payload == "b"


@behaviour()
async def test_iterating_over_fragments_ends_with_the_connection(end: End) -> None:
    async def read_all() -> list[object]:
        return [fragment.payload async for fragment in end.read.fragments()]

    reading = end.spawn(read_all)
    await end.peer.send(text("a", fin=False), last("b"), text("c"))
    await end.peer.close()
    assert await reading.result() == ["a", "b", "c"]


@behaviour(fragments=True)
async def test_the_option_fragments_is_the_default_of_each_read(end: End) -> None:
    await end.peer.send(text("a", fin=False), last("b"), text("c", fin=False), last("d"))
    assert (await end.message()).payload == "a"
    assert (await end.message()).payload == "b"
    assert (await end.message(fragments=False)).payload == "cd"


@behaviour()
async def test_a_character_is_given_with_the_fragment_that_ends_it(end: End) -> None:
    await end.peer.send(text(b"a\xe2", fin=False), more(b"\x82"), last(b"\xacb"))
    assert [(await end.message(fragments=True)).payload for _ in range(3)] == ["a", "", "\u20acb"]


@behaviour()
async def test_control_frames_come_between_fragments_where_they_are_wanted(end: End) -> None:
    read = end.read.fragments(control=True)
    await end.peer.send(text("a", fin=False), ping("p"), last("b"))
    assert [(await anext(read)).payload for _ in range(3)] == ["a", b"p", "b"]


@behaviour()
async def test_what_is_left_of_a_message_can_be_read_in_one(end: End) -> None:
    await end.peer.send(text("a", fin=False), more("b"), last("c"), text("next"))
    async for fragment in end.read.fragments():
        assert fragment.payload == "a"
        break
    assert (await end.message()).payload == "bc"
    assert (await end.message()).payload == "next"


@behaviour(max_message_size=10)
async def test_max_message_size_bounds_each_frame(end: End) -> None:
    frames = [binary(b"x" * 10, fin=False), more(b"x" * 10), last(b"x" * 10)]
    await end.peer.send(*frames, binary(b"x" * 11))
    assert [(await end.message(fragments=True)).len for _ in range(3)] == [10, 10, 10]
    reading = end.spawn(end.read.fragments())
    assert (await end.peer.close_received())[0] == 1009
    end.peer.cut()
    with pytest.raises(LimitError, match="max_message_size is 10"):
        await reading.result()


@behaviour()
async def test_a_message_that_the_peer_closes_inside_of_is_an_error_behind_its_fragments(
    end: End,
) -> None:
    await end.peer.send(text("a", fin=False))
    assert (await end.message(fragments=True)).payload == "a"
    reading = await end.waiting(end.read.fragments())
    await end.peer.close(1000, "done")
    with pytest.raises(ConnectionClosedError, match="before the message had ended") as caught:
        await reading.result()
    assert (caught.value.code, caught.value.reason) == (1000, "done")


@behaviour()
async def test_a_message_that_we_close_inside_of_is_an_error_to_who_has_read_a_part(
    end: End,
) -> None:
    await end.peer.send(text("a", fin=False))
    assert (await end.message(fragments=True)).payload == "a"
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    with pytest.raises(ConnectionClosedError, match="before the message had ended"):
        await end.read(fragments=True)
    await closing.result()


@behaviour()
async def test_a_message_that_we_close_inside_of_is_nobodys_if_no_part_was_read(end: End) -> None:
    await end.peer.send(text("a", fin=False))
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    assert await end.read() is None
    await closing.result()


@behaviour()
async def test_fragments_before_a_violation_are_given(end: End) -> None:
    await end.peer.send(text("a", fin=False), more("b"), text("no"))
    read = end.read.fragments()
    assert [(await anext(read)).payload for _ in range(2)] == ["a", "b"]
    reading = end.spawn(read)
    assert (await end.peer.close_received())[0] == 1002
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match=r"5\.4"):
        await reading.result()
