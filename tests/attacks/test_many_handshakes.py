"""Clients that open connections and say nothing, by hundreds, and headers that lie about them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, until, watchdog

from coro_websocket import HandshakeError, connect, serve
from coro_websocket._server import unfinished as _unfinished

from .bounds import MIB, measured

resource = pytest.importorskip("resource")

__all__ = ["watchdog"]


async def greet(req, read, write):
    await write("served")


async def is_served(server, **options):
    async with connect(server.url, **options) as (_, read, _):
        assert (await read()).payload == "served"


def sockets(number):
    made = [socket.socket() for _ in range(number)]
    for sock in made:
        sock.setblocking(False)
    return made


async def hold(server, socks, said=b""):
    """Connect, say no more than this, and stay."""
    loop = asyncio.get_running_loop()
    for sock in socks:
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, said)


async def test_hundreds_that_say_nothing_do_not_keep_others_out(monkeypatch, caplog):
    """Each that stalls is closed when its room is wanted, and the log does not grow with them."""
    monkeypatch.setattr(_unfinished, "STALLED", 0.3)
    monkeypatch.setattr(_unfinished, "LOOK_AGAIN", 0.02)
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(BOUND), serve(greet, max_handshakes=50, timeout=60) as server:
        slow = sockets(120)
        try:
            with measured() as cost:
                await hold(server, slow[:60])
                await until(lambda: server.handshakes == 50)
                holding = asyncio.ensure_future(hold(server, slow[60:]))
                for _ in range(3):
                    await is_served(server)
                    assert server.handshakes <= 51  # and perhaps one whose request is here
                await holding
            assert cost.memory < 2 * MIB
            assert cost.seconds < 3
        finally:
            for sock in slow:
                sock.close()
        await until(lambda: clients_of(server) == 0)
    said = [r for r in caplog.records if "unfinished" in r.getMessage()]
    assert len(said) == 1


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_where_descriptors_run_out_who_says_nothing_or_stays_goes_first(said, caplog):
    """A connection that is open stays, and one that comes is served."""
    async with asyncio.timeout(BOUND), serve(greet, timeout=60) as server:

        async def stay(req, read, write):
            await read()

        async with serve(stay) as other, connect(other.url) as (_, _, write):
            await is_served(server)  # whatever is imported then is imported now
            slow, good = sockets(100), sockets(1)[0]
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))
            try:
                for descriptor in free:
                    os.close(descriptor)
                with measured() as cost:
                    await hold(server, slow, said)
                    await hold(server, [good])
                    # A good client has sent its request by then; the others are closed for it.
                    request = (
                        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    )
                    loop = asyncio.get_running_loop()
                    await loop.sock_sendall(good, request)
                    assert (await loop.sock_recv(good, 4096)).startswith(b"HTTP/1.1 101 ")
                assert cost.seconds < 2
                await write.ping()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for sock in (*slow, good):
                    sock.close()
        await until(lambda: clients_of(server) == 0)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "cannot accept a connection on 127.0.0.1:" in errors[0]


SPOOFED = [
    {"X-Forwarded-For": "10.0.0.1"},
    {"X-Forwarded-For": "127.0.0.1, 127.0.0.1"},
    {"Forwarded": "for=10.0.0.1;proto=https"},
    {"Forwarded": 'for="'},
    {"X-Real-IP": "10.0.0.1", "X-Client-IP": "10.0.0.1", "True-Client-IP": "10.0.0.1"},
]


@pytest.mark.parametrize("spoofed", SPOOFED)
async def test_a_client_cannot_choose_its_address_nor_get_around_the_limit_of_one(spoofed, caplog):
    """The proxy is HAProxy's or nginx's way: it adds the client's address at the end."""
    seen = []

    async def handler(req, read, write):
        seen.append((req.client.host, req.scheme))
        await read()

    added = [("X-Forwarded-For", "203.0.113.9")]
    options: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"], "max_connections_per_client": 1}
    async with asyncio.timeout(BOUND), serve(handler, **options) as server:
        async with connect(server.url, headers=[*spoofed.items(), *added]):
            for other in ("10.0.0.1", "10.0.0.2"):
                again = [
                    (name, value.replace("10.0.0.1", other)) for name, value in spoofed.items()
                ]
                with pytest.raises(HandshakeError, match="429"):
                    await connect(server.url, headers=[*again, *added])
    # Where two headers contradict each other, only the proxy itself is known.
    assert seen == [("127.0.0.1" if "Forwarded" in spoofed else "203.0.113.9", "ws")]
    assert caplog.text.count("name different clients") == ("Forwarded" in spoofed)
