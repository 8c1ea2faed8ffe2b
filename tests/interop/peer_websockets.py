"""The Python package websockets, as a peer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from .peers import Peer, Place, Refused, Terms, Theirs, TheirServer

# Only later versions know proxies; those must not take the environment's.
DIRECT: dict[str, Any] = (
    {"proxy": None} if "proxy" in inspect.signature(connect.__init__).parameters else {}
)


class WebSocketsConnection(Theirs):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        request, response = connection.request, connection.response
        assert request is not None
        assert response is not None
        received = request if isinstance(connection, ServerConnection) else response
        self.subprotocol = connection.subprotocol
        self.headers = {name.lower(): value for name, value in received.headers.raw_items()}
        self.target = request.path
        self.compressed = "Sec-WebSocket-Extensions" in response.headers

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool) -> None:
        async def each() -> AsyncIterator[bytes]:
            for fragment in fragments:
                yield fragment
                if pings:
                    await (await self.connection.ping())

        await self.connection.send(each(), text=text)

    async def receive(self) -> str | bytes:
        return await self.connection.recv()

    async def ping(self, payload: bytes) -> None:
        await (await self.connection.ping(payload))

    async def close(self, code: int, reason: str) -> None:
        await self.connection.close(code, reason)

    async def vanish(self) -> None:
        self.connection.transport.abort()
        await self.connection.wait_closed()

    async def ended(self) -> tuple[int | None, str]:
        await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason or ""


def common(terms: Terms) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_size": terms.max_size}
    if terms.subprotocols:
        settings["subprotocols"] = [Subprotocol(name) for name in terms.subprotocols]
    if terms.compress is not None:
        settings["compression"] = "deflate" if terms.compress else None
    return settings


class WebSockets(Peer):
    name = "websockets"

    @asynccontextmanager
    async def serve(self, place: Place, terms: Terms) -> AsyncIterator[TheirServer]:
        ours = TheirServer(place)

        async def handler(connection: ServerConnection) -> None:
            for text in terms.greeting:
                await connection.send(text)
            ours.accepted.put_nowait(WebSocketsConnection(connection))
            await connection.wait_closed()

        def refuse(connection: ServerConnection, _: Request) -> Response | None:
            if terms.refusal is None:
                return None
            response = connection.respond(terms.refusal.status, terms.refusal.body)
            response.headers.update(terms.refusal.headers)
            return response

        def answer(_: ServerConnection, __: Request, response: Response) -> None:
            response.headers.update(terms.headers)

        settings = common(terms) | {
            "ssl": place.certificates.server if place.tls else None,
            "process_request": refuse,
            "process_response": answer,
        }
        if place.path is not None:
            async with unix_serve(handler, place.path, **settings):
                yield ours
        else:
            async with serve(handler, "127.0.0.1", 0, **settings) as server:
                port = next(iter(server.sockets)).getsockname()[1]
                ours.place = replace(place, port=port)
                yield ours

    @asynccontextmanager
    async def connect_many(
        self, place: Place, terms: Terms, connections: int
    ) -> AsyncIterator[list[Theirs]]:
        settings = common(terms) | {"additional_headers": dict(terms.headers)}
        if place.tls and terms.trust:
            settings["ssl"] = place.certificates.client
        if terms.origin is not None:
            settings["origin"] = Origin(terms.origin)
        url = place.url(terms.pathname)

        def client() -> connect:
            if place.path is not None:
                return unix_connect(place.path, url, **settings)
            return connect(url, **settings, **DIRECT)

        async def opened(stack: AsyncExitStack) -> ClientConnection:
            try:
                return await stack.enter_async_context(client())
            except InvalidStatus as error:
                body = error.response.body or b""
                raise Refused(error.response.status_code, body.decode()) from None

        async with AsyncExitStack() as stack:
            opening = (opened(stack) for _ in range(connections))
            yield [WebSocketsConnection(each) for each in await asyncio.gather(*opening)]
