"""From the request of a client to the application's answer: 101, 403, 500 or one of its own."""

from __future__ import annotations

import asyncio
import logging

import pytest
import websockets
from tests.helpers.raw_peer import until
from websockets.typing import Subprotocol

from .serving import ACCEPT, BOUND, RawClient, accepted, echo, lines_of, raw_client, serving

# Nothing of this depends on the stream.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


def statuses(response: bytes) -> tuple[int, dict[bytes, bytes]]:
    """The status of a response, and its headers with their names in lower case."""
    first, *lines = response.split(b"\r\n")
    pairs = (line.split(b": ", 1) for line in lines if line)
    return int(first.split(b" ")[1]), {name.lower(): value for name, value in pairs}


async def test_the_scope_says_what_was_asked_for():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await accepted(receive, send)

    extra = {"Sec-WebSocket-Protocol": "chat, super", "X-Name": "Zoë"}
    async with serving(app, root_path="/api") as server:
        async with raw_client(server, "/a%20b?q=1&q=2", **extra) as client:
            here = client.writer.get_extra_info("sockname")
    (scope,) = scopes
    headers = scope.pop("headers")
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": server.address,
        "client": here,
        "root_path": "/api",
        "path": "/api/a b",
        "raw_path": b"/api/a%20b",
        "query_string": b"q=1&q=2",
        "subprotocols": ["chat", "super"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    assert (b"x-name", "Zoë".encode()) in headers
    assert all(name == name.lower() for name, _ in headers)


async def test_each_connection_has_a_copy_of_the_state_of_the_lifespan():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = 1
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(dict(scope["state"]))
        scope["state"]["pool"] = 2
        await accepted(receive, send)

    async with serving(app, lifespan="on") as server:
        for _ in range(2):
            async with raw_client(server):
                pass
    assert seen == [{"pool": 1}, {"pool": 1}]


async def test_the_101_has_the_headers_of_server_and_application():
    async def app(scope, receive, send):
        cookie = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
        await accepted(receive, send, subprotocol="chat", headers=cookie)

    async with serving(app, headers=[("X-Server", "here")]) as server:
        async with raw_client(server, **{"Sec-WebSocket-Protocol": "chat"}) as client:
            code, headers = statuses(client.response)
            assert code == 101
            assert headers[b"sec-websocket-accept"] == ACCEPT.encode()
            assert headers[b"sec-websocket-protocol"] == b"chat"
            assert headers[b"x-server"] == b"here"
            assert client.response.lower().count(b"set-cookie: ") == 2


async def test_a_subprotocol_that_is_not_offered_is_left_out(caplog):
    caplog.set_level(logging.INFO)

    async def app(scope, receive, send):
        await accepted(receive, send, subprotocol="secret-token")
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            assert client.subprotocol is None
    (line,) = lines_of(caplog, logging.WARNING)
    assert "does not offer: left out (RFC 6455 section 4.2.2)" in line
    assert "secret-token" not in line


async def test_a_subprotocol_may_be_given_as_a_header():
    async def app(scope, receive, send):
        await accepted(receive, send, headers=[(b"Sec-WebSocket-Protocol", b"chat")])
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url, subprotocols=[Subprotocol("chat")]) as client:
            assert client.subprotocol == "chat"


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"connection", b"close"), (b"a b", b"")])
async def test_a_header_that_cannot_be_sent_is_the_applications_error(header, caplog):
    async def app(scope, receive, send):
        await accepted(receive, send, headers=[header])

    async with serving(app) as server:
        async with raw_client(server) as client:
            assert statuses(client.response)[0] == 500
            assert await client.rest() == b"Internal Server Error"
    assert "InvalidOption: " in caplog.text


@pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
async def test_every_http_implementation_hands_it_requests(http):
    async with serving(echo, http=http) as server:
        async with websockets.connect(f"{server.url}/path?query") as client:
            await client.send("hello")
            assert await client.recv() == "hello"


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", "short", 400),
        ("Sec-WebSocket-Extensions", "=", 400),
    ],
)
async def test_a_request_that_is_none_for_a_websocket_is_refused(header, value, code, caplog):
    caplog.set_level(logging.INFO)
    async with serving(echo) as server:
        async with raw_client(server, "/?token=secret", **{header: value}) as client:
            assert statuses(client.response)[0] == code
            assert header.encode() in await client.rest()
        assert not server.state.tasks
    assert "secret" not in caplog.text


async def test_what_is_logged_has_no_query(caplog):
    caplog.set_level(logging.INFO)

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/yes":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.close"})

    async with serving(app) as server:
        clients = []
        for path in ("/yes", "/n%0Ao"):
            async with raw_client(server, f"{path}?token=secret") as client:
                host, port = client.writer.get_extra_info("sockname")
                clients.append(f"{host}:{port}")
    lines = [line for line in lines_of(caplog) if "WebSocket" in line]
    assert lines == [
        f'{clients[0]} - "WebSocket /yes" [accepted]',
        f'{clients[1]} - "WebSocket /n%0Ao" 403',
    ]
    assert "secret" not in caplog.text


# Not accepted


