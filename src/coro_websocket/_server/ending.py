"""Letting a server's clients go: their handlers are waited for, told, and cancelled if need be.

The rule: whoever calls is not waited for, so that handlers may drain and close their own server,
also several of them at once. Every other handler has `close_timeout` seconds to return once its
connection is closed, and then is cancelled.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from .._errors import InvalidOption, InvalidOptionType
from .._options.rules import duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .._options.options import Seconds
    from .._runtimes.event_loop import Running, SocketLoop
    from .client import Client

__all__ = ["HANDSHAKE_GRACE", "LEAST_GRACE", "Ending", "drain_seconds"]

# Seconds from the beginning of a drain that a client in its opening handshake has to send its
# request, where no handler runs: the answer is 503, for which nobody waits very long.
HANDSHAKE_GRACE = 2.0

# Seconds from then that such a client has in any case, however little time the drain has.
LEAST_GRACE = 1.0


def drain_seconds(name: str, value: Seconds) -> float | None:
    """The rule for how long a drain may take: as any duration, and also 0."""
    if not isinstance(value, bool) and value == 0:
        return 0.0
    try:
        return duration(name, value)
    except InvalidOptionType:
        raise
    except InvalidOption:
        raise InvalidOption(
            f"{name} must be a finite number of seconds, 0 or more, or None to wait for as long as "
            f"handlers take, not {value}",
            name,
        ) from None


class Ending:
    """How the clients of one server are let go."""

    def __init__(self, loop: SocketLoop, clients: Collection[Client]) -> None:
        self._loop = loop
        self._clients = clients
        self._waits: set[Running] = set()

    @contextlib.contextmanager
    def by_caller(self) -> Iterator[None]:
        """What is done within is waited for by the caller: it cannot wait for itself meanwhile."""
        current = self._loop.current_task()
        callers = [client for client in self._clients if client.task is current]
        for client in callers:
            client.ends_server = True
        if callers:
            self._wait_anew()
        try:
            yield
        finally:
            for client in callers:
                client.ends_server = False

    async def let_finish(self, within: float | None) -> None:
        """Wait for at most so many seconds until all handlers have returned.

        Clients in their opening handshake are waited for as long as handlers run, else for
        HANDSHAKE_GRACE.
        """
        begun = self._loop.time()
        while clients := self._others():
            passed = self._loop.time() - begun
            handling = [client for client in clients if client.write is not None]
            limit = within if handling else _least(within, HANDSHAKE_GRACE)
            if limit is not None and passed >= limit:
                break
            await self._wait(handling or clients, None if limit is None else limit - passed)

    async def close_others(
        self,
        code: int,
        reason: str,
        within: float | None,
        *,
        at_once: bool = False,
        grace: float = 0.0,
    ) -> None:
        """Close every connection, and wait for the handlers; cancel those that take too long.

        Args:
            at_once: without waiting for the peers' Close frames, and without a time to return.
            grace: seconds that clients in their opening handshake have to be answered.
        """
        clients = self._others()
        opening = [client for client in clients if client.write is None]
        closings = [
            client.write.close(code, reason) for client in clients if client.write is not None
        ]
        try:
            if grace > 0:
                await self._wait(opening, grace)
            for client in opening:
                if client.write is None:
                    client.running.cancel()
                elif not client.running.done():  # it was past being refused
                    closings.append(client.write.close(code, reason))
            if at_once:
                await self._loop.sleep(0)  # Close frames go out together, in the next turn
                for client in clients:
                    if client.request is not None:
                        client.request.socket.shutdown()
            else:
                for closing in closings:
                    await closing
        finally:
            for closing in closings:
                closing.close()  # of those that nobody awaits any more
        if not at_once:
            await self._wait(clients, within)
        for client in clients:
            if not client.running.done():
                client.running.cancel()
        await self._wait(clients, None)
        await self._loop.sleep(0)  # by then, whoever is done is no client any more

    def cancel_others(self) -> None:
        for client in self._others():
            client.running.cancel()

    def _others(self) -> list[Client]:
        """Those that are to be waited for, and whose handlers do not wait for the others."""
        # One that is done is among the clients for a turn of the loop more.
        return [
            client
            for client in self._clients
            if not client.ends_server and not client.running.done()
        ]

    async def _wait(self, clients: Collection[Client], within: float | None) -> None:
        """Wait until all have ended or end the server too; for at most so many seconds."""
        begun = self._loop.time()
        while running := [
            client.running
            for client in clients
            if not client.ends_server and not client.running.done()
        ]:
            left = None if within is None else within - (self._loop.time() - begun)
            if left is not None and left <= 0:
                return
            wait = self._loop.spawn(functools.partial(self._loop.wait, running))
            self._waits.add(wait)
            try:
                await self._loop.wait([wait], left)
            finally:
                self._waits.discard(wait)
                wait.cancel()

    def _wait_anew(self) -> None:
        """Whoever waits looks again whom to wait for."""
        for wait in self._waits:
            wait.cancel()


def _least(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
