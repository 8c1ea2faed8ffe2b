"""What `wrap_io`, opening and serving ask of trio.

Tasks are system tasks: a nursery belongs to whoever opened it, and what is ours may outlive that.
The rule: an error in one of them is logged, as raised it would end the run.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import math
from typing import TYPE_CHECKING, Any

from .._errors import OtherEventLoopError
from .event_loop import ENDS_THE_PROGRAM
from .nonblocking import NonBlockingSockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from .event_loop import Event, Running, Work
    from .runtime import Runtime

__all__ = ["TrioLoop"]

logger = logging.getLogger("coro_websocket")


class TrioLoop(NonBlockingSockets):
    """The trio run that the caller is in. Another thread may use only its `call_soon`."""

    __slots__ = ("_token", "trio")

    spawns = True
    watches_sockets = True

    def __init__(self, trio: Any) -> None:
        self.trio = trio
        self._token = trio.lowlevel.current_trio_token()

    @property
    def runtime(self) -> Runtime:
        from .trio_runtime import runtime_of_run  # which imports trio

        return runtime_of_run()

    def is_closed(self) -> bool:
        return False  # a run ends all its tasks before it ends

    def check_runs_here(self, call: str) -> None:
        try:
            if self.trio.lowlevel.current_trio_token() is self._token:
                return
        except RuntimeError:  # trio does not run here
            pass
        raise OtherEventLoopError(
            f"{call} was called where the server's trio run does not run: a server belongs to "
            "the run in which it was started. In a thread of trio.to_thread, use "
            f"trio.from_thread.run({call.removesuffix('()')})"
        )

    # Time and tasks

    def time(self) -> float:
        now: float = self.trio.current_time()
        return now

    async def sleep(self, seconds: float) -> None:
        await self.trio.sleep(seconds)

    def limit(self, seconds: float | None) -> TrioLimit:
        return TrioLimit(self.trio, seconds)

    def end(self, limit: TrioLimit) -> None:
        limit.scope.cancel()

    def event(self) -> Event:
        event: Event = self.trio.Event()
        return event

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        self._token.run_sync_soon(function, *arguments)

    def spawn(self, work: Work, ended: Callable[[Any], object] | None = None) -> Running:
        task = TrioTask(self.trio)
        if ended is not None:
            task.when_ended(functools.partial(ended, task))
        context = contextvars.copy_context()
        self.trio.lowlevel.spawn_system_task(task.run, work, context=context)
        return task

    async def wait(
        self, tasks: Collection[Any], within: float | None = None, *, first: bool = False
    ) -> None:
        with self.trio.move_on_after(math.inf if within is None else within):
            if first and tasks:
                event = self.event()
                for task in tasks:
                    task.when_ended(event.set)
                await event.wait()
            else:
                for task in tasks:
                    event = self.event()
                    task.when_ended(event.set)
                    await event.wait()

    def current_task(self) -> object:
        return self.trio.lowlevel.current_task()

    def is_cancellation(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):  # of a nursery
            return error.subgroup(self.trio.Cancelled) is not None
        return isinstance(error, self.trio.Cancelled)

    def is_failure(self, error: BaseException) -> bool:
        return not isinstance(error, ENDS_THE_PROGRAM) and not self.is_cancellation(error)

    # Sockets

    async def readable(self, sock: socket.socket) -> None:
        await self.trio.lowlevel.wait_readable(sock)

    async def writable(self, sock: socket.socket) -> None:
        await self.trio.lowlevel.wait_writable(sock)


class TrioTask:
    """Work in a system task."""

    def __init__(self, trio: Any) -> None:
        self._scope = trio.CancelScope()
        self._over = False
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        self._scope.cancel()

    def done(self) -> bool:
        return self._over

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call this once it is over; at once if it is."""
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    async def run(self, work: Work) -> None:
        try:
            with self._scope:
                await work()
        except* Exception as failures:  # raised beside a cancellation, say
            logger.error("a task of a WebSocket connection failed", exc_info=failures)
        finally:
            self._over = True
            for callback in self._callbacks:
                callback()


class TrioLimit:
    """A cancel scope with a deadline; TimeoutError where that has ended it."""

    def __init__(self, trio: Any, seconds: float | None) -> None:
        self.trio = trio
        self.seconds = math.inf if seconds is None else seconds
        self.scope = trio.CancelScope()

    async def __aenter__(self) -> TrioLimit:
        self.scope.deadline = self.trio.current_time() + self.seconds
        self.scope.__enter__()
        return self

    async def __aexit__(self, *raised: Any) -> bool | None:
        suppress: bool | None = self.scope.__exit__(*raised)
        if self.scope.cancelled_caught:
            raise TimeoutError
        return suppress

    def expired(self) -> bool:
        expired: bool = self.scope.cancelled_caught
        return expired
