"""On which event loop the caller runs: trio's, asyncio's, or one that we know nothing of."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from .._errors import NoEventLoopError
from .asyncio_loop import asyncio_loop
from .bare_loop import BareLoop
from .trio_loop import TrioLoop

if TYPE_CHECKING:
    from .event_loop import Loop, SocketLoop

__all__ = ["current_loop", "loop_runs_here", "running_loop"]

_BARE = BareLoop()


def current_loop() -> Loop:
    """The event loop that the caller runs on."""
    trio = _trio_of_caller()
    if trio is not None:
        return TrioLoop(trio)
    try:
        return asyncio_loop(asyncio.get_running_loop())
    except RuntimeError:
        return _BARE


def loop_runs_here() -> bool:
    """Whether asyncio or trio runs in this thread."""
    return current_loop() is not _BARE


def running_loop(what: str) -> SocketLoop:
    """The running event loop; without one, an error that says what was called."""
    try:
        return asyncio_loop(asyncio.get_running_loop())
    except RuntimeError:
        raise NoEventLoopError(
            f"{what} was called outside a running event loop: call it from a coroutine "
            "that asyncio runs, such as main() in asyncio.run(main())"
        ) from None


def _trio_of_caller() -> Any:
    """The module trio if the caller runs in a task of trio's, else None."""
    # To be asked first, as trio may itself run as a guest of asyncio's loop.
    trio = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)  # it may be about to be imported
    return trio if lowlevel is not None and lowlevel.in_trio_task() else None
