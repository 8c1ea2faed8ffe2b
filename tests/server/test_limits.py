"""How many connections and opening handshakes there may be, and who goes first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import pytest
import websockets
from tests.helpers.raw_peer import (
    BOUND,
    clients_of,
    echo,
    read_head,
    turns_of_the_loop,
    until,
    watchdog,
)

from coro_websocket import (
    HandshakeError,
    HTTPResponse,
    InvalidOption,
    InvalidOptionType,
    connect,
    serve,
)
from coro_websocket._http.client_address import check_networks
from coro_websocket._runtimes.current import running_loop
from coro_websocket._runtimes.throttle import Throttle
from coro_websocket._server import unfinished as _unfinished
from coro_websocket._server.client import Client
from coro_websocket._server.unfinished import CountedThrottle, Unfinished

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(autouse=True)
async def bounded():
    async with asyncio.timeout(BOUND):
        yield


async def refusal_of(url, **options):
    with pytest.raises(HandshakeError) as caught:
        await connect(url, **options)
    return caught.value.response


# Connections


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_more_than_max_connections_are_answered_503_until_one_ends(tls, certificates, caplog):
    caplog.set_level(logging.INFO)
    theirs: dict[str, Any] = {"tls": certificates.client} if tls else {}
    options: dict[str, Any] = {"tls": certificates.server} if tls else {}
    async with serve(echo, max_connections=2, **options) as server:
        one = await connect(server.url, **theirs)
        other = await connect(server.url, **theirs)
        response = await refusal_of(server.url, **theirs)
        assert response.code == 503
        assert 5 <= int(response["Retry-After"]) <= 15
        assert len(server.connections) == 2
        await one[2].close()
        await until(lambda: clients_of(server) == 1)
        async with connect(server.url, **theirs) as (_, read, write):
            await write("x")
            assert (await read()).payload == "x"
        await other[2].close()
    assert "refused with 503: too many connections (max_connections)" in caplog.text


async def test_another_client_is_told_503_too():
    async with serve(echo, max_connections=1) as server:
        async with websockets.connect(server.url):
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(server.url)
            assert caught.value.response.status_code == 503
            assert "Retry-After" in caught.value.response.headers


async def test_health_checks_are_answered_by_a_full_server():
    def health(req):
        return HTTPResponse(200, body="ok") if req.pathname == "/health" else None

    async with serve(echo, max_connections=1, process_request=health) as server:
        async with connect(server.url):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()


async def test_a_place_is_taken_before_the_hooks_are_asked_so_that_no_two_share_one():
    asked = []
    go_on = asyncio.Event()

    async def hook(req):
        asked.append(req)
        await go_on.wait()

    async with serve(echo, max_connections=1, process_request=hook) as server:
        first = asyncio.ensure_future(connect(server.url))
        await until(lambda: asked)
        assert (await refusal_of(server.url)).code == 503
        assert len(asked) == 1
        go_on.set()
        await (await first)[2].close()


@pytest.mark.parametrize("how", ["refused", "gone", "failed", "cancelled"])
async def test_a_place_is_given_back_however_it_ends(how):
    clients: list[object] = []

    async def hook(req):
        if how == "refused" and not clients:
            return HTTPResponse(401)
        if how == "gone" and not clients:
            await asyncio.Event().wait()
        return None

    async def handler(req, read, write):
        if how == "failed" and len(clients) == 1:
            raise RuntimeError("its handler fails")
        if how == "cancelled" and len(clients) == 1:
            task = asyncio.current_task()
            task.cancel()
        await read()

    options: dict[str, Any] = {"max_connections": 1, "close_timeout": 0.05}
    async with serve(handler, process_request=hook, **options) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.setblocking(False)
        with sock:  # one that is refused stays, and reads on
            if how in ("failed", "cancelled"):
                clients.append(sock)
            sock.sendall(REQUEST)
            places = server._admission.places
            if how == "gone":
                await until(lambda: places._taken)
                sock.shutdown(socket.SHUT_RDWR)
            elif how == "refused":
                head, _ = await read_head(sock)
                assert head.startswith(b"HTTP/1.1 401 ")
            else:
                await read_head(sock)
            await until(lambda: not places._taken)
        clients.append("the next")
        clients.append("and no more")
        async with connect(server.url):
            pass


# Connections of one client


async def test_more_than_max_connections_per_client_are_answered_429(caplog):
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"max_connections_per_client": 2, "trusted_proxies": ["127.0.0.1"]}
    async with serve(echo, **options) as server, contextlib.AsyncExitStack() as stack:

        def of(address):
            return connect(server.url, headers={"X-Forwarded-For": address})

        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
            await stack.enter_async_context(of(address))
        for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::ffff:1:1"):
            response = await refusal_of(server.url, headers={"X-Forwarded-For": address})
            assert response.code == 429
            assert "Retry-After" in response
        await stack.enter_async_context(of("2001:db8:0:1::1"))
        spoofed = await refusal_of(server.url, headers={"X-Forwarded-For": "9.9.9.9, 192.0.2.1"})
        assert spoofed.code == 429
    assert "(max_connections_per_client)" in caplog.text


async def test_clients_without_an_address_are_not_counted_as_one(tmp_path):
    path = str(tmp_path / "socket")
    async with serve(echo, path=path, max_connections_per_client=1):
        async with connect(path=path), connect(path=path):
            pass


# Handshakes


async def raw_client(server, address="127.0.0.1", data=b""):
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    if data:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    return sock


async def is_closed(sock):
    try:
        return not await asyncio.get_running_loop().sock_recv(sock, 1)
    except ConnectionResetError:
        return True


async def test_those_that_have_stalled_make_room_the_oldest_of_who_has_most_first(caplog):
    """Behind a trusted proxy each is somebody else."""
    loop = running_loop("a test")
    proxies = check_networks(["192.0.2.9"], "trusted_proxies")
    unfinished = Unfinished(loop, 5, proxies)
    clients: set[Client] = set()
    with contextlib.ExitStack() as stack:
        made = {}
        for name, host, seconds in (
            ("lonely", "192.0.2.1", 50),
            ("of many, 1", "2001:db8::1", 40),
            ("of many, 2", "2001:db8::2", 30),
            ("of a proxy, 1", "192.0.2.9", 60),
            ("of a proxy, 2", "192.0.2.9", 20),
            ("of a proxy, 3", "192.0.2.9", 10),
            ("new", "192.0.2.1", 0),
        ):
            sock = stack.enter_context(socket.socket())
            client = Client(sock, clients, (host, 1), loop.time() - seconds)
            client.running = asyncio.ensure_future(asyncio.Event().wait())
            unfinished.add(client)
            made[name] = client
        closed = []
        for _ in range(6):
            unfinished.most = len(unfinished)
            await unfinished.room()
            closed += [n for n, c in made.items() if c.running.done() and n not in closed]
        assert closed == [
            "of many, 1",
            "of a proxy, 1",
            "lonely",
            "of many, 2",
            "of a proxy, 2",
            "of a proxy, 3",
        ]
        unfinished.most = 1
        with pytest.raises(TimeoutError):  # the last one has not stalled
            async with asyncio.timeout(0.05):
                await unfinished.room()
        made["new"].running.cancel()
        await loop.wait([made["new"].running])
    (warning,) = [r.getMessage() for r in caplog.records]
    assert warning.startswith("closed 1 unfinished opening handshakes: there were 7 at once")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_many_that_do_not_stall_are_all_let_in_however_few_may_be_at_once(tls, certificates):
    theirs: dict[str, Any] = {"tls": certificates.client} if tls else {}
    options: dict[str, Any] = {"tls": certificates.server} if tls else {}
    async with serve(echo, max_handshakes=2, **options) as server:
        opened = await asyncio.gather(*(connect(server.url, **theirs) for _ in range(30)))
        assert len(server.connections) == 30
        await asyncio.gather(*(write.close() for _, _, write in opened))


async def test_a_client_whose_request_is_here_is_no_longer_in_its_handshake(monkeypatch):
    """It waits for a hook, which is not its fault."""
    monkeypatch.setattr(_unfinished, "STALLED", 0.01)
    go_on = asyncio.Event()

    async def hook(req):
        if req.pathname == "/slow":
            await go_on.wait()

    async with serve(echo, max_handshakes=1, process_request=hook) as server:
        slow = [asyncio.ensure_future(connect(server.url, pathname="/slow")) for _ in range(3)]
        await until(lambda: server.handshakes == 3)
        async with connect(server.url):
            pass
        go_on.set()
        for _, _, write in await asyncio.gather(*slow):
            await write.close()


async def test_those_that_were_refused_and_stay_make_room_too(monkeypatch):
    monkeypatch.setattr(_unfinished, "STALLED", 0.05)
    monkeypatch.setattr(_unfinished, "LOOK_AGAIN", 0.01)
    async with serve(echo, max_handshakes=2, timeout=60) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                sock = stack.enter_context(await raw_client(server, data=b"GET / \r\n\r\n"))
                head, _ = await read_head(sock)
                assert head.startswith(b"HTTP/1.1 400 ")
            await until(lambda: len(server._admission.unfinished) == 2)
            async with connect(server.url):
                assert server.handshakes < 2


async def test_where_descriptors_run_out_the_refused_go_first_and_those_that_wait_for_a_hook_last():
    loop = running_loop("a test")
    unfinished = Unfinished(loop, None, check_networks([], "trusted_proxies"))
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        asked = Client(one, set(), ("192.0.2.1", 1), loop.time() - 100)
        silent = Client(two, set(), ("192.0.2.1", 2), loop.time() - 1)
        refused = Client(three, set(), ("192.0.2.2", 3), loop.time() - 1)
        for client in (asked, silent, refused):
            unfinished.add(client)
            client.running = asyncio.ensure_future(asyncio.Event().wait())
        unfinished.asks(asked)
        unfinished.refused(refused)
        left = [refused, silent, asked]
        while left:
            assert await unfinished.free_descriptors("for the test")
            assert left.pop(0).running.done()
            assert not any(client.running.done() for client in left)
        assert not await unfinished.free_descriptors("for the test")


async def test_a_server_that_is_closed_while_there_is_no_room_keeps_nobody():
    async with serve(echo, max_handshakes=1, timeout=60) as server:
        with await raw_client(server) as first, await raw_client(server) as second:
            await until(lambda: server.handshakes == 1)
            await turns_of_the_loop(20)
            assert server.handshakes == 1
            await server.close()
            assert await is_closed(first)
            assert await is_closed(second)


async def test_the_time_that_a_client_waits_for_us_is_not_counted_against_it():
    loop = running_loop("a test")
    unfinished = Unfinished(loop, 1, check_networks([], "trusted_proxies"))
    throttle = Throttle(loop, 1)
    clients: set[Client] = set()
    with socket.socket() as one, socket.socket() as other:
        waiting = Client(one, clients, ("192.0.2.1", 1), loop.time() - 100)
        stalled = Client(other, clients, ("192.0.2.2", 1), loop.time())
        for client in (waiting, stalled):
            unfinished.add(client)
            client.running = asyncio.ensure_future(asyncio.Event().wait())
        throttle.left = 0  # others have had their turn
        step = asyncio.ensure_future(CountedThrottle(loop, throttle, waiting).take())
        await asyncio.sleep(0)
        assert await unfinished.free_descriptors("for the test")
        assert stalled.running.done()
        assert len(unfinished) == 1
        assert not await unfinished.free_descriptors("for the test")
        before, now = waiting.began, loop.time()
        while loop.time() == now:
            await asyncio.sleep(0.001)
        throttle.renew()
        await step
        assert waiting.began > before
        assert await unfinished.free_descriptors("for the test")
        assert waiting.running.done()


@pytest.mark.parametrize(
    "name", ["max_connections", "max_connections_per_client", "max_handshakes"]
)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, InvalidOption),
        (-1, InvalidOption),
        ("5", InvalidOptionType),
        (True, InvalidOptionType),
        (1.5, InvalidOptionType),
    ],
)
async def test_what_cannot_be_used_is_refused(name, value, error):
    with pytest.raises(error, match=name) as caught:
        serve(echo, **{name: value})
    assert caught.value.option == name


async def test_none_is_no_limit():
    limits: dict[str, Any] = dict.fromkeys(
        ("max_connections", "max_connections_per_client", "max_handshakes")
    )
    async with serve(echo, **limits) as server, connect(server.url) as (_, read, write):
        await write("x")
        assert (await read()).payload == "x"
