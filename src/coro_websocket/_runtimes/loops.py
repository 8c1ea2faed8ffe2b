"""What the event loop that runs can do: asyncio's, trio's, or one that we know nothing of.

On asyncio and trio a task can wait for another, and work can go on that outlives the call which
began it. Elsewhere there is only the coroutine that calls us: whatever would need another is
refused with NoEventLoopError.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._errors import NoEventLoopError
from .asyncio_loop import asyncio_loop
from .current import trio_of_caller
from .trio_loop import TrioLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from .event_loop import Event, Loop, Running, SocketLoop, Work

__all__ = ["NoLoop", "current_loop", "running_loop"]


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

    async def sleep(self, seconds: float) -> None:
        raise NoEventLoopError("only on asyncio and trio can time be waited for")

    def is_cancellation(self, error: BaseException) -> bool:
        return False  # nobody could tell

    def is_failure(self, error: BaseException) -> bool:
        return isinstance(error, Exception)


_NONE = NoLoop()


def current_loop() -> Loop:
    """The event loop that the caller runs on."""
    trio = trio_of_caller()
    if trio is not None:
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
