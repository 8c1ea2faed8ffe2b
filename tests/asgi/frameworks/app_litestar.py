"""The Litestar application that the tests talk to: a listener, a handler, a stream, a guard."""

from __future__ import annotations

import queue
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from litestar import Litestar, WebSocket, get, websocket, websocket_listener
from litestar.connection import ASGIConnection
from litestar.dto import DataclassDTO
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.handlers import BaseRouteHandler, websocket_stream
from litestar.params import FromPath


@dataclass
class Order:
    """What the listener takes and gives back, as JSON."""

    item: str
    count: int


def only_with_token(connection: ASGIConnection, _: BaseRouteHandler) -> None:
    if connection.headers.get("authorization") != "Bearer s3cret":
        raise NotAuthorizedException("who are you?")


@websocket("/rooms/{room:str}", guards=[only_with_token])
async def room(socket: WebSocket, room: FromPath[str]) -> None:
    await socket.accept(subprotocols="v1", headers={"X-Room": room})
    ended: queue.Queue[tuple[str, int]] = socket.app.state.ended
    while True:
        try:
            data = await socket.receive_data(mode="text")
        except WebSocketDisconnect as gone:
            ended.put((room, gone.code))
            return
        if data == "leave":
            await socket.close(code=4001, reason="as you wish")
            return
        await socket.send_data(f"{room}: {data}")
        await socket.send_data(data.encode(), mode="binary")


@websocket_stream("/countdown/{start:int}")
async def countdown(start: FromPath[int]) -> AsyncGenerator[str, None]:
    for number in range(start, 0, -1):
        yield str(number)


@get("/health")
async def health() -> dict[str, bool]:
    return {"ok": True}


def application(ended: queue.Queue[tuple[str, int]]) -> Litestar:
    """A new one; how the connections to a room have ended it puts into `ended`: room, code."""

    @websocket_listener("/orders", dto=DataclassDTO[Order])  # which knows one application only
    async def orders(data: Order) -> Order:
        return Order(data.item, data.count * 2)

    app = Litestar([orders, room, countdown, health], openapi_config=None, logging_config=None)
    app.state.ended = ended
    return app
