"""Each stream of the library's keeps what check_stream.py says that streams promise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.helpers.check_stream import CHECKS, Check, MakePair, check_stream, run_check

from coro_websocket._options.options import Options
from coro_websocket._runtimes.asyncio_loop import asyncio_loop
from coro_websocket._runtimes.asyncio_runtime import runtime_of
from coro_websocket._streams.fed_stream import FedStream
from coro_websocket._streams.memory import MemoryPipe, memory_pair
from coro_websocket._streams.opening_pipes import Pipe, open_pipe
from coro_websocket._streams.stream import Stream
from coro_websocket._streams.transport_pipe import TransportPipe
from coro_websocket._streams.user_socket import ConnectionSocket

if TYPE_CHECKING:
    from tests.conftest import Certificates

NARROW = 32768  # bytes of a socket's buffer
OPTIONS = Options.for_wrap_io({"write_high_water": 65536})

Pair = tuple[Stream, Stream]


def tcp_pair() -> list[ConnectionSocket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return [prepared(one), prepared(other)]


def prepared(sock: socket.socket) -> ConnectionSocket:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    return ConnectionSocket.taking_over(sock)


@contextlib.asynccontextmanager
async def sockets(certificates: Certificates, tls: bool = False) -> AsyncIterator[Pair]:
    """As connections have them: native streams, but transports where the loop has no more."""
    loop = asyncio.get_running_loop()
    one, other = tcp_pair()
    client, server = (certificates.client, certificates.server) if tls else (None, None)

    async def open_client() -> Pipe:
        pipe = await open_pipe(
            asyncio_loop(loop), one, tls=client, server_hostname="localhost" if tls else None
        )
        await pipe.send(b"")  # what TLS has left to say
        return pipe

    pipes = await asyncio.gather(
        open_client(), open_pipe(asyncio_loop(loop), other, tls=server, server_side=True)
    )
    yield pipes[0].become_stream(OPTIONS), pipes[1].become_stream(OPTIONS)


@contextlib.asynccontextmanager
async def unix_sockets(certificates: Certificates) -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    pipes = [await open_pipe(asyncio_loop(loop), prepared(sock)) for sock in socket.socketpair()]
    yield pipes[0].become_stream(OPTIONS), pipes[1].become_stream(OPTIONS)


@contextlib.asynccontextmanager
async def transports(certificates: Certificates, tls: bool = False) -> AsyncIterator[Pair]:
    """asyncio's transports, on every loop; TLS is then asyncio's, or uvloop's."""
    one, other = tcp_pair()
    pipes = await asyncio.gather(
        transport_pipe(one, certificates.client if tls else None),
        transport_pipe(other, certificates.server if tls else None, server_side=True),
    )
    yield pipes[0].become_stream(OPTIONS), pipes[1].become_stream(OPTIONS)


async def transport_pipe(
    sock: ConnectionSocket, tls: ssl.SSLContext | None, server_side: bool = False
) -> TransportPipe:
    loop = asyncio.get_running_loop()
    pipe = TransportPipe(asyncio_loop(loop), sock)
    settings: dict[str, Any] = {} if tls is None else {"ssl": tls}
    if server_side:
        await loop.connect_accepted_socket(lambda: pipe, sock, **settings)
    else:
        if tls is not None:
            settings["server_hostname"] = "localhost"
        await loop.create_connection(lambda: pipe, sock=sock, **settings)
    return pipe


@contextlib.asynccontextmanager
async def memory(certificates: Certificates) -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    pair = memory_pair(loop, asyncio.Protocol(), asyncio.Protocol())
    one, other = (MemoryPipe(transport).become_stream(OPTIONS) for transport in pair)
    yield one, other


class HandTransport:
    """The least that a transport has: what is written here, the other is fed in a later turn."""

    LIMIT = 65536

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.other: HandTransport
        self.stream = FedStream(runtime_of(self.loop), None, self)
        self.waiting: list[bytes] = []
        self.blocked = False
        self.closed = False
        self.ended = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        self.waiting.append(data)
        if sum(map(len, self.waiting)) > self.LIMIT and not self.blocked:
            self.blocked = True
            self.stream.pause_writing()
        self.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        while self.waiting and (self.other.reading or self.closed) and not self.other.ended:
            self.other.stream.feed(self.waiting.pop(0))
        if self.blocked and not self.waiting:
            self.blocked = False
            self.stream.resume_writing()
        if self.closed and not self.ended:
            self.ended = True
            self.other.stream.feed_eof()
            self.other.close()
            self.stream.end()

    def close(self) -> None:
        self.closed = True
        self.loop.call_soon(self.deliver)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self.other.deliver)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@contextlib.asynccontextmanager
async def fed(certificates: Certificates) -> AsyncIterator[Pair]:
    one, other = HandTransport(), HandTransport()
    one.other, other.other = other, one
    yield one.stream, other.stream


KINDS: dict[str, Any] = {
    "sockets": sockets,
    "unix sockets": unix_sockets,
    "TLS": functools.partial(sockets, tls=True),
    "transports": transports,
    "TLS transports": functools.partial(transports, tls=True),
    "memory": memory,
    "fed": fed,
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_keeps_its_promise(
    kind: str, check: Check, certificates: Certificates
) -> None:
    make: MakePair = functools.partial(KINDS[kind], certificates)
    await run_check(make, check)


async def test_all_checks_are_made_of_a_stream(certificates: Certificates) -> None:
    pairs = []

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Pair]:
        async with memory(certificates) as pair:
            pairs.append(pair)
            yield pair

    await check_stream(make)
    assert len(pairs) == len(CHECKS)


# What it catches


class Broken(HandTransport):
    """A transport whose stream keeps a promise less."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def write(self, data: bytes) -> None:
        if self.fault == "loses a byte" and len(data) > 1:
            data = data[:-1]
        super().write(data)
        if self.fault == "turns around":
            self.waiting.insert(0, self.waiting.pop())

    def pause_reading(self) -> None:
        if self.fault != "goes on":
            super().pause_reading()


@pytest.mark.parametrize("fault", ["loses a byte", "turns around", "goes on"])
async def test_a_stream_that_does_not_is_told(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.check_stream.BOUND", 0.5)

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Pair]:
        one, other = Broken(fault), Broken(fault)
        one.other, other.other = other, one
        yield one.stream, other.stream

    with pytest.raises((AssertionError, TimeoutError)):
        await check_stream(make)
