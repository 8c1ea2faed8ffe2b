"""On which event loop the caller runs: trio's, asyncio's, or one that we know nothing of."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from .asyncio_runtime import runtime_of
from .bare_runtime import BareRuntime

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["current_runtime", "trio_of_caller"]


def current_runtime() -> Runtime:
    """The runtime of the loop that the caller runs on; one of its own where none is known."""
    if trio_of_caller() is not None:
        from .trio_runtime import runtime_of_run

        return runtime_of_run()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return BareRuntime()
    return runtime_of(loop)


def trio_of_caller() -> Any:
    """The module trio if the caller runs in a task of trio's, else None."""
    # To be asked first, as trio may itself run as a guest of asyncio's loop.
    trio = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)  # it may be about to be imported
    return trio if lowlevel is not None and lowlevel.in_trio_task() else None
