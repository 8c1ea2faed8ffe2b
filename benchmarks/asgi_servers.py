"""ASGI applications that echo and broadcast, and the servers that run them: for servers.py.

Each is given a socket that listens, and is asked for the same as every other library: no Pings, no
limits that the work would meet, no logs.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

Ready = Callable[[], None]
App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]
Serve = Callable[[App, socket.socket, "ssl.SSLContext | None", bool], Coroutine[Any, Any, None]]

NO_LIMIT = 2**30
BACKLOG = 4096  # else a server whose queue is full makes clients wait for a second


def echo(ready: Ready) -> App:
    """Sends back what comes; `ready` is called when the server starts it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await live(ready, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while True:  # with no call that is not needed: it is counted
            event = await receive()
            if event["type"] != "websocket.receive":
                return
            data = event.get("bytes")
            if data is None:
                await send({"type": "websocket.send", "text": event["text"]})
            else:
                await send({"type": "websocket.send", "bytes": data})

    return app


def to_all(ready: Ready) -> App:
    """Sends what comes to all who are connected, one after the other: ASGI has no other way."""
    everybody = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await live(ready, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        everybody.add(send)
        while (event := await receive())["type"] == "websocket.receive":
            for each in everybody:
                await each({"type": "websocket.send", "bytes": event["bytes"]})
        everybody.discard(send)

    return app


async def live(ready: Ready, receive: Any, send: Any) -> None:
    await receive()
    ready()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def uvicorn(
    app: App,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    deflate: bool,
    protocol: str,
) -> None:
    from uvicorn import Config, Server

    config = Config(
        app,
        ws=protocol,
        ws_max_size=NO_LIMIT,
        ws_ping_interval=None,
        ws_per_message_deflate=deflate,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = tls
    await Server(config).serve([listener])


async def hypercorn(
    app: App, listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool
) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    if tls is not None or deflate:  # it negotiates permessage-deflate whatever is asked for
        raise NotImplementedError("only plain here")
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.accesslog = config.errorlog = None
    config.websocket_max_message_size = NO_LIMIT
    config.websocket_ping_interval = None
    await serve(app, config)


async def granian(
    app: App, listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool
) -> None:
    """In this process and on its loop, as its documents have it for such a use.

    It takes no socket from others, and starts the application before it listens: who connects at
    once tries again (see client.c).
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    if tls is not None or deflate:  # it has no permessage-deflate
        raise NotImplementedError("only plain here")
    port = listener.getsockname()[1]
    listener.close()
    server = Server(
        app,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backlog=BACKLOG,
        log_enabled=False,
    )
    await server.serve()


SERVERS: dict[str, Serve] = {
    "uvicorn: coro-websocket": functools.partial(
        uvicorn, protocol="coro_websocket.uvicorn:WebSocketProtocol"
    ),
    "uvicorn: websockets-sansio": functools.partial(uvicorn, protocol="websockets-sansio"),
    "uvicorn: wsproto": functools.partial(uvicorn, protocol="wsproto"),
    "granian": granian,
    "hypercorn": hypercorn,
}
