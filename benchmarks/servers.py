"""One library as an echo server, in a process of its own.

    python benchmarks/servers.py LIBRARY LOOP [--deflate] [--broadcast] [--cert FILE --key FILE]

Prints the port that it listens on, once it serves. With --broadcast every message goes to all who
are connected, by what the library has for that, or else by a loop over them.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asgi_servers
from asgi_servers import BACKLOG


@dataclass
class Asked:
    """What every library is asked for."""

    listener: socket.socket
    tls: ssl.SSLContext | None = None
    deflate: bool = False
    broadcast: bool = False

    def ready(self) -> None:
        """Say that everything has been imported and made: what follows is measured."""
        print(self.port, flush=True)

    def __post_init__(self) -> None:
        self.port = self.listener.getsockname()[1]


Serve = Callable[[Asked], Coroutine[Any, Any, None]]


async def coro_websocket(asked: Asked, library: str = "zlib", level: int = 6) -> None:
    from coro_websocket import Deflate, serve

    async def echo(request: Any, read: Any, write: Any) -> None:
        async for message in read:
            await write(message.payload)

    async def to_all(request: Any, read: Any, write: Any) -> None:
        with request.server.group("all").member(write) as everybody:
            async for message in read:
                everybody.broadcast(message.payload)

    async with serve(
        to_all if asked.broadcast else echo,
        sock=asked.listener,
        tls=asked.tls,
        compression=Deflate(level=level, library=library) if asked.deflate else None,
        max_message_size=None,
        ping_interval=None,
    ) as server:
        asked.ready()
        await server.serve_forever()


async def websockets(asked: Asked, module: str = "websockets.asyncio.server") -> None:
    server_module: Any = importlib.import_module(module)
    everybody = set()

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def to_all(connection: Any) -> None:
        everybody.add(connection)
        async for message in connection:
            if hasattr(server_module, "broadcast"):
                server_module.broadcast(everybody, message)
            else:
                for each in everybody:
                    await each.send(message)

    async with server_module.serve(
        to_all if asked.broadcast else echo,
        sock=asked.listener,
        ssl=asked.tls,
        compression="deflate" if asked.deflate else None,
        max_size=None,
        ping_interval=None,
        backlog=BACKLOG,
    ) as server:
        asked.ready()
        await server.serve_forever()


async def aiohttp(asked: Asked) -> None:
    from aiohttp import web

    everybody = set()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(compress=asked.deflate, max_msg_size=0)
        await connection.prepare(request)
        everybody.add(connection)
        async for message in connection:
            for each in everybody if asked.broadcast else (connection,):
                if isinstance(message.data, str):
                    await each.send_str(message.data)
                else:
                    await each.send_bytes(message.data)
        return connection

    app = web.Application()
    app.router.add_get("/{any:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, asked.listener, ssl_context=asked.tls, backlog=BACKLOG).start()
    asked.ready()
    await asyncio.Event().wait()


async def picows(asked: Asked) -> None:
    from picows import WSListener, WSMsgType, ws_create_server

    if asked.deflate:
        raise NotImplementedError("picows' core has no permessage-deflate")
    close = WSMsgType.CLOSE
    everybody = set()

    class Echo(WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type is close:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    class ToAll(WSListener):
        def on_ws_connected(self, transport: Any) -> None:
            everybody.add(transport)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type is close:
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            for each in everybody:
                each.send(frame.msg_type, payload)

    listener = ToAll if asked.broadcast else Echo
    server = await ws_create_server(
        lambda _: listener(),
        sock=asked.listener,
        ssl=asked.tls,
        max_frame_size=2**30,
        backlog=BACKLOG,
    )
    asked.ready()
    await server.serve_forever()


def of_asgi(serve: asgi_servers.Serve) -> Serve:
    """One of the ASGI servers, as the others are called."""

    async def serving(asked: Asked) -> None:
        app = asgi_servers.to_all if asked.broadcast else asgi_servers.echo
        await serve(app(asked.ready), asked.listener, asked.tls, asked.deflate)

    return serving


LIBRARIES: dict[str, Serve] = {
    "coro-websocket": coro_websocket,
    "coro-websocket (zlib-ng)": functools.partial(coro_websocket, library="zlib-ng"),
    "coro-websocket (level 1)": functools.partial(coro_websocket, level=1),
    "picows": picows,
    "picows (awaited)": functools.partial(websockets, module="picows.websockets"),
    "websockets": websockets,
    "aiohttp": aiohttp,
    **{name: of_asgi(serve) for name, serve in asgi_servers.SERVERS.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--broadcast", action="store_true")
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
    listener.listen(BACKLOG)
    running = LIBRARIES[options.library](Asked(listener, tls, options.deflate, options.broadcast))
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(running)
    else:
        asyncio.run(running)


if __name__ == "__main__":
    main()
