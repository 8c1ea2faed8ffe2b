"""What the log says of connections, and what it never says."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys

import pytest
from raw_peer import watchdog

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
    (line,) = (r.getMessage() for r in caplog.records if "ended" in r.getMessage())
    assert line.isprintable()
    assert r"bye\n2026" in line


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
    assert "the handler failed for /chat?..." in caplog.text
    assert "ended" not in caplog.text  # the block has caught it
    async with serve(handler) as server:
        with pytest.raises(ConnectionError):
            async with connect(with_userinfo(server.url), headers=HEADERS) as (_, read, write):
                await write("x")
                await read()
        assert f"the connection to {server.url}chat?... ended: " in caplog.text
        url = with_userinfo(server.url)
        async with reconnect(url, headers=HEADERS, first_delay=0.001) as connections:
            async for _, _, write in connections:
                if "ended with" in caplog.text:
                    break
                await write("x")
                await write.wait_closed()
        ended = f"the connection to {server.url}chat?... ended with 1011 'internal error'"
        assert ended in caplog.text
    async with FakeServer(lambda peer: peer.close(), refuse=[403]) as server:
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
