"""A peer that leaves behind more than a program has read: whoever waits for it is told.

And what had come before is still read. RFC 6455 sections 5.5 and 7.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import socket
import struct
import sys
from typing import Any

import pytest
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    PING,
    PONG,
    clients_of,
    close_payload,
    end_and_peer,
    turns_of_the_loop,
    until,
    watchdog,
)
from tests.helpers.scripted_server import Link, scripted

from coro_websocket import ConnectionClosedError, LimitError, PingTimeout, connect, serve
from coro_websocket._connection.connection import Connection
from coro_websocket.testing import connected_pair

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

LOOK_EVERY = 0.1  # seconds; the library's own is one

CLIENTS = 6
COUNT, SIZE = 270, 1000  # of the messages: a little more than read_high_water
QUIET = {"ping_interval": None, "compression": None}
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
def looks_soon(monkeypatch):
    monkeypatch.setattr("coro_websocket._connection.reading.LOOK_EVERY", LOOK_EVERY)


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


@pytest.fixture(params=["plain", "tls"])
def secure(request, certificates):
    return certificates if request.param == "tls" else None


@contextlib.asynccontextmanager
async def connected(side, script, secure=None, **options):
    """`read` and `write` of the library's client or server; its peer's script runs in a thread."""
    options = {**QUIET, **options}
    async with asyncio.timeout(2 * BOUND):
        if side == "client":
            trust: dict[str, Any] = {"tls": {"ca": secure.ca}} if secure else {}
            with scripted(script, tls=secure and secure.server) as peer:
                _, read, write = await connect(peer.url, **trust, **options)
                try:
                    yield read, write
                finally:
                    script.end()
                    await asyncio.to_thread(peer.stop)
                    await write.close()
            return
        opened = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def handler(req, read, write):
            opened.set_result((read, write))
            await done.wait()

        tls: dict[str, Any] = {"tls": {"cert": secure.cert, "key": secure.key}} if secure else {}
        async with serve(handler, **tls, **options) as server:
            playing = asyncio.create_task(asyncio.to_thread(play, script, server.port, secure))
            try:
                yield await opened
            finally:
                script.end()
                await playing
                done.set()


def play(script, port, secure):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        if secure:
            sock = secure.client.wrap_socket(sock, server_hostname="127.0.0.1")
        link = Link(sock, client=True)
        try:
            link.send(UPGRADE)
            script(link)
        finally:
            link.sock.close()


def flood(link, count=COUNT):
    link.send(b"".join(link.frame(BINARY, numbered(n)) for n in range(count)))


def numbered(n):
    return n.to_bytes(4, "big") + bytes(SIZE - 4)


class Leaving:
    """A peer's script: it opens, sends much, and leaves in some way once it is told to."""

    def __init__(self, how, count=COUNT):
        self.how = how
        self.count = count
        self.loop = asyncio.get_running_loop()
        self.sent = asyncio.Event()
        self.leave = asyncio.Event()
        self.over = asyncio.Event()

    def __call__(self, link):
        link.head() if link.client else link.accept()
        flood(link, self.count)
        self.loop.call_soon_threadsafe(self.sent.set)
        self.wait(self.leave)
        if self.how == "FIN":
            link.sock.shutdown(socket.SHUT_WR)
        elif self.how == "RST":
            link.reset()
        else:
            link.write(CLOSE, close_payload(1000, "bye"))
        self.wait(self.over)

    def end(self):
        self.leave.set()
        self.over.set()

    def wait(self, event):
        asyncio.run_coroutine_threadsafe(event.wait(), self.loop).result(2 * BOUND)


async def all_read(read):
    """The numbers of the messages up to the end, and the error that was the end."""
    numbers = []
    try:
        async for message in read:
            numbers.append(int.from_bytes(message.payload[:4], "big"))
    except ConnectionClosedError as error:
        return numbers, error
    return numbers, None


async def push(write):
    while True:
        await write(bytes(100_000))


