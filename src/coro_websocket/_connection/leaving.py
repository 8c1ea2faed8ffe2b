"""How the code that uses a connection was left, and which Close tells the peer so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._runtimes.current import current_loop

if TYPE_CHECKING:
    from .read_write import Write

__all__ = ["close_on_exit"]


async def close_on_exit(write: Write, error: BaseException | None) -> None:
    """Close with the code that tells the peer how the block was left."""
    if error is None:
        await write.close()
    elif current_loop().is_failure(error):
        await write.close(1011, "internal error")
    else:  # cancelled, or the program ends
        await write.close(1001, "going away")
