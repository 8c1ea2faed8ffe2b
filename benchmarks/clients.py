"""One library as a client, at one kind of work for a while, in a process of its own.

    python benchmarks/clients.py LIBRARY LOOP WORK URL [--connections N] [--size BYTES] ...

Prints the messages, and the CPU and wall-clock seconds that they took, as JSON. The kinds of
work: echo (one message in flight on each connection), receive, batch and send (as fast as it
goes), setup (open and close, one connection after the other).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import ssl
import threading
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

WARM_UP = 0.2  # seconds


@dataclass
class Settings:
    """What every library is asked for: no pings, no limits that the work would meet.

    With `deflate` each compresses as it does by default: at zlib's level 6, but aiohttp at level
    1, which it has no option for. Windows and memory differ.
    """

    url: str
    tls: ssl.SSLContext | None
    deflate: bool


class Clock:
    """Whether the work is over: an attribute, as a call per message would cost something."""

    over = False

    def run(self, seconds: float) -> None:
        self.over = False
        timer = threading.Timer(seconds, self.stop)
        timer.daemon = True
        timer.start()

    def stop(self) -> None:
        self.over = True


class Library:
    """How to open a connection and to do each kind of work with it."""

    def open(self, settings: Settings) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        raise NotImplementedError

    async def receive(self, connection: Any, clock: Clock) -> int:
        raise NotImplementedError

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        raise NotImplementedError


class CoroWebsocket(Library):
    compressing = "zlib"
    level = 6

    def open(self, settings: Settings) -> AbstractAsyncContextManager[Any]:
        from coro_websocket import Deflate, connect

        return connect(
            settings.url,
            tls=settings.tls,
            compression=Deflate(level=self.level, library=self.compressing)
            if settings.deflate
            else None,
            max_message_size=None,
            ping_interval=None,
            close_timeout=0.2,
        )

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        _, read, write = connection
        count = 0
        while not clock.over:
            await write(next(messages))
            await read()
            count += 1
        return count

    async def receive(self, connection: Any, clock: Clock) -> int:
        _, read, _ = connection
        count = 0
        async for _ in read:
            count += 1
            if clock.over:
                break
        return count

    async def batch(self, connection: Any, clock: Clock) -> int:
        _, read, _ = connection
        count = 0
        while not clock.over:
            count += len(await read.batch())
        return count

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        _, _, write = connection
        count = 0
        while not clock.over:
            await write(next(messages))
            count += 1
        return count


class WithZlibNg(CoroWebsocket):
    compressing = "zlib-ng"


class AtLevel1(CoroWebsocket):
    """For comparing with aiohttp."""

    level = 1


class WebSockets(Library):
    """`websockets`, and what has its interface."""

    module = "websockets.asyncio.client"

    def open(self, settings: Settings) -> AbstractAsyncContextManager[Any]:
        from importlib import import_module

        client: Any = import_module(self.module)
        opened: AbstractAsyncContextManager[Any] = client.connect(
            settings.url,
            ssl=settings.tls,
            max_size=None,
            ping_interval=None,
            close_timeout=0.2,
            compression="deflate" if settings.deflate else None,
        )
        return opened

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        count = 0
        while not clock.over:
            await connection.send(next(messages))
            await connection.recv()
            count += 1
        return count

    async def receive(self, connection: Any, clock: Clock) -> int:
        count = 0
        async for _ in connection:
            count += 1
            if clock.over:
                break
        return count

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        count = 0
        while not clock.over:
            await connection.send(next(messages))
            count += 1
        return count


class PicowsAwaited(WebSockets):
    """picows' interface in the style of websockets."""

    module = "picows.websockets"


class Aiohttp(Library):
    session: Any = None  # one for all connections; the process ends without closing it

    @contextlib.asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Any]:
        import aiohttp

        if self.session is None:
            connector = aiohttp.TCPConnector(ssl=settings.tls or True, limit=0)
            self.session = aiohttp.ClientSession(connector=connector)
            self.text = settings.deflate
        async with self.session.ws_connect(
            settings.url,
            compress=15 if settings.deflate else 0,
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.2),
        ) as connection:
            yield connection

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        send = connection.send_str if self.text else connection.send_bytes
        count = 0
        while not clock.over:
            await send(next(messages))
            await connection.receive()
            count += 1
        return count

    async def receive(self, connection: Any, clock: Clock) -> int:
        count = 0
        async for _ in connection:
            count += 1
            if clock.over:
                break
        return count

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        send = connection.send_str if self.text else connection.send_bytes
        count = 0
        while not clock.over:
            await send(next(messages))
            count += 1
        return count


