"""Clients that do not take the response that comes in place of the upgrade."""

from __future__ import annotations

from typing import Any

from .serving import raw_client, serving, until

BODY = bytes(24 * 1024 * 1024)  # more than the system takes


def denying(close_timeout, server, closing):
    async def app(scope, receive, send):
        await receive()
        server().protocol.close_timeout = close_timeout
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": BODY})
        closing.append(server().protocol)

    return app


async def test_a_client_that_takes_nothing_does_not_keep_the_server_from_ending():
    closing: list[Any] = []
    async with serving(denying(0.02, lambda: server, closing)) as server:
        async with raw_client(server, None) as client:
            client.writer.transport.pause_reading()
            client.ask()
            await until(lambda: closing)
            await server.shutdown()
            assert not server.state.connections


async def test_a_client_that_takes_it_slowly_has_all_of_it():
    closing: list[Any] = []
    async with serving(denying(0.3, lambda: server, closing)) as server:
        async with raw_client(server) as client:
            await until(lambda: closing)
            protocol = closing[0]
            before = protocol._held
            taken = await client.reader.readexactly(len(BODY) // 4)
            await until(lambda: protocol._held < before)
            assert taken + await client.rest() == BODY
