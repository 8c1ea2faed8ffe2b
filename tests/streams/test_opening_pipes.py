"""When TLS's own bytes go out while a connection opens, and for how long a socket is watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

import pytest
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import BOUND, echo, turns_of_the_loop, until, watchdog

from coro_websocket import connect, serve
from coro_websocket._runtimes.asyncio_loop import asyncio_loop
from coro_websocket._runtimes.throttle import Throttle
from coro_websocket._streams.opening_pipes import SocketPipe, open_pipe
from coro_websocket._streams.user_socket import ConnectionSocket

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
async def of_ours():
    if isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
        pytest.skip("the pipes are asyncio's own where the loop has only transports")


class HandMadeTLS:
    """A client of whose TLS each flight is sent when the test says so."""

    def __init__(self, port, context):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def send(self):
        await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())

    async def fill(self):
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        assert data
        self.incoming.write(data)

    async def shake_hands(self):
        """Up to its Finished, which is not sent."""
        while True:
            try:
                return self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send()
                await self.fill()

    async def receive(self):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self.fill()


@pytest.fixture
def sent(monkeypatch):
    """The descriptors that connections have sent by, one for each call."""
    calls = []

    class Recorded(ConnectionSocket):
        __slots__ = ()

        def send(self, data, *arguments):
            calls.append(self.fileno())
            return super().send(data, *arguments)

    for module in ("_server.opening", "_opening.happy_eyeballs"):
        monkeypatch.setattr(f"coro_websocket.{module}.ConnectionSocket", Recorded)
    return calls


@pytest.mark.skipif(not ssl.HAS_TLSv1_3, reason="needs TLS 1.3")
async def test_session_tickets_go_out_with_the_answer_to_a_request_that_is_here(certificates, sent):
    async with asyncio.timeout(BOUND), serve(echo, tls=certificates.server) as server:
        client = HandMadeTLS(server.port, certificates.client)
        with client.sock:
            await client.shake_hands()
            assert client.tls.version() == "TLSv1.3"
            client.tls.write(REQUEST)
            await client.send()
            assert (await client.receive()).startswith(b"HTTP/1.1 101 ")
            assert client.tls.session.has_ticket
            assert len(sent) == 2  # the server's flight of the handshake, and all of this


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_tls_has_to_say_goes_out_before_a_request_is_waited_for(certificates, version):
    context = ssl.create_default_context(cadata=certificates.ca)
    context.maximum_version = version
    async with asyncio.timeout(BOUND), serve(echo, tls=certificates.server) as server:
        client = HandMadeTLS(server.port, context)
        with client.sock:
            await client.shake_hands()  # with TLS 1.2 this takes the server's Finished
            if version is ssl.TLSVersion.TLSv1_3:
                await client.send()
                await client.fill()  # the tickets
            client.tls.write(REQUEST)
            await client.send()
            assert (await client.receive()).startswith(b"HTTP/1.1 101 ")


async def test_a_clients_finished_goes_out_with_its_request(certificates, sent):
    async with asyncio.timeout(BOUND), serve(echo, tls=certificates.server) as server:
        tls = {"ca": certificates.ca}
        _, read, write = await connect(f"wss://localhost:{server.port}/", tls=tls)
        assert len(sent) == 4  # two of each
        await write("hello")
        assert (await read()).payload == "hello"
        await write.close()


async def test_what_was_not_sent_where_a_task_was_cancelled_is_sent_next(certificates):
    """The peer takes nothing for a while, and whoever sends gives up meanwhile."""
    loop = asyncio_loop(asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificates.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    opening = asyncio.ensure_future(
        open_pipe(
            loop, ConnectionSocket.taking_over(ours), tls=certificates.server, server_side=True
        )
    )
    with theirs:
        async with asyncio.timeout(BOUND):
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await loop.loop.sock_sendall(theirs, outgoing.read())
                    incoming.write(await loop.loop.sock_recv(theirs, 65536))
            await loop.loop.sock_sendall(theirs, outgoing.read())
            pipe = await opening
        with contextlib.closing(pipe):
            large = os.urandom(8_000_000)
            sending = asyncio.ensure_future(pipe.send(large))
            await turns_of_the_loop(20)
            assert not sending.done()  # the socket is full
            sending.cancel()
            await asyncio.wait([sending])
            again = asyncio.ensure_future(pipe.send(b"end"))
            received = bytearray()
            async with asyncio.timeout(BOUND):
                while not received.endswith(b"end"):
                    incoming.write(await loop.loop.sock_recv(theirs, 65536))
                    with contextlib.suppress(ssl.SSLWantReadError):
                        while True:
                            received += client.read(65536)
                await again
            assert received[:-3] == large


async def test_a_socket_that_nobody_receives_from_is_watched_no_more():
    """As while a hook takes its time, and the client sends already."""
    loop = asyncio_loop(asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    pipe = SocketPipe(loop, ConnectionSocket.taking_over(ours))
    with theirs, contextlib.closing(pipe):
        for data in (b"one", b"two"):
            receiving = asyncio.ensure_future(pipe.receive())
            await turns_of_the_loop()
            theirs.send(data)
            assert await receiving == data
            assert pipe.socket.watch.kept
        theirs.send(b"more")
        await until(lambda: not pipe.socket.watch.kept)
        assert await pipe.receive() == b"more"


@pytest.mark.parametrize("end", ["close", "detach"])
async def test_a_socket_is_watched_no_more_once_it_is_closed_or_given_away(end):
    loop = asyncio_loop(asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    pipe = SocketPipe(loop, ConnectionSocket.taking_over(ours))
    descriptor = pipe.socket.fileno()
    with theirs:
        receiving = asyncio.ensure_future(pipe.receive())
        await turns_of_the_loop()
        theirs.send(b"one")
        assert await receiving == b"one"
        if end == "close":
            pipe.close()
        else:
            with socket.socket(fileno=pipe.socket.detach()):
                assert not loop.loop.remove_reader(descriptor)
            pipe.close()
        assert not loop.loop.remove_reader(descriptor)


async def test_a_throttle_with_room_asks_nothing_of_the_loop():
    calls = []

    class Counted:
        def call_soon(self, function):
            calls.append(function)

    throttle = Throttle(Counted(), 3)  # type: ignore[arg-type]
    assert throttle.take_now()
    await throttle.take()
    assert calls == []
    assert throttle.take_now()
    assert not throttle.take_now()
    assert calls == [throttle.renew]
    throttle.renew()
    assert throttle.take_now()
    assert calls == [throttle.renew]
