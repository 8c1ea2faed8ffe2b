"""A small Django Channels application under uvicorn with our protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import websockets

from coro_websocket import connect

from .served import BOUND, Served, served

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


# Channels lets in only who comes from a page of an allowed host.
ORIGIN = {"Origin": "http://127.0.0.1"}


@pytest.fixture(scope="module")
def at(loop: str) -> Iterator[Served]:
    """The application, served once for all tests on this loop."""
    from .app_channels import application  # only where a test runs: it takes a while

    with served(application, loop=loop, lifespan="off") as at:
        yield at


def client(at: Served, path: str, **options: Any) -> websockets.connect:
    return websockets.connect(f"{at.url}{path}", additional_headers=ORIGIN, **options)


async def test_members_of_a_group_hear_each_other(at):
    async with (
        client(at, "/rooms/blue", subprotocols=["v1"]) as first,
        connect(f"{at.url}/rooms/blue", headers=ORIGIN) as (_, read, _write),
    ):
        assert first.subprotocol == "v1"
        await first.send('["é", 1]')
        expected = {"room": "blue", "said": ["é", 1]}
        assert json.loads(await first.recv()) == expected
        assert json.loads((await read()).payload) == expected


@pytest.mark.parametrize("data", ["text é", b"bytes", "", b"x" * 70_000])
async def test_a_consumer_in_a_thread_echoes(at, data):
    async with client(at, "/echo") as connection:
        await connection.send(data)
        assert await connection.recv() == data


async def test_codes_of_both_sides_are_seen_by_the_other(at):
    from .app_channels import ENDED

    async with client(at, "/rooms/red") as connection:
        await connection.send('"leave"')
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4001, "as you wish")
    seen = {await asyncio.to_thread(ENDED.get, timeout=BOUND)}
    while ("red", 4001) not in seen:
        seen.add(await asyncio.to_thread(ENDED.get, timeout=BOUND))
    connection = await client(at, "/rooms/green")
    await connection.close(4002)
    while ("green", 4002) not in seen:
        seen.add(await asyncio.to_thread(ENDED.get, timeout=BOUND))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/rooms/closed", ORIGIN),
        ("/echo", {}),
        ("/echo", {"Origin": "https://evil.example"}),
    ],
)
async def test_who_is_not_accepted_gets_403(at, path, headers):
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"{at.url}{path}", additional_headers=headers)
    assert caught.value.response.status_code == 403


async def test_an_application_that_fails_before_it_accepts_is_500(at, caplog):
    """As Channels does on a path that no route is for."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await client(at, "/nowhere")
    assert caught.value.response.status_code == 500
    assert "No route found for path 'nowhere'" in caplog.text
    caplog.clear()
