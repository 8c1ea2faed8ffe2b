"""A small FastAPI application under uvicorn with our protocol."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from coro_websocket import ConnectionClosedError, HandshakeError, connect

from .served import BOUND, Served, served

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

Ended = queue.Queue[tuple[str, int, str]]  # the path, and what the application was told


@pytest.fixture(scope="module")
def ended() -> Ended:
    return queue.Queue()


@pytest.fixture(scope="module")
def at(loop: str, ended: Ended) -> Iterator[Served]:
    """The application, served once for all tests on this loop."""
    from .app_fastapi import application  # only where a test runs: it takes a while

    with served(application(ended), loop=loop, ws_max_size=100_000) as at:
        yield at


async def told(ended: Ended, path: str) -> tuple[int, str]:
    """The code and the reason that the connection at this path has ended with for the application."""
    while True:
        ended_path, code, reason = await asyncio.to_thread(ended.get, timeout=BOUND)
        if ended_path == path:
            return code, reason


def client(at: Served, path: str, **options: Any) -> websockets.connect:
    return websockets.connect(f"{at.url}{path}", **options)


async def refused(at: Served, path: str, **options: Any) -> Any:
    """The answer to who was not let in."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await client(at, path, **options)
    return caught.value.response


TOKEN = {"Authorization": "Bearer s3cret"}


async def test_members_of_a_room_hear_each_other(at):
    async with (
        client(at, "/rooms/blue?lang=fr", additional_headers=TOKEN) as first,
        client(at, "/rooms/blue", additional_headers=TOKEN) as second,
        connect(f"{at.url}/rooms/blue", headers=TOKEN) as (_, read, write),
    ):
        assert await first.recv() == '{"room":"blue","name":"Ada","lang":"fr"}'
        assert await second.recv() == '{"room":"blue","name":"Ada","lang":"en"}'
        assert (await read()).payload == '{"room":"blue","name":"Ada","lang":"en"}'
        await write("bonjour")
        heard = [await first.recv(), await second.recv(), (await read()).payload]
        assert heard == ["Ada: bonjour"] * 3


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_who_has_no_token_gets_403(at, headers):
    response = await refused(at, "/rooms/blue", additional_headers=headers)
    assert response.status_code == 403


async def test_a_path_that_does_not_fit_its_type_gets_403(at):
    assert (await refused(at, "/items/many")).status_code == 403


async def test_a_path_without_a_route_gets_403(at):
    assert (await refused(at, "/nowhere")).status_code == 403


async def test_json_comes_and_goes(at):
    async with client(at, "/items/7") as connection:
        await connection.send('{"é": [1, 2.5, null]}')
        assert await connection.recv() == '{"item":7,"asked":{"é":[1,2.5,null]}}'


async def test_bytes_come_and_go(at):
    async with client(at, "/bytes") as connection:
        for size in (0, 1, 126, 65_536 // 2):
            await connection.send(bytes(size))
            assert await connection.recv() == bytes(2 * size)


async def test_fragments_are_one_message(at):
    async with client(at, "/bytes") as connection:
        await connection.send([b"a", b"b", b"c"])
        assert await connection.recv() == b"abcabc"


async def test_permessage_deflate_is_negotiated_and_used(at):
    async with client(at, "/bytes", compression="deflate") as connection:
        assert connection.protocol.extensions[0].name == "permessage-deflate"
        await connection.send(b"a" * 10_000)
        assert await connection.recv() == b"a" * 20_000


@pytest.mark.parametrize("code", [1000, 1001, 1008, 3000, 4999])
async def test_the_client_sees_the_code_and_reason_that_the_application_closes_with(at, code):
    async with client(at, f"/close/{code}") as connection:
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (code, "as you wish")


async def test_closing_before_accept_is_403(at):
    response = await refused(at, "/closed-at-once")
    assert (response.status_code, response.body) == (403, b"")


async def test_a_denial_has_its_status_headers_and_body(at):
    response = await refused(at, "/denied")
    assert (response.status_code, response.body) == (401, b"a new token, please")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="rooms"'
    assert response.headers["X-Reason"] == "expired"


async def test_our_client_sees_the_denial_too(at):
    with pytest.raises(HandshakeError, match="it says 'a new token, please'") as caught:
        async with connect(f"{at.url}/denied"):
            pass
    assert caught.value.response.code == 401


async def test_subprotocol_headers_state_and_addresses(at):
    async with client(
        at,
        "/accepted?q=1",
        subprotocols=["v1", "v2"],
        additional_headers={"X-Several": "a"},
    ) as connection:
        assert connection.subprotocol == "v2"
        assert connection.response.headers["X-Room"] == "blue"
        assert connection.response.headers["Server"] == "uvicorn"
        host = at.url.removeprefix("ws://")
        assert await connection.recv() == (
            '{"greeting":"good morning","offered":["v1","v2"],"client":"127.0.0.1",'
            f'"url":"ws://{host}/accepted?q=1","header":"a"}}'
        )


@pytest.mark.parametrize(
    ("close", "code", "reason"),
    [
        ((), 1000, ""),
        ((1001, "going"), 1001, "going"),
        ((4000, "enough é"), 4000, "enough é"),
    ],
)
async def test_the_application_sees_the_code_and_reason_that_the_client_closes_with(
    at, ended, close, code, reason
):
    connection = await client(at, f"/items/{code}")
    await connection.close(*close)
    assert await told(ended, f"/items/{code}") == (code, reason)


async def test_a_client_that_is_lost_without_a_close_is_1005(at, ended):
    connection: ClientConnection = await client(at, "/items/2")
    connection.transport.abort()
    code, _ = await told(ended, "/items/2")
    assert code == 1005
    await connection.wait_closed()


async def test_sending_to_a_client_that_has_left_ends_the_application(at, ended):
    async with client(at, "/sending-on") as connection:
        assert await connection.recv() == "tick"
        connection.transport.abort()
    code, _ = await told(ended, "/sending-on")
    assert code == 1006


async def test_a_message_that_is_too_big_closes_with_1009(at, ended):
    async with client(at, "/items/3", max_size=None) as connection:
        await connection.send("x" * 100_001)
        await connection.wait_closed()
        assert connection.close_code == 1009
    code, _ = await told(ended, "/items/3")
    assert code == 1009


async def test_http_is_served_on_the_same_port(at):
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{at.http}/health") as response:
        assert (response.status, await response.json()) == (200, {"ok": True})


async def test_shutdown_closes_with_1012_and_tells_the_application():
    from .app_fastapi import application

    ended: Ended = queue.Queue()
    with served(application(ended)) as at:
        async with (
            client(at, "/items/1") as first,
            connect(f"{at.url}/items/2") as (_, read, _write),
        ):
            at.end()
            await first.wait_closed()
            assert first.close_code == 1012
            with pytest.raises(ConnectionClosedError, match="1012"):
                await read()
    endings = {path: code for path, code, _ in (ended.get_nowait(), ended.get_nowait())}
    assert endings == {"/items/1": 1012, "/items/2": 1012}


async def test_starlettes_endpoints_work_too():
    from starlette.applications import Starlette
    from starlette.endpoints import WebSocketEndpoint
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    class Echo(WebSocketEndpoint):
        encoding = "text"

        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("welcome")

        async def on_receive(self, websocket: WebSocket, data: str) -> None:
            await websocket.send_text(data)

    with served(Starlette(routes=[WebSocketRoute("/", Echo)])) as at:
        async with client(at, "/") as connection:
            assert await connection.recv() == "welcome"
            await connection.send("hello")
            assert await connection.recv() == "hello"
