"""What the log says of connections, and what it never says."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys

import pytest
from tests.helpers.raw_peer import BOUND, watchdog

from coro_websocket import (
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeError,
    Options,
    Request,
    Response,
    connect,
    parse_url,
    reconnect,
    serve,
)
from coro_websocket.testing import FakeServer

__all__ = ["watchdog"]

SECRETS = ("sesame", "dXNlcjpzZXNhbWU", "t0ken", "c00kie", "pr0xy")


def with_userinfo(url: str) -> str:
    return url.replace("://", "://user:sesame@") + "chat?token=t0ken"


HEADERS = {
    "X-Api-Key": "t0ken",
    "Cookie": "session=c00kie",
    "Proxy-Authorization": "Basic pr0xy",
}


@pytest.mark.usefixtures("no_tasks_left")
async def test_a_close_reason_forges_no_line_of_a_log_and_stays_as_it_is(caplog):
    caplog.set_level(logging.INFO)
    reason = "bye\n2026-01-01 CRITICAL root: forged\x1b[31m\u2028"
    raised = asyncio.get_running_loop().create_future()

    async def handler(req, read, write):
        try:
            await read()
        except ConnectionClosedError as error:
            raised.set_result(error)
            raise

    async with serve(handler) as server:
        _, _, write = await connect(server.url)
        await write.close(4000, reason)
        error = await raised
    assert error.reason == reason
    assert r"bye\n2026-01-01 CRITICAL root: forged\x1b[31m\u2028" in str(error)
    lines = [r.getMessage() for r in caplog.records if "closed with" in r.getMessage()]
    assert all(line.isprintable() for line in lines)
    assert any(r"bye\n2026" in line for line in lines)


@pytest.mark.usefixtures("no_tasks_left")
async def test_opening_and_closing_are_logged_without_secrets(caplog):
    caplog.set_level(logging.DEBUG)

    async def handler(req, read, write):
        async for _ in read:
            raise ValueError("of the handler")

    async with serve(handler) as server:
        async with connect(with_userinfo(server.url), headers=HEADERS) as (_, read, write):
            await write("x")
            with pytest.raises(ConnectionError):
                await read()
    assert "connected to ws://127.0.0.1" in caplog.text
    assert "/chat?..." in caplog.text
    assert re.search(r"the handler failed for connection \d+ from 127\.0\.0\.1:", caplog.text)
    async with serve(handler) as server:
        with pytest.raises(ConnectionError):
            async with connect(with_userinfo(server.url), headers=HEADERS) as (_, read, write):
                await write("x")
                await read()
        assert f"the connection to {server.url}chat?... closed with 1011 " in caplog.text
        url = with_userinfo(server.url)
        async with reconnect(url, headers=HEADERS, first_delay=0.001) as connections:
            async for _, _, write in connections:
                if "ended with" in caplog.text:
                    break
                await write("x")
                await write.wait_closed()
        ended = f"the connection to {server.url}chat?... ended with 1011 'internal error'"
        assert ended in caplog.text
    async with FakeServer(lambda peer: peer.close(), refuse=[403]) as server:  # type: ignore[assignment]
        with pytest.raises(ConnectionError):
            await connect(with_userinfo(server.url), headers=HEADERS)
        assert f"connecting to {server.url}chat?... failed: " in caplog.text
        assert "received 403" in caplog.text
    for secret in SECRETS:
        assert secret not in caplog.text


@pytest.mark.usefixtures("no_tasks_left")
async def test_errors_and_reprs_have_no_secrets():
    async def script(peer):
        pass

    async with FakeServer(script, refuse=[503]) as server:
        connecting = connect(with_userinfo(server.url), headers=HEADERS)
        texts = [repr(connecting)]
        with pytest.raises(ConnectionError) as caught:
            await connecting
        texts += [str(caught.value), repr(caught.value)]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectTimeout) as late:
            await connect(with_userinfo(url), headers=HEADERS, timeout=0.05)
    texts += [str(late.value), repr(late.value)]
    for text in texts:
        for secret in SECRETS:
            assert secret not in text


def test_the_reprs_of_urls_options_and_heads_have_no_secrets():
    url = parse_url("wss://user:sesame@chat.test/chat?token=t0ken")
    assert str(url) == "wss://chat.test/chat?token=t0ken"  # an equivalent URL
    response = Response(
        [
            ("Location", "wss://user:sesame@chat.test/?token=t0ken"),
            ("location", "/relative#t0ken"),
            ("Set-Cookie", "session=c00kie"),
            ("Server", "some/1"),
        ],
        code=302,
    )
    request = Request(
        [("Referer", "https://app.test/?token=t0ken"), ("X-Api-Key", "t0ken")],
        pathname="/chat?token=t0ken",
    )
    shown = [
        *map(repr, (url, Options.build(url), Options(pathname="/?t0ken", port=1))),
        *map(repr, (response, request, HandshakeError("x", response))),
        str(Options.build(url)),
    ]
    for secret in SECRETS:
        assert secret not in str(shown)
    assert "'[hidden]@chat.test/?...'" in repr(response)
    assert "('Server', 'some/1')" in repr(response)
    assert "/chat?..." in repr(url)
    assert "/chat?..." in repr(request)


KEYLOG = """
import asyncio, sys
from coro_websocket import connect, serve

