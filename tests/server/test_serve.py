"""serve: where it listens, what it lets in, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import sys
import unittest.mock
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, clients_of

from coro_websocket import (
    ConnectionClosedError,
    HandshakeError,
    InvalidMessage,
    InvalidOption,
    InvalidOptionType,
    NoEventLoopError,
    ServeError,
    WebSocketError,
    connect,
    serve,
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def echo(_, read, write):
    async for msg in read:
        await write(msg.payload)


async def exchange(url, **options):
    async with connect(url, **options) as (res, read, write):
        await write("x")
        assert (await read()).payload == "x"
        return res


async def raw(port, data, *, until_end=True):
    """What the server answers to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read() if until_end else b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_free_port_of_127_0_0_1_is_the_default():
    async with serve(echo) as server:
        assert [listener.getsockname() for listener in server.sockets] == [
            ("127.0.0.1", server.port)
        ]
        assert server.url == f"ws://127.0.0.1:{server.port}/"
        await exchange(server.url)
        url = server.url
    assert server.sockets == ()
    with pytest.raises(ConnectionError):
        await connect(url)


async def test_every_address_of_a_name_is_listened_on_at_one_port():
    async with serve(echo, "localhost") as server:
        assert len({listener.getsockname()[1] for listener in server.sockets}) == 1
        await exchange(f"ws://localhost:{server.port}/")


