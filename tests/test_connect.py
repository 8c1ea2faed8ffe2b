"""connect: every form and option, against our own server and scripted ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest

from coro_websocket import (
    URL,
    ConnectError,
    ConnectTimeout,
    HandshakeError,
    InvalidOption,
    InvalidURL,
    NoEventLoopError,
    Options,
    TLSError,
    TLSOptions,
    codec,
    connect,
    parse_url,
    serve,
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def echo(_, read, write):
    async for msg in read:
        await write(msg.payload)


async def exchange(connecting):
    async with connecting as (res, read, write):
        await write("Hello There!")
        assert (await read()).payload == "Hello There!"
        return res


@contextlib.asynccontextmanager
async def scripted(script):
    """A TCP server that runs a coroutine function for each connection; its port."""
    failures = []

    async def run(reader, writer):
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
    assert not failures


async def answer(reader, writer, *, extra=b"", headers=b""):
    head = await reader.readuntil(b"\r\n\r\n")
    key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n"
        b"connection: keep-alive, UPGRADE\r\nSec-WebSocket-Accept: "
        + codec.accept_key(key).encode()
        + b"\r\n"
        + headers
        + b"\r\n"
        + extra
    )
    return head


# Forms


async def test_a_url_an_options_a_mapping_and_keywords_lead_to_the_same_place():
    async with serve(echo) as server:
        where = {"host": "127.0.0.1", "port": server.port}
        for connecting in (
            connect(server.url),
            connect(parse_url(server.url)),
            connect(Options(**where)),
            connect(where),
            connect(**where),
            connect(port=server.port),  # the specification's default host
            connect(where, pathname="chat"),
        ):
            res = await exchange(connecting)
            assert (res.code, res.reason, res.version) == (101, "Switching Protocols", 1.1)
            assert res.keep_alive is False
            assert res["upgrade"] == "websocket"
            assert ("Upgrade", "websocket") in list(res)
            assert isinstance(res.url, URL)
            assert res.socket is not None


async def test_await_gives_what_async_with_gives_and_it_is_a_coroutine_to_asyncio():
    async with serve(echo) as server, asyncio.timeout(5):
        _, read, write = await connect(server.url)
        await write("x")
        assert (await read()).payload == "x"
        await write(None)
        assert await read() is None
        _, read, write = await asyncio.create_task(connect(server.url))
        await write.close()
        _, read, write = await asyncio.wait_for(connect(server.url), 5)
        await write.close(4000, "bye")
        assert (await read(), read.close_code, read.close_reason) == (None, 4000, "")


def test_outside_an_event_loop_it_says_so():
    with pytest.raises(NoEventLoopError, match=r"connect\(\) was called outside") as caught:
        connect("ws://127.0.0.1/")
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("code", "leave"),
    [(1000, None), (1011, ValueError), (1001, asyncio.CancelledError)],
)
async def test_leaving_the_block_closes_with_the_code_that_says_how(code, leave):
    codes = asyncio.Queue()

    async def handler(_, read, write):
        with contextlib.suppress(Exception):
            await read()
        codes.put_nowait(read.close_code)

    async with serve(handler) as server, asyncio.timeout(5):
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            async with connect(server.url):
                if leave:
                    raise leave
        assert await codes.get() == code


# Options


async def test_the_options_of_the_specification_reach_the_wire():
    async def script(reader, writer):
        head = await answer(reader, writer, headers=b"Sec-WebSocket-Protocol: b\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "GET /path?q=1 HTTP/1.1"
        assert f"Host: 127.0.0.1:{port}" in lines
        assert "Sec-WebSocket-Protocol: a, b" in lines
        assert [line for line in lines if line.startswith("X-")] == [
            "X-Two: 2",
            "X-One: 1",
            "X-Two: 3",
        ]
        assert "Authorization: Basic dXNlcjpwYXNz" in lines

    async with scripted(script) as port, asyncio.timeout(5):
        res, read, _ = await connect(
            f"ws://user:pass@127.0.0.1:{port}",
            pathname="path?q=1",
            subprotocol=["a", "b"],
            headers=[("X-Two", "2"), ("X-One", "1"), ("X-Two", "3")],
            timeout=5,
        )
        assert res.subprotocol == "b"
        with pytest.raises(ConnectionError):
            await read()


async def test_heartbeat_sends_unasked_pongs():
    async def script(reader, writer):
        await answer(reader, writer)
        for _ in range(2):
            frame = await reader.readexactly(6)
            assert frame[:2] == b"\x8a\x80"

    async with scripted(script) as port, asyncio.timeout(5):
        _, read, _ = await connect(port=port, heartbeat=0.02)
        with pytest.raises(ConnectionError):
            await read()


async def test_mask_is_only_for_wrap_io():
    with pytest.raises(InvalidOption, match="wrap_io"):
        connect("ws://127.0.0.1/", mask=True)


async def test_a_unix_socket_by_path_and_by_url(tmp_path):
    path = tmp_path / "socket"
    async with serve(echo, path=path) as server:
        await exchange(connect(path=str(path)))
        await exchange(connect(server.url))
    assert not path.exists()


async def test_tls_in_every_form(certificates):
    c = certificates
    async with serve(echo, tls={"cert": c.cert, "key": c.key_path}) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        for tls in (
            c.client,
            {"ca": c.ca},
            TLSOptions(ca=c.ca_path),
            {"insecure": True},
            {"ca": c.ca, "protocol": "TLSv1.2", "ciphers": "ECDHE+AESGCM"},
            {"ca": c.ca, "protocol": "TLSv1.3"},
        ):
            await exchange(connect(url, tls=tls))
        await exchange(connect(host="localhost", port=server.port, tls={"ca": c.ca}))


async def test_client_certificates(certificates):
    c = certificates
    async with serve(echo, tls={"cert": c.cert, "key": c.key, "ca": c.ca}) as server:
        settings = {"ca": c.ca, "cert": c.cert_path, "key": c.key_path}
        await exchange(connect(server.url, tls=settings))
        with pytest.raises(ConnectionError):
            await exchange(connect(server.url, tls={"ca": c.ca}))


# What comes with the answer, and the socket


async def test_frames_in_the_segment_of_the_answers_head_are_delivered():
    async def script(reader, writer):
        await answer(reader, writer, extra=b"\x81\x05early\x82\x01x\x88\x02\x03\xe8")
        await reader.readexactly(8)  # the answer to the Close

    async with scripted(script) as port, asyncio.timeout(5):
        async with connect(port=port) as (_, read, _):
            assert [msg.payload async for msg in read] == ["early", b"x"]


@pytest.mark.parametrize("place", ["tcp", "tls", "unix"])
@pytest.mark.parametrize("end", ["shutdown", "shutdown for writing", "close"])
async def test_the_specifications_example_ends_its_loop_without_an_error(
    place, end, certificates, tmp_path
):
    tls = certificates.server if place == "tls" else None
    path = tmp_path / "s" if place == "unix" else None
    async with serve(echo, path=path, tls=tls, close_timeout=1) as server, asyncio.timeout(8):
        settings = {"tls": certificates.client} if tls else {}
        res, read, write = await connect(server.url, **settings)
        await write({"payload": "Hello There!"})
        seen = []
        async for msg in read:
            seen.append(msg.payload)
            if end == "shutdown":
                res.socket.shutdown()
            elif end == "close":
                res.socket.close()
            else:
                res.socket.shutdown(socket.SHUT_WR)
        assert seen == [b"Hello There!"]


# Errors: each its own, with nothing left behind (the fixtures see to that)


async def test_what_cannot_be_reached_says_which_phase_failed(tmp_path, certificates):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = listener.getsockname()[1]
    async with serve(echo) as plain, serve(echo, tls=certificates.server) as tls:
        cases = [
            (connect("ws://no-such-host.invalid/"), ConnectError, "resolve", "no-such-host"),
            (connect(port=refused), ConnectError, "connect", "127.0.0.1"),
            (connect(path=str(tmp_path / "none")), ConnectError, "connect", "none"),
            (connect(plain.url.replace("ws:", "wss:")), TLSError, "tls", "speak TLS"),
            (connect(tls.url), TLSError, "tls", "not accepted"),
        ]
        for connecting, kind, phase, said in cases:
            with pytest.raises(kind, match=said) as caught:
                await connecting
            assert caught.value.phase == phase
            assert isinstance(caught.value, ConnectionError)
        with pytest.raises((HandshakeError, ConnectError)):
            await connect(tls.url.replace("wss:", "ws:"))


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_that_says_nothing_is_left_at_the_timeout(tls):
    async def script(reader, writer):
        await reader.read()

    async with scripted(script) as port:
        with pytest.raises(ConnectTimeout, match="timeout") as caught:
            await connect(host="127.0.0.1", port=port, tls=tls, timeout=0.1)
        assert caught.value.phase == ("tls" if tls else "handshake")
        assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 101 Switch", "middle of its answer"),
        (b"SSH-2.0-OpenSSH_9\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "refused the handshake"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "Accept"),
        (b"HTTP/1.1 101 X\r\n" + b"X: y\r\n" * 10_000, "max_header_lines"),
        (b"HTTP/1.1 101 X\r\nX: " + b"y" * 1_000_000, "max_head_size"),
    ],
    ids=["nothing", "half a head", "ssh", "plain http", "no accept", "many lines", "long line"],
)
async def test_an_answer_that_is_no_handshake_is_refused_rfc_6455_4_1(sent, said):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async with scripted(script) as port, asyncio.timeout(5):
        with pytest.raises(HandshakeError, match=said):
            await connect(port=port)


async def test_a_refusal_carries_the_whole_response():
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nX-Why: no\r\nContent-Length: 5\r\n\r\nwhy? ")

    async with scripted(script) as port, asyncio.timeout(5):
        with pytest.raises(HandshakeError) as caught:
            await connect(port=port)
        response = caught.value.response
        assert (response.code, response["x-why"], response.body) == (401, "no", b"why? ")


async def test_credentials_are_in_no_log_and_no_error(caplog):
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = listener.getsockname()[1]
    connecting = connect(f"ws://user:s3cret@127.0.0.1:{refused}/", headers={"Cookie": "t0ken"})
    assert "s3cret" not in repr(connecting)
    with pytest.raises(ConnectError) as caught:
        await connecting
    assert "s3cret" not in str(caught.value) + repr(caught.value) + caplog.text
    with pytest.raises(InvalidURL) as wrong:
        connect("ws://user:s3cret@host:99999/")
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("X", "a\r\nInjected: 1")]},
        {"headers": {"X\n": "a"}},
        {"subprotocol": "a\r\nb"},
        {"pathname": "/\r\nInjected: 1"},
        {"host": "a\r\nb", "port": 1},
        {"no_such_option": 1},
        {},
    ],
)
async def test_what_must_not_reach_the_wire_is_refused_at_once(options):
    with pytest.raises((InvalidOption, InvalidURL)):
        connect(**({"port": 1} | options if options else {}))


async def test_connecting_can_be_cancelled_in_every_phase(certificates):
    reached = asyncio.Event()

    async def script(reader, writer):
        await reader.read(1)
        reached.set()
        await reader.read()

    async with scripted(script) as port, asyncio.timeout(5):
        for tls in (False, certificates.client):
            reached.clear()
            task = asyncio.create_task(connect(host="127.0.0.1", port=port, tls=tls))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
