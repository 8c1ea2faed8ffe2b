"""Clients that do not take the response that comes in place of the upgrade."""

from __future__ import annotations

from typing import Any

from .serving import raw_client, serving, until

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
