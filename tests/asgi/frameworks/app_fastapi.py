"""The FastAPI application that the tests talk to: rooms behind a token, and what each is to show."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import (
    Depends,
    FastAPI,
    Header,
    Response,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)


async def user(authorization: Annotated[str, Header()] = "") -> str:
    scheme, _, token = authorization.partition(" ")
    if (scheme, token) != ("Bearer", "s3cret"):
        raise WebSocketException(1008, "who are you?")
    return "Ada"


def application(ended: queue.Queue[tuple[str, int, str]]) -> FastAPI:
    """A new one; how its connections have ended it puts into `ended`: path, code, reason."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        await asyncio.sleep(0)
        yield {"greeting": "good morning"}

    app = FastAPI(lifespan=lifespan)
    rooms: dict[str, set[WebSocket]] = {}

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    @app.websocket("/rooms/{room}")
    async def chat(
        websocket: WebSocket, room: str, name: Annotated[str, Depends(user)], lang: str = "en"
    ) -> None:
        await websocket.accept()
        members = rooms.setdefault(room, set())
        members.add(websocket)
        try:
            await websocket.send_json({"room": room, "name": name, "lang": lang})
            async for text in websocket.iter_text():
                for each in tuple(members):
                    await each.send_text(f"{name}: {text}")
        finally:
            members.discard(websocket)

    @app.websocket("/items/{number}")
    async def items(websocket: WebSocket, number: int) -> None:
        await websocket.accept()
        while True:
            try:
                asked = await websocket.receive_json()
            except WebSocketDisconnect as gone:
                ended.put((websocket.url.path, gone.code, gone.reason))
                return
            await websocket.send_json({"item": number, "asked": asked})

    @app.websocket("/bytes")
    async def double(websocket: WebSocket) -> None:
        await websocket.accept()
        async for data in websocket.iter_bytes():
            await websocket.send_bytes(data * 2)

    @app.websocket("/close/{code}")
    async def close(websocket: WebSocket, code: int) -> None:
        await websocket.accept()
        await websocket.close(code, "as you wish")

    @app.websocket("/closed-at-once")
    async def refuse(websocket: WebSocket) -> None:
        await websocket.close()

    @app.websocket("/denied")
    async def deny(websocket: WebSocket) -> None:
        challenge = {"WWW-Authenticate": 'Bearer realm="rooms"', "X-Reason": "expired"}
        await websocket.send_denial_response(Response("a new token, please", 401, challenge))

    @app.websocket("/accepted")
    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="v2", headers=[(b"x-room", b"blue")])
        greeting = websocket.state.greeting
        await websocket.send_json(
            {
                "greeting": greeting,
                "offered": websocket.scope["subprotocols"],
                "client": websocket.client.host if websocket.client else None,
                "url": str(websocket.url),
                "header": websocket.headers["x-several"],
            }
        )
        await websocket.close()

    @app.websocket("/sending-on")
    async def sending_on(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            try:
                await websocket.send_text("tick")
            except WebSocketDisconnect as gone:
                ended.put((websocket.url.path, gone.code, gone.reason))
                return
            await asyncio.sleep(0)

    return app
