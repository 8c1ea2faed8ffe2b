"""What a contract test needs of an event loop, the same on each: tasks, events, timeouts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import trio

Body = Callable[[], Awaitable[None]]
Work = Callable[..., Awaitable[Any]]

TURNS = 10  # of the loop, after which what was on its way has arrived


class Event(Protocol):
    def set(self) -> object: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Task:
    """Work that goes on beside the test; it is cancelled at the test's end."""

    def __init__(self, over: Event, cancel: Callable[[], object]) -> None:
        self.over = over
        self.cancel = cancel
        self.cancelled = False
        self.value: Any = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.over.is_set()

    async def ended(self) -> None:
        """Wait for its end, whatever that is."""
        await self.over.wait()

    async def result(self) -> Any:
        """What it returned; raises what it raised."""
        await self.ended()
        assert not self.cancelled, "the task was cancelled"
        if self.error is not None:
            raise self.error
        return self.value


class Loop(Protocol):
    def run(self, body: Body) -> None:
        """Run a test. Nothing of ours may go on after it."""
        ...

    def event(self) -> Event: ...

    def spawn(self, work: Work, *args: Any) -> Task: ...

    def start(self, call: Work, *args: Any) -> None:
        """Run what a call gives as a task by itself, as the loop's own users do."""
        ...

    def within(self, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
        """Raise TimeoutError in a block that takes longer."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class AsyncioLoop:
    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.factory = factory
        self.tasks: set[asyncio.Task[None]] = set()

    def run(self, body: Body) -> None:
        with asyncio.Runner(loop_factory=self.factory) as runner:
            runner.run(self._main(body))

    async def _main(self, body: Body) -> None:
        self.tasks = set()
        try:
            await body()
        finally:
            for task in self.tasks:
                task.cancel()
            if self.tasks:
                await asyncio.wait(self.tasks)
            await settle(self)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "tasks were left behind"

    def event(self) -> Event:
        return asyncio.Event()

    def spawn(self, work: Work, *args: Any) -> Task:
        made: asyncio.Task[None]
        task = Task(asyncio.Event(), lambda: made.cancel())

        async def run() -> None:
            try:
                task.value = await work(*args)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                task.error = error

        def ended(_: object) -> None:  # perhaps before it had begun
            task.cancelled = made.cancelled()
            task.over.set()

        made = asyncio.get_running_loop().create_task(run())
        made.add_done_callback(ended)
        self.tasks.add(made)
        return task

    def start(self, call: Work, *args: Any) -> None:
        coroutine: Any = call(*args)
        self.tasks.add(asyncio.get_running_loop().create_task(coroutine))

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(seconds):
            yield

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TrioLoop:
    def __init__(self) -> None:
        self.nursery: trio.Nursery

    def run(self, body: Body) -> None:
        trio.run(self._main, body)

    async def _main(self, body: Body) -> None:
        before = self._system_tasks()
        failed: BaseException | None = None
        async with trio.open_nursery() as self.nursery:
            try:
                await body()
            except Exception as error:  # by itself, rather than in a group
                failed = error
            finally:
                self.nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        await settle(self)
        assert self._system_tasks() <= before, "system tasks were left behind"

    def _system_tasks(self) -> set[trio.lowlevel.Task]:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        found = {task for nursery in root.child_nurseries for task in nursery.child_tasks}
        return found - {trio.lowlevel.current_task()}

    def event(self) -> Event:
        return trio.Event()

    def spawn(self, work: Work, *args: Any) -> Task:
        scope = trio.CancelScope()
        task = Task(trio.Event(), scope.cancel)

        async def run() -> None:
            try:
                with scope:
                    try:
                        task.value = await work(*args)
                    except trio.Cancelled:
                        raise
                    except BaseException as error:
                        task.error = error
            finally:
                task.cancelled = scope.cancelled_caught
                task.over.set()

        self.nursery.start_soon(run)
        return task

    def start(self, call: Work, *args: Any) -> None:
        self.nursery.start_soon(call, *args)

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise TimeoutError(f"it took more than {seconds} s")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def settle(loop: Loop) -> None:
    """Let what is on its way arrive, and whoever can go on do so."""
    for _ in range(TURNS):
        await loop.sleep(0)


class Bell:
    """Wakes whoever waits at the moment it rings."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.waiters: list[Event] = []

    def ring(self) -> None:
        waiters, self.waiters = self.waiters, []
        for event in waiters:
            event.set()

    async def wait(self) -> None:
        event = self.loop.event()
        self.waiters.append(event)
        await event.wait()
