"""What leaves a handler: this connection's own end, or a failure of the handler."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, echo, until

from coro_websocket import ConnectionClosedError, connect, serve

pytestmark = pytest.mark.usefixtures("no_tasks_left")


def failures(caplog):
    """The errors of handlers that were logged with their traceback."""
    return [r.exc_info[1] for r in caplog.records if r.levelno == logging.ERROR and r.exc_info]


async def reads(read, write):
    while await read() is not None:
        pass


async def reads_a_batch(read, write):
    while await read.batch():
        pass


async def iterates(read, write):
    async for _ in read:
        pass


async def streams(read, write):
    message = await read.stream()
    async for _ in message:
        pass


async def writes(read, write):
    await write.wait_closed()
    await write("x")


async def writes_until_it_fails(read, write):
    while True:
        await write("x")
        await asyncio.sleep(0)


async def writes_fragments(read, write):
    await write.wait_closed()
    await write(["a", "b"])


async def pings(read, write):
    await write.ping()
    await write.wait_closed()
    await write.ping()


async def pongs(read, write):
    await write.wait_closed()
    await write.pong()


async def in_a_group(read, write):
    async with asyncio.TaskGroup() as group:
        group.create_task(reads(read, write))
        group.create_task(writes(read, write))


USES = [
    *(reads, reads_a_batch, iterates, streams, writes, writes_until_it_fails, writes_fragments),
    *(pings, pongs, in_a_group),
]


@pytest.mark.parametrize("leave", ["hang up", "close"])
@pytest.mark.parametrize("use", USES)
async def test_the_end_of_its_own_connection_is_no_failure(use, leave, caplog):
    ended = asyncio.Event()

    async def handler(req, read, write):
        try:
            await use(read, write)
        finally:
            ended.set()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        res, _, write = await connect(server.url)
        if use is streams:
            await write({"opcode": 1, "payload": "a part", "fin": False})
        if leave == "hang up":
            res.socket.close()
        await write.close(4000)
        await ended.wait()
    assert not failures(caplog)


async def test_what_the_peer_did_wrong_is_no_failure(caplog):
    async with asyncio.timeout(BOUND), serve(echo, max_message_size=10) as server:
        async with connect(server.url) as (_, read, write):
            await write("x" * 11)
            with contextlib.suppress(ConnectionClosedError):
                await read()
    assert not failures(caplog)


@pytest.mark.parametrize("how", ["read", "write", "stream", "group"])
@pytest.mark.parametrize("client", ["stays", "has gone"])
async def test_the_end_of_another_connection_is_the_handlers_failure(how, client, caplog):
    async def closes(req, read, write):
        if how == "stream":
            await write({"opcode": 1, "payload": "a part", "fin": False})
        await read()
        await write.close(4000, "upstream")

    async def handler(req, read, write):
        async with connect(upstream.url) as (_, up_read, up_write):
            message = await up_read.stream() if how == "stream" else None
            await up_write("go")
            if client == "has gone":
                await write.wait_closed()
            await up_write.wait_closed()
            if message is not None:
                async for _ in message:
                    pass
            elif how == "write":
                await up_write("x")
            elif how == "read":
                await up_read()
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(reads(read, write))
                    group.create_task(reads(up_read, up_write))

    async with asyncio.timeout(BOUND), serve(closes) as upstream, serve(handler) as server:
        res, read, _ = await connect(server.url)
        if client == "has gone":
            res.socket.close()
        else:
            with pytest.raises(ConnectionClosedError) as caught:
                await read()
            assert caught.value.code == 1011
        await until(lambda: not clients_of(server))
    (error,) = failures(caplog)
    assert isinstance(error, ExceptionGroup if how == "group" else ConnectionClosedError)


async def test_an_error_of_the_users_own_making_is_the_handlers_failure(caplog):
    async def handler(req, read, write):
        raise ConnectionClosedError("made up", 1000)

    async with asyncio.timeout(BOUND), serve(handler) as server:
        _, read, _ = await connect(server.url)
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
        assert caught.value.code == 1011
    assert len(failures(caplog)) == 1


async def test_a_future_that_was_cancelled_is_the_handlers_failure(caplog):
    async def handler(req, read, write):
        waiting = asyncio.get_running_loop().create_future()
        waiting.cancel()
        await waiting

    async with asyncio.timeout(BOUND), serve(handler) as server:
        _, read, _ = await connect(server.url)
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
        assert caught.value.code == 1011
    (error,) = failures(caplog)
    assert isinstance(error, asyncio.CancelledError)


async def test_a_handler_that_is_cancelled_has_not_failed(caplog):
    tasks = []

    async def handler(req, read, write):
        tasks.append(asyncio.current_task())
        await asyncio.Event().wait()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        _, read, _ = await connect(server.url)
        await until(lambda: tasks)
        tasks[0].cancel()
        assert await read() is None
        assert read.close_code == 1001
    assert not failures(caplog)
