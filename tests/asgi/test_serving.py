"""Over what a connection may be served: plain sockets, TLS, unix sockets, a transport that is full.

A plain socket is used past the transport that has it: what the two send must not overtake.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest
import websockets
from tests.helpers.raw_peer import BINARY, CLOSE, TEXT, until

from coro_websocket import ConnectionClosedError, connect
from coro_websocket._asgi.app_stream import AppStream
from coro_websocket._asgi.direct_stream import DirectStream

from .serving import BOUND, accepted, echo, raw_client, serving


async def kind_of_stream(server: Any) -> str:
    await until(lambda: server.state.connections and server.protocol._stream)
    stream = server.protocol._stream
    assert isinstance(stream, AppStream)
    return "direct" if isinstance(stream, DirectStream) else "transport"


def watches(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        loop.remove_reader(0)
    except NotImplementedError:
        return False
    return True


async def test_a_plain_socket_is_used_past_its_transport_where_the_loop_can_watch_it():
    async with serving(echo) as server:
        async with websockets.connect(server.url) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            direct = watches(asyncio.get_running_loop())
            assert await kind_of_stream(server) == ("direct" if direct else "transport")


@pytest.mark.parametrize("tls", [False, True])
async def test_tcp_holds_nothing_back_whatever_number_its_listener_was_made_with(certificates, tls):
    """As uvicorn's for several workers: with TLS the 101 came 40 ms late, behind its tickets."""
    files = {"ssl_certfile": certificates.cert_path, "ssl_keyfile": certificates.key_path}
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with serving(echo, listener, **(files if tls else {})) as server:
            trusting = {"ssl": certificates.client} if tls else {}
            async with websockets.connect(server.url, **trusting):
                sock = server.protocol.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_tls_is_the_transports(certificates):
    schemes = []

    async def app(scope, receive, send):
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    files = {"ssl_certfile": certificates.cert_path, "ssl_keyfile": certificates.key_path}
    message = random.randbytes(300_000)
    async with serving(app, **files) as server:
        async with websockets.connect(server.url, ssl=certificates.client) as client:
            assert await kind_of_stream(server) == "transport"
            for each in ("hello", message):
                await client.send(each)
                assert await client.recv() == each
            await client.close(4000)
        async with connect(server.url, tls=certificates.client) as (_, read, write):
            await write("from ours")
            assert (await read()).payload == "from ours"
            await server.shutdown()
            with pytest.raises(ConnectionClosedError, match="1012"):
                await read()
    assert schemes == ["wss", "wss"]


async def test_a_unix_socket_serves_and_has_no_client_address(tmp_path):
    scopes = []
    path = str(tmp_path / "socket")

    async def app(scope, receive, send):
        scopes.append(scope)
        await echo(scope, receive, send)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        async with serving(app, listener):
            async with websockets.unix_connect(path) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
    assert [(scope["client"], scope["server"]) for scope in scopes] == [(None, (path, None))]


async def test_what_a_client_sends_before_it_is_accepted_is_kept_within_limits():
    go_on = asyncio.Event()
    received = []

    async def app(scope, receive, send):
        await receive()
        await go_on.wait()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            received.append((event["bytes"][0], len(event["bytes"])))
            if len(received) == 1:
                reading.append(server.protocol.transport.is_reading())

    reading: list[bool] = []
    async with serving(app) as server:
        async with raw_client(server, None) as client:
            client.ask()
            await until(lambda: server.state.tasks)
            for number in range(64):
                client.send(BINARY, bytes([number]) * 65536)
            await until(lambda: not server.protocol.transport.is_reading())
            assert len(server.protocol._early) < 1024 * 1024
            direct = watches(asyncio.get_running_loop())
            go_on.set()
            await client.head()
            client.send(CLOSE)
            await client.rest()
    assert received == [(number, 65536) for number in range(64)]
    assert not (direct and any(reading))  # one of the two receives


