"""Python code that runs while the library is in the middle of something, and calls it again."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    PING,
    PONG,
    TEXT,
    Frame,
    end_and_peer,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import ConcurrencyError
from coro_websocket.testing import connected_pair

__all__ = ["watchdog"]


def step(awaitable: Any) -> Any:
    """What the awaitable returns without waiting, and the StopIteration that brought it."""
    try:
        next(awaitable.__await__())
    except StopIteration as stop:
        return stop.value, stop
    raise AssertionError("it waited")


async def test_a_finalizer_may_read_while_what_read_returned_before_is_let_go_of():
    (_, read, write), (_, _, peer_write) = connected_pair(compression=None)
    (_, other_read, other_write), (_, _, other_peer_write) = connected_pair(compression=None)
    for n in range(12):
        await peer_write(f"outer {n}")
        await other_peer_write(f"inner {n}")
    finalized = []

    class ReadsWhenLetGoOf:
        def __del__(self) -> None:
            # The first is held, so that the second makes another StopIteration.
            first, stop = step(other_read())
            second, _ = step(other_read())
            stop.__traceback__ = None
            finalized.append((first.payload, second.payload))

    def leave_a_traceback() -> str:
        holder = ReadsWhenLetGoOf()  # in this frame, which the StopIteration's traceback holds
        message, _ = step(read())
        assert holder
        return str(message.payload)

    assert (await read()).payload == "outer 0"
    assert (await other_read()).payload == "inner 0"
    await turns_of_the_loop(20)  # all is here
    for n in range(1, 7, 2):
        assert leave_a_traceback() == f"outer {n}"
        assert (await read()).payload == f"outer {n + 1}"
    assert all(int(b[6:]) == int(a[6:]) + 1 for a, b in finalized)
    await asyncio.gather(write.close(), other_write.close())


class ReadsWhenAPingIsLogged(logging.Handler):
    """A log handler that reads from the connection whose frames are logged."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.read = read
        self.reading: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.reading is None and "PING" in record.getMessage().upper():
            self.reading = self.read()
            self.reading.send(None)  # it waits


async def test_a_read_that_a_log_handler_begins_keeps_its_place():
    log = logging.getLogger("coro_websocket.frames")
    log.setLevel(logging.DEBUG)
    try:
        async with end_and_peer("server") as (end, peer):
            await peer.write(PING, b"unread")
            assert await peer.read() == Frame(PONG, b"unread")
            handler = ReadsWhenAPingIsLogged(end.read)
            log.addHandler(handler)
            with pytest.raises(ConcurrencyError):
                await end.read()
            await peer.write(TEXT, b"for the first")
            await end.settle()
            assert step_again(handler.reading).payload == "for the first"
            log.removeHandler(handler)
    finally:
        log.setLevel(logging.NOTSET)


def step_again(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


INTERPRETERS = """
import sys
try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters
import coro_websocket
inside = _interpreters.create()
code = '''
import sys
sys.path[:0] = {!r}
try:
    import coro_websocket
except ImportError as error:
    print("ImportError:", error)
'''.format(sys.path)
failed = _interpreters.run_string(inside, code)
_interpreters.destroy(inside)
assert failed is None, failed
"""


def test_a_resumed_task_may_leave_its_waiter_to_nobody_and_end_the_loop():
    loop = asyncio.SelectorEventLoop()

    async def read_and_leave(read: Any) -> None:
        await read()
        waiting = read()
        waiting.send(None).cancel()  # no read can use this waiter again
        waiting.close()
        last = read()
        last.send(None)
        raise SystemExit("left")

    async def go_through() -> None:
        async with end_and_peer("client") as (end, peer):
            victim = asyncio.create_task(read_and_leave(end.read))
            await turns_of_the_loop(2)
            await peer.write(TEXT, "first")
            await asyncio.wait([victim])
            assert isinstance(victim.exception(), SystemExit)
            await end.write("still here")
            assert await peer.message() == (TEXT, b"still here")

    try:
        task = loop.create_task(go_through())
        with pytest.raises(SystemExit, match="left"):
            loop.run_until_complete(task)
        loop.run_until_complete(task)
    finally:
        loop.close()


def test_a_sub_interpreter_gets_a_clean_import_error():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETERS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("ImportError: ")
    assert "interpreter" in run.stdout
