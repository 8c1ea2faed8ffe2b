"""Mistakes that are easily made with a server, and that what is said of each tells what to do."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND

from coro_websocket import (
    Group,
    HandshakeError,
    HTTPResponse,
    InvalidOption,
    InvalidOptionType,
    basic_auth,
    bearer_auth,
    broadcast,
    connect,
    serve,
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def echo(_, read, write):
    async for msg in read:
        await write(msg.payload)


async def asgi_app(scope, receive, send): ...


class ASGIApp:
    async def __call__(self, scope, receive, send): ...


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((echo, 8000), {}, "did you mean port=8000?"),
        (({"/": echo},), {}, "give a Router of coro_websocket.router with this mapping"),
        ((asgi_app,), {}, "with uvicorn, on the connection of this library"),
        ((ASGIApp(),), {}, "with uvicorn, on the connection of this library"),
        ((echo,), {"path": "/tmp/never", "mode": 660}, "in octal as 0o660"),
        ((echo,), {"origins": "https://example.com"}, "put it into a list"),
        ((echo,), {"origins": "*"}, "give None for any"),
        ((echo,), {"basic_auth": ("ann", "x")}, "basic_auth(...) or bearer_auth(...) as"),
        ((echo,), {"health": "/health"}, "'process_request', a function of the request"),
        ((echo,), {"router": None}, "give a Router of coro_websocket.router as the handler"),
        ((echo,), {"forwarded_allow_ips": "*"}, "did you mean 'trusted_proxies'?"),
        ((echo,), {"limit_concurrency": 10}, "did you mean 'max_connections'?"),
        ((echo,), {"drain_timeout": 10}, "server.serve_forever() takes 'signals'"),
        ((echo,), {"workers": 4}, "'coro-websocket serve --workers' starts processes"),
    ],
)
async def test_an_option_that_cannot_be_meant_is_told_what_is(arguments, options, said):
    with pytest.raises(InvalidOption, match=re.escape(said)):
        serve(*arguments, **options)


def test_a_body_that_is_given_as_headers_is_told_where_it_goes():
    with pytest.raises(InvalidOptionType, match=re.escape("did you mean body=...?")):
        HTTPResponse(200, "OK\n")  # type: ignore[arg-type]


async def test_a_server_that_was_never_awaited_is_warned_of():
    with pytest.warns(RuntimeWarning, match="coroutine 'serve' was never awaited"):
        serve(echo)
        gc.collect()


async def test_what_serve_returns_says_that_it_is_to_be_awaited():
    serving: Any = serve(echo)
    with pytest.raises(AttributeError, match=re.escape("server = await serve(...)")):
        _ = serving.port
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = serving.nothing
    assert not hasattr(serving, "__enter__")
    await (await serving).close()


async def test_a_server_can_be_entered():
    server = await serve(echo)
    async with asyncio.timeout(BOUND), server as same, connect(server.url) as (_, read, write):
        assert same is server
        await write("hello")
        assert (await read()).payload == "hello"
        await write.close()
    assert server.sockets == ()


async def test_serve_may_be_a_task():
    server = await asyncio.create_task(serve(echo))
    await server.close()


async def test_a_drain_says_what_its_timeout_may_be():
    async with serve(echo) as server:
        for call in (server.drain(-1), server.serve_forever(signals=False, drain_timeout=-1)):
            with pytest.raises(InvalidOption, match="0 or more, or None to wait for as long as"):
                await call
        with pytest.raises(InvalidOptionType, match="seconds"):
            await server.drain("5")  # type: ignore[arg-type]


async def test_the_hook_that_returned_something_wrong_is_named(caplog):
    def health(req):
        return "OK"

    async with serve(echo, process_request=[lambda req: None, health]) as server:
        with pytest.raises(HandshakeError):
            await connect(server.url)
    assert "HTTPResponse, not str, which 'health' returned" in caplog.text


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (basic_auth, "give process_request=basic_auth(credentials)"),
        (bearer_auth, "give process_request=bearer_auth(tokens)"),
    ],
)
async def test_a_maker_of_hooks_that_is_given_as_one_is_told_of(hook, said, caplog):
    async with serve(echo, process_request=hook) as server:
        with pytest.raises(HandshakeError, match="500"):
            await connect(server.url)
    assert said in caplog.text


async def test_the_log_of_a_hook_that_failed_has_its_error_alone(caplog):
    def fails(req):
        raise ZeroDivisionError("here")

    async with serve(echo, process_request=fails) as server:
        with pytest.raises(HandshakeError):
            await connect(server.url)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    said = logging.Formatter().format(record)
    assert said.endswith("ZeroDivisionError: here")
    assert said.count("Traceback") == 1


async def test_a_connection_in_place_of_its_write_is_told_of():
    came = asyncio.Event()

    async def handler(req, read, write):
        came.set()
        await read()

    async with (
        asyncio.timeout(BOUND),
        serve(handler) as server,
        connect(server.url) as (_, read, _),
    ):
        await came.wait()
        connection: Any
        (connection,) = server.connections
        as_write: Any = read
        calls = [
            lambda: Group().add(connection),
            lambda: Group().member(connection),
            lambda: Group().discard(connection),
            lambda: broadcast([connection], "x"),
        ]
        for call in calls:
            with pytest.raises(InvalidOptionType, match=re.escape("give its .write")):
                call()
        with pytest.raises(InvalidOptionType, match="not Read"):
            Group().add(as_write)
        with pytest.raises(InvalidOptionType, match="exclude must be"):
            Group().broadcast("x", exclude=connection)
