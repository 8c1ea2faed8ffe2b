"""Accepting connections: whatever comes, the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import ssl

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, echo, turns_of_the_loop, until, watchdog

from coro_websocket import connect, serve
from coro_websocket._runtimes.current import running_loop
from coro_websocket._runtimes.throttle import Throttle
from coro_websocket._server import accepting as _accepting
from coro_websocket._server import opening as _opening

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


def errors_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def shut_down(listener):
    listener.shutdown(socket.SHUT_RDWR)


def shut_down_through_a_copy(listener):
    with socket.socket(fileno=os.dup(listener.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", [shut_down, shut_down_through_a_copy])
async def test_a_listener_that_was_shut_down_is_told_once_and_connections_go_on(how, caplog):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        async with connect(server.url) as (_, read, write):
            how(server.sockets[0])
            while not errors_of(caplog):
                await asyncio.sleep(0.001)
            await write("x")
            assert (await read()).payload == "x"
            await turns_of_the_loop(100)
        await server.close()  # while it waits before it tries again
    (line,) = errors_of(caplog)
    assert line.startswith("cannot accept a connection on 127.0.0.1:")


class Failing(socket.socket):
    """A listener of which accept() fails so many times."""

    error: Exception
    times: int
    failed = 0

    def accept(self):
        if self.failed < self.times:
            self.failed += 1
            raise self.error
        return super().accept()


@contextlib.contextmanager
def failing(error, times):
    with Failing() as listener:
        listener.error, listener.times = error, times
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


ERRORS = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EINVAL, "Invalid argument"),
    OSError(errno.EPERM, "Operation not permitted"),
    OSError(errno.ECONNABORTED, "Software caused connection abort"),
    RuntimeError("of a socket of the user's own"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
async def test_an_error_that_stays_is_logged_once_and_what_comes_after_it_is_served(
    error, caplog, monkeypatch
):
    monkeypatch.setattr(_accepting, "PAUSE", 0.001)
    times = 2 * _accepting.ACCEPTS_PER_TURN
    with failing(error, times) as listener:
        async with asyncio.timeout(BOUND), serve(echo, sock=listener) as server:
            async with connect(server.url) as (_, read, write):
                await write("x")
                assert (await read()).payload == "x"
        assert listener.failed == times
    (line,) = errors_of(caplog)
    assert (getattr(error, "strerror", None) or str(error)) in line


async def test_an_error_that_stays_is_logged_again_after_a_while(caplog, monkeypatch):
    monkeypatch.setattr(_accepting, "PAUSE", 0.001)
    monkeypatch.setattr(_accepting, "LOG_AGAIN", 0.0)
    with failing(ERRORS[0], 5) as listener:
        async with asyncio.timeout(BOUND), serve(echo, sock=listener) as server:
            await (await connect(server.url))[2].close()
    assert len(errors_of(caplog)) == 5


async def test_clients_that_have_gone_before_they_are_accepted_are_no_error(caplog):
    gone = OSError(errno.ECONNABORTED, "Software caused connection abort")
    with failing(gone, _accepting.ACCEPTS_PER_TURN - 1) as listener:
        async with asyncio.timeout(BOUND), serve(echo, sock=listener) as server:
            await (await connect(server.url))[2].close()
    assert not errors_of(caplog)


@pytest.mark.parametrize("listeners", [1, 2])
async def test_only_so_many_are_accepted_in_one_turn_of_the_loop(listeners, monkeypatch):
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")

    def addresses(*_, **__):
        return [(*kind, (f"127.0.0.{n + 1}", 0)) for n in range(listeners)]

    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(socket, "getaddrinfo", addresses)
        async with asyncio.timeout(BOUND), serve(echo, "localhost") as server:
            patch.undo()
            assert len(server.sockets) == listeners
            for listener in server.sockets * (100 // listeners):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            counts = [clients_of(server)]
            while counts[-1] < 100:
                await asyncio.sleep(0)
                counts.append(clients_of(server))
    steps = [after - before for before, after in itertools.pairwise(counts)]
    assert max(steps) <= _accepting.ACCEPTS_PER_TURN


async def test_tls_handshakes_are_gone_on_with_by_so_many_in_one_turn_of_the_loop(certificates):
    """Clients that have connected, and say hello all at once."""
    most = _opening.TLS_STEPS_PER_TURN
    steps = [0]  # in each turn

    class Counting(ssl.SSLObject):
        def do_handshake(self):
            steps[-1] += 1
            super().do_handshake()

    try:
        asyncio.get_running_loop().remove_reader(0)
    except NotImplementedError:
        pytest.skip("TLS is asyncio's own where the loop has only transports")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_path, certificates.key_path)
    context.sslobject_class = Counting
    async with asyncio.timeout(BOUND), serve(echo, tls=context) as server:
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(50):
                sock = socket.create_connection(("127.0.0.1", server.port))
                clients.append(stack.enter_context(sock))
            await until(lambda: server.handshakes == 50)
            hello = client_hello()
            for client in clients:
                client.sendall(hello)
            while sum(steps) < 50:
                await asyncio.sleep(0)
                steps.append(0)
    assert max(steps) <= 2 * most


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def test_a_throttle_lets_tasks_go_on_in_the_order_of_asking_but_not_who_was_cancelled():
    throttle = Throttle(running_loop("a test"), 2)
    given = []

    async def work(n):
        await throttle.take()
        given.append(n)

    tasks = [asyncio.create_task(work(n)) for n in range(10)]
    await asyncio.sleep(0)
    assert given == [0, 1]
    tasks[2].cancel()
    async with asyncio.timeout(BOUND):
        await asyncio.wait(tasks)
    assert given == [0, 1, 3, 4, 5, 6, 7, 8, 9]
