"""Clients that have not finished their opening handshake, and which of them go first.

The rule: whoever keeps the server waiting makes room for those who do not. A client is unfinished
until its request is here, and again when it was refused and does not hang up: then it is the first
to go, as it gets nothing more. What comes between, such as a hook, is not its fault. The time that
it waits for us is not counted against it, or a server with more to do than it can would drop those
for whom it has done most.

RFC 6455 section 10.4 (limits).
"""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from typing import TYPE_CHECKING

from .log import logger

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from .._http.client_address import Networks
    from .._runtimes.event_loop import Event, SocketLoop
    from .._runtimes.throttle import Throttle
    from .client import Client

__all__ = ["CountedThrottle", "Unfinished"]

STALLED = 1.0  # seconds that it has kept us waiting before it makes room for another
LOOK_AGAIN = 0.1  # seconds, while none has for so long
SHARE = 16  # of those that have stalled, one in so many is closed in one go: looking takes time
UNTIL_CLOSED = 1.0  # seconds, at most; a hook may not let itself be cancelled
LOG_AGAIN = 60.0  # seconds


class Unfinished:
    """Those of one server.

    Args:
        loop: the event loop.
        most: how many there may be at once; None: any number.
        proxies: peers that are trusted proxies, and stand for clients of their own.
    """

    def __init__(self, loop: SocketLoop, most: int | None, proxies: Networks) -> None:
        self.most = most
        self._loop = loop
        self._proxies = proxies
        self._clients: dict[Client, bool] = {}  # whether it was refused
        self._asked: dict[Client, None] = {}  # those whose requests are being answered
        self._fewer: Event = loop.event()
        self._closed = 0  # since the last line in the log
        self._logged_at: float | None = None

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return self.most is not None and len(self._clients) >= self.most

    def add(self, client: Client) -> None:
        """It was accepted."""
        self._clients[client] = False

    def asks(self, client: Client) -> None:
        """Its request is here, and it waits for us."""
        self.discard(client)
        self._asked[client] = None

    def refused(self, client: Client) -> None:
        """It was refused, and has to hang up: we wait for it again."""
        self.discard(client)
        client.began = self._loop.time()
        self._clients[client] = True

    def discard(self, client: Client) -> None:
        """It has its connection, or has ended."""
        self._asked.pop(client, None)
        if self._clients.pop(client, None) is not None:
            self._fewer.set()

    async def room(self) -> None:
        """Wait until there is room for one more; those that have stalled have to make it."""
        while self.full:
            why = f"there were {self.most} at once (max_handshakes)"
            if closed := self._close_slowest(self._clients, STALLED, why):
                await self._ended(closed)
                return
            self._fewer = self._loop.event()
            with contextlib.suppress(TimeoutError):
                async with self._loop.limit(LOOK_AGAIN):
                    await self._fewer.wait()

    async def free_descriptors(self, why: str) -> bool:
        """Close the slowest, and wait until their sockets are closed; whether there were any.

        Those that wait for us have to go only where there are no others.
        """
        closed = self._close_slowest(self._clients, 0.0, why)
        closed = closed or self._close_slowest(self._asked, 0.0, why)
        await self._ended(closed)
        return bool(closed)

    async def _ended(self, closed: list[Client]) -> None:
        await self._loop.wait([client.running for client in closed], UNTIL_CLOSED)

    def _close_slowest(self, clients: Iterable[Client], seconds: float, why: str) -> list[Client]:
        """Close some that have kept us waiting for so long, and return them.

        First those that were refused, then those of whoever has most of them: one attacker costs
        its own connections first.
        """
        now = self._loop.time()
        slow = [client for client in clients if not client.served and now - client.began >= seconds]
        have = Counter(map(self._counts_as, slow))
        closed = heapq.nsmallest(
            -(-len(slow) // SHARE),
            slow,
            key=lambda client: (
                not self._clients.get(client, False),
                -have[self._counts_as(client)],
                client.began,
            ),
        )
        for client in closed:
            self.discard(client)
            client.running.cancel()
            logger.debug("%s closed before its handshake was finished: %s", client, why)
        if closed:
            self._log(len(closed), why, now)
        return closed

    def _counts_as(self, client: Client) -> Hashable:
        if client.address is None or self._proxies.has(client.address):
            return client
        return client.address.counts_as

    def _log(self, number: int, why: str, now: float) -> None:
        self._closed += number
        if self._logged_at is None or now - self._logged_at >= LOG_AGAIN:
            self._logged_at = now
            logger.warning("closed %d unfinished opening handshakes: %s", self._closed, why)
            self._closed = 0


class CountedThrottle:
    """A server's throttle for one client, which does not wait for that client meanwhile."""

    def __init__(self, loop: SocketLoop, throttle: Throttle, client: Client) -> None:
        self._loop = loop
        self._throttle = throttle
        self._client = client

    def take_now(self) -> bool:
        """Whether it is this client's turn; if not, it has to wait for it with `take`."""
        return self._throttle.take_now()

    async def take(self) -> None:
        """Wait until it is this client's turn."""
        since = self._loop.time()
        self._client.served = True
        try:
            await self._throttle.take()
        finally:
            self._client.served = False
            self._client.began += self._loop.time() - since
