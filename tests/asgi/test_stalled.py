"""Clients that do not take the response that comes in place of the upgrade."""

from __future__ import annotations

from .serving import raw_client, serving, until

BODY = bytes(8 * 1024 * 1024)  # more than the system takes


def denying(close_timeout, server):
    async def app(scope, receive, send):
        await receive()
        server().protocol.close_timeout = close_timeout
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": BODY})

    return app


async def test_a_client_that_takes_nothing_does_not_keep_the_server_from_ending():
    async with serving(denying(0.02, lambda: server)) as server:
        async with raw_client(server, None) as client:
            client.writer.transport.pause_reading()
            client.ask()
            await until(lambda: server.state.tasks)
            await server.shutdown()
            assert not server.state.connections


async def test_a_client_that_takes_it_slowly_has_all_of_it():
    async with serving(denying(0.3, lambda: server)) as server:
        async with raw_client(server) as client:
            protocol = server.protocol
            before = protocol._held
            taken = await client.reader.readexactly(len(BODY) // 2)
            await until(lambda: protocol._held < before)
            assert taken + await client.rest() == BODY
