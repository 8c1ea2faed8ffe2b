"""Waiting on whatever event loop runs: asyncio, trio, or one that we know nothing of.

For `wrap_io`, whose raw pair may belong to any of them. On asyncio and trio a task can wait
for another, and work can go on that outlives the call which began it. Elsewhere there is only
the coroutine that calls us: whatever would need another is refused with NoEventLoopError.

Rule: nothing here is bound to a loop before somebody waits, so that all of it can be made
where no loop runs.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import math
import sys
from typing import TYPE_CHECKING, Any, Protocol

from .._errors import NoEventLoopError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Limit", "Loop", "Running", "Signal", "Turn", "current_loop"]


class Event(Protocol):
    def set(self) -> object: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Running(Protocol):
    """Work that goes on by itself."""

    def cancel(self) -> object: ...


class Limit(Protocol):
    """How long a block may still take."""

    def shorten(self, seconds: float | None) -> None: ...


class Loop(Protocol):
    """What an event loop gives us.

    `spawns` says whether it can run work by itself and let one task wait for another.
    """

    spawns: bool

    def event(self) -> Event: ...
    def spawn(self, work: Callable[[], Awaitable[None]]) -> Running: ...
    def current_task(self) -> object: ...
    def watch(self, task: Any, ended: Callable[[], None]) -> Callable[[], None]:
        """Have `ended` called once the task has ended, unless what is returned is called before."""
        ...

    def limit(self, seconds: float | None) -> contextlib.AbstractAsyncContextManager[Limit]: ...
    async def sleep(self, seconds: float) -> None: ...


class AsyncioLoop:
    spawns = True

    def event(self) -> Event:
        return asyncio.Event()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> Running:
        return asyncio.ensure_future(work())

    def current_task(self) -> object:
        return asyncio.current_task()

    def watch(self, task: Any, ended: Callable[[], None]) -> Callable[[], None]:
        def done(_: object) -> None:
            ended()

        task.add_done_callback(done)
        return lambda: task.remove_done_callback(done)

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float | None) -> AsyncIterator[Limit]:
        async with asyncio.timeout(seconds) as timeout:
            yield AsyncioLimit(timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class AsyncioLimit:
    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.timeout = timeout

    def shorten(self, seconds: float | None) -> None:
        if seconds is not None and not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time() + seconds)


class TrioLoop:
    spawns = True

    def __init__(self, trio: Any) -> None:
        self.trio = trio

    def event(self) -> Event:
        event: Event = self.trio.Event()
        return event

    def spawn(self, work: Callable[[], Awaitable[None]]) -> Running:
        # A nursery belongs to whoever opened it; what is ours may outlive that.
        scope: Running = self.trio.CancelScope()

        async def run() -> None:
            with scope:  # type: ignore[attr-defined]
                await work()

        self.trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())
        return scope

    def current_task(self) -> object:
        return self.trio.lowlevel.current_task()

    def watch(self, task: Any, ended: Callable[[], None]) -> Callable[[], None]:
        async def tell() -> None:
            ended()

        watching = TaskEnd(task, lambda: self.spawn(tell))
        self.trio.lowlevel.add_instrument(watching)

        def unwatch() -> None:
            with contextlib.suppress(KeyError):
                self.trio.lowlevel.remove_instrument(watching)

        return unwatch

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float | None) -> AsyncIterator[Limit]:
        with self.trio.CancelScope() as scope:
            limit = TrioLimit(self.trio, scope)
            limit.shorten(seconds)
            yield limit
        if scope.cancelled_caught:
            raise TimeoutError

    async def sleep(self, seconds: float) -> None:
        await self.trio.sleep(seconds)


class TaskEnd:
    """An instrument of trio's that tells when one task has ended."""

    def __init__(self, task: Any, ended: Callable[[], object]) -> None:
        self.task = task
        self.ended = ended

    def task_exited(self, task: Any) -> None:
        if task is self.task:
            self.ended()


class TrioLimit:
    def __init__(self, trio: Any, scope: Any) -> None:
        self.trio = trio
        self.scope = scope

    def shorten(self, seconds: float | None) -> None:
        self.scope.deadline = math.inf if seconds is None else self.trio.current_time() + seconds


class NoLoop:
    """The caller's coroutine is all there is: it can neither wait for another nor for a time."""

    spawns = False

    def event(self) -> Event:
        raise NoEventLoopError(
            "this has to wait for what another task does on the same connection, and that can be "
            "done only on asyncio and trio: on another event loop, let one task at a time use a "
            "connection of wrap_io()"
        )

    def spawn(self, work: Callable[[], Awaitable[None]]) -> Running:
        raise NoEventLoopError("only on asyncio and trio can anything go on by itself")

    def current_task(self) -> object:
        return self  # whoever it is

    def watch(self, task: Any, ended: Callable[[], None]) -> Callable[[], None]:
        return lambda: None  # nobody could tell

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float | None) -> AsyncIterator[Limit]:
        yield self

    def shorten(self, seconds: float | None) -> None:
        pass

    async def sleep(self, seconds: float) -> None:
        raise NoEventLoopError("only on asyncio and trio can time be waited for")


_ASYNCIO = AsyncioLoop()
_NONE = NoLoop()


def current_loop() -> Loop:
    """The event loop that the caller runs on."""
    trio = sys.modules.get("trio")
    # First, as trio may itself run as a guest of asyncio's loop.
    if trio is not None and trio.lowlevel.in_trio_task():
        return TrioLoop(trio)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _NONE
    return _ASYNCIO


class Signal:
    """Given once, for all who wait for it then or later."""

    def __init__(self) -> None:
        self.given = False
        self.waiters: list[Event] = []

    def give(self) -> None:
        self.given = True
        waiters, self.waiters = self.waiters, []
        for event in waiters:
            event.set()

    async def wait(self) -> None:
        if self.given:
            return
        event = current_loop().event()
        self.waiters.append(event)
        try:
            await event.wait()
        finally:
            if event in self.waiters:
                self.waiters.remove(event)


class Turn:
    """One holder at a time, in the order of asking. Once it is over, nobody has to wait."""

    def __init__(self) -> None:
        self.taken = False
        self.over = False
        self.waiters: collections.deque[Event] = collections.deque()

    async def take(self) -> None:
        if self.over or not self.taken:
            self.taken = True
            return
        event = current_loop().event()
        self.waiters.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():  # it was given to us in the same moment
                self.pass_on()
            else:
                self.waiters.remove(event)
            raise

    def pass_on(self) -> None:
        if self.waiters:
            self.waiters.popleft().set()
        else:
            self.taken = False

    def end(self) -> None:
        self.over = True
        while self.waiters:
            self.waiters.popleft().set()
