"""Work that costs much is done by so many in each turn of the event loop."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["Throttle"]


class Throttle:
    """Lets so many tasks go on in each turn of the loop, in the order of asking."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self.loop = loop
        self.most = most
        self.left = most
        self.waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    async def take(self) -> None:
        """Wait until it is the caller's turn."""
        if self.left == self.most:
            self.loop.call_soon(self.renew)
        if self.left:
            self.left -= 1
            return
        mine = self.loop.create_future()
        self.waiting.append(mine)
        await mine

    def renew(self) -> None:
        """The next turn of the loop has begun."""
        self.left = self.most
        while self.waiting and self.left:
            future = self.waiting.popleft()
            if not future.done():  # its task may have been cancelled
                future.set_result(None)
                self.left -= 1
        if self.left < self.most:
            self.loop.call_soon(self.renew)
