"""The Python package aiohttp, as a peer.

It can neither send fragments nor wait for a Pong, and sees control frames only while it
receives: a task of each connection receives them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    UnixConnector,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

from .peers import Peer, Place, Refused, Terms, Theirs, TheirServer

DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class AiohttpConnection(Theirs):
    def __init__(
        self,
        ws: ClientWebSocketResponse | web.WebSocketResponse,
        transport: asyncio.Transport,
        received: Any,
        *,
        subprotocol: str | None,
        target: str = "",
    ) -> None:
        self.ws = ws
        self.transport = transport
        self.headers = {name.lower(): value for name, value in received.items()}
        self.subprotocol = subprotocol
        self.target = target
        self.compressed = bool(ws.compress)
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self.reason = ""
        self.closing: asyncio.Task[bool] | None = None
        self.receiving = asyncio.create_task(self.receive_all())

    async def receive_all(self) -> None:
        while True:
            message = await self.ws.receive()
            if message.type in DATA:
                self.messages.put_nowait(message.data)
            elif message.type is WSMsgType.PING:
                await self.ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self.pongs.put_nowait(bytes(message.data))
            else:
                if message.type is WSMsgType.CLOSE:
                    self.reason = message.extra or ""
                return

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.ws.send_str(message)
        else:
            await self.ws.send_bytes(message)

    async def receive(self) -> str | bytes:
        return await self.messages.get()

    async def ping(self, payload: bytes) -> None:
        await self.ws.ping(payload)
        assert await self.pongs.get() == payload

    async def close(self, code: int, reason: str) -> None:
        self.closing = asyncio.create_task(self.ws.close(code=code, message=reason.encode()))
        await self.closing

    async def vanish(self) -> None:
        self.transport.abort()
        await self.receiving

    async def ended(self) -> tuple[int | None, str]:
        await self.receiving
        return self.ws.close_code, self.reason

    async def done(self) -> None:
        """Wait for the end, also of a `close` of ours: what leaves earlier closes with 1000."""
        await self.receiving
        if self.closing is not None:
            await asyncio.wait([self.closing])


def common(terms: Terms) -> dict[str, Any]:
    return {
        "protocols": tuple(terms.subprotocols),
        "autoping": False,
        "max_msg_size": terms.max_size or 0,
    }


class Aiohttp(Peer):
    name = "aiohttp"
    fragments = False
    answers_with = 1000
    no_code = None
    tls_over_unix = False
    client_compresses = False

    @asynccontextmanager
    async def serve(self, place: Place, terms: Terms) -> AsyncIterator[TheirServer]:
        server = TheirServer(place)
        settings = common(terms)
        if terms.compress is not None:
            settings["compress"] = terms.compress

        async def handler(request: web.Request) -> web.StreamResponse:
            if terms.refusal is not None:
                return web.Response(
                    status=terms.refusal.status,
                    text=terms.refusal.body,
                    headers=terms.refusal.headers,
                )
            ws = web.WebSocketResponse(**settings)
            ws.headers.update(terms.headers)
            await ws.prepare(request)
            for text in terms.greeting:
                await ws.send_str(text)
            connection = AiohttpConnection(
                ws,
                request.transport,
                request.headers,
                subprotocol=ws.ws_protocol,
                target=request.raw_path,
            )
            server.accepted.put_nowait(connection)
            await connection.done()
            return ws

        app = web.Application()
        app.router.add_get("/{any:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        context = place.certificates.server if place.tls else None
        site: web.BaseSite
        if place.path is not None:
            site = web.UnixSite(runner, place.path, ssl_context=context)
        else:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        try:
            await site.start()
            if place.path is None:
                server.place = replace(place, port=runner.addresses[0][1])
            yield server
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def connect_many(
        self, place: Place, terms: Terms, connections: int
    ) -> AsyncIterator[list[Theirs]]:
        settings = common(terms) | {"headers": dict(terms.headers), "origin": terms.origin}
        if place.tls and terms.trust:
            settings["ssl"] = place.certificates.client
        if terms.compress is not None:
            settings["compress"] = 15 if terms.compress else 0
        connector = TCPConnector() if place.path is None else UnixConnector(place.path)

        async def opened(session: ClientSession) -> Theirs:
            try:
                ws = await session.ws_connect(place.url(terms.pathname), **settings)
            except WSServerHandshakeError as error:
                raise Refused(error.status, None) from None
            response = ws._response
            assert response.connection is not None
            transport = cast(asyncio.Transport, response.connection.transport)
            return AiohttpConnection(ws, transport, response.headers, subprotocol=ws.protocol)

        async with ClientSession(connector=connector) as session:
            theirs = await asyncio.gather(*(opened(session) for _ in range(connections)))
            try:
                yield theirs
            finally:
                for each in theirs:
                    await each.close(1000, "")
