"""Micro-benchmarks of what every message passes through, for pytest-benchmark or CodSpeed.

pip install '.[test,bench]'
python -m pytest benchmarks/test_micro.py --benchmark-compare
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from measured_engine import Engine

from coro_websocket import Message, codec, connect, serve
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket.extensions import Deflate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Benchmark = Any

SIZES = pytest.mark.parametrize("size", [32, 256, 8192, 102_400])
ENGLISH = "The quick brown fox jumps over the lazy dog. " * 200
MIXED = "Grüße, 世界 🌍! Съешь ещё этих мягких булок. " * 200


def frames(payload: str | bytes, count: int, *, mask: bool) -> bytes:
    """The bytes of so many messages."""
    opcode = 1 if isinstance(payload, str) else 2
    return codec.encode(Message(payload, opcode, mask=mask)) * count


def receiver(stream: bytes, *, client: bool) -> Callable[[], int]:
    """What receives the stream and counts its messages."""
    engine = Engine(client, max_message_size=None)

    def receive() -> int:
        engine.receive(stream)
        count = 0
        while engine.next_message() is not None:
            count += 1
        return count

    return receive


@SIZES
def test_mask(benchmark: Benchmark, size: int) -> None:
    benchmark(codec.encode, Message(os.urandom(size), 2, mask=True))


@SIZES
def test_decode(benchmark: Benchmark, size: int) -> None:
    benchmark(codec.decode, frames(os.urandom(size), 1, mask=False))


@SIZES
@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_receive_a_thousand(benchmark: Benchmark, size: int, client: bool) -> None:
    stream = frames(os.urandom(size), 1000, mask=not client)
    assert benchmark(receiver(stream, client=client)) == 1000


@pytest.mark.parametrize("text", [ENGLISH, MIXED], ids=["ASCII", "mixed"])
def test_receive_text(benchmark: Benchmark, text: str) -> None:
    assert benchmark(receiver(frames(text, 100, mask=False), client=True)) == 100


@pytest.mark.parametrize("text", [ENGLISH, MIXED], ids=["ASCII", "mixed"])
def test_receive_fragmented_text(benchmark: Benchmark, text: str) -> None:
    data = text.encode()
    pieces = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    stream = b"".join(
        codec.encode(Message(piece, 0 if i else 1, fin=i == len(pieces) - 1))
        for i, piece in enumerate(pieces)
    )
    assert benchmark(receiver(stream, client=True)) == 1


@SIZES
@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_send(benchmark: Benchmark, size: int, client: bool) -> None:
    engine = Engine(client)
    message = Message(os.urandom(size), 2)

    def send() -> bytes:
        engine.send_message(message)
        return engine.data_to_send()

    benchmark(send)


# What a browser sends, of which a server reads more than of our client's request.
BROWSER = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n"
    b"Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) "
    b"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
    b"Upgrade: websocket\r\nOrigin: https://example.com\r\nSec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n"
    b"Cookie: sid=0123456789abcdef\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
OURS = ClientHandshake(host_header="example.com", pathname="/chat?room=1").request()


@pytest.mark.parametrize("request_head", [OURS, BROWSER], ids=["ours", "browser"])
def test_answer_an_opening_handshake(benchmark: Benchmark, request_head: bytes) -> None:
    """From the request to the 101."""
    extensions = (Deflate(),)

    def answer() -> bytes:
        handshake = ServerHandshake(extensions=extensions)
        handshake.receive(request_head)
        handshake.check()
        return handshake.accept()

    assert benchmark(answer).startswith(b"HTTP/1.1 101 ")


def test_ask_for_an_opening_handshake(benchmark: Benchmark) -> None:
    """To the request, and to the 101, which is the server's work here, too."""

    def ask() -> bool:
        client = ClientHandshake(host_header="example.com", pathname="/chat?room=1")
        server = ServerHandshake()
        server.receive(client.request())
        server.check()
        return client.receive(server.accept()) is not None

    assert benchmark(ask)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_echo(benchmark: Benchmark, loop: asyncio.AbstractEventLoop) -> None:
    """A hundred echoes of 256 bytes on each of 30 connections, both ends in one event loop."""
    message = os.urandom(256)

    async def echo(_: Any, read: Any, write: Any) -> None:
        async for received in read:
            await write(received.payload)

    async def open_all() -> Any:
        server = await serve(echo, compression=None)
        return server, [await connect(server.url, compression=None) for _ in range(30)]

    async def ask(read: Any, write: Any) -> None:
        for _ in range(100):
            await write(message)
            await read()

    async def ask_all() -> None:
        await asyncio.gather(*(ask(read, write) for _, read, write in ends))

    server, ends = loop.run_until_complete(open_all())
    benchmark(lambda: loop.run_until_complete(ask_all()))
    loop.run_until_complete(server.close())


def test_send_and_receive(benchmark: Benchmark, loop: asyncio.AbstractEventLoop) -> None:
    """Ten thousand messages of 256 bytes to a server, both ends in one event loop."""
    message = os.urandom(256)

    async def take(_: Any, read: Any, write: Any) -> None:
        async for received in read:
            if not received.len:
                await write("all")

    async def open_both() -> Any:
        server = await serve(take, compression=None)
        return server, await connect(server.url, compression=None)

    async def send() -> None:
        for _ in range(10_000):
            await write(message)
        await write(b"")
        await read()

    server, (_, read, write) = loop.run_until_complete(open_both())
    benchmark(lambda: loop.run_until_complete(send()))
    loop.run_until_complete(server.close())
