"""process_request and process_response: what the application answers, and what it adds."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import logging
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
from typing import Any

import aiohttp
import pytest
import websockets
from tests.helpers.raw_peer import BOUND, echo, until, watchdog

from coro_websocket import (
    HandshakeError,
    HTTPResponse,
    InvalidOption,
    InvalidOptionType,
    Request,
    basic_auth,
    connect,
    serve,
)
from coro_websocket._server import refusing

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

UPGRADE = (
    b"GET /chat?t0ken HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


async def tell_state(req, read, write):
    await write(repr(sorted(vars(req.state).items())))


async def said(url: str, **options: Any) -> Any:
    async with connect(url, **options) as (_, read, _):
        return (await read()).payload


def asked(
    port: int, method: str = "GET", target: str = "/", body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """What http.client is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, named)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


async def ask(server: Any, *arguments: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return await asyncio.to_thread(functools.partial(asked, server.port, *arguments, **headers))


async def exchanged(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """All that is answered to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), BOUND)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def lines(caplog, level: int = logging.DEBUG) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "coro_websocket.server"
        and record.levelno >= level
        and "serving on" not in record.getMessage()
    ]


def health(req: Request) -> HTTPResponse | None:
    return HTTPResponse(200, body="OK\n") if req.pathname == "/health" else None


async def health_after_a_while(req: Request) -> HTTPResponse | None:
    await asyncio.sleep(0.001)
    return health(req)


# What answers instead


@pytest.mark.parametrize("hook", [health, health_after_a_while, functools.partial(health)])
async def test_a_health_check_is_answered_on_the_port_of_the_websockets(hook):
    async with serve(echo, process_request=hook) as server:
        status, headers, body = await ask(server, "GET", "/health")
        assert (status, body) == (200, b"OK\n")
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert headers["Connection"] == "close"
        assert "Date" in headers
        async with connect(server.url) as (_, read, write):
            await write("x")
            assert (await read()).payload == "x"


async def test_head_gets_the_headers_alone():
    async with serve(echo, process_request=health) as server:
        assert (await ask(server, "HEAD", "/health"))[1]["Content-Length"] == "3"
        answer = await exchanged(server.port, b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_request_of_http_1_0_without_host_is_answered():
    async with serve(echo, process_request=health) as server:
        answer = await exchanged(server.port, b"GET /health HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nOK\n")
        assert (await exchanged(server.port, b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_a_client_that_has_closed_its_own_side_gets_its_answer():
    async with serve(echo, process_request=health_after_a_while) as server:
        data = b"GET /health HTTP/1.0\r\n\r\n"
        assert (await exchanged(server.port, data, half_close=True)).endswith(b"OK\n")


async def test_a_second_request_behind_the_first_is_not_answered():
    async with serve(echo, process_request=health) as server:
        data = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 3
        assert (await exchanged(server.port, data)).count(b"HTTP/1.1 ") == 1


async def test_browsers_and_clients_are_sent_elsewhere_or_asked_who_they_are():
    def hook(req):
        if req.pathname == "/old":
            return HTTPResponse(308, {"Location": "/new"})
        if "Authorization" not in req:
            return HTTPResponse(401, [("WWW-Authenticate", 'Basic realm="a"')], b"who?")
        return None

    async with serve(echo, process_request=hook) as server:
        status, headers, _ = await ask(server, "GET", "/old")
        assert (status, headers["Location"]) == (308, "/new")
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url)
        assert caught.value.response is not None
        assert caught.value.response.code == 401
        assert caught.value.response["WWW-Authenticate"] == 'Basic realm="a"'
        assert caught.value.response.body == b"who?"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(server.url)
        assert refused.value.response.body == b"who?"
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as rejected:
                await session.ws_connect(server.url)
        assert rejected.value.status == 401


async def test_of_several_hooks_the_first_answer_counts():
    called = []

    def hook(name, answer):
        def process_request(req):
            called.append(name)
            return HTTPResponse(answer) if answer else None

        return process_request

    several = [hook("a", None), hook("b", 404), hook("c", 200)]
    async with serve(echo, process_request=several) as server:
        assert (await ask(server))[0] == 404
    assert called == ["a", "b"]


async def test_where_no_hook_answers_the_rules_of_the_upgrade_stand():
    async with serve(echo, process_request=[lambda req: None]) as server:
        status, headers, _ = await ask(server)
        assert (status, headers["Upgrade"]) == (426, "websocket")
        assert (await ask(server, "PUT"))[0] == 405


CURL = shutil.which("curl")


async def curl(*arguments: str) -> str:
    assert CURL is not None
    # Not with the sanitizers in it, under which it can hang.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    running = await asyncio.create_subprocess_exec(
        CURL,
        *("-s", "-S", "-i", "--max-time", str(BOUND)),
        *arguments,
        stdout=subprocess.PIPE,
        env=env,
    )
    try:
        return (await running.communicate())[0].decode()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


@pytest.mark.skipif(CURL is None, reason="there is no curl")
async def test_curl_is_answered(tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(3_000_000))
    hooks = [health, basic_auth(("ann", "s3cret"))]
    async with serve(echo, process_request=hooks) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert (await curl(f"{url}/health")).endswith("\r\n\r\nOK\n")
        assert (await curl("--http1.0", f"{url}/health")).endswith("\r\n\r\nOK\n")
        assert (await curl("-I", f"{url}/health")).endswith("\r\n\r\n")
        assert "WWW-Authenticate: Basic realm=" in await curl(url)
        assert "426 Upgrade Required" in await curl("-u", "ann:s3cret", url)
        for body in (("-d", "x=1"), ("-T", str(large)), ("-F", f"a=@{large}")):
            assert "HTTP/1.1 413 " in await curl(*body, f"{url}/health")


# What it is asked about


async def test_nothing_that_is_not_well_formed_reaches_a_hook():
    seen: list[Request] = []
    async with serve(echo, process_request=seen.append) as server:
        for data, code in (
            (b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\n\r\n", b"400"),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
            (b"\x16\x03\x01\x00\x00\r\n\r\n", b"400"),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
            (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, b"431"),
        ):
            assert (await exchanged(server.port, data)).startswith(b"HTTP/1.1 " + code), data
    assert not seen


async def test_an_upgrade_from_a_foreign_page_is_refused_before_a_hook_sees_its_cookies():
    seen = []

    def hook(req):
        seen.append((req.get("Upgrade"), req.cookies))

    async with serve(echo, process_request=hook) as server:
        with pytest.raises(HandshakeError, match="403"):
            await connect(server.url, origin="https://evil.example", headers={"Cookie": "a=b"})
        assert not seen
        # A plain request is not an upgrade: browsers guard what is answered to those.
        assert (await ask(server, "GET", "/", Origin="https://evil.example"))[0] == 426
        await connect(server.url, headers={"Cookie": "a=b; c=d"})
    assert seen == [(None, {}), ("websocket", {"a": "b", "c": "d"})]


async def test_the_hook_knows_what_the_request_came_over(certificates):
    async def hook(req):
        req.state.found = (req.peer[0], req.socket.fileno() >= 0, req.tls is not None)

    for context in (None, certificates.server):
        options = {"tls": {"ca": certificates.ca}} if context is not None else {}
        async with serve(tell_state, "localhost", tls=context, process_request=hook) as server:
            scheme = "ws" if context is None else "wss"
            found = await said(f"{scheme}://localhost:{server.port}/", **options)
            assert found.endswith(f"True, {context is not None}))]")


@pytest.mark.parametrize("length", [b"Content-Length: 10000000000", b"Transfer-Encoding: chunked"])
async def test_a_body_is_refused_unread_and_the_answer_arrives(length):
    seen: list[Request] = []
    async with serve(echo, process_request=seen.append) as server:
        head = b"POST /health HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n\r\n"
        answer = await exchanged(server.port, head + b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"expected a request without a body (RFC 9110 section 15.5.14)\n")
        assert (await ask(server, "POST", "/health", b"abc"))[0] == 413
    assert not seen


async def test_a_post_without_a_body_may_be_answered():
    async with serve(echo, process_request=health) as server:
        assert (await ask(server, "POST", "/health"))[0] == 200


# What it adds


async def test_the_handler_finds_what_the_hook_has_found():
    async def hook(req):
        req.state.user = "ann"

    async with serve(tell_state, process_request=hook) as server:
        assert await said(server.url) == "[('user', 'ann')]"


async def test_headers_and_cookies_are_added_to_the_101_alone():
    def hook(req):
        req.add_response_header("X-Served-By", "a")
        req.set_cookie("session", "s3cret", max_age=60)
        req.set_cookie(
            "theme", "dark", http_only=False, secure=False, same_site="Strict", path="/a"
        )

    async with serve(echo, process_request=hook, headers={"X-Always": "1"}) as server:
        async with connect(server.url) as (res, _, _):
            assert (res["X-Always"], res["X-Served-By"]) == ("1", "a")
            assert res.get_all("Set-Cookie") == [
                "session=s3cret; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax",
                "theme=dark; Path=/a; SameSite=Strict",
            ]
        assert "Set-Cookie" not in (await ask(server))[1]
        async with aiohttp.ClientSession() as session, session.ws_connect(server.url) as ws:
            assert ws._response.cookies["theme"].value == "dark"


@pytest.mark.parametrize("chosen", ["a", "c", None])
async def test_the_hook_chooses_the_subprotocol(chosen):
    async def handler(req, read, write):
        await write(repr(req.subprotocol))

    def hook(req):
        assert req.subprotocols == ("a", "b", "c")
        req.choose_subprotocol(chosen)

    async with serve(handler, subprotocols=["b"], process_request=hook) as server:
        async with connect(server.url, subprotocol=["a", "b", "c"]) as (res, read, _):
            assert res.subprotocol == chosen
            assert (await read()).payload == repr(chosen)
        offered = [websockets.Subprotocol(each) for each in "abc"]
        async with websockets.connect(server.url, subprotocols=offered) as ws:
            assert ws.subprotocol == chosen


async def test_only_what_the_client_offers_can_be_chosen():
    found = []

    def hook(req):
        with pytest.raises(InvalidOption) as caught:
            req.choose_subprotocol("b")
        found.append(caught.value.option)

    async with serve(echo, subprotocols=["a"], process_request=hook) as server:
        async with connect(server.url, subprotocol="a") as (res, _, _):
            assert res.subprotocol == "a"
    assert found == ["subprotocol"]


async def test_in_the_handler_it_is_too_late_to_add_something():
    told = asyncio.Event()

    async def handler(req, read, write):
        for late in (
            lambda: req.add_response_header("X", "y"),
            lambda: req.set_cookie("a", "b"),
            lambda: req.choose_subprotocol(None),
        ):
            with pytest.raises(InvalidOption, match="answered already"):
                late()
        told.set()

    async with asyncio.timeout(BOUND), serve(handler) as server, connect(server.url):
        await told.wait()


# process_response


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_every_answer_can_be_given_more_headers(asynchronous):
    seen = []

    def hook(req, response):
        seen.append((req.pathname, response.status))
        return response.with_headers({"X-Request": req.pathname})

    async def later(req, response):
        await asyncio.sleep(0)
        return hook(req, response)

    process = later if asynchronous else hook
    async with serve(echo, process_request=health, process_response=process) as server:
        for target, status in (("/health", 200), ("/other", 426)):
            got, headers, _ = await ask(server, "GET", target)
            assert (got, headers["X-Request"]) == (status, target)
        async with connect(server.url + "chat") as (res, _, write):
            assert res["X-Request"] == "/chat"
            await write("x")
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url, origin="https://evil.example")
        assert caught.value.response is not None
        assert caught.value.response["X-Request"] == "/"
    assert seen == [("/health", 200), ("/other", 426), ("/chat", 101), ("/", 403)]


async def test_it_may_leave_an_answer_or_give_another():
    def hook(req, response):
        return HTTPResponse(503, body="full") if response.status == 101 else None

    async with serve(echo, process_response=hook) as server:
        with pytest.raises(HandshakeError, match="503"):
            await connect(server.url)
        assert (await ask(server))[0] == 426


async def test_it_cannot_break_the_handshake():
    found = []

    def hook(req, response):
        found.append(list(response.headers))
        for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length"):
            with pytest.raises(InvalidOption):
                response.with_headers({name: "x"})
        return HTTPResponse(101, {"X-Only": "1"})

    async with serve(echo, headers={"X-Gone": "1"}, process_response=hook) as server:
        async with connect(server.url) as (res, read, write):
            assert (res["X-Only"], res.get("X-Gone")) == ("1", None)
            await write("x")
            assert (await read()).payload == "x"
    assert found == [[("X-Gone", "1")]]


# Hooks that fail


def raises(req, *_):
    raise RuntimeError("s3cret")


async def raises_later(req, *_):
    await asyncio.sleep(0)
    raise RuntimeError("s3cret")


@pytest.mark.parametrize(
    ("option", "hook", "logged"),
    [
        ("process_request", raises, "s3cret"),
        ("process_request", raises_later, "s3cret"),
        ("process_request", lambda req: 5, "must return None or an HTTPResponse, not int"),
        ("process_request", lambda req: (200, [], b""), "HTTPResponse, not tuple"),
        ("process_request", lambda req: HTTPResponse(101), "None has the request accepted"),
        ("process_request", lambda req: req.choose_subprotocol("zz"), "one that the client offers"),
        ("process_request", lambda req: HTTPResponse(99), "status must be"),
        ("process_request", lambda req: (yield), "not generator"),
        ("process_response", raises, "s3cret"),
        ("process_response", raises_later, "s3cret"),
        ("process_response", lambda req, response: False, "not bool"),
    ],
)
async def test_a_hook_that_fails_is_logged_and_answered_with_500(option, hook, logged, caplog):
    async with asyncio.timeout(BOUND), serve(echo, **{option: hook}) as server:
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url + "chat?t0ken")
        answer = caught.value.response
        assert answer is not None
        assert (answer.code, answer.body) == (500, f"{option} has failed\n".encode())
        assert (await ask(server))[0] == 500  # and the server goes on
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(records) == 2
    said = records[0].getMessage()
    assert re.match(r"connection \d+ from 127\.0\.0\.1:", said)
    assert f" to '/chat?...' refused with 500: {option} has failed" in said
    assert logged in logging.Formatter().format(records[0])
    assert "t0ken" not in caplog.text


async def test_where_process_response_cannot_return_101_it_says_so(caplog):
    async with serve(echo, process_response=lambda req, response: HTTPResponse(101)) as server:
        assert (await ask(server))[0] == 500
    assert "this request is refused" in caplog.text


async def test_a_failure_stays_in_the_log_whatever_process_response_makes_of_it(caplog):
    def sorry(req, response):
        return HTTPResponse(503, body="sorry")

    async with serve(echo, process_request=raises, process_response=sorry) as server:
        assert (await ask(server))[0] == 503
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "refused with 503: process_request has failed" in record.getMessage()
    assert "s3cret" in logging.Formatter().format(record)


async def test_where_both_hooks_fail_both_errors_are_logged(caplog):
    def fails(req, response):
        raise ValueError("of process_response")

    async with serve(echo, process_request=raises, process_response=fails) as server:
        assert (await ask(server))[0] == 500
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "s3cret" in logging.Formatter().format(record)
    assert "of process_response" in logging.Formatter().format(record)


@pytest.mark.parametrize(
    ("option", "wrong", "hint"),
    [
        ("process_request", 5, "int cannot be called"),
        ("process_request", lambda: None, "this one takes no arguments"),
        ("process_request", lambda a, b: None, r"takes \(a, b\)"),
        ("process_request", [health, 5], "int cannot be called"),
        ("process_response", lambda req: None, r"takes \(req\)"),
        ("process_response", [lambda req, response: None], "list cannot be called"),
    ],
)
async def test_what_cannot_be_a_hook_is_refused_at_once(option, wrong, hint):
    with pytest.raises(InvalidOptionType, match=hint) as caught:
        serve(echo, **{option: wrong})
    assert caught.value.option == option


async def test_a_coroutine_in_place_of_its_function_is_refused_at_once():
    with pytest.raises(InvalidOptionType, match="without calling it"):
        serve(echo, process_request=health_after_a_while(Request()))  # type: ignore[arg-type]


# Time, and clients that leave


async def test_the_time_of_a_hook_counts_into_timeout(caplog):
    caplog.set_level(logging.INFO)
    cancelled = []

    async def forever(req):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(req.pathname)
            raise

    async with asyncio.timeout(BOUND):
        async with serve(echo, process_request=forever, timeout=0.05) as server:
            for request in (UPGRADE + b"\r\n", b"GET / HTTP/1.0\r\n\r\n"):
                answer = await exchanged(server.port, request)
                assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert b"\r\nConnection: close\r\n" in answer
    assert cancelled == ["/chat?t0ken", "/"]
    for record in caplog.records:
        if "refused" in record.getMessage():
            assert record.getMessage().endswith("503: the decision took too long (timeout)")
            assert record.levelname == "ERROR"
            assert "that were left to them" in caplog.text
            assert "await asyncio.Event().wait()" in caplog.text  # where it was
    assert ["(timeout)" in line for line in lines(caplog)] == [True, True]


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_hangs_up_while_it_waits_for_an_upgrade_cancels_the_hook(reset, caplog):
    caplog.set_level(logging.DEBUG)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(req):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with asyncio.timeout(BOUND):
        async with serve(echo, process_request=forever, timeout=None) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(UPGRADE + b"\r\n")
                await begun.wait()
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await cancelled.wait()
            await until(lambda: not server._clients)
    assert len(lines(caplog)) == 1
    assert "the client hung up" in lines(caplog)[0]
    assert not lines(caplog, logging.INFO)


async def test_frames_that_come_while_a_hook_runs_are_not_lost():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hook(req):
        begun.set()
        await go_on.wait()

    frame = bytes([0x81, 0x81, 0, 0, 0, 0]) + b"x"
    async with asyncio.timeout(BOUND), serve(echo, process_request=hook) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(UPGRADE + b"\r\n")
        await begun.wait()
        writer.write(frame)
        for _ in range(20):
            await asyncio.sleep(0)
        writer.write(frame)
        go_on.set()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(6) == b"\x81\x01x" * 2
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("data", [UPGRADE + b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_a_server_that_closes_cancels_hooks(data):
    begun, cancelled = asyncio.Event(), []

    async def forever(req):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with asyncio.timeout(BOUND):
        async with serve(echo, process_request=forever) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(data)
            await begun.wait()
    assert cancelled
    writer.close()


@pytest.mark.parametrize("data", [UPGRADE + b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_a_hook_may_close_its_own_server(data):
    async def hook(req):
        await req.server.close()

    async with asyncio.timeout(BOUND), serve(echo, process_request=hook) as server:
        assert (await exchanged(server.port, data)).startswith(b"HTTP/1.1 503 ")
        assert not server.sockets


async def test_a_large_answer_arrives_whole_at_a_slow_client(monkeypatch):
    monkeypatch.setattr(refusing, "LINGER", 0.05)
    body = bytes(5_000_000)
    async with asyncio.timeout(BOUND):
        async with serve(echo, process_request=lambda req: HTTPResponse(200, body=body)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await asyncio.sleep(0.1)
            assert len(await reader.read()) > len(body)
            writer.close()


# What is logged


async def test_probes_are_logged_at_debug(caplog):
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(BOUND), serve(echo, process_request=health) as server:
        for data in (b"", b"GET /health HT", b"GET /health HTTP/1.0\r\n\r\n"):
            await exchanged(server.port, data, half_close=not data.endswith(b"\r\n\r\n"))
        await until(lambda: not server._clients)
        assert len(lines(caplog)) == 3
        assert "to '/health' answered with 200 by process_request" in lines(caplog)[2]
        assert not lines(caplog, logging.INFO)


async def test_a_probe_that_leaves_before_tls_is_set_up_is_logged_at_debug(certificates, caplog):
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(BOUND), serve(echo, tls=certificates.server) as server:
        await exchanged(server.port, b"", half_close=True)
        await until(lambda: not server.handshakes)
        assert len(lines(caplog)) == 1
        assert not lines(caplog, logging.INFO)


async def test_a_health_check_under_tls_is_answered(certificates):
    def over_tls(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), BOUND) as plain,
            certificates.client.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            with contextlib.suppress(ssl.SSLEOFError):
                while data := client.recv(1000):
                    answer += data
            return answer

    async with serve(echo, tls=certificates.server, process_request=health_after_a_while) as server:
        assert (await asyncio.to_thread(over_tls, server.port)).endswith(b"\r\n\r\nOK\n")


@pytest.mark.parametrize(
    ("data", "status", "level"),
    [
        (UPGRADE + b"\r\n", 401, logging.INFO),
        (UPGRADE + b"\r\n", 302, logging.INFO),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404, logging.DEBUG),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 503, logging.INFO),
    ],
)
async def test_answers_to_upgrades_and_faults_are_logged_at_info(data, status, level, caplog):
    caplog.set_level(logging.DEBUG)
    async with serve(echo, process_request=lambda req: HTTPResponse(status)) as server:
        await exchanged(server.port, data)
    assert len(lines(caplog)) == 1
    assert len(lines(caplog, level)) == 1
    assert len(lines(caplog, level + 1)) == 0
