"""Whatever a handler raises: it is logged with peer and path, and ends that connection only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import textwrap

import pytest
import websockets
from tests.helpers.raw_peer import BOUND

from coro_websocket import serve

pytestmark = pytest.mark.usefixtures("no_tasks_left")


class Stop(BaseException):
    """What programs derive from BaseException so that nothing of their own catches it."""


async def fails():
    raise LookupError("in a task of its own")


async def one_error(read):
    raise LookupError("alone")


async def several_errors(read):
    raise ExceptionGroup("both", [LookupError("one"), ValueError("two")])


async def errors_that_are_no_exceptions(read):
    raise BaseExceptionGroup("both", [LookupError("one"), Stop("two")])


async def no_exception(read):
    raise Stop


async def a_task_of_a_group(read):
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
        group.create_task(read())


async def a_task_that_is_awaited(read):
    await asyncio.create_task(fails())


async def its_own_time_limit(read):
    async with asyncio.timeout(0):
        await read()


async def an_iterator_at_its_end(read):
    next(iter(()))


HOW = [
    one_error,
    several_errors,
    errors_that_are_no_exceptions,
    no_exception,
    a_task_of_a_group,
    a_task_that_is_awaited,
    its_own_time_limit,
    an_iterator_at_its_end,
]


@pytest.mark.parametrize("fail", HOW, ids=lambda each: each.__name__)
async def test_a_failure_is_logged_and_ends_its_connection_with_1011_and_no_other(fail, caplog):
    async def handler(req, read, write):
        if req.pathname.startswith("/fails"):
            await fail(read)
        async for msg in read:
            await write(msg.payload)

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with websockets.connect(server.url + "works") as other:
            async with websockets.connect(server.url + "fails?token=secret") as client:
                address = "{}:{}".format(*client.local_address[:2])
                with pytest.raises(websockets.ConnectionClosedError):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (1011, "internal error")
            await other.send("x")
            assert await other.recv() == "x"
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.exc_info
    assert address in line.getMessage()
    assert "/fails" in line.getMessage()
    assert "secret" not in line.getMessage()


async def test_tasks_that_a_handler_leaves_behind_hold_up_no_end_of_its_server():
    left = []

    async def handler(req, read, write):
        left.append(asyncio.create_task(asyncio.sleep(3600)))

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with websockets.connect(server.url) as client:
            with contextlib.suppress(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1000
        await server.drain(None)
    assert not left[0].done()
    left[0].cancel()
    await asyncio.wait(left)


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(
    ("raised", "status"), [("SystemExit(7)", 7), ("KeyboardInterrupt", 1), ("sys.exit(7)", 7)]
)
async def test_what_ends_the_program_ends_it(raised, status):
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        from coro_websocket import connect, serve

        async def handler(req, read, write):
            raise {raised}

        async def main():
            async with serve(handler) as server, connect(server.url) as (res, read, write):
                await read()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            sys.exit(1)
        """
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30)
    assert done.returncode == status
