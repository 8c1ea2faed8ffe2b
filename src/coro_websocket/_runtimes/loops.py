"""Which event loop runs: asyncio, trio, or one that we know nothing of.

`wrap_io`'s raw pair may belong to any of them. On asyncio and trio a task can wait for another,
and work can go on that outlives the call which began it. Elsewhere there is only the coroutine
that calls us: whatever would need another is refused with NoEventLoopError.

Rule: nothing here is bound to a loop before somebody waits, so that all of it can be made
where no loop runs.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from .._errors import NoEventLoopError
from .asyncio_loop import asyncio_loop
from .trio_loop import TrioLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .event_loop import Event, Limit, Loop, Running, SocketLoop, Work

__all__ = ["NoLoop", "Signal", "Turn", "current_loop", "running_loop"]


class NoLoop:
    """The caller's coroutine is all there is: it can neither wait for another nor for a time."""

    spawns = False

    def event(self) -> Event:
        raise NoEventLoopError(
            "this has to wait for what another task does on the same connection, and that can be "
            "done only on asyncio and trio: on another event loop, let one task at a time use a "
            "connection of wrap_io()"
        )

    def spawn(self, work: Work, ended: Callable[[Any], object] | None = None) -> Running:
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

    def expired(self) -> bool:
        return False

    async def sleep(self, seconds: float) -> None:
        raise NoEventLoopError("only on asyncio and trio can time be waited for")

    def is_cancellation(self, error: BaseException) -> bool:
        return False  # nobody could tell

    def is_failure(self, error: BaseException) -> bool:
        return isinstance(error, Exception)


_NONE = NoLoop()


def current_loop() -> Loop:
    """The event loop that the caller runs on."""
    trio = sys.modules.get("trio")
    # First, as trio may itself run as a guest of asyncio's loop.
    if trio is not None and trio.lowlevel.in_trio_task():
        return TrioLoop(trio)
    try:
        return asyncio_loop(asyncio.get_running_loop())
    except RuntimeError:
        return _NONE


def running_loop(what: str) -> SocketLoop:
    """The running event loop; without one, an error that says what was called."""
    try:
        return asyncio_loop(asyncio.get_running_loop())
    except RuntimeError:
        raise NoEventLoopError(
            f"{what} was called outside a running event loop: call it from a coroutine "
            "that asyncio runs, such as main() in asyncio.run(main())"
        ) from None


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
