"""A small Litestar application under uvicorn with our protocol."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator

import pytest
import websockets

from coro_websocket import connect

from .served import BOUND, Served, served

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

Ended = queue.Queue[tuple[str, int]]  # the room, and the code
V1 = [websockets.Subprotocol("v1")]
TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def ended() -> Ended:
    return queue.Queue()


@pytest.fixture(scope="module")
def at(loop: str, ended: Ended) -> Iterator[Served]:
    """The application, served once for all tests on this loop."""
    from .app_litestar import application  # only where a test runs: it takes a while

    with served(application(ended), loop=loop) as at:
        yield at


async def test_a_listener_gets_objects_and_returns_them(at):
    async with (
        websockets.connect(f"{at.url}/orders") as connection,
        connect(f"{at.url}/orders") as (_, read, write),
    ):
        await connection.send('{"item": "tea", "count": 2}')
        assert await connection.recv() == '{"item":"tea","count":4}'
        await write('{"item": "milk", "count": 1}')
        assert (await read()).payload == '{"item":"milk","count":2}'


async def test_a_handler_gets_text_and_sends_text_and_bytes(at):
    async with websockets.connect(
        f"{at.url}/rooms/blue", additional_headers=TOKEN, subprotocols=V1
    ) as connection:
        assert connection.subprotocol == "v1"
        assert connection.response.headers["X-Room"] == "blue"
        await connection.send("hé")
        assert await connection.recv() == "blue: hé"
        assert await connection.recv() == "hé".encode()


async def test_the_client_sees_the_code_and_reason_that_the_handler_closes_with(at):
    async with websockets.connect(
        f"{at.url}/rooms/blue", additional_headers=TOKEN, subprotocols=V1
    ) as connection:
        await connection.send("leave")
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4001, "as you wish")


async def test_the_handler_sees_the_code_that_the_client_closes_with(at, ended):
    connection = await websockets.connect(
        f"{at.url}/rooms/green", additional_headers=TOKEN, subprotocols=V1
    )
    await connection.close(4002)
    while await asyncio.to_thread(ended.get, timeout=BOUND) != ("green", 4002):
        pass  # that was another test's


async def test_a_stream_sends_until_it_ends(at):
    async with websockets.connect(f"{at.url}/countdown/3") as connection:
        assert [each async for each in connection] == ["3", "2", "1"]
        assert connection.close_code == 1000


async def test_a_guard_lets_nobody_in_without_a_token(at):
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"{at.url}/rooms/blue", subprotocols=V1)
    assert caught.value.response.status_code == 403


async def test_http_is_served_on_the_same_port(at):
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{at.http}/health") as response:
        assert (response.status, await response.json()) == (200, {"ok": True})
