"""What is said to calls of `read` and `write` that cannot be meant: what to do instead."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle

import pytest
from tests.helpers.raw_peer import BOUND, TEXT, client_and_peer, watchdog

from coro_websocket import (
    InvalidMessage,
    InvalidMessageType,
    InvalidOptionType,
    Message,
    WebSocketError,
    broadcast,
    codec,
    wrap_io,
)
from coro_websocket.testing import connected_pair

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["connection", "wrap_io"])
async def end(request):
    """`read` and `write`, and what gives the bytes of the next message that was written."""

    def bytes_from(receive):
        async def next_one():
            payload = (await receive()).payload
            return payload if isinstance(payload, bytes) else payload.encode()

        return next_one

    if request.param == "wrap_io":
        incoming: asyncio.Queue = asyncio.Queue()
        frames: asyncio.Queue = asyncio.Queue()
        read, write = wrap_io(incoming.get, frames.put, mask=False)
        yield read, write, bytes_from(frames.get)
        incoming.put_nowait(None)
        await write.wait_closed()
        return
    (_, read, write), (_, peer_read, peer_write) = connected_pair()
    yield read, write, bytes_from(peer_read)
    await asyncio.gather(write.close(), peer_write.close())


# Calls


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ((), {"timeout": 5}, "asyncio.timeout(seconds)"),
        ((5,), {}, "read(control=True)"),
        ((), {"decode": True}, "takes fragments and control, and not 'decode'"),
    ],
)
async def test_a_read_is_told_what_it_takes(end, args, options, said):
    read, *_ = end
    with pytest.raises(InvalidOptionType) as caught:
        await read(*args, **options)
    assert said in str(caught.value)
    assert "__call__" not in str(caught.value)
    assert isinstance(caught.value, WebSocketError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (("a", "b"), {}, "one message, and 2 came"),
        (("a", "b", "c"), {}, "a list is the fragments of one message"),
        (("a",), {"timeout": 5}, "asyncio.timeout(seconds)"),
        (("a",), {"opcode": 1}, "Message(...)"),
        (("a",), {"fin": False}, "'fin': ..."),
        (("a",), {"text": True}, "takes a message and compress, not 'text'"),
    ],
)
async def test_a_write_is_told_what_it_takes_and_nothing_is_sent(end, args, options, said):
    _, write, sent = end
    with pytest.raises((InvalidOptionType, InvalidMessageType)) as caught:
        await write(*args, **options)
    assert said in str(caught.value)
    assert "__call__" not in str(caught.value)
    await write("next")
    assert await sent() == b"next"


async def test_what_read_and_write_take_is_still_taken():
    async with client_and_peer() as (end, peer):
        await end.write("a", compress=False)
        await end.write(message="b")
        assert [await peer.message() for _ in "ab"] == [(TEXT, b"a"), (TEXT, b"b")]
        await peer.write(TEXT, "c", fin=False)
        assert (await end.read(fragments=True, control=True)).payload == "c"


# Messages


@pytest.mark.parametrize(
    "message",
    [{"op": 1}, [1], [{"op": 1}], [None], [["a"]], 5, 1.5, True, {"payload": {"op": 1}}],
    ids=repr,
)
async def test_what_may_have_been_meant_as_json_is_told_how(end, message):
    _, write, sent = end
    with pytest.raises(InvalidMessageType, match=r"json\.dumps"):
        await write(message)
    await write("next")
    assert await sent() == b"next"


async def nothing():
    for each in "":
        yield each


@pytest.mark.parametrize(
    "message",
    [{}, [], (), set(), iter(()), (each for each in ""), nothing],
    ids=["mapping", "list", "tuple", "set", "iterator", "generator", "async generator"],
)
async def test_nothing_is_no_message(end, message):
    _, write, sent = end
    with pytest.raises(InvalidMessage, match="to send an empty message"):
        await write(message() if callable(message) else message)
    for empty in ("", b"", [""], {"payload": ""}):
        await write(empty)
        assert await sent() == b""


@pytest.mark.parametrize("empty", ["", b""])
async def test_an_empty_message_that_is_read_as_a_stream_can_be_passed_on(end, empty):
    _, write, sent = end
    (_, read, _write), (_, _, peer_write) = connected_pair()
    await peer_write(empty)
    await write(await read.stream())
    assert await sent() == b""
    await asyncio.gather(_write.close(), peer_write.close())


async def test_an_empty_mapping_is_no_message_anywhere():
    with pytest.raises(InvalidMessage):
        codec.encode({})
    with pytest.raises(InvalidMessage):
        broadcast([], {})
    assert codec.decode(codec.encode({"opcode": 9}))[0] == Message(b"", 9)


async def test_an_awaitable_is_no_message_until_it_has_been_awaited(end):
    read, write, _ = end
    for message in (read(), [read()], asyncio.get_running_loop().create_future()):
        with pytest.raises(InvalidMessageType, match="await it first"):
            await write(message)
        if inspect.iscoroutine(message):
            message.close()
        elif isinstance(message, list) and inspect.iscoroutine(message[0]):
            message[0].close()


# A forgotten await


@pytest.fixture
async def read():
    (_, read, write), (_, _, peer_write) = connected_pair()
    yield read
    await asyncio.gather(write.close(), peer_write.close())


async def test_iterating_over_a_call_says_over_what_to_iterate(read):
    for called, instead in (
        (read(), "async for msg in read', without a call"),
        (read(fragments=True), "async for frame in read.fragments()"),
        (read.batch(), "for msg in await read.batch()"),
        (read.stream(), "async for chunk in await read.stream()"),
    ):
        with pytest.raises(TypeError) as caught:
            async for _ in called:
                pass
        assert instead in str(caught.value)


async def test_what_a_message_has_is_found_once_the_read_was_awaited(read):
    for name in ("payload", "opcode", "decode"):
        with pytest.raises(AttributeError, match=rf"await it first, \(await read\(\)\).{name}"):
            getattr(read(), name)
    with pytest.raises(AttributeError, match=r"\(await read.stream\(\)\).opcode"):
        _ = read.stream().opcode
    with pytest.raises(AttributeError) as caught:
        _ = read().__len__
    assert "await" not in str(caught.value)
    assert not hasattr(read(), "payload")
    assert getattr(read(), "payload", None) is None


async def test_a_read_is_still_a_coroutine_to_asyncio_and_to_inspect(read):
    awaitable = read()
    assert asyncio.iscoroutine(awaitable)
    assert inspect.isawaitable(awaitable)
    assert not inspect.iscoroutine(awaitable)
    assert not inspect.isasyncgen(awaitable)
    task = asyncio.create_task(awaitable)
    assert "NextMessage" in repr(task)
    task.cancel()
    assert (await asyncio.gather(task, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )
    for protocol in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            protocol(read())


async def test_a_read_that_nobody_awaits_takes_nothing(recwarn):
    async with asyncio.timeout(BOUND):
        (_, read, write), (_, peer_read, peer_write) = connected_pair()
        await peer_write("here")
        read()  # type: ignore[unused-coroutine]
        read(control=True)  # type: ignore[unused-coroutine]
        assert (await read()).payload == "here"
        await asyncio.gather(write.close(), peer_write.close())
    assert not recwarn.list