async def test_a_close_before_accepting_is_a_403():
    events = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        events.extend([await receive(), await receive()])
        with pytest.raises(RuntimeError, match=r"Unexpected ASGI message 'websocket.accept'"):
            await send({"type": "websocket.accept"})

    async with serving(app) as server:
        async with raw_client(server) as client:
            code, headers = statuses(client.response)
            assert code == 403
            assert (headers[b"connection"], headers[b"server"]) == (b"close", b"uvicorn")
            assert await client.rest() == b""
    assert events == [{"type": "websocket.disconnect", "code": 1006}] * 2


@pytest.mark.parametrize("fails", [True, False])
async def test_an_application_that_ends_before_it_answers_is_a_500(fails, caplog):
    async def app(scope, receive, send):
        if fails:
            raise LookupError("what went wrong")

    async with serving(app) as server:
        async with raw_client(server) as client:
            assert statuses(client.response)[0] == 500
            assert await client.rest() == b"Internal Server Error"
    expected = "what went wrong" if fails else "ASGI callable returned without completing handshake"
    assert expected in caplog.text


async def test_a_client_that_goes_before_it_is_answered_is_told_of():
    events = []
    asked = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        asked.set()
        events.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        events.append(await receive())

    async with serving(app) as server:
        async with raw_client(server, None) as client:
            client.ask()
            await asked.wait()
        await until(lambda: not server.state.tasks)
    assert events == [{"type": "websocket.disconnect", "code": 1006}] * 2


async def test_a_task_that_receives_while_another_accepts_gets_what_comes():
    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "websocket.accept"})
        event = await waiting
        await send({"type": "websocket.send", "text": event["text"]})
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url, open_timeout=BOUND) as client:
            await client.send("came")
            assert await client.recv() == "came"


async def test_events_that_do_not_fit_the_state_say_what_was_expected():
    said = []

    async def app(scope, receive, send):
        await receive()
        for event in ({"type": "websocket.send", "text": "x"}, {"type": "http.response.start"}):
            with pytest.raises(RuntimeError) as error:
                await send(event)
            said.append(str(error.value))
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError) as error:
            await send({"type": "websocket.http.response.start", "status": 200})
        said.append(str(error.value))
        await send({"type": "websocket.close"})
        with pytest.raises(RuntimeError) as error:
            await send({"type": "websocket.send", "text": "x"})
        said.append(str(error.value))

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.wait_closed()
    before = (
        "Expected ASGI message 'websocket.accept', 'websocket.close' or "
        "'websocket.http.response.start' but got {!r}."
    )
    assert said == [
        before.format("websocket.send"),
        before.format("http.response.start"),
        "Expected ASGI message 'websocket.send' or 'websocket.close', "
        "but got 'websocket.http.response.start'.",
        "Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.",
    ]


# A response of the application's own


async def test_a_response_streams_with_its_headers():
    async def app(scope, receive, send):
        await receive()
        headers = [(b"www-authenticate", b"Bearer"), (b"Server", b"mine")]
        start = {"type": "websocket.http.response.start", "status": 401, "headers": headers}
        await send(start)
        for part in (b"first ", b"", b"second"):
            await send({"type": "websocket.http.response.body", "body": part, "more_body": True})
        await send({"type": "websocket.http.response.body"})
        assert await receive() == {"type": "websocket.disconnect", "code": 1006}
        with pytest.raises(RuntimeError, match="after sending 'the response'"):
            await send({"type": "websocket.http.response.body"})

    async with serving(app) as server:
        async with raw_client(server) as client:
            code, headers = statuses(client.response)
            assert code == 401
            assert headers[b"www-authenticate"] == b"Bearer"
            assert (headers[b"server"], headers[b"connection"]) == (b"mine", b"close")
            assert headers[b"transfer-encoding"] == b"chunked"
            chunks = b"6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n"
            assert await client.rest() == chunks


async def test_who_receives_while_a_response_is_sent_is_told_at_its_end():
    events = []

    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.create_task(receive())
        await send({"type": "websocket.http.response.start", "status": 404})
        late = asyncio.create_task(receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        await send({"type": "websocket.http.response.body"})
        events.extend([await waiting, await late])

    async with serving(app) as server:
        async with raw_client(server) as client:
            code, headers = statuses(client.response)
            assert (code, headers[b"content-length"]) == (404, b"0")
    assert events == [{"type": "websocket.disconnect", "code": 1006}] * 2


async def test_a_response_waits_for_a_slow_client():
    written = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403})
        for _ in range(200):
            part = {"type": "websocket.http.response.body", "body": bytes(65536)}
            await send({**part, "more_body": True})
            written.append(65536)
        await send({"type": "websocket.http.response.body"})

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection(*server.address, limit=1024)
        client = RawClient(reader, writer)
        client.ask()
        await client.head()
        await until(lambda: server.protocol._writing_paused)
        before = len(written)
        await asyncio.sleep(0.05)
        assert len(written) == before < 200
        assert (await client.rest()).count(b"\0") == 200 * 65536
        writer.close()
        await writer.wait_closed()


async def test_a_response_that_is_not_valid_is_the_applications_error(caplog):
    async def app(scope, receive, send):
        await receive()
        headers = [(b"content-length", b"1")]
        start = {"type": "websocket.http.response.start", "status": 400, "headers": headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"too much"})

    async with serving(app) as server:
        async with raw_client(server) as client:
            assert statuses(client.response)[0] == 500
            assert await client.rest() == b"Internal Server Error"
    assert "The response to a WebSocket request is not valid: Too much data" in caplog.text