async def main():
    async def handler(req, read, write):
        await read()
    cert, key, ca = sys.argv[1:]
    async with serve(handler, tls={"cert": cert, "key": key}) as server:
        async with connect(server.url, tls={"ca": ca}) as (res, read, write):
            await write("x")

asyncio.run(main())
"""


@pytest.mark.parametrize("wanted", [True, False])
def test_sslkeylogfile_is_respected_in_both_roles(certificates, tmp_path, wanted):
    keys = tmp_path / "keys.txt"
    environment = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
    if wanted:
        environment["SSLKEYLOGFILE"] = str(keys)
    files = (certificates.cert_path, certificates.key_path, certificates.ca_path)
    subprocess.run([sys.executable, "-c", KEYLOG, *files], env=environment, check=True, timeout=30)
    lines = keys.read_text().splitlines() if keys.exists() else []
    secrets = [line for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
    assert len(secrets) == (2 if wanted else 0)  # the client's and the server's


def lines_of(caplog, logger):
    """What that logger has said of single connections, whose numbers are 1 here."""
    return [
        re.sub(r"^connection \d+ ", "connection 1 ", record.getMessage())
        for record in caplog.records
        if record.name == f"coro_websocket.{logger}" and "serving on" not in record.getMessage()
    ]


@pytest.mark.usefixtures("no_tasks_left")
async def test_a_server_logs_a_line_for_each_connection_that_opens_and_one_when_it_closes(caplog):
    caplog.set_level(logging.INFO)

    async def handler(req, read, write):
        assert len(lines_of(caplog, "server")) == 1
        await read()

    async with serve(handler) as server:
        async with connect(server.url, pathname="/chat?token=t0ken") as (res, _, _):
            host, port = res.socket.getsockname()
    which = f"connection 1 from {host}:{port} to '/chat?...'"
    assert lines_of(caplog, "server") == [
        f"{which} opened with 101",
        f"{which} closed with 1000 (normal closure)",
    ]
    shown = f"{server_url(caplog)}chat?..."
    assert lines_of(caplog, "client") == [
        f"connected to {shown}",
        f"the connection to {shown} closed with 1000 (normal closure)",
    ]


def server_url(caplog):
    (line,) = [r.getMessage() for r in caplog.records if "serving on" in r.getMessage()]
    return line.removeprefix("serving on ")


@pytest.mark.usefixtures("no_tasks_left")
async def test_the_closing_line_comes_when_the_connection_ends_not_when_its_handler_does(caplog):
    caplog.set_level(logging.INFO)
    done = asyncio.Event()

    async def handler(req, read, write):
        await done.wait()

    async with serve(handler) as server:
        res, _, write = await connect(server.url)
        res.socket.close()
        await write.wait_closed()
        async with asyncio.timeout(BOUND):
            while len(lines_of(caplog, "server")) < 2:
                await asyncio.sleep(0.001)
        done.set()
    assert len(lines_of(caplog, "server")) == 2
    assert "closed with 1006 (abnormal closure): the peer closed" in caplog.text


@pytest.mark.parametrize(
    ("request_", "level", "line"),
    [
        (b"GET /a?t0ken HTTP/1.1\r\nHost: a\r\n\r\n", "DEBUG", " to '/a?...' refused with 426: "),
        (
            b"GET /a?t0ken HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "INFO",
            " to '/a?...' refused with 426: ",
        ),
        (b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n", "INFO", " refused with 400: "),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, "INFO", " refused with 431: "),
        (b"CONNECT u:t0ken@a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "DEBUG", " refused with 405: "),
        (b"GET /a?t0ken HTTP/1.1\r\n", "DEBUG", " failed in its opening handshake: "),
        (b"", "DEBUG", " failed in its opening handshake: "),
    ],
    ids=[
        "plain http",
        "half an upgrade",
        "control characters",
        "long head",
        "connect",
        "half a head",
        "nothing",
    ],
)
@pytest.mark.usefixtures("no_tasks_left")
async def test_a_server_logs_one_line_for_a_connection_that_is_not_opened(
    request_, level, line, caplog
):
    caplog.set_level(logging.DEBUG)

    async def handler(req, read, write):
        raise AssertionError

    async with serve(handler) as server, asyncio.timeout(BOUND):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        port = writer.get_extra_info("sockname")[1]
        writer.write(request_)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    (said,) = lines_of(caplog, "server")
    assert said.startswith(f"connection 1 from 127.0.0.1:{port}{line}")
    assert level in [r.levelname for r in caplog.records if line in r.getMessage()]
    assert said.isprintable()
    assert "t0ken" not in said


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.usefixtures("no_tasks_left")
async def test_a_client_that_is_too_slow_or_speaks_no_tls_is_logged_with_its_address(
    tls, certificates, caplog
):
    caplog.set_level(logging.INFO)

    async def handler(req, read, write):
        raise AssertionError

    context = certificates.server if tls else None
    async with serve(handler, tls=context, timeout=0.05) as server, asyncio.timeout(BOUND):
        for data in (b"", b"GET / HTTP/1.1\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(data)
                which = f" from 127.0.0.1:{client.getsockname()[1]} failed in its "
                while which not in caplog.text:
                    await asyncio.sleep(0.001)
    lines = lines_of(caplog, "server")
    assert len(lines) == 2
    assert lines[0].endswith("opening handshake: it took longer than 0.05 s (timeout)")


@pytest.mark.usefixtures("no_tasks_left")
async def test_a_client_on_a_unix_socket_is_logged_by_its_path_escaped(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = str(tmp_path / "socket")
    own = str(tmp_path / "own\nforged")

    async def handler(req, read, write):
        assert req.peer in (own, None)

    async with serve(handler, path=path):
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(own)
            client.connect(path)
            async with connect("ws://localhost/", sock=client) as (_, read, _):
                await read()
        async with connect(path=path) as (_, read, _):
            await read()
    lines = lines_of(caplog, "server")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert "own\\nforged' to '/' opened with 101" in lines[0]
    assert lines[2] == "connection 1 from a unix socket to '/' opened with 101"


@pytest.mark.usefixtures("no_tasks_left")
async def test_a_log_handler_that_fails_leaves_the_connection_to_end_well(monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            if "closed with" in record.getMessage():
                raise ValueError("of the log")

    async def handler(req, read, write):
        await read()

    logger = logging.getLogger("coro_websocket")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    monkeypatch.setattr(logger, "level", logging.INFO)
    async with serve(handler) as server, asyncio.timeout(BOUND):
        _, read, write = await connect(server.url)
        await write.close()
        assert await read() is None
