"""A client that is refused: it can read why, and cannot stay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, echo, until, watchdog

from coro_websocket import serve
from coro_websocket._server import refusing as _refusing

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

PLAIN_HTTP = b"GET /path?token=t0ken HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def short_linger(monkeypatch):
    monkeypatch.setattr(_refusing, "LINGER", 0.05)


def refused(port, context):
    """A client that has read its answer, and stays."""
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(BOUND)
    if context is not None:
        client = context.wrap_socket(client, server_hostname="localhost")
    client.sendall(PLAIN_HTTP)
    assert client.recv(1000).startswith(b"HTTP/1.1 426")
    return client


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("timeout", [60, None])
async def test_one_that_does_not_hang_up_is_let_go_of(timeout, tls, certificates, caplog):
    caplog.set_level(logging.DEBUG)
    options = {"timeout": timeout, "close_timeout": timeout}
    context = certificates.client if tls else None
    async with asyncio.timeout(BOUND):
        async with serve(echo, tls=certificates.server if tls else None, **options) as server:
            client = await asyncio.to_thread(refused, server.port, context)
            await until(lambda: not clients_of(server))
            client.close()
    lines = [r.getMessage() for r in caplog.records if r.name == "coro_websocket.server"]
    assert len(lines) == 2  # "serving on" is the first
    assert "refused with 426: " in lines[1]


async def test_its_close_timeout_is_the_servers_where_that_is_shorter(monkeypatch):
    monkeypatch.setattr(_refusing, "LINGER", 60)
    async with asyncio.timeout(BOUND), serve(echo, close_timeout=0.05) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(PLAIN_HTTP)
            await until(lambda: clients_of(server))
            await until(lambda: not clients_of(server))


async def test_one_that_sends_without_end_leaves_the_loop_its_turns(monkeypatch):
    monkeypatch.setattr(_refusing, "LINGER", 0.3)
    gone = threading.Event()

    def flood(port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(BOUND)
            with contextlib.suppress(OSError):
                client.sendall(PLAIN_HTTP)
                while True:
                    client.sendall(bytes(1 << 20))
        gone.set()

    async with asyncio.timeout(BOUND), serve(echo, timeout=60) as server:
        thread = threading.Thread(target=flood, args=(server.port,))
        thread.start()
        try:
            await until(gone.is_set)
        finally:
            thread.join()


async def test_one_that_has_gone_before_the_answer_leaves_nothing(caplog):
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(BOUND), serve(echo, timeout=60) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(PLAIN_HTTP)
        await until(lambda: " from 127.0.0.1:" in caplog.text)
        await until(lambda: not clients_of(server))
    assert not [r for r in caplog.records if r.levelno > logging.INFO]
