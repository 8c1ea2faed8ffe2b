"""Who is let in: a client on its way from being accepted to being a connection, and out again.

The rule: each step is told here once, so that what is counted for a client when it comes is no
longer counted when it has ended, however that was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connections import Connections
from .log import logger
from .places import Places
from .unfinished import CountedThrottle, Unfinished

if TYPE_CHECKING:
    from .._connection.read_write import Read, Write
    from .._http.request_and_response import Request
    from .._runtimes.event_loop import SocketLoop
    from .._runtimes.throttle import Throttle
    from .._streams.user_socket import ConnectionSocket
    from .client import Client
    from .limits import Limits
    from .proxies import Proxies

__all__ = ["Admission"]

WARN_AGAIN = 60.0  # seconds


class Admission:
    """The clients of one server, by how far they have come."""

    def __init__(self, loop: SocketLoop, limits: Limits, proxies: Proxies) -> None:
        self.connections = Connections()
        self.places = Places(limits.max_connections, limits.max_connections_per_client)
        self.unfinished = Unfinished(loop, limits.max_handshakes, proxies.trusted)
        self._loop = loop
        self._proxies = proxies
        self._warned_at: float | None = None

    def accepted(self, client: Client) -> None:
        """It has connected."""
        client.counted_by = self
        self.unfinished.add(client)

    async def receive_proxy_header(self, sock: ConnectionSocket, client: Client) -> None:
        """Before TLS. Raises OSError, and closes the socket, if this is not a proper proxy."""
        await self._proxies.receive_header(self._loop, sock, client)

    def throttle(self, throttle: Throttle, client: Client) -> CountedThrottle:
        """What its TLS handshake waits for, between steps that cost much."""
        return CountedThrottle(self._loop, throttle, client)

    def requested(self, client: Client, request: Request) -> None:
        """Its request is here: whatever takes time now is not its fault."""
        self.unfinished.asks(client)
        if not self._proxies.bind(request, client):
            self._warn_of_contradiction(client)

    def _warn_of_contradiction(self, client: Client) -> None:
        now = self._loop.time()
        if self._warned_at is None or now - self._warned_at >= WARN_AGAIN:
            self._warned_at = now
            logger.warning(
                "Forwarded and X-Forwarded-For name different clients, and neither is believed: "
                "have the proxy remove the one that it does not set itself (%s)",
                client,
            )

    def refused(self, client: Client) -> None:
        """It gets no connection, and is left to read why."""
        self.unfinished.refused(client)
        self.places.give_back(client)

    def opened(self, client: Client, request: Request, read: Read, write: Write) -> None:
        """It has its connection."""
        self.unfinished.discard(client)
        client.opened(request, read, write)
        self.connections._add(client)

    def ended(self, client: Client) -> None:
        """Its task has ended, wherever it was."""
        self.unfinished.discard(client)
        self.places.give_back(client)
        self.connections._discard(client.id)
