"""`read.stream()`: a message piece by piece, as it comes."""

from __future__ import annotations

from typing import Any

import pytest

from coro_websocket import ConcurrencyError, ConnectionClosedError, LimitError, MessageStream

from .behaviour import behaviour
from .ends import End
from .peers import binary, last, more, ping, pong, text


async def begin(end: End) -> MessageStream:
    stream = await end.read.stream()
    assert stream is not None
    return stream


async def chunks(end: End) -> list[str | bytes]:
    return [chunk async for chunk in await begin(end)]


@behaviour()
async def test_a_chunk_is_given_before_its_message_ends(end: End) -> None:
    await end.peer.send(text("a", fin=False))
    stream = await begin(end)
    assert await anext(stream) == "a"
    waiting = await end.waiting(stream.__anext__)
    assert not waiting.done
    await end.peer.send(last("b"))
    assert await waiting.result() == "b"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@behaviour(needs_bytes=True)
async def test_a_chunk_of_a_frame_is_given_before_the_frame_ends(end: End) -> None:
    data = end.bytes_peer.encode(binary(b"x" * 1000))
    await end.bytes_peer.send_bytes(data[:500])
    stream = await begin(end)
    first = await anext(stream)
    assert 0 < len(first) < 500
    await end.bytes_peer.send_bytes(data[500:])
    assert len(first) + sum([len(chunk) async for chunk in stream]) == 1000


@behaviour()
async def test_a_stream_waits_for_its_message(end: End) -> None:
    reading = await end.waiting(chunks, end)
    assert not reading.done
    await end.peer.send(binary(b"now"))
    assert await reading.result() == [b"now"]


@behaviour()
async def test_a_stream_knows_whether_it_is_text_or_binary(end: End) -> None:
    await end.peer.send(text("a"), binary(b"b", fin=False), last(b"c"))
    one = await begin(end)
    assert (one.opcode, [chunk async for chunk in one]) == (1, ["a"])
    two = await begin(end)
    assert two.opcode == 2
    assert b"".join([bytes(chunk) async for chunk in two]) == b"bc"  # type: ignore[arg-type]


@behaviour()
async def test_no_chunk_is_empty(end: End) -> None:
    await end.peer.send(text("", fin=False), more(""), more("a"), last(""), text(""))
    assert await chunks(end) == ["a"]
    assert await chunks(end) == []


@behaviour()
async def test_text_is_split_between_characters(end: End) -> None:
    await end.peer.send(text(b"a\xe2", fin=False), more(b"\x82"), last(b"\xac"))
    assert "".join(map(str, await chunks(end))) == "a\u20ac"


@behaviour()
async def test_control_frames_inside_a_stream_are_answered_and_not_given(end: End) -> None:
    await end.peer.send(text("a", fin=False), ping("p"), last("b"))
    assert "".join(map(str, await chunks(end))) == "ab"
    await end.peer.expect(pong("p"))


@behaviour()
async def test_there_is_no_stream_once_the_connection_has_closed(end: End) -> None:
    reading = end.spawn(end.read.stream)
    await end.peer.close()
    assert await reading.result() is None
    assert await end.read.stream() is None


@behaviour(max_message_size=1000)
async def test_a_message_larger_than_max_message_size_can_be_streamed(end: End) -> None:
    await end.peer.send(binary(bytes(5000)))
    assert sum(map(len, await chunks(end))) == 5000


@behaviour(max_message_size=1000)
async def test_many_fragments_larger_than_max_message_size_can_be_streamed(end: End) -> None:
    await end.peer.send(
        binary(bytes(1000), fin=False), more(bytes(1000)), last(bytes(1000)), binary(bytes(1001))
    )
    assert sum(map(len, await chunks(end))) == 3000
    reading = end.spawn(end.read)
    assert (await end.peer.close_received())[0] == 1009
    end.peer.cut()
    with pytest.raises(LimitError):
        await reading.result()


