"""Who is there: `server.connections`, which always shows the open connections of the moment."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Collection
from datetime import UTC, datetime

import pytest
import websockets
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import BOUND, clients_of, echo, until, watchdog

from coro_websocket import ConnectionClosedError, Connections, ServerConnection, connect, serve

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def test_a_connection_is_there_from_before_its_handler_begins_until_that_has_ended():
    seen: list[bool] = []
    done = asyncio.Event()

    async def handler(req, read, write):
        (connection,) = server.connections
        seen.append((connection.req, connection.read, connection.write) == (req, read, write))
        seen.append(connection.id == req.id)
        await read()
        await done.wait()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        assert len(server.connections) == 0
        async with websockets.connect(server.url):
            await until(lambda: len(seen) == 2)
            assert server.handshakes == 0
        assert len(server.connections) == 1  # its handler goes on
        done.set()
        await until(lambda: not server.connections)
    assert seen == [True, True]


async def test_it_is_a_live_collection_that_can_be_gone_through_while_it_changes():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        connections = server.connections
        assert isinstance(connections, Connections)
        assert isinstance(connections, Collection)
        assert connections is server.connections
        assert not connections
        clients = [await connect(server.url) for _ in range(3)]
        await until(lambda: len(connections) == 3)
        assert [each.id for each in connections] == sorted(each.id for each in connections)
        found = []
        for connection in connections:  # which closes them meanwhile
            found.append(connection)
            for _, _, write in clients:
                await write.close()
            await until(lambda: not connections)
        assert len(found) == 3
        assert found[0] not in connections
        assert connections.get(found[0].id) is None
        assert "x" not in connections  # type: ignore[comparison-overlap]
        assert repr(connections) == "<Connections: 0 open>"
        with pytest.raises(AttributeError):
            server.connections = connections  # type: ignore[misc]
        with pytest.raises(AttributeError):
            connections.anything = 1  # type: ignore[attr-defined]


async def test_each_tells_who_it_is_since_when_and_what_it_has_counted():
    before = datetime.now(UTC)
    async with asyncio.timeout(BOUND), serve(echo) as server:
        async with connect(server.url, pathname="/chat?token=t0ken") as (res, read, write):
            await write("abc")
            await read()
            (connection,) = server.connections
            assert isinstance(connection, ServerConnection)
            assert server.connections.get(connection.id) is connection
            assert connection in server.connections
            assert before <= connection.began <= datetime.now(UTC)
            host, port = res.socket.getsockname()
            assert connection.req.client.host == host
            assert connection.req.client == (host, port)
            assert connection.req.peer == (host, port)
            assert (connection.req.scheme, connection.req.tls) == ("ws", None)
            assert connection.read.stats.messages_in == 1
            shown = repr(connection)
            assert shown.startswith(
                f"<ServerConnection {connection.id} from {host}:{port} to '/chat"
            )
            assert "t0ken" not in shown
            with pytest.raises(AttributeError):
                connection.id = 1  # type: ignore[misc]
            await connection.write("from another task")
            assert (await read()).payload == "from another task"


async def test_anybody_may_close_one():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        async with websockets.connect(server.url) as client:
            await until(lambda: server.connections)
            (connection,) = server.connections
            await connection.close(4000, "kicked")
            with pytest.raises(websockets.ConnectionClosedError):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4000, "kicked")
        await until(lambda: not server.connections)


async def test_numbers_are_unique_over_servers_and_in_every_line_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    seen = []

    async def handler(req, read, write):
        seen.append(req.id)
        raise RuntimeError("its handler fails")

    async with asyncio.timeout(BOUND), serve(handler) as one, serve(handler) as other:
        for server in (one, other, one):
            async with connect(server.url) as (_, read, _):
                with contextlib.suppress(ConnectionClosedError):
                    await read()
        await until(lambda: not clients_of(one))
    assert len(set(seen)) == 3
    for number in seen:
        name = f"connection {number} from 127.0.0.1:"
        lines = [r.getMessage() for r in caplog.records if name in r.getMessage()]
        words = [" opened with 101", "the handler failed for ", " closed with 1011"]
        assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * 3


async def test_clients_in_their_opening_handshake_are_counted_apart():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            await until(lambda: server.handshakes == 1)
            assert len(server.connections) == 0
        await until(lambda: server.handshakes == 0)


async def test_nothing_is_kept_of_a_connection_that_has_ended():
    async with asyncio.timeout(BOUND), serve(echo, max_connections=9) as server:
        for _ in range(3):
            async with connect(server.url):
                pass
        await until(lambda: not clients_of(server))
        gc.collect()
        admission = server._admission
        assert not admission.places._taken
        assert not admission.places._per_client
        assert not len(admission.unfinished)
        assert not admission.connections._by_id


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_an_open_connection_is_few_objects_to_the_garbage_collector():
    """A full collection visits each of them, and no connection goes on meanwhile.

    They are the task, its two coroutines and what it waits with; what the handler is given; the
    connection, its engine, its stream and its socket; and what the server knows of the client.
    """
    if isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
        pytest.skip("asyncio's transports consist of more")

    def open_and_count(number: int) -> int:
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", server.port))
            clients.append(sock)
            sock.sendall(REQUEST)
            sock.recv(1000)
        gc.collect()
        return len(gc.get_objects())

    clients: list[socket.socket] = []
    async with asyncio.timeout(BOUND), serve(echo, ping_interval=None) as server:
        try:
            few = await asyncio.to_thread(open_and_count, 20)
            many = await asyncio.to_thread(open_and_count, 100)
        finally:
            for each in clients:
                each.close()
    ours_in_the_test = 1
    timers = 2  # of opening handshakes, which asyncio keeps for a while
    assert (many - few) / 100 < 17 + ours_in_the_test + timers
