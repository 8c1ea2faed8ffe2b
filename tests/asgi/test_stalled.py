"""Clients that do not take what they are sent before there is a connection."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.helpers.raw_peer import until

from .serving import accepted, raw_client, serving

BODY = bytes(24 * 1024 * 1024)  # more than the system takes


class Denies:
    """An application, and the protocol of the client that it has denied."""

    def __init__(self, close_timeout: float) -> None:
        self.close_timeout = close_timeout
        self.protocol: Any = None
        self.server: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        protocol = self.server.protocol
        protocol.close_timeout = self.close_timeout
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": BODY})
        self.protocol = protocol


async def test_a_client_that_takes_nothing_does_not_keep_the_server_from_ending():
    app = Denies(close_timeout=0.02)
    async with serving(app) as app.server:
        async with raw_client(app.server, None) as client:
            client.writer.transport.pause_reading()
            client.ask()
            await until(lambda: app.protocol is not None)
            await app.server.shutdown()
            assert not app.server.state.connections


async def test_a_client_that_takes_it_slowly_has_all_of_it():
    app = Denies(close_timeout=0.3)
    async with serving(app) as app.server:
        async with raw_client(app.server) as client:
            await until(lambda: app.protocol is not None)
            protocol = app.protocol
            before = protocol._held
            taken = await client.reader.readexactly(len(BODY) // 4)
            await until(lambda: protocol._held < before)
            assert taken + await client.rest() == BODY


class SendsMuch:
    """An application with a page, and with as much again for WebSockets."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            length = [(b"content-length", str(len(BODY)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": BODY})
            return
        await accepted(receive, send)
        for _ in range(64):
            await send({"type": "websocket.send", "bytes": bytes(65536)})
            self.sent += 1


async def test_an_application_waits_for_a_client_that_still_has_a_page_to_take():
    app = SendsMuch()
    async with serving(app, ws_per_message_deflate=False) as server:
        async with raw_client(server, None) as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await client.head()
            client.ask()
            await until(lambda: server.state.tasks)
            await asyncio.sleep(0.05)
            assert app.sent <= 1
            await client.reader.readexactly(len(BODY))
            await client.head()
            for _ in range(64):
                assert len((await client.frame()).payload) == 65536
            assert await client.rest() == b""
    assert app.sent == 64
