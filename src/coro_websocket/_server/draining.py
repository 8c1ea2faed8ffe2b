"""Whether a server drains: what handlers look at, and wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from .._runtimes.event_loop import SocketLoop

__all__ = ["Draining"]


class Draining:
    """Whether a server has stopped accepting connections: true in a condition, and awaitable.

        async def handler(req, read, write):
            async for msg in read:
                await write(msg.payload)
                if req.server.draining:  # or req.server.draining.is_set(): the same
                    break

    `await req.server.draining` returns as soon as the server drains or closes, at once if it does
    already; any number of tasks may wait. It can be asked in every thread, and awaited in the
    server's event loop.
    """

    __slots__ = ("_event", "_loop")

    def __init__(self, loop: SocketLoop) -> None:
        self._loop = loop
        self._event = loop.event()

    def is_set(self) -> bool:
        """Whether the server drains, or is closed."""
        return self._event.is_set()

    def __bool__(self) -> bool:
        """The same as `is_set()`."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until the server drains; the same as awaiting it.

        Raises OtherEventLoopError in an event loop that is not the server's.
        """
        self._loop.check_runs_here("server.draining.wait()")
        await self._event.wait()

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until the server drains."""
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<Draining {self.is_set()}>"

    def _set(self) -> None:
        self._event.set()