@pytest.mark.parametrize("how", ["FIN", "RST", "Close"])
async def test_whoever_waits_learns_of_an_end_behind_unread_messages(side, secure, how):
    script = Leaving(how)
    async with connected(side, script, secure, close_timeout=0.1) as (read, write):
        await script.sent.wait()
        await until(lambda: read.stats.bytes_in >= 262_144)  # and now reading is paused
        waiting = [
            asyncio.ensure_future(each) for each in (write.wait_closed(), write.ping(), push(write))
        ]
        script.leave.set()
        async with asyncio.timeout(BOUND):
            await asyncio.wait(waiting)
        assert waiting[0].exception() is None
        assert isinstance(waiting[1].exception(), ConnectionClosedError)
        assert isinstance(waiting[2].exception(), ConnectionClosedError)
        assert read.close_code == (1000 if how == "Close" else 1006)
        numbers, error = await all_read(read)
        assert numbers == list(range(len(numbers)))
        if not (how == "RST" and isinstance(asyncio.get_running_loop(), TransportsOnlyLoop)):
            assert len(numbers) == COUNT  # a transport that cannot send drops what has come
        assert (error is None) == (how == "Close")


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_reader_that_comes_after_the_end_reads_all_that_came(side, secure, how):
    """Most of it is in the system's buffer."""
    script = Leaving(how, 60)
    async with connected(side, script, secure, read_high_water=10_000) as (read, write):
        await script.sent.wait()
        await until(lambda: read.stats.bytes_in >= 10_000)
        script.leave.set()
        await write.wait_closed()
        numbers, error = await all_read(read)
        assert numbers == list(range(len(numbers)))
        if not (how == "RST" and isinstance(asyncio.get_running_loop(), TransportsOnlyLoop)):
            assert len(numbers) == 60  # asyncio's own TLS drops what it holds at an error
        assert error.code == 1006


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "keep_latest", "close"])
@pytest.mark.parametrize("count", [COUNT, 3 * COUNT])
async def test_clients_that_leave_behind_unread_messages_leave_nothing(overflow, count, secure):
    """A server that only sends, whose handlers wait for the end.

    Where more was sent than its system has room for, the end is known once a Ping is sent.
    """
    ended = []

    async def handler(req, read, write):
        await write.wait_closed()
        ended.append(read.close_code)

    def script(link):
        link.head()
        flood(link, count)
        link.hang_up()

    gc.collect()
    before = connections()
    tls = {"tls": {"cert": secure.cert, "key": secure.key}} if secure else {}
    pings = {"ping_interval": None if count == COUNT else 0.2, "ping_timeout": None}
    options = {**QUIET, "overflow": overflow, "close_timeout": 0.5, **pings, **tls}
    async with serve(handler, **options) as server, asyncio.timeout(2 * BOUND):
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(asyncio.to_thread(refused_or, play, script, server, secure))
        await until(lambda: len(ended) == CLIENTS)
        await until(lambda: not clients_of(server))
    gc.collect()
    assert connections() <= before


def refused_or(play, script, server, secure):
    with contextlib.suppress(ConnectionError):  # with "close" we may hang up first
        play(script, server.port, secure)


def connections():
    return sum(isinstance(each, Connection) for each in gc.get_objects())


async def test_a_pong_and_a_close_a_little_behind_what_is_held_are_found(side):
    async with end_and_peer(side, close_timeout=0.1, compression=None) as (end, peer):
        ping = end.write.ping(b"mine")
        while (await peer.read()).payload != b"mine":
            pass
        await peer.send(b"".join(peer.frame(BINARY, numbered(n)) for n in range(COUNT)))
        await until(lambda: end.read.stats.bytes_in >= 262_144)
        await peer.send(peer.frame(PONG, b"mine") + peer.frame(PING, b"yours"))
        assert await ping > 0
        assert (await peer.read()).payload == b"yours"
        await peer.write(CLOSE, close_payload(1000))
        assert await peer.close_received() == (1000, "")
        peer.hang_up()
        await end.write.wait_closed()
        assert await all_read(end.read) == (list(range(COUNT)), None)


async def test_what_is_received_to_look_behind_the_unread_is_bounded(side):
    async with end_and_peer(side, read_high_water=50_000, compression=None) as (end, peer):
        sending = asyncio.create_task(peer.send(peer.frame(BINARY, numbered(0)) * 30_000))
        await asyncio.sleep(4 * LOOK_EVERY)
        assert end.read.stats.bytes_in < 700_000
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        peer.hang_up()
        numbers, _ = await all_read(end.read)
        assert len(numbers) > 500


