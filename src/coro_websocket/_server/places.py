"""How many connections a server has, in all and with each client.

The rule: a place is taken in the same step in which it is found to be free, before anything else
is awaited, and it is given back when the client's task has ended, however that ends. A request
that does not ask for an upgrade takes none: health checks are answered by a full server too.

RFC 6585 section 4 (429), RFC 9110 sections 10.2.3 (Retry-After) and 15.6.4 (503).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from .._http.answers import refusal

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .._http.opening_errors import HandshakeError
    from .client import Client

__all__ = ["Places"]

RETRY_AFTER = (5, 15)  # seconds; not the same for all, who would come back all at once


class Places:
    """The places of one server.

    Args:
        most: how many there are; None: any number.
        most_per_client: how many one client may have: those with the same IPv4 address, or the
            same first 64 bits of an IPv6 address. Clients without any address are not counted.
    """

    def __init__(self, most: int | None, most_per_client: int | None) -> None:
        self.most = most
        self.most_per_client = most_per_client
        self._taken: dict[Client, Hashable] = {}
        self._per_client: dict[Hashable, int] = {}

    def take(self, client: Client) -> None:
        """Take a place for this client; one that has its place keeps it.

        Raises:
            HandshakeError: there is none for it; the response is 503 or 429.
        """
        if client in self._taken or (self.most is None and self.most_per_client is None):
            return
        counts_as = None
        if self.most_per_client is not None and client.address is not None:
            counts_as = client.address.counts_as
            if self._per_client.get(counts_as, 0) >= self.most_per_client:
                raise _refused(
                    429, "too many connections with this client (max_connections_per_client)"
                )
        if self.most is not None and len(self._taken) >= self.most:
            raise _refused(503, "too many connections (max_connections)")
        self._taken[client] = counts_as
        if counts_as is not None:
            self._per_client[counts_as] = self._per_client.get(counts_as, 0) + 1

    def give_back(self, client: Client) -> None:
        """This client needs its place no more, if it has one."""
        if client not in self._taken:
            return
        counts_as = self._taken.pop(client)
        if counts_as is not None:
            self._per_client[counts_as] -= 1
            if not self._per_client[counts_as]:
                del self._per_client[counts_as]


def _refused(code: int, why: str) -> HandshakeError:
    return refusal(code, why, [("Retry-After", str(random.randint(*RETRY_AFTER)))])
