"""How the code that uses a connection was left, and which Close tells the peer so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .read_write import Write

__all__ = ["close_on_exit", "is_cancellation"]


async def close_on_exit(write: Write, error: BaseException | None) -> None:
    """Close with the code that tells the peer how the block was left."""
    if error is None:
        await write.close()
    elif isinstance(error, Exception) or (
        isinstance(error, asyncio.CancelledError) and not is_cancellation(error)
    ):
        await write.close(1011, "internal error")
    else:  # cancelled, or the program ends
        await write.close(1001, "going away")


def is_cancellation(error: BaseException) -> bool:
    """Whether the task is being cancelled: a future that was cancelled raises the same error."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)
