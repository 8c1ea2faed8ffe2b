"""Who is there: a server's open connections, as its application sees them.

The rule: an application reads it at any time, and nothing that it holds on to changes under it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .._options.url import without_query
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .._connection.read_write import Read, Write
    from .._http.request_and_response import Request
    from .client import Client

__all__ = ["Connections", "ServerConnection"]


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class ServerConnection:
    """One of the open connections of a server: see `Server.connections`.

    Attributes:
        id: its number, which no other of this process has; `req.id`, and in the log.
        began: when it was opened, in UTC.
        req: the client's request: `req.client`, `req.pathname`, `req.state` and the rest.
        read: its `read`, for `read.stats`; the messages belong to the handler.
        write: its `write`, by which anyone may send, as `write` may be used by many at once.
    """

    id: int
    began: datetime
    req: Request
    read: Read
    write: Write

    def close(self, code: int = 1000, reason: str = "") -> Awaitable[None]:
        """Close the connection, as `write.close` does: at once, and awaited until it is closed."""
        return self.write.close(code, reason)

    def __repr__(self) -> str:
        pathname = clip(without_query(self.req.pathname))
        since = self.began.isoformat(" ", "seconds")
        client = self.req.client or "a unix socket"
        return f"<ServerConnection {self.id} from {client} to {pathname} since {since}>"


class Connections(Collection[ServerConnection]):
    """The open connections of a server, in the order in which they were opened.

    A connection is in it from before its handler begins until that has ended. It always shows
    those of the moment: `len()` counts them, an iteration goes through those that there were when
    it began, `get(id)` finds one.

        for connection in server.connections:
            print(connection.id, connection.req.client, connection.read.stats.bytes_in)
    """

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[int, Client] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[ServerConnection]:
        """Those that there are now; some may have ended when it comes to them."""
        return map(_shown, tuple(self._by_id.values()))

    def __contains__(self, connection: object) -> bool:
        """Whether this connection is one of them still."""
        return isinstance(connection, ServerConnection) and self.get(connection.id) is connection

    def get(self, id: int) -> ServerConnection | None:
        """The connection with this number; None if it has ended, or there never was one."""
        client = self._by_id.get(id)
        return None if client is None else _shown(client)

    def __repr__(self) -> str:
        return f"<Connections: {len(self)} open>"

    def _add(self, client: Client) -> None:
        self._by_id[client.id] = client

    def _discard(self, id: int) -> None:
        self._by_id.pop(id, None)


def _shown(client: Client) -> ServerConnection:
    """What an application sees of it, which is made when it first looks: few ever do."""
    if client.shown is None:
        assert client.request is not None
        assert client.read is not None
        assert client.write is not None
        began = datetime.fromtimestamp(client.opened_at, UTC)
        client.shown = ServerConnection(client.id, began, client.request, client.read, client.write)
    shown: ServerConnection = client.shown
    return shown
