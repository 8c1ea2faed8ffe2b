"""Draining: nobody is let in any more, handlers finish, and then the server is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from typing import Any

import pytest
import websockets
from tests.helpers.raw_peer import BOUND, clients_of, echo, turns_of_the_loop, until

from coro_websocket import (
    ConnectionClosedError,
    HandshakeError,
    InvalidMessage,
    InvalidOption,
    OtherEventLoopError,
    connect,
    reconnect,
    serve,
)
from coro_websocket._server import ending
from coro_websocket._server import server as server_module

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def end_of(read):
    """The code and the reason that a client is told."""
    with contextlib.suppress(ConnectionClosedError):
        while await read() is not None:
            pass
    return read.close_code, read.close_reason


async def all_from(read):
    return [*[msg.payload async for msg in read], read.close_code]


def all_of(client):
    """Everything that comes until the end of the stream."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            found += data
    return found


async def started(server, n=1):
    """Until so many clients have been accepted."""
    await until(lambda: clients_of(server) >= n)
    await turns_of_the_loop()


# Handlers


async def test_handlers_finish_and_then_the_server_is_closed():
    async def handler(req, read, write):
        await write("begun")
        await req.server.draining
        assert req.server is server
        await write("last words")

    async with asyncio.timeout(BOUND), serve(handler) as server:
        assert not server.draining
        async with websockets.connect(server.url) as client:
            assert await client.recv() == "begun"
            draining = asyncio.ensure_future(server.drain(None))
            assert await client.recv() == "last words"
            with pytest.raises(websockets.ConnectionClosedOK):
                await client.recv()
            assert client.close_code == 1000
        await draining
        assert server.draining
        assert server.draining.is_set()
        assert server.sockets == ()
        assert clients_of(server) == 0
        await server.wait_closed()


async def test_a_handler_can_look_whether_its_server_drains():
    seen = []

    async def handler(req, read, write):
        async for msg in read:
            seen.append((bool(req.server.draining), repr(req.server.draining)))
            await write(msg.payload)
            if req.server.draining:
                return

    async with asyncio.timeout(BOUND), serve(handler) as server:
        _, read, write = await connect(server.url)
        await write("1")
        await read()
        draining = asyncio.ensure_future(server.drain(60))
        await server.draining.wait()
        await write("2")
        assert (await read()).payload == "2"
        assert await end_of(read) == (1000, "")
        await draining
    assert seen == [(False, "<Draining False>"), (True, "<Draining True>")]


@pytest.mark.parametrize("timeout", [0, 0.02])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [({}, (1012, "service restart")), ({"code": 1001, "reason": "bye"}, (1001, "bye"))],
)
async def test_connections_that_are_still_open_then_are_closed(timeout, arguments, told):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        async with websockets.connect(server.url) as client:
            await server.drain(timeout, **arguments)
            with contextlib.suppress(websockets.ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == told


async def test_a_handler_that_does_not_return_is_cancelled_after_close_timeout():
    ended = []

    async def handler(req, read, write):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=0.05) as server:
        _, read, _ = await connect(server.url)
        await server.drain(0)
        assert ended == ["cancelled"]
        assert (await end_of(read))[0] == 1012


async def test_a_handler_that_has_just_returned_is_not_waited_for():
    """Its task is done, and the server has not been told so yet: it once waited in a tight loop."""

    async def handler(req, read, write):
        await read()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        _, read, write = await connect(server.url)
        (client,) = server._clients
        done = asyncio.Event()
        running: Any = client.running
        running.add_done_callback(lambda _: done.set())
        # This callback comes first, and a turn later that of the server would.
        server._clients.add(client)
        await write("return")
        await end_of(read)
        await done.wait()
        server._clients.add(client)
        await asyncio.wait_for(server._ending.let_finish(None), BOUND)
        server._clients.clear()


async def test_a_server_without_clients_drains_at_once():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        await server.drain(None)
        await server.drain()
        await server.close()
        await server.drain()


# Who is not in yet


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_request_that_comes_while_the_server_drains_is_answered_503(sent):
    release = asyncio.Event()

    async def handler(req, read, write):
        await release.wait()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with connect(server.url):
            with socket.create_connection(("127.0.0.1", server.port)) as late:
                late.settimeout(BOUND)
                late.sendall(sent)
                await started(server, 2)
                draining = asyncio.ensure_future(server.drain(60))
                await server.draining
                late.sendall(REQUEST[len(sent) :] if sent else REQUEST)
                answer = await asyncio.to_thread(late.recv, 65536)
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b"\r\nConnection: close\r\n" in answer
            release.set()
            await draining


async def test_a_client_of_ours_is_told_503_and_when_to_come_back():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            await started(server)
            draining = asyncio.ensure_future(server.drain(60))
            await server.draining
            with pytest.raises(HandshakeError) as caught:
                await connect("ws://a/", sock=sock)
        assert caught.value.response.code == 503
        assert caught.value.response["Retry-After"] == "1"
        await draining