@pytest.mark.parametrize("read_high_water", [1000, 100_000], ids=["paused", "reading"])
async def test_the_code_of_a_close_behind_unread_messages_is_told(side, read_high_water):
    async with end_and_peer(side, read_high_water=read_high_water, compression=None) as (end, peer):
        await peer.send(peer.frame(BINARY, numbered(0)) + peer.frame(BINARY, numbered(1)))
        await peer.write(CLOSE, close_payload(4000, "bye"))
        peer.hang_up()
        await end.write.wait_closed()
        assert (end.read.close_code, end.read.close_reason) == (4000, "bye")
        with pytest.raises(ConnectionClosedError, match="4000"):
            await end.write("too late")
        numbers, error = await all_read(end.read)
        assert numbers == [0, 1]
        assert error.code == 4000


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
async def test_our_own_shutdown_while_nobody_reads_ends_the_connection(side, how):
    async with end_and_peer(side, read_high_water=10_000, compression=None) as (end, peer):
        await peer.send(b"".join(peer.frame(BINARY, numbered(n)) for n in range(60)))
        await until(lambda: end.read.stats.bytes_in >= 10_000)
        end.socket.shutdown(how)
        async with asyncio.timeout(BOUND):
            await end.write.wait_closed()
        assert await all_read(end.read) == (list(range(60)), None)


async def test_a_reader_gets_what_comes_after_our_side_was_shut(side):
    async with end_and_peer(side, read_high_water=10_000, compression=None) as (end, peer):
        await peer.send(b"".join(peer.frame(BINARY, numbered(n)) for n in range(30)))
        await until(lambda: end.read.stats.bytes_in >= 10_000)
        end.socket.shutdown(socket.SHUT_WR)
        await peer.send(b"".join(peer.frame(BINARY, numbered(n)) for n in range(30, 60)))
        peer.half_close()
        async with asyncio.timeout(BOUND):
            await end.write.wait_closed()
        assert await all_read(end.read) == (list(range(60)), None)


async def test_memory_tells_of_an_end_behind_unread_messages():
    """The other end fails the connection, and says no more."""
    (_, read, write), (_, peer_read, peer_write) = connected_pair(
        read_high_water=20_000,
        **QUIET,
        server={**QUIET, "max_message_size": 10, "write_high_water": None},
    )
    for n in range(400):
        await peer_write(numbered(n))
    waiting = asyncio.ensure_future(write.wait_closed())
    await turns_of_the_loop(20)
    await write("more than it takes")
    async with asyncio.timeout(BOUND):
        with pytest.raises(LimitError):
            await peer_read()
        await waiting
        numbers, error = await all_read(read)
    assert numbers == list(range(400))
    assert error.code == 1009


# A machine that is gone


def stop_hearing(sock):
    """From now on the system drops every segment for this socket, as if its machine were gone."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
async def test_a_dead_peer_is_noticed_though_nobody_reads(side):
    options = {"ping_interval": 0.1, "ping_timeout": 0.2, "read_high_water": 10_000}
    async with end_and_peer(side, compression=None, **options) as (end, peer):
        await peer.send(b"".join(peer.frame(BINARY, numbered(n)) for n in range(60)))
        await until(lambda: end.read.stats.bytes_in >= 10_000)
        await turns_of_the_loop(20)
        stop_hearing(peer.sock)
        pushing = asyncio.ensure_future(push(end.write))
        ping = end.write.ping()
        async with asyncio.timeout(BOUND):
            await end.write.wait_closed()
            with pytest.raises(ConnectionClosedError):
                await pushing
            with pytest.raises(ConnectionClosedError):
                await ping
        numbers, error = await all_read(end.read)
        assert isinstance(error, PingTimeout)
        if not isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
            assert numbers == list(range(60))


async def test_a_peer_that_itself_reads_nothing_is_alive_while_nobody_reads(side):
    """Both wait for the other: its system answers all the same."""
    options = {"ping_interval": 0.1, "ping_timeout": 0.1, "read_high_water": 20_000}
    async with end_and_peer(side, receive_buffer=4096, **options) as (end, peer):
        sending = asyncio.create_task(peer.send(peer.frame(BINARY, numbered(0)) * 20_000))
        await until(lambda: end.read.stats.bytes_in >= 20_000)
        writing = asyncio.create_task(end.write(bytes(8_000_000)))
        await asyncio.sleep(6 * LOOK_EVERY)  # and three times what a dead peer is given
        assert end.read.close_code is None
        assert not writing.done()
        for each in (writing, sending):
            each.cancel()
        await asyncio.wait([writing, sending])


@pytest.mark.parametrize("side", ["client", "server"])
async def test_what_a_peer_that_has_ended_does_not_take_keeps_nobody_waiting(side):
    async with end_and_peer(side, write_high_water=1 << 25, close_timeout=0.2) as (end, peer):
        await end.write(bytes(1 << 23))  # more than the system takes, less than the high-water mark
        peer.half_close()
        await end.write.wait_closed()