async def test_a_free_port_is_one_that_every_address_has_free(monkeypatch):
    """What the system gives for one address may be another's in use."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")

    def two(*_, **__):
        return [(*kind, (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]

    taken: list[Any] = []

    class Listener(socket.socket):
        def listen(self, backlog):  # type: ignore[override]
            super().listen(backlog)
            if not taken:
                taken.append(stack.enter_context(socket.socket()))
                taken[0].bind(("127.0.0.2", self.getsockname()[1]))

    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", two)
        patch.setattr(socket, "socket", Listener)
        server = await serve(echo, "localhost")
        patch.undo()
        names = [listener.getsockname() for listener in server.sockets]
        assert names == [("127.0.0.1", server.port), ("127.0.0.2", server.port)]
        assert server.port != taken[0].getsockname()[1]
        await server.close()


async def test_a_listening_socket_may_be_given():
    listener = socket.create_server(("127.0.0.1", 0))
    async with serve(echo, sock=listener) as server:
        await exchange(server.url)


async def test_a_unix_socket_that_a_server_left_behind_is_replaced(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serve(echo, path=path) as server:
        await exchange(server.url)
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_unix_socket():
    name = f"\0coro-websocket-test-{id(object())}"
    async with serve(echo, path=name) as server:
        await exchange(None, path=name)
        assert server.port == 0


async def test_an_address_in_use_is_named():
    async with serve(echo) as server:
        with pytest.raises(ServeError, match=f"'127.0.0.1', port {server.port}") as caught:
            await serve(echo, port=server.port)
    error = caught.value
    assert isinstance(error, WebSocketError)
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRINUSE
    assert isinstance(error.__cause__, OSError)


async def test_an_unknown_host_is_named():
    with pytest.raises(ServeError, match=r"'256\.1\.1\.1'"):
        await serve(echo, "256.1.1.1")


@pytest.mark.parametrize("kind", ["no directory", "a file"])
async def test_a_path_that_cannot_be_a_socket_is_named(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "a file":
        path.write_text("kept")
    else:
        path = path / "socket"
    with pytest.raises(ServeError, match="file") as caught:
        await serve(echo, path=path)
    assert str(path) in str(caught.value)
    assert caught.value.errno in (errno.ENOENT, errno.EADDRINUSE)
    assert kind != "a file" or path.read_text() == "kept"


async def test_a_host_that_no_resolver_takes_is_refused():
    for host in ("a\0b", "x" * 70):
        with pytest.raises(InvalidOption, match="host"):
            await serve(echo, host)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"host": 5}, "host"),
        ({"host": b"h"}, "host"),
        ({"path": 5}, "path"),
        ({"path": ""}, "path"),
        ({"path": "a\0b"}, "path"),
        ({"path": "p", "port": 80}, "port"),
        ({"path": "p", "host": "h"}, "host"),
        ({"sock": 5}, "sock"),
    ],
)
async def test_what_cannot_be_an_address_is_refused_at_once(options, name):
    with pytest.raises(InvalidOption) as caught:
        serve(echo, **options)
    assert caught.value.option == name


async def test_a_socket_that_cannot_be_accepted_from_is_refused():
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as packets:
        sock.bind(("127.0.0.1", 0))
        for wrong in (sock, packets):
            with pytest.raises(InvalidOption, match="sock"):
                serve(echo, sock=wrong)
        sock.close()
        with pytest.raises(InvalidOption, match="sock"):
            serve(echo, sock=sock)


async def test_the_handler_gets_the_request():
    seen = []

    async def handler(req, read, write):
        seen.append((req.method, req.pathname, req["X-A"], req.subprotocol, req.tls, req.peer[0]))
        assert req.socket.getsockname()[1] == server.port

    async with serve(handler, subprotocols=["b", "a"], headers={"X-Served": "1"}) as server:
        async with connect(
            server.url, pathname="/p?q", headers={"X-A": "1"}, subprotocol=["a", "b"]
        ) as (res, read, _):
            assert (res.subprotocol, res["X-Served"]) == ("b", "1")
            assert await read() is None
            assert read.close_code == 1000
    assert seen == [("GET", "/p?q", "1", "b", None, "127.0.0.1")]


async def test_heads_are_kept_without_what_made_the_handshake_fast():
    kept = []

    async def handler(req, read, write):
        kept.append(req._values)

    async with serve(handler) as server, connect(server.url) as (res, read, _):
        assert await read() is None
        assert kept == [None]
        assert res._values is None


async def test_a_handler_that_raises_is_logged_and_closes_with_1011(caplog):
    async def handler(req, read, write):
        raise ValueError("broken")

    async with serve(handler) as server:
        _, read, _ = await connect(server.url)
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
    assert caught.value.code == 1011
    assert "broken" in caplog.text


async def test_origins_that_are_not_allowed_get_403_rfc_6455_10_2():
    async with serve(echo, origins=["https://good.example", None]) as server:
        await exchange(server.url)
        await exchange(server.url, headers={"Origin": "https://good.example"})
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url, headers={"Origin": "https://bad.example"})
        assert caught.value.response.code == 403


async def test_a_function_of_origins_that_fails_is_logged_and_refused_with_500(caplog):
    def allowed(origin):
        return origin == "https://good.example" or origin.endswith(".example")

    async with serve(echo, origins=["https://*.pages.example", allowed]) as server:
        await exchange(server.url, origin="https://good.example")
        await exchange(server.url, origin="https://a.pages.example")
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url)
    assert caught.value.response.code == 500
    assert "AttributeError" in caplog.text
    assert b"AttributeError" not in caught.value.response.body


async def test_by_default_only_pages_of_the_host_itself_may_connect_rfc_6455_10_2(caplog):
    caplog.set_level(logging.INFO)
    async with serve(echo) as server:
        host = server.url.removeprefix("ws://").rstrip("/")
        await exchange(server.url)
        await exchange(server.url, origin=f"http://{host}")
        await exchange(server.url, origin=f"https://{host}")
        for origin in ("https://evil.example", "null"):
            with pytest.raises(HandshakeError) as caught:
                await connect(server.url, origin=origin)
            assert caught.value.response.code == 403
            said = f"received Origin '{origin}' and Host '{host}'; origins=['{origin}', None] lets it in"
            assert said in caught.value.response.body.decode()
            (line,) = (
                each.getMessage()
                for each in caplog.records
                if each.name == "coro_websocket.server" and f"'{origin}'" in each.getMessage()
            )
            assert said in line
    async with serve(echo, origins=None) as server:
        await exchange(server.url, origin="https://evil.example")
        await exchange(server.url, origin="null")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"426"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200, b"431"),
    ],
    ids=["plain http", "post", "nonsense", "long head", "many lines"],
)
async def test_what_is_no_handshake_gets_an_answer_that_says_why(request_, status):
    async with serve(echo) as server, asyncio.timeout(BOUND):
        answer = await raw(server.port, request_)
        assert answer.startswith(b"HTTP/1.1 " + status)
        await exchange(server.url)


async def test_a_handshake_that_drips_is_cut_off_at_the_timeout():
    async with serve(echo, timeout=0.1) as server, asyncio.timeout(BOUND):
        with contextlib.suppress(ConnectionError):
            assert await raw(server.port, b"GET / HTTP/1.1\r\nHost:") == b""
        assert clients_of(server) == 0


@pytest.mark.parametrize("code", [999, 1005, "1000", 1001])
@pytest.mark.parametrize("connected", [True, False])
async def test_a_close_that_cannot_be_sent_is_refused_and_the_server_goes_on(code, connected):
    async with serve(echo) as server, asyncio.timeout(BOUND):
        opened = await connect(server.url) if connected else None
        with pytest.raises(InvalidMessage):
            await server.close(code, "x" * 124 if code == 1001 else "")
        waiting = asyncio.ensure_future(server.wait_closed())
        await exchange(server.url)
        assert not waiting.done()
        if opened is not None:
            await opened[2]("x")
            assert (await opened[1]()).payload == "x"
        await server.close(4000, "bye")
        await waiting
        if opened is not None:
            with pytest.raises(ConnectionClosedError) as caught:
                await opened[1]()
            assert (caught.value.code, caught.value.reason) == (4000, "bye")


async def test_closing_ends_every_connection_with_1001_and_waits_for_the_handlers():
    done = []

    async def handler(req, read, write):
        async for _ in read:
            pass
        done.append(read.close_code)

    async with asyncio.timeout(BOUND):
        async with serve(handler) as server:
            opened = [await connect(server.url) for _ in range(3)]
            closing = asyncio.create_task(server.close())
            for _, read, _ in opened:
                assert await read() is None
                assert (read.close_code, read.close_reason) == (1001, "going away")
            await closing
        assert done == [1001] * 3


async def test_a_handler_that_does_not_return_is_cancelled_after_close_timeout():
    cancelled = asyncio.Event()

    async def handler(req, read, write):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with asyncio.timeout(BOUND):
        async with serve(handler, close_timeout=0.1) as server:
            _, read, _ = await connect(server.url)
            closing = asyncio.create_task(server.close())
            assert await read() is None
            await closing
        assert cancelled.is_set()


async def test_serve_forever_ends_when_cancelled_and_closes_the_server():
    server = await serve(echo)
    serving = asyncio.create_task(server.serve_forever())
    await exchange(server.url)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert server.sockets == ()
    await server.wait_closed()


async def test_the_servers_options_hold_for_its_connections(caplog):
    caplog.set_level(logging.CRITICAL)

    async def handler(req, read, write):
        async for frame in read:
            await write(f"{frame.opcode} {frame.fin}")

    async with serve(handler, max_message_size=10, fragments=True, control=True) as server:
        async with connect(server.url, compression=None) as (_, read, write):
            await write(["a", "b"])
            assert [(await read()).payload for _ in range(2)] == ["1 False", "0 True"]
            await write.ping()
            assert (await read()).payload == "9 True"
        _, read, write = await connect(server.url, compression=None)
        await write(b"x" * 11)
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
        assert caught.value.code == 1009


async def test_a_client_that_resets_at_once_does_not_stop_the_server():
    async with serve(echo) as server:
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        await exchange(server.url)


async def test_many_connections_at_once():
    async with serve(echo) as server, asyncio.timeout(20):
        await asyncio.gather(*(exchange(server.url) for _ in range(100)))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"no_such": 1}, InvalidOptionType),
        ({"subprotocols": ["two words"]}, InvalidOption),
        ({"port": 65536}, InvalidOption),
        ({"port": "80"}, InvalidOptionType),
        ({"host": "a", "path": "b"}, InvalidOption),
        ({"tls": {}}, InvalidOption),
        ({"mask": True}, InvalidOptionType),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused_at_once(options, kind):
    with pytest.raises(kind):
        serve(echo, **options)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_size", "'max_message_size'"),
        ("extra_headers", "'headers'"),
        ("additional_headers", "'headers'"),
        ("ssl", "'tls'"),
        ("ssl_context", "'tls'"),
        ("open_timeout", "'timeout'"),
        ("max_queue", "'read_high_water'"),
        ("compress", "'compression'"),
        ("subprotocol", "'subprotocols'"),
        ("origin", "'origins'"),
        ("check_origin", "'origins'"),
        ("unix", "'path'"),
        ("select_subprotocol", "choose_subprotocol"),
        ("check_credentials", "basic_auth"),
        ("create_protocol", "read and write"),
        ("reuse_address", "'sock'"),
        ("proxy", "option of connect()"),
        ("hosts", "'host'"),
        ("zzz", "ping_interval"),
    ],
)
async def test_a_name_that_other_libraries_use_is_refused_with_ours(name, hint):
    with pytest.raises(InvalidOptionType) as caught:
        serve(echo, **{name: 1})  # type: ignore[arg-type]
    assert hint in str(caught.value)
    assert caught.value.option == name


def plain(req, read, write):
    pass


def generator(req, read, write):
    yield


async def asynchronous_generator(req, read, write):
    yield


async def of_one(websocket):
    pass


async def of_four(req, read, write, token="SECRET", *, more):
    pass


class Handlers:
    async def handle(self, req, read, write):
        await write.close()

    def plain(self, req, read, write):
        pass

    async def __call__(self, req, read, write):
        await write.close()


@functools.wraps(echo)
def wrapped(*args):
    return echo(*args)


@functools.wraps(of_four)
async def given_more(req, read, write):
    await of_four(req, read, write, more=1)


@functools.wraps(Handlers())
def of_an_object(req, read, write):
    return Handlers()(req, read, write)


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (None, "NoneType cannot be called"),
        (plain, "put async before it"),
        (functools.partial(plain, write=1), "put async before it"),
        (Handlers().plain, "put async before it"),
        (generator, "put async before it"),
        (asynchronous_generator, "yield"),
        (Handlers, "class"),
        (of_one, "(websocket)"),
        (of_four, "(req, read, write, token, more)"),
        (functools.partial(of_four, token="SECRET"), "(req, read, write, token, more)"),
        (functools.partial(of_one, 1), "no arguments"),
    ],
)
async def test_what_can_be_no_handler_is_refused_at_once(handler, said):
    with pytest.raises(InvalidOptionType) as caught:
        serve(handler)
    assert "async def handler(req, read, write)" in str(caught.value)
    assert said in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert caught.value.option == "handler"


async def test_a_handler_that_was_called_is_refused_without_a_warning():
    with pytest.raises(InvalidOptionType, match="without calling it"):
        serve(echo(None, None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "handler",
    [
        echo,
        wrapped,
        given_more,
        of_an_object,
        lambda *args: echo(*args),
        lambda req, read, write: echo(req, read, write),
        functools.partial(echo),
        functools.partial(of_four, more=1),
        Handlers().handle,
        Handlers(),
        unittest.mock.AsyncMock(),
        unittest.mock.Mock(side_effect=echo),
    ],
)
async def test_what_may_be_awaited_once_it_is_called_is_a_handler(handler):
    async with serve(handler) as server, connect(server.url):
        pass


def test_outside_an_event_loop_it_says_so():
    with pytest.raises(NoEventLoopError, match=r"serve\(\)"):
        serve(echo)
