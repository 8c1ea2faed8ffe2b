"""Who waits for whom when a server closes: its handlers, its clients, whoever closes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
import sys
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, CLOSE, clients_of, echo, frame, turns_of_the_loop, until

from coro_websocket import ConnectionClosedError, connect, serve

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def test_a_handler_may_close_its_own_server():
    """It is not waited for, and not cancelled; the other handlers are waited for."""
    ended: list[Any] = []

    async def handler(req, read, write):
        await read()
        if req.pathname == "/closer":
            await server.close(4000, "by a handler")
            assert ended == ["other"]
        else:
            await turns_of_the_loop()
        ended.append(req.pathname.strip("/"))

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=60) as server:
        _, other, _ = await connect(server.url, pathname="/other")
        _, closer, write = await connect(server.url, pathname="/closer")
        await write("close it")
        assert await until_the_end(other) == (4000, "by a handler")
        assert await until_the_end(closer) == (1000, "")
        await server.wait_closed()
        await until(lambda: not clients_of(server))
    assert ended == ["other", "closer"]


async def until_the_end(read):
    """The code and the reason that a client is told."""
    with contextlib.suppress(ConnectionClosedError):
        while await read() is not None:
            pass
    return read.close_code, read.close_reason


async def test_whoever_no_longer_waits_for_a_server_leaves_it_open():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        impatient = asyncio.ensure_future(server.wait_closed())
        waiting = [asyncio.ensure_future(server.wait_closed()) for _ in range(2)]
        await turns_of_the_loop()
        impatient.cancel()
        await asyncio.wait([impatient])
        async with connect(server.url) as (_, read, write):
            await write("x")
            assert (await read()).payload == "x"
        assert not any(each.done() for each in waiting)
        await server.close()
        await asyncio.gather(*waiting)


async def test_several_may_close_a_server_at_once():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        _, read, _ = await connect(server.url)
        closing = [asyncio.ensure_future(server.close(code)) for code in (4001, 4002)]
        assert (await until_the_end(read))[0] in (4001, 4002)
        await asyncio.gather(*closing)
        assert clients_of(server) == 0


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
async def test_clients_in_their_opening_handshake_are_let_go_of_at_once(sent, caplog):
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(BOUND), serve(echo, timeout=60, close_timeout=60) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(sent)
            await until(lambda: clients_of(server))
            await turns_of_the_loop()
            await server.close()
            client.settimeout(BOUND)
            assert await asyncio.to_thread(received, client) == b""
    assert [
        r.getMessage().split(" on ")[0] for r in caplog.records if r.name.endswith("server")
    ] == ["serving"]


def received(client):
    try:
        return client.recv(100)
    except ConnectionResetError:  # what it sent was not read
        return b""


async def test_handlers_see_the_context_variables_of_who_started_the_server():
    variable = contextvars.ContextVar("variable", default="nobody's")

    async def handler(req, read, write):
        await write(variable.get())
        variable.set("a handler's")

    variable.set("the starter's")
    async with asyncio.timeout(BOUND), serve(handler) as server:
        variable.set("changed since")
        for _ in range(2):
            async with connect(server.url) as (_, read, _):
                assert (await read()).payload == "the starter's"


def eager(loop, coroutine, **options):
    return asyncio.Task(coroutine, loop=loop, **{**options, "eager_start": True})


@pytest.fixture
async def eager_tasks():
    loop = asyncio.get_running_loop()
    yield lambda: loop.set_task_factory(eager)
    loop.set_task_factory(None)


needs_eager_tasks = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"
)


@needs_eager_tasks
async def test_eager_tasks_serve_and_close(eager_tasks):
    async def handler(req, read, write):
        async for msg in read:
            if msg.payload == "close it":
                await server.close()
                return
            await write(msg.payload)

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=60) as server:
        eager_tasks()
        opened = [await connect(server.url) for _ in range(3)]
        for _, read, write in opened:
            await write("x")
            assert (await read()).payload == "x"
        assert clients_of(server) == 3
        await opened[0][2]("close it")
        for _, read, _ in opened[1:]:
            assert await until_the_end(read) == (1001, "going away")
        assert await until_the_end(opened[0][1]) == (1000, "")
        await until(lambda: not clients_of(server))


@needs_eager_tasks
async def test_an_eager_handler_may_have_its_server_closed_before_it_first_waits(eager_tasks):
    """Its request is there when it is accepted: all of that is one step of its task."""
    closing = []

    async def handler(req, read, write):
        closing.append(asyncio.ensure_future(server.close()))
        assert await read() is None

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=60) as server:
        eager_tasks()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(REQUEST)
            await until(lambda: closing)
            client.settimeout(BOUND)
            assert b" 101 " in await asyncio.to_thread(client.recv, 1000)
            client.sendall(frame(CLOSE, b"\x03\xe9", masked=True))
        await closing[0]
        assert clients_of(server) == 0
