"""A message that the end of the connection cuts off is never taken for a whole one.

RFC 6455 sections 5.4 (fragments) and 5.5.1 (Close).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    CONT,
    TEXT,
    both_ends,
    close_payload,
    end_and_peer,
    watchdog,
)

from coro_websocket import ConnectionClosedError, Message, connect, serve, wrap_io
from coro_websocket.testing import connected_pair

__all__ = ["both_ends", "watchdog"]

CUT_OFF = "closed before the message had ended"


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


@contextlib.asynccontextmanager
async def over_sockets(tls=None, ca=None):
    opened = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def handler(_, read, write):
        opened.set_result((read, write))
        await done.wait()

    trust: dict[str, Any] = {"tls": {"ca": ca}} if ca else {}
    async with serve(handler, tls=tls) as server:
        async with connect(server.url.replace("127.0.0.1", "localhost"), **trust) as (_, *client):
            try:
                yield client, await opened
            finally:
                done.set()


@contextlib.asynccontextmanager
async def over_memory():
    (_, *client), (_, *server) = connected_pair()
    yield client, server
    await asyncio.gather(client[1].close(), server[1].close())  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def over_a_raw_pair():
    up: asyncio.Queue = asyncio.Queue()
    down: asyncio.Queue = asyncio.Queue()
    client = wrap_io(down.get, up.put, mask=True)
    server = wrap_io(up.get, down.put, mask=False)
    yield client, server
    await asyncio.gather(client[1].close(), server[1].close())


@pytest.fixture(params=["sockets", "tls", "memory", "wrap_io"])
def connected(request, certificates):
    """Makes a client's and a server's `read` and `write`."""
    return {
        "sockets": over_sockets,
        "tls": lambda: over_sockets(
            {"cert": certificates.cert_path, "key": certificates.key_path}, certificates.ca
        ),
        "memory": over_memory,
        "wrap_io": over_a_raw_pair,
    }[request.param]


async def iterate(read):
    return [message async for message in read]


async def chunks(read):
    return [chunk async for chunk in await read.stream()]


READERS = {
    "read()": (lambda read: read(), 0),
    "read(control=True)": (lambda read: read(control=True), 1),
    "async for": (lambda read: iterate(read), 0),
    "batch()": (lambda read: read.batch(), 0),
    "stream()": (chunks, 0),
    "read(fragments=True)": (lambda read: read(fragments=True), 1),
    "fragments()": (lambda read: iterate(read.fragments()), 0),
    "fragments(control=True)": (lambda read: iterate(read.fragments(control=True)), 0),
}


@pytest.mark.parametrize("reader", READERS)
async def test_a_close_inside_a_message_is_an_error_to_who_reads(connected, side, reader):
    reads, before = READERS[reader]
    async with asyncio.timeout(BOUND), connected() as ends:
        (read, _), (_, peer_write) = ends if side == "client" else ends[::-1]

        async def send() -> None:
            await peer_write(Message("half", 1, fin=False))
            await peer_write.close(1000, "done")

        sending = asyncio.create_task(send())
        for _ in range(before):
            await reads(read)
        with pytest.raises(ConnectionClosedError, match=CUT_OFF) as caught:
            # The Close itself may come first, where control frames are wanted.
            while await reads(read):
                pass
        assert (caught.value.code, caught.value.reason) == (1000, "done")
        for again in (read(), iterate(read), read.batch(), read.stream(), read(fragments=True)):
            with pytest.raises(ConnectionClosedError, match=CUT_OFF):
                await again
        await sending


@pytest.mark.parametrize("code", [None, 1000, 1001])
async def test_it_is_an_error_with_the_peers_code(side, code):
    async with end_and_peer(side) as (end, peer):
        await peer.write(BINARY, b"whole")
        await peer.write(TEXT, "a", fin=False)
        await peer.write(CONT, "b", fin=False)
        await peer.write(CLOSE, close_payload(code) if code else b"")
        peer.half_close()
        assert (await end.read()).payload == b"whole"
        with pytest.raises(ConnectionClosedError, match=CUT_OFF) as caught:
            await end.read()
        assert caught.value.code == end.read.close_code == (code or 1005)
        assert (await peer.read()).close == (code, "")


async def test_a_code_that_says_what_was_wrong_is_still_told(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "a", fin=False)
        await peer.write(CLOSE, close_payload(1011, "broken"))
        peer.half_close()
        with pytest.raises(ConnectionClosedError, match="1011"):
            await end.read()


async def test_a_message_between_whose_fragments_a_reader_gave_up_is_cut_off_too(side):
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read())
        await peer.write(TEXT, "a", fin=False)
        await end.settle()
        reading.cancel()
        await end.settle()
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        with pytest.raises(ConnectionClosedError, match=CUT_OFF):
            await end.read()


async def test_a_part_that_was_read_is_cut_off_also_where_we_close(connected, side):
    async with asyncio.timeout(BOUND), connected() as ends:
        (read, write), (peer_read, peer_write) = ends if side == "client" else ends[::-1]
        await peer_write(Message("half", 1, fin=False))
        assert not (await read(fragments=True)).fin
        closing = asyncio.create_task(write.close())
        assert await peer_read() is None
        with pytest.raises(ConnectionClosedError, match=CUT_OFF):
            await iterate(read.fragments())
        await closing


async def test_what_was_not_read_is_nobodys_where_we_close(connected, side):
    async with asyncio.timeout(BOUND), connected() as ends:
        (read, write), (peer_read, peer_write) = ends if side == "client" else ends[::-1]
        await peer_write(Message("half", 1, fin=False))
        closing = asyncio.create_task(write.close())
        assert await peer_read() is None
        assert await read() is None
        assert await iterate(read) == []
        await closing


async def test_a_message_that_was_given_up_is_missed_only_if_the_peer_broke_it_off(connected, side):
    for closer in (0, 1):
        async with asyncio.timeout(BOUND), connected() as ends:
            (read, write), (peer_read, peer_write) = ends if side == "client" else ends[::-1]
            await peer_write(Message("half", 1, fin=False))
            await read.stream()
            closing = asyncio.create_task((write, peer_write)[closer].close())
            if closer:
                with pytest.raises(ConnectionClosedError, match=CUT_OFF):
                    await read()
            else:
                assert await peer_read() is None
                assert await read() is None
            await closing


async def test_a_handler_whose_client_breaks_a_message_off_fails_without_a_traceback(caplog):
    caplog.set_level(logging.INFO)
    ended: asyncio.Future = asyncio.get_running_loop().create_future()

    async def handler(_, read, write):
        try:
            async for _message in read:
                pass
        except ConnectionClosedError as error:
            ended.set_result(error)
            raise

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with connect(server.url) as (_, _read, write):
            await write(Message("half", 1, fin=False))
        assert CUT_OFF in str(await ended)
    assert not [record for record in caplog.records if record.exc_info]
