"""A python-socketio server under uvicorn with our protocol, and its own client."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from coro_websocket import connect

from .served import BOUND, Served, served

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture(scope="module")
def ended() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture(scope="module")
def at(loop: str, ended: queue.Queue[str]) -> Iterator[Served]:
    """The server, served once for all tests on this loop."""
    from .app_socketio import application  # only where a test runs: it takes a while

    with served(application(ended), loop=loop) as at:
        yield at


async def entered(at: Served, name: str, **options: Any) -> tuple[Any, asyncio.Queue[Any]]:
    """A client that is connected, and what is said to it."""
    import socketio

    client = socketio.AsyncClient(reconnection=False)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client.on("said", heard.put)
    await client.connect(at.http, auth={"name": name, "token": "s3cret"}, **options)
    return client, heard


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]])
async def test_events_answers_rooms_and_bytes(at, ended, transports):
    """Also where the WebSocket takes over from HTTP polling."""
    ada, heard_by_ada = await entered(at, "Ada", transports=transports)
    bob, heard_by_bob = await entered(at, "Bob", transports=["websocket"])
    try:
        assert ada.transport() == "websocket"
        assert await ada.call("join", "blue") == "you are in blue"
        assert await bob.call("join", "blue") == "you are in blue"
        await ada.emit("say", {"room": "blue", "text": "hé"})
        expected = {"name": "Ada", "room": "blue", "text": "hé"}
        async with asyncio.timeout(BOUND):
            assert [await heard_by_ada.get(), await heard_by_bob.get()] == [expected] * 2
        assert await bob.call("double", b"\x00\xff") == b"\x00\xff" * 2
    finally:
        await ada.disconnect()
        await bob.disconnect()
    left: set[str] = set()
    while not left >= {"Ada", "Bob"}:
        left.add(await asyncio.to_thread(ended.get, timeout=BOUND))


async def test_who_has_no_token_is_refused(at):
    import socketio

    client = socketio.AsyncClient(reconnection=False)
    said: asyncio.Queue[Any] = asyncio.Queue()
    client.on("connect_error", said.put)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(at.http, auth={"token": "wrong"}, transports=["websocket"])
    assert said.get_nowait() == {"message": "who are you?"}


async def test_our_client_speaks_engine_io(at):
    async with connect(f"{at.url}/socket.io/?EIO=4&transport=websocket") as (_, read, write):
        assert (await read()).payload.startswith('0{"sid":')  # engine.io's open
        await write('40{"token":"s3cret","name":"Eve"}')  # Socket.IO's connect
        assert (await read()).payload.startswith('40{"sid":')
        await write('420["join","blue"]')  # an event that wants an answer
        assert (await read()).payload == '430["you are in blue"]'