class PicowsCore(Library):
    """picows' own interface: callbacks."""

    @contextlib.asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Any]:
        from picows import WSCloseCode, WSListener, WSMsgType, ws_connect

        if settings.deflate:
            raise NotImplementedError("picows' core has no permessage-deflate")
        binary = WSMsgType.BINARY

        class Listener(WSListener):
            """Counts messages, and answers each with one of `messages` if there are any."""

            count = 0
            messages: Iterator[bytes] | None = None
            clock: Clock
            done: asyncio.Future[None]

            def __init__(self) -> None:
                self.done = asyncio.get_running_loop().create_future()
                self.writable = asyncio.Event()
                self.writable.set()

            def on_ws_frame(self, transport: Any, frame: Any) -> None:
                frame.get_payload_as_bytes()
                self.count += 1
                if self.clock.over:
                    if not self.done.done():
                        self.done.set_result(None)
                elif self.messages is not None:
                    transport.send(binary, next(self.messages))

            def pause_writing(self) -> None:
                self.writable.clear()

            def resume_writing(self) -> None:
                self.writable.set()

        Listener.clock = Clock()
        Listener.clock.over = True
        transport: Any
        listener: Any
        transport, listener = await ws_connect(
            Listener, settings.url, ssl_context=settings.tls, max_frame_size=2**30
        )
        try:
            yield transport, listener
        finally:  # the others wait for the answer to their Close too
            listener.clock.over = True
            listener.done = asyncio.get_running_loop().create_future()
            transport.send_close(WSCloseCode.OK)
            await asyncio.wait([listener.done], timeout=0.2)
            transport.disconnect()

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        from picows import WSMsgType

        transport, listener = connection
        self.begin(listener, clock, messages)
        transport.send(WSMsgType.BINARY, next(messages))
        await listener.done
        return int(listener.count)

    async def receive(self, connection: Any, clock: Clock) -> int:
        _, listener = connection
        self.begin(listener, clock, None)
        await listener.done
        return int(listener.count)

    def begin(self, listener: Any, clock: Clock, messages: Iterator[bytes] | None) -> None:
        listener.done = asyncio.get_running_loop().create_future()
        listener.clock = clock
        listener.messages = messages
        listener.count = 0

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        from picows import WSMsgType

        transport, listener = connection
        writable = listener.writable
        count = 0
        while not clock.over:
            transport.send(WSMsgType.BINARY, next(messages))
            count += 1
            if not writable.is_set():
                await writable.wait()
        return count


class WebsocketRs(Library):
    """websocket-rs' client on the event loop: its `send` is no coroutine, and never waits."""

    @contextlib.asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Any]:
        from websocket_rs import native_client

        connection = await native_client.connect(
            settings.url, ssl_context=settings.tls, compression=settings.deflate
        )
        try:
            yield connection
        finally:
            connection.close()

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        count = 0
        while not clock.over:
            connection.send(next(messages))
            bytes(await connection.recv())
            count += 1
        return count

    async def receive(self, connection: Any, clock: Clock) -> int:
        count = 0
        while not clock.over:
            bytes(await connection.recv())
            count += 1
        return count


class WebsocketClient(Library):
    """`websocket-client`, which blocks: one connection, and no event loop."""

    @contextlib.asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Any]:
        import websocket

        if settings.deflate:
            raise NotImplementedError("websocket-client has no permessage-deflate")
        connection: Any = websocket.WebSocket(
            enable_multithread=False, skip_utf8_validation=False, sslopt={"context": settings.tls}
        )
        connection.connect(settings.url)
        try:
            yield connection
        finally:
            connection.close(timeout=0.2)

    async def echo(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        count = 0
        while not clock.over:
            connection.send_binary(next(messages))
            connection.recv()
            count += 1
        return count

    async def receive(self, connection: Any, clock: Clock) -> int:
        count = 0
        while not clock.over:
            connection.recv()
            count += 1
        return count

    async def send(self, connection: Any, messages: Iterator[Any], clock: Clock) -> int:
        count = 0
        while not clock.over:
            connection.send_binary(next(messages))
            count += 1
        return count


LIBRARIES: dict[str, Callable[[], Library]] = {
    "coro-websocket": CoroWebsocket,
    "coro-websocket (zlib-ng)": WithZlibNg,
    "coro-websocket (level 1)": AtLevel1,
    "picows": PicowsCore,
    "picows (awaited)": PicowsAwaited,
    "websockets": WebSockets,
    "aiohttp": Aiohttp,
    "websocket-client": WebsocketClient,
    "websocket-rs": WebsocketRs,
}


def payloads(size: int, as_json: bool) -> Iterator[str] | Iterator[bytes]:
    """Random bytes without end; or JSON documents of about this size, alike but not the same."""
    if not as_json:
        return itertools.repeat(os.urandom(size))
    documents = []
    for i in range(64):
        rows: list[dict[str, object]] = []
        while len(document := json.dumps({"channel": "trades", "rows": rows})) < size:
            n = 31 * i + len(rows)
            rows.append(
                {
                    "id": 7_000_000 + n * 13,
                    "symbol": ("EURUSD", "BTCUSDT", "ETHUSDT")[n % 3],
                    "price": round(1.07 + n * 0.00137, 5),
                    "quantity": (n * 7919) % 1000 / 10,
                    "side": ("buy", "sell")[n % 2],
                }
            )
        documents.append(document)
    return itertools.cycle(documents)


async def work(library: Library, kind: str, settings: Settings, options: argparse.Namespace) -> Any:
    clock = Clock()
    messages = payloads(options.size, settings.deflate)
    async with contextlib.AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(library.open(settings))
            for _ in range(0 if kind == "setup" else options.connections)
        ]

        async def setup() -> int:
            count = 0
            while not clock.over:
                async with library.open(settings):
                    count += 1
            return count

        def tasks() -> Iterator[Any]:
            if kind == "setup":
                yield setup()
            for connection in connections:
                arguments = (messages,) if kind in ("echo", "send") else ()
                yield getattr(library, kind)(connection, *arguments, clock)

        for seconds in (WARM_UP, options.seconds):
            clock.run(seconds)
            cpu, wall = time.process_time(), time.perf_counter()
            count = sum(await asyncio.gather(*tasks()))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"messages": count, "cpu": cpu, "wall": wall}), flush=True)
        os._exit(0)  # closing is not measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("loop", choices=["asyncio", "uvloop", "none"])
    parser.add_argument("work", choices=["echo", "receive", "batch", "send", "setup"])
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="bytes of a message")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--ca", help="the authority to trust, a PEM file: TLS")
    options = parser.parse_args()
    tls = ssl.create_default_context(cafile=options.ca) if options.ca else None
    settings = Settings(options.url, tls, options.deflate)
    running = work(LIBRARIES[options.library](), options.work, settings, options)
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(running)
    else:
        asyncio.run(running)


if __name__ == "__main__":
    main()
