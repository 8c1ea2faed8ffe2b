"""The python-socketio server that the tests talk to: events, answers, rooms, bytes, a token."""

from __future__ import annotations

import queue
from typing import Any

import socketio


def application(ended: queue.Queue[str]) -> socketio.ASGIApp:
    """A new one; who has left, by name, it puts into `ended`."""
    server = socketio.AsyncServer(async_mode="asgi")

    @server.event
    async def connect(sid: str, _: dict[str, Any], auth: dict[str, str] | None) -> None:
        if not auth or auth.get("token") != "s3cret":
            raise socketio.exceptions.ConnectionRefusedError("who are you?")
        await server.save_session(sid, {"name": auth["name"]})

    @server.event
    async def disconnect(sid: str, _: str) -> None:
        ended.put((await server.get_session(sid))["name"])

    @server.event
    async def join(sid: str, room: str) -> str:
        await server.enter_room(sid, room)
        return f"you are in {room}"

    @server.event
    async def say(sid: str, data: dict[str, Any]) -> None:
        name = (await server.get_session(sid))["name"]
        await server.emit("said", {"name": name, **data}, room=data["room"])

    @server.event
    async def double(_: str, data: bytes) -> bytes:
        return data * 2

    return socketio.ASGIApp(server)