async def test_messages_keep_their_order_while_the_client_falls_behind_and_catches_up():
    sizes = [random.Random(7).choice([10, 1000, 20_000, 200_000]) for _ in range(200)]

    async def app(scope, receive, send):
        await accepted(receive, send)
        for number, size in enumerate(sizes):
            payload = number.to_bytes(4, "big") + bytes(size)
            await send({"type": "websocket.send", "bytes": payload})
            if number % 10 == 0:
                await asyncio.sleep(0)
        await send({"type": "websocket.close", "code": 4000})

    async with serving(app) as server:
        async with raw_client(server) as client:
            received = []
            while (frame := await client.frame()).opcode == BINARY:
                received.append((int.from_bytes(frame.payload[:4], "big"), len(frame.payload) - 4))
                if len(received) % 20 == 0:
                    client.writer.transport.pause_reading()
                    await asyncio.sleep(0.002)
                    client.writer.transport.resume_reading()
            assert frame.close == (4000, "")
            client.send(CLOSE, frame.payload)
            assert await client.rest() == b""
    assert received == list(enumerate(sizes))


async def test_what_is_sent_while_the_transport_is_full_is_sent_before_the_close():
    async def app(scope, receive, send):
        await accepted(receive, send)
        sending = [send({"type": "websocket.send", "bytes": bytes(1_000_000)}) for _ in range(8)]
        await send({"type": "websocket.close", "code": 4000})
        await asyncio.gather(*sending, return_exceptions=True)

    async with serving(app) as server:
        async with raw_client(server) as client:
            for _ in range(8):
                assert len((await client.frame()).payload) == 1_000_000
            assert (await client.frame()).close == (4000, "")


async def test_no_connection_gets_what_is_anothers_where_descriptors_are_used_again():
    async def talk(number: int) -> None:
        chance = random.Random(number)
        async with raw_client(server) as client:
            for turn in range(chance.randrange(6)):
                text = f"{number}, {turn}".encode()
                client.send(TEXT, text)
                if chance.random() < 0.2:
                    client.vanish()
                    return
                assert (await client.frame()).payload == text
            if chance.random() < 0.5:
                client.send(CLOSE)
                assert (await client.frame()).opcode == CLOSE

    async with serving(echo) as server:
        for first in range(0, 120, 30):
            async with asyncio.timeout(BOUND):
                await asyncio.gather(*(talk(first + number) for number in range(30)))
        await until(lambda: not server.state.connections and not server.state.tasks)


async def test_a_client_that_goes_while_much_is_sent_to_it_costs_nobody_else():
    async def app(scope, receive, send):
        await accepted(receive, send)
        with pytest.raises(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(500_000)})

    async with serving(app) as server:
        async with raw_client(server) as client:
            await client.frame()
            async with websockets.connect(server.url, max_size=None) as other:
                client.vanish()
                for _ in range(3):
                    assert len(await other.recv()) == 500_000
                other.transport.abort()
        await until(lambda: not server.state.tasks)


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_the_transport_receives_until_something_comes():
    """A connection on which nothing comes is not given to another watcher for nothing."""
    async with serving(echo) as server:
        async with websockets.connect(server.url) as client:
            await kind_of_stream(server)
            transport = server.protocol.transport
            assert transport.is_reading()
            await client.send("hello")
            assert await client.recv() == "hello"
            assert not transport.is_reading()
            await client.send("again")
            assert await client.recv() == "again"


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_connection_that_cannot_be_watched_apart_stays_with_its_transport(monkeypatch):
    refused = []

    def refuse(loop, descriptor, *_):
        refused.append(descriptor)
        raise OSError("no room")

    async with serving(echo) as server:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "add_reader", refuse)
        async with websockets.connect(server.url) as client:
            for number in range(3):
                await client.send(str(number) * 1000)
                assert await client.recv() == str(number) * 1000
            assert server.protocol.transport.is_reading()
    assert refused
