"""What TLS answers of its own, to a peer that asks for much and takes nothing. RFC 8446."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass

import pytest
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import BOUND, TEXT, End, frame, until, watchdog
from tests.helpers.tls13_client import APPLICATION_DATA, HandMadeClient

from coro_websocket import Server, broadcast, serve

__all__ = ["watchdog"]

pytestmark = [
    pytest.mark.usefixtures("no_tasks_left"),
    pytest.mark.skipif(not ssl.HAS_TLSv1_3, reason="needs TLS 1.3"),
]

SMALL = 16384  # bytes of the sockets' buffers, as far as the system lets them be so small
FLOOD = 10_000  # KeyUpdates
STANDSTILL = 2000  # turns of the loop in which nothing more is taken

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def shake_hands(port, certificates, folder):
    """A client after its opening handshakes, and its socket."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    sock.settimeout(BOUND)
    sock.connect(("127.0.0.1", port))
    client = HandMadeClient(sock, certificates.ca, folder)
    client.tls.sendall(REQUEST)
    client.number += 1
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.tls.recv(4096)
    sock = client.detach()
    sock.setblocking(False)
    return client, sock


async def send_until_standstill(sock, data):
    """How much of the data is taken before nothing more is, for long."""
    sent = still = 0
    while sent < len(data) and still < STANDSTILL:
        try:
            sent += sock.send(data[sent : sent + 65536])
            still = 0
        except BlockingIOError:
            still += 1
        await asyncio.sleep(0)
    return sent


async def drain(sock):
    while await asyncio.get_running_loop().sock_recv(sock, 65536):
        pass


@contextlib.asynccontextmanager
async def flooded(certificates, folder, **options):
    """A server's end, its client whose answers wait, and what is left of the flood."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, TransportsOnlyLoop):
        pytest.skip("TLS is asyncio's own here")
    opened = loop.create_future()
    received = []

    async def handler(req, read, write):
        req.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        req.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        opened.set_result(End(read, write, req.socket))
        async for message in read:
            received.append(message.payload)

    async with (
        asyncio.timeout(2 * BOUND),
        serve(
            handler, tls=certificates.server, close_timeout=0.1, compression=None, **options
        ) as server,
    ):
        client, sock = await asyncio.to_thread(shake_hands, server.port, certificates, folder)
        with sock:
            end = await opened
            flood = b"".join(client.key_update() for _ in range(FLOOD))
            sent = await send_until_standstill(sock, flood)
            assert sent < len(flood)
            assert not received
            yield Flooded(end, client, sock, flood[sent:], received, server)


@dataclass
class Flooded:
    end: End
    client: HandMadeClient
    sock: socket.socket
    left: bytes
    received: list[object]
    server: Server


async def test_a_flood_of_key_updates_is_read_only_as_fast_as_its_answers_are_taken(
    certificates, tmp_path
):
    loop = asyncio.get_running_loop()
    async with flooded(certificates, tmp_path, ping_interval=None, write_high_water=1000) as here:
        write = here.end.write
        assert broadcast([write], "more") == [write]  # so much waits already
        # Once the peer takes what waits, all goes on.
        last = here.client.record(APPLICATION_DATA, frame(TEXT, "at last", masked=True))
        draining = asyncio.create_task(drain(here.sock))
        try:
            await loop.sock_sendall(here.sock, here.left + last)
            await until(lambda: here.received == ["at last"])
            await until(lambda: broadcast([write], "more") == [])
        finally:
            draining.cancel()


async def test_a_connection_whose_answers_wait_can_be_closed(certificates, tmp_path):
    async with flooded(certificates, tmp_path, ping_interval=None) as here:
        await here.end.write.close()
        await here.server.close()


async def test_a_peer_that_takes_no_answers_and_goes_is_noticed(certificates, tmp_path):
    async with flooded(certificates, tmp_path, ping_interval=None) as here:
        here.sock.close()  # with a reset, as there is something that was not received
        await here.end.write.wait_closed()