async def test_a_client_that_sends_no_request_holds_up_nobody_for_long(monkeypatch):
    monkeypatch.setattr(ending, "HANDSHAKE_GRACE", 0.02)
    monkeypatch.setattr(server_module, "LEAST_GRACE", 0.02)
    async with asyncio.timeout(BOUND), serve(echo, timeout=None) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            await started(server)
            await server.drain(None)
            assert clients_of(server) == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_waits_to_be_accepted_is_answered_and_not_reset(kind, tmp_path):
    where: Any = {"path": tmp_path / "s"} if kind == "unix" else {}
    async with asyncio.timeout(BOUND), serve(echo, **where) as server:
        clients = []
        for _ in range(40):  # the loop has no turn meanwhile: all wait in the backlog
            if kind == "unix":
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(tmp_path / "s"))
            else:
                client = socket.create_connection(("127.0.0.1", server.port))
            client.settimeout(BOUND)
            client.sendall(REQUEST)
            clients.append(client)
        draining = asyncio.ensure_future(server.drain(60))
        for client in clients:
            with client:
                assert (await asyncio.to_thread(all_of, client)).startswith(b"HTTP/1.1 503 ")
        await draining


async def test_who_waits_for_room_among_the_handshakes_is_answered_and_not_reset():
    async with asyncio.timeout(BOUND), serve(echo, max_handshakes=1, timeout=60) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            await started(server)
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.settimeout(BOUND)
                client.sendall(REQUEST)
                await turns_of_the_loop(20)
                draining = asyncio.ensure_future(server.drain(60))
                assert (await asyncio.to_thread(all_of, client)).startswith(b"HTTP/1.1 503 ")
                await draining


@pytest.mark.parametrize("sent", [0, 20, len(REQUEST)])
async def test_a_drain_without_time_for_handlers_has_some_for_answers(sent):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as late:
            late.settimeout(BOUND)
            late.sendall(REQUEST[:sent])  # and waits in the backlog
            draining = asyncio.ensure_future(server.drain(0))
            await server.draining
            await turns_of_the_loop(20)
            with contextlib.suppress(ConnectionError):
                late.sendall(REQUEST[sent:])
            answer = await asyncio.to_thread(all_of, late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        await draining


async def test_handlers_are_not_kept_in_a_drain_without_time_for_them(monkeypatch):
    """Their peers are told at once, however long a client takes for its handshake."""
    monkeypatch.setattr(server_module, "LEAST_GRACE", 5)
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            async with connect(server.url) as (_, read, _):
                await started(server, 2)
                draining = asyncio.ensure_future(server.drain(0))
                assert (await end_of(read))[0] == 1012
                assert not draining.done()
        await draining


async def test_a_client_that_sends_no_request_holds_up_a_drain_for_close_timeout_at_most():
    async with asyncio.timeout(BOUND), serve(echo, close_timeout=0.02) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            await started(server)
            begun = asyncio.get_running_loop().time()
            await server.drain(0)
            assert asyncio.get_running_loop().time() - begun < ending.LEAST_GRACE
            assert clients_of(server) == 0


async def test_a_client_that_was_past_being_refused_is_told_that_the_server_ends():
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def seen_last(req, response):
        asked.set()
        await go_on.wait()

    async with asyncio.timeout(BOUND), serve(echo, process_response=seen_last) as server:
        opening = asyncio.ensure_future(websockets.connect(server.url).__aenter__())
        await asked.wait()
        draining = asyncio.ensure_future(server.drain(0))
        await turns_of_the_loop()
        go_on.set()
        client = await opening
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1012
        await draining


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it can only be quick")
@pytest.mark.parametrize("round", range(3))
async def test_nobody_who_connects_while_the_server_leaves_is_reset(round):
    """Each client is answered or refused; those of the last moment ask again after a second."""
    found: set[Any] = set()
    port = 0

    def connect_again_and_again():
        while b"refused" not in found:
            try:
                client = socket.create_connection(("127.0.0.1", port), 5)
            except ConnectionRefusedError:
                found.add(b"refused")
                return
            with client:
                client.sendall(REQUEST)
                found.add(client.recv(12)[-3:])

    async with asyncio.timeout(BOUND), serve(echo) as server:
        port = server.port
        clients = [asyncio.to_thread(connect_again_and_again) for _ in range(3)]
        hammering = asyncio.gather(*clients)
        await until(lambda: b"101" in found)
        await server.drain(None)
        await hammering
    assert found <= {b"101", b"503", b"refused"}


async def test_who_waits_on_a_socket_of_ours_and_another_process_is_left_to_that():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener.dup() as other:
        async with asyncio.timeout(BOUND), serve(echo, sock=listener) as server:
            await turns_of_the_loop()
            with socket.create_connection(other.getsockname()) as client:
                await server.drain(60)
                accepted, address = other.accept()
                accepted.close()
                assert address == client.getsockname()


# Who drains


async def test_several_may_drain_and_close_at_once():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        _, read, _ = await connect(server.url)
        ends = [
            asyncio.ensure_future(each)
            for each in (server.drain(60), server.drain(None), server.close(4000, "now"))
        ]
        assert await end_of(read) == (4000, "now")
        await asyncio.gather(*ends)


async def test_handlers_that_drain_their_server_do_not_wait_for_themselves_or_each_other():
    ended: list[Any] = []

    async def handler(req, read, write):
        await read()
        await req.server.drain(None)
        ended.append(req.pathname)
        await write("done")

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=None) as server:
        opened = [await connect(server.url, pathname=path) for path in ("/a", "/b")]
        await opened[0][2]("go")
        await server.draining
        await turns_of_the_loop()
        assert ended == []  # it waits for the other
        await opened[1][2]("go")
        told = asyncio.gather(*[all_from(read) for _, read, _ in opened])
        assert await told == [["done", 1000], ["done", 1000]]
        await until(lambda: not clients_of(server))
    assert sorted(ended) == ["/a", "/b"]


