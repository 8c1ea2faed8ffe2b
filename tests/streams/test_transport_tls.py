"""asyncio's own TLS under a connection: everything that came before the end is given.

What is below it is a transport by hand, so that the order of events is the test's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from tests.helpers.raw_peer import BINARY, BOUND, CLOSE, close_payload, frame, turns_of_the_loop

from coro_websocket import ConnectionClosedError, Options
from coro_websocket._connection.begin import begin_connection
from coro_websocket._runtimes.asyncio_loop import AsyncioLoop
from coro_websocket._streams.transport_pipe import TransportPipe, secure_tunnel
from coro_websocket._streams.user_socket import ConnectionSocket

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop's takes only its own

AT_ONCE = 1 << 18  # bytes that asyncio's TLS receives at once, at most


class Below(asyncio.Transport):
    """The transport below TLS; what is written to it goes to a TLS server."""

    _start_tls_compatible = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.protocol: Any = None
        self.closed = False
        self.reading = True
        self.from_client = ssl.MemoryBIO()
        self.to_client = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.from_client, self.to_client, server_side=True)

    # As asyncio's TLS knows it

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def write(self, data: Any) -> None:
        self.from_client.write(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None:
        pass

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    # What the test does

    async def shake_hands(self) -> None:
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            await turns_of_the_loop()
            if self.to_client.pending:
                self.feed()

    def feed(self, most: int = AT_ONCE) -> None:
        """Let the client receive so much of what the server has written."""
        data = self.to_client.read(most)
        while data:
            buffer = self.protocol.get_buffer(-1)
            n = min(len(buffer), len(data))
            buffer[:n] = data[:n]
            self.protocol.buffer_updated(n)
            data = data[n:]

    def end(self) -> None:
        """The peer's TCP has ended."""
        if not self.closed and not self.protocol.eof_received():
            self.close()


@pytest.fixture
def sockets() -> Iterator[ConnectionSocket]:
    one, other = socket.socketpair()
    with other:
        yield ConnectionSocket.taking_over(one)


async def opened(certificates: Any, sock: ConnectionSocket, **options: Any) -> Any:
    below = Below(certificates.server)
    pipe = TransportPipe(AsyncioLoop(asyncio.get_running_loop()), sock)
    below.set_protocol(pipe)
    pipe.connection_made(below)
    securing = asyncio.ensure_future(secure_tunnel(pipe, certificates.client, "localhost", 1.0))
    await below.shake_hands()
    await securing
    built = Options.build("wss://localhost/", **{"ping_interval": None, **options})
    _, read, write = begin_connection(pipe, built, client=True)
    await turns_of_the_loop()
    return below, read, write


def sent(count: int, size: int) -> bytes:
    messages = [frame(BINARY, bytes([n]) * size, masked=False) for n in range(count)]
    return b"".join([*messages, frame(CLOSE, close_payload(1000), masked=False)])


async def numbers_of(read: Any) -> list[int]:
    found = []
    with contextlib.suppress(ConnectionClosedError):
        async for message in read:
            found.append(message.payload[0])
    return [*found, read.close_code]


@pytest.mark.parametrize("high_water", [1_000_000, 50_000])  # the second pauses the transport
@pytest.mark.parametrize("says_so", [True, False], ids=["close_notify", "cut"])
@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize(
    ("count", "size"), [(12, 20_000), (100, 2_000), (1, 250_000), (20, 16_384)]
)
async def test_what_came_in_one_go_with_the_end_behind_it_is_given(
    certificates, sockets, count, size, turns, says_so, high_water
):
    """It hands over as much as there is room for, once more when TCP ends, and drops the rest."""
    async with asyncio.timeout(BOUND):
        below, read, write = await opened(certificates, sockets, read_high_water=high_water)
        below.tls.write(sent(count, size))
        if says_so:
            with contextlib.suppress(ssl.SSLWantReadError):
                below.tls.unwrap()
        while below.to_client.pending:
            below.feed()
        await turns_of_the_loop(turns)
        below.end()
        assert await numbers_of(read) == [*range(count), 1000]
        await write.close()
