"""What `wrap_io` asks where no event loop runs that we know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import NoEventLoopError
from .bare_runtime import BareRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from .event_loop import Event, Running, Work
    from .runtime import Runtime

__all__ = ["BareLoop"]


class BareLoop:
    """The caller's coroutine is all there is: it can neither wait for another nor for a time."""

    spawns = False

    @property
    def runtime(self) -> Runtime:
        return BareRuntime()  # one for each connection: they have nothing in common

    def is_closed(self) -> bool:
        return False  # nobody could tell

    def event(self) -> Event:
        raise self._error()

    def spawn(self, work: Work, ended: Callable[[Any], object] | None = None) -> Running:
        raise self._error()

    async def sleep(self, seconds: float) -> None:
        raise self._error()

    def _error(self) -> NoEventLoopError:
        return NoEventLoopError(
            "only on asyncio and trio can time be waited for, or anything go on by itself"
        )

    def is_cancellation(self, error: BaseException) -> bool:
        return False  # nobody could tell

    def is_failure(self, error: BaseException) -> bool:
        return isinstance(error, Exception)
