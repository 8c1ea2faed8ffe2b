"""Work that costs much is done by so many in each turn of the event loop."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .event_loop import Event, SocketLoop

__all__ = ["Throttle"]


class Throttle:
    """Lets so many tasks go on in each turn of the loop, in the order of asking.

    Once so many have, others wait for the next turn. What is left of them lasts for longer: as
    long as there are few tasks, the loop is asked for nothing.
    """

    def __init__(self, loop: SocketLoop, most: int) -> None:
        self.loop = loop
        self.most = most
        self.left = most
        self.waiting: collections.deque[Event] = collections.deque()

    def take_now(self) -> bool:
        """Whether it is the caller's turn; if not, it has to wait for it with `take`."""
        if not self.left:
            return False
        self.left -= 1
        if not self.left:
            self.loop.call_soon(self.renew)
        return True

    async def take(self) -> None:
        """Wait until it is the caller's turn."""
        if self.take_now():
            return
        mine = self.loop.event()
        self.waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if not mine.is_set():
                self.waiting.remove(mine)
            raise

    def renew(self) -> None:
        """The next turn of the loop has begun."""
        self.left = self.most
        while self.waiting and self.left:
            self.waiting.popleft().set()
            self.left -= 1
        if not self.left:
            self.loop.call_soon(self.renew)