async def test_a_drain_that_is_cancelled_leaves_the_handlers_and_can_be_done_again():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        _, read, write = await connect(server.url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await server.drain(None)
        await write("still here")
        assert (await read()).payload == "still here"
        assert server.draining
        assert server.sockets == ()
        await server.drain(0)
        assert await end_of(read) == (1012, "service restart")


async def test_serve_forever_returns_once_the_server_has_drained():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        forever = asyncio.ensure_future(server.serve_forever())
        await turns_of_the_loop()
        await server.drain(0)
        await forever


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"timeout": -1}, InvalidOption, "timeout"),
        ({"timeout": True}, InvalidOption, "timeout"),
        ({"timeout": "1"}, InvalidOption, "seconds"),
        ({"code": 1006}, InvalidMessage, "7.4"),
        ({"reason": "x" * 124}, InvalidMessage, "123"),
    ],
)
async def test_a_wrong_call_leaves_the_server_as_it_is(arguments, error, said):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with pytest.raises(error, match=said):
            await server.drain(**arguments)
        assert not server.draining
        async with connect(server.url) as (_, read, write):
            await write("x")
            assert (await read()).payload == "x"


# A restart


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="there is no SO_REUSEPORT")
async def test_a_rolling_restart_moves_every_client_to_the_new_server():
    """Those of ours and of `websockets`, that connect again by themselves."""

    async def old(req, read, write):
        await write("old")
        await read()

    async def new(req, read, write):
        await write("new")
        await read()

    async def of_ours(url):
        told = []
        async with reconnect(url, first_delay=0.01) as connections:
            async for _, read, _ in connections:
                try:
                    async for msg in read:
                        told.append(msg.payload)
                        if msg.payload == "new":
                            return told
                except ConnectionClosedError as error:
                    told.append(error.code)
        return told

    async def of_websockets(url):
        told: list[Any] = []
        async for client in websockets.connect(url):
            try:
                while "new" not in told:
                    told.append(await client.recv())
                return told
            except websockets.ConnectionClosed as error:
                assert error.rcvd is not None
                told.append(error.rcvd.code)
        return told

    async with asyncio.timeout(BOUND), serve(old, reuse_port=True) as before:
        url = before.url
        clients = [asyncio.ensure_future(of_ours(url)) for _ in range(20)]
        clients += [asyncio.ensure_future(of_websockets(url)) for _ in range(5)]
        await until(lambda: len(before.connections) == len(clients))
        async with serve(new, port=before.port, reuse_port=True):
            await before.drain(0.02)
            for told in await asyncio.gather(*clients):
                assert told == ["old", 1012, "new"]


# Other threads


@pytest.mark.parametrize("call", ["close", "drain", "serve_forever", "wait_closed"])
async def test_another_thread_is_told_how_to_call_a_server(call):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with pytest.raises(OtherEventLoopError, match=rf"run_coroutine_threadsafe\(server.{call}"):
            await asyncio.to_thread(asyncio.run, getattr(server, call)())
        assert not server.draining
        with pytest.raises(OtherEventLoopError):
            await asyncio.to_thread(asyncio.run, server.draining.wait())


async def test_the_call_that_another_thread_is_told_works():
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(BOUND), serve(echo) as server:
        done = threading.Event()

        def elsewhere():
            asyncio.run_coroutine_threadsafe(server.drain(), loop).result(BOUND)
            done.set()

        await asyncio.to_thread(elsewhere)
        assert done.is_set()
        await server.wait_closed()