@pytest.mark.parametrize("how", ["read", "batch", "for", "stream", "fragments"])
@behaviour()
async def test_whoever_reads_on_gives_the_message_up(end: End, how: str) -> None:
    await end.peer.send(text("a", fin=False), more("b"), last("c"), text("next"), text("other"))
    stream = await begin(end)
    assert await anext(stream) == "a"
    given: Any
    if how == "read":
        given = (await end.message()).payload
    elif how == "batch":
        given = (await end.read.batch())[0].payload
    elif how == "for":
        given = (await anext(end.read)).payload
    elif how == "fragments":
        given = (await anext(end.read.fragments())).payload
    else:
        given = "".join(map(str, await chunks(end)))
    assert given == "next"
    with pytest.raises(ConcurrencyError, match="given up"):
        await anext(stream)


@behaviour()
async def test_a_message_that_was_given_up_is_dropped_as_it_comes(end: End) -> None:
    await end.peer.send(text("a", fin=False))
    assert await anext(await begin(end)) == "a"
    reading = await end.waiting(end.read)
    await end.peer.send(more("b"))
    await end.settle()
    await end.peer.send(last("c"), text("next"))
    assert (await reading.result()).payload == "next"


@behaviour()
async def test_a_chunk_that_another_task_waits_for_is_refused(end: End) -> None:
    await end.peer.send(text("a", fin=False))
    stream = await begin(end)
    assert await anext(stream) == "a"
    waiting = await end.waiting(stream.__anext__)
    with pytest.raises(ConcurrencyError, match="one task reads at a time"):
        await anext(stream)
    await end.peer.send(last("b"))
    assert await waiting.result() == "b"


@behaviour()
async def test_a_stream_that_is_cut_off_is_an_error(end: End) -> None:
    await end.peer.send(binary(b"a", fin=False))
    stream = await begin(end)
    assert await anext(stream) == b"a"
    waiting = await end.waiting(stream.__anext__)
    end.peer.cut()
    with pytest.raises(ConnectionClosedError, match="without a Close") as caught:
        await waiting.result()
    assert caught.value.code == 1006
    with pytest.raises(ConnectionClosedError):
        await end.read()


@behaviour()
async def test_a_stream_that_the_peer_closes_inside_of_is_an_error(end: End) -> None:
    await end.peer.send(binary(b"a", fin=False))
    stream = await begin(end)
    assert await anext(stream) == b"a"
    waiting = await end.waiting(stream.__anext__)
    await end.peer.close()
    with pytest.raises(ConnectionClosedError, match="before the message had ended") as caught:
        await waiting.result()
    assert caught.value.code == 1000


@behaviour()
async def test_a_stream_that_we_close_inside_of_is_an_error(end: End) -> None:
    await end.peer.send(binary(b"a", fin=False))
    stream = await begin(end)
    assert await anext(stream) == b"a"
    closing = end.spawn(end.write.close)
    await end.peer.answer_close()
    with pytest.raises(ConnectionClosedError, match="before the message had ended"):
        await anext(stream)
    await closing.result()


@behaviour()
async def test_a_stream_can_be_passed_on_as_a_message(end: End) -> None:
    await end.peer.send(text("a", fin=False), last("b"), binary(b""))
    await end.write(await begin(end))
    assert await end.peer.message() == (1, b"ab")
    await end.write(await begin(end))
    assert await end.peer.message() == (2, b"")


@behaviour()
async def test_a_stream_is_a_message_stream(end: End) -> None:
    await end.peer.send(text("a"))
    assert isinstance(await begin(end), MessageStream)


@behaviour()
async def test_the_repr_of_a_stream_says_what_it_is_and_whether_it_has_ended(end: End) -> None:
    await end.peer.send(text("a", fin=False))
    stream = await begin(end)
    assert repr(stream) == "<text message>"
    await end.peer.send(last("b"))
    assert "".join([str(chunk) async for chunk in stream]) == "ab"
    assert repr(stream) == "<text message, ended>"


@behaviour()
async def test_after_a_stream_reading_goes_on(end: End) -> None:
    await end.peer.send(text("a", fin=False), last("b"), text("next"))
    assert "".join(map(str, await chunks(end))) == "ab"
    assert (await end.message()).payload == "next"


@behaviour()
async def test_a_message_whose_fragments_were_read_goes_on_as_a_stream(end: End) -> None:
    await end.peer.send(text("a", fin=False), more("b"), last("c"))
    assert (await end.message(fragments=True)).payload == "a"
    assert "".join(map(str, await chunks(end))) == "bc"
