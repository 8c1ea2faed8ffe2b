"""One library as an echo server, in a process of its own.

    python benchmarks/servers.py LIBRARY LOOP [--deflate] [--cert FILE --key FILE]

Prints the port that it listens on, once it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import asgi_servers

Serve = Callable[[socket.socket, "ssl.SSLContext | None", bool], Coroutine[Any, Any, None]]


def ready(listener: socket.socket) -> None:
    """Say that everything has been imported and made: what follows is measured."""
    print(listener.getsockname()[1], flush=True)


async def coro_websocket(
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    deflate: bool,
    library: str = "zlib",
    level: int = 6,
) -> None:
    from coro_websocket import Deflate, serve

    async def echo(request: Any, read: Any, write: Any) -> None:
        async for message in read:
            await write(message.payload)

    async with serve(
        echo,
        sock=listener,
        tls=tls,
        compression=Deflate(level=level, library=library) if deflate else None,
        max_message_size=None,
        ping_interval=None,
    ) as server:
        ready(listener)
        await server.serve_forever()


async def with_zlib_ng(listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool) -> None:
    await coro_websocket(listener, tls, deflate, "zlib-ng")


async def at_level_1(listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool) -> None:
    await coro_websocket(listener, tls, deflate, level=1)


async def websockets(
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    deflate: bool,
    module: str = "websockets.asyncio.server",
) -> None:
    serve: Any = importlib.import_module(module).serve

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(
        echo,
        sock=listener,
        ssl=tls,
        compression="deflate" if deflate else None,
        max_size=None,
        ping_interval=None,
    ) as server:
        ready(listener)
        await server.serve_forever()


async def picows_awaited(
    listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool
) -> None:
    await websockets(listener, tls, deflate, "picows.websockets")


async def aiohttp(listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool) -> None:
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(compress=deflate, max_msg_size=0)
        await connection.prepare(request)
        async for message in connection:
            if isinstance(message.data, str):
                await connection.send_str(message.data)
            else:
                await connection.send_bytes(message.data)
        return connection

    app = web.Application()
    app.router.add_get("/{any:.*}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=tls, backlog=4096).start()
    ready(listener)
    await asyncio.Event().wait()


async def picows(listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool) -> None:
    from picows import WSListener, WSMsgType, ws_create_server

    if deflate:
        raise NotImplementedError("picows' core has no permessage-deflate")
    close = WSMsgType.CLOSE

    class Echo(WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type is close:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    server = await ws_create_server(lambda _: Echo(), sock=listener, ssl=tls, max_frame_size=2**30)
    ready(listener)
    await server.serve_forever()


def of_asgi(serve: asgi_servers.Serve) -> Serve:
    """One of the ASGI servers, as the others are called."""

    async def serving(listener: socket.socket, tls: ssl.SSLContext | None, deflate: bool) -> None:
        port = listener.getsockname()[1]
        await serve(lambda: print(port, flush=True), listener, tls, deflate)

    return serving


LIBRARIES: dict[str, Serve] = {
    "coro-websocket": coro_websocket,
    "coro-websocket (zlib-ng)": with_zlib_ng,
    "coro-websocket (level 1)": at_level_1,
    "picows": picows,
    "picows (awaited)": picows_awaited,
    "websockets": websockets,
    "aiohttp": aiohttp,
    **{name: of_asgi(serve) for name, serve in asgi_servers.SERVERS.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    tls = None
    if options.cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.cert, options.key)
    logging.disable()  # of connections that end as the load does
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    running = LIBRARIES[options.library](listener, tls, options.deflate)
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(running)
    else:
        asyncio.run(running)


if __name__ == "__main__":
    main()
