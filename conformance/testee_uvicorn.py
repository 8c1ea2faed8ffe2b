"""The library under uvicorn, as the Autobahn suite meets it: an ASGI application that echoes.

    python testee_uvicorn.py [--fast] server    says its URL, and echoes until it is ended

--fast changes nothing: uvicorn has no setting for the level.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

PROTOCOL = "coro_websocket.uvicorn:WebSocketProtocol"


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    assert scope["type"] == "websocket"
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            text = event.get("text")
            if text is not None:
                await send({"type": "websocket.send", "text": text})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"] or b""})
        else:
            return


class Server(uvicorn.Server):
    """Says where, once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        print(f"ws://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, ws=PROTOCOL, lifespan="off", log_level="warning")
    Server(config).run([listener])


if __name__ == "__main__":
    main()
