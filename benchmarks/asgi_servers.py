"""An ASGI application that echoes, and the servers that run it: for servers.py.

Each is given a socket that listens, and is asked for the same as every other library: no Pings, no
limits that the work would meet, no logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

Ready = Callable[[], None]
Serve = Callable[[Ready, socket.socket, "ssl.SSLContext | None", bool], Coroutine[Any, Any, None]]

NO_LIMIT = 2**30


def echo(ready: Ready) -> Any:
    """The application; calls `ready` when the server starts it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            ready()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            if event["type"] != "websocket.receive":
                return
            data = event.get("bytes")
            if data is None:
                await send({"type": "websocket.send", "text": event["text"]})
            else:
                await send({"type": "websocket.send", "bytes": data})

    return app


async def uvicorn(
    ready: Ready,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    deflate: bool,
    protocol: str,
) -> None:
    from uvicorn import Config, Server

    config = Config(
        echo(ready),
        ws=protocol,
        ws_max_size=NO_LIMIT,
        ws_ping_interval=None,
        ws_per_message_deflate=deflate,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=4096,
    )
    config.load()
    config.ssl = tls
    await Server(config).serve([listener])


async def hypercorn(
    ready: Ready, listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool
) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    if tls is not None or deflate:  # it negotiates permessage-deflate whatever is asked for
        raise NotImplementedError("only plain here")
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = 4096
    config.accesslog = config.errorlog = None
    config.websocket_max_message_size = NO_LIMIT
    config.websocket_ping_interval = None
    await serve(echo(ready), config)


async def granian(
    ready: Ready, listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool
) -> None:
    """In this process and on its loop, as its documents have it for such a use.

    It takes no socket from others, and the application is started before it listens.
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    if tls is not None or deflate:  # it has no permessage-deflate
        raise NotImplementedError("only plain here")
    port = listener.getsockname()[1]
    listener.close()
    server = Server(
        echo(lambda: None),
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backlog=4096,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    while not serving.done():
        await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            ready()
            break
    await serving


SERVERS: dict[str, Serve] = {
    "uvicorn: coro-websocket": functools.partial(
        uvicorn, protocol="coro_websocket.uvicorn:WebSocketProtocol"
    ),
    "uvicorn: websockets-sansio": functools.partial(uvicorn, protocol="websockets-sansio"),
    "uvicorn: wsproto": functools.partial(uvicorn, protocol="wsproto"),
    "granian": granian,
    "hypercorn": hypercorn,
}
