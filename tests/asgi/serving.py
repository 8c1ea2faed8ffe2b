"""uvicorn with an application and our protocol, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from tests.helpers.raw_peer import frame, parse

from coro_websocket.uvicorn import WebSocketProtocol

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[object]]

BOUND = 8.0  # seconds for what takes none
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASK = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


@dataclass
class Serving:
    """A server that listens.

    Attributes:
        url: where, as "ws://127.0.0.1:1234".
        address: what a socket connects to.
        state: uvicorn's.
    """

    server: uvicorn.Server
    url: str
    address: Any

    @property
    def state(self) -> Any:
        return self.server.server_state

    @property
    def protocol(self) -> WebSocketProtocol:
        """Of the one connection that there is."""
        (protocol,) = self.state.connections
        assert isinstance(protocol, WebSocketProtocol)
        return protocol

    @property
    def unread(self) -> int:
        """Bytes that the one connection holds for its application."""
        connection = self.protocol._connection
        return 0 if connection is None else connection.unread

    async def shutdown(self) -> None:
        async with asyncio.timeout(BOUND):
            await self.server.shutdown()


@contextlib.asynccontextmanager
async def serving(
    app: App, listener: socket.socket | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    """A server with the application, on a free port of 127.0.0.1 or on the listener."""
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=1024)
    address = listener.getsockname()
    settings = {"http": "httptools", "log_config": None, "lifespan": "off", **settings}
    config = uvicorn.Config(app, ws=WebSocketProtocol, **settings)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    await server.on_tick(0)  # which sets the default headers
    scheme = "wss" if config.is_ssl else "ws"
    url = f"{scheme}://127.0.0.1:{address[1]}" if isinstance(address, tuple) else ""
    try:
        yield Serving(server, url, address)
    finally:
        async with asyncio.timeout(BOUND):
            await server.shutdown([listener])


async def accepted(receive: Receive, send: Send, **accept: Any) -> None:
    """The beginning of most applications."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **accept})


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """An application that sends back what it receives, as what it was."""
    await accepted(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        del event["type"]
        await send({"type": "websocket.send", **event})


class Recorder:
    """An application that keeps the events that it is given, and answers none."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            await accepted(receive, send)
            while not self.events or self.events[-1]["type"] != "websocket.disconnect":
                self.events.append(await receive())
        finally:
            self.ended.set()

    async def all(self) -> list[Event]:
        async with asyncio.timeout(BOUND):
            await self.ended.wait()
        return self.events


class RawClient:
    """A client by hand: it does what a good one would not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.response = b""
        self._data = b""

    def ask(self, path: str = "/", **more: str) -> None:
        lines = [f"{name}: {value}" for name, value in {**ASK, **more}.items()]
        self.writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())

    async def head(self) -> bytes:
        async with asyncio.timeout(BOUND):
            self.response = await self.reader.readuntil(b"\r\n\r\n")
        return self.response

    async def rest(self) -> bytes:
        """All that comes until the server hangs up."""
        async with asyncio.timeout(BOUND):
            return self._data + await self.reader.read()

    def send(self, opcode: int, payload: bytes | str = b"", **flags: Any) -> None:
        self.writer.write(frame(opcode, payload, masked=True, **flags))

    async def frame(self) -> Any:
        async with asyncio.timeout(BOUND):
            while (parsed := parse(self._data)) is None:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError(f"the server has hung up after {self._data!r}")
                self._data += data
        self._data = self._data[parsed[1] :]
        return parsed[0]

    def vanish(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_client(server: Serving, path: str | None = "/", **more: str) -> AsyncIterator[Any]:
    """A client that has asked for a WebSocket, and has the head of the answer; None: has not."""
    reader, writer = await asyncio.open_connection(*server.address)
    client = RawClient(reader, writer)
    try:
        if path is not None:
            client.ask(path, **more)
            await client.head()
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def lines_of(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """What uvicorn's logger has said of connections, from this level on."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "uvicorn.error" and record.levelno >= level
    ]
