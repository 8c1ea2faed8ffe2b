"""One client of a server, from when it was accepted until its handler has ended."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Protocol

from .._connection.log import address_in_words
from .._http.client_address import ClientAddress

if TYPE_CHECKING:
    import socket

    from .._connection.read_write import Read, Write
    from .._http.request_and_response import Request
    from .._runtimes.event_loop import Running

__all__ = ["Client"]

_numbers = itertools.count(1)  # of this process


class Counting(Protocol):
    """Who has counted a client, and is told of its end."""

    def ended(self, client: Client) -> object: ...


class Client:
    """What its server knows of it. `str()` is how the log calls its connection.

    It is called once its task has ended: a bound method would be one object more for each client.
    """

    __slots__ = (
        "accepted",
        "began",
        "clients",
        "counted_by",
        "ends_server",
        "id",
        "opened_at",
        "over_tls",
        "peer",
        "proxied",
        "read",
        "request",
        "running",
        "served",
        "shown",
        "task",
        "write",
    )

    accepted: socket.socket | None  # until its task has begun
    began: float  # on the loop's clock; later by what it has waited for us since
    clients: set[Client]  # all of its server's
    counted_by: Counting | None
    ends_server: bool  # whether its handler is in a call that drains or closes the server
    id: int
    opened_at: float  # by the wall clock
    over_tls: bool  # whether its proxy says that it has come to that over TLS
    peer: Any  # the other end of the socket, as that calls it; None if it has no name
    proxied: ClientAddress | None  # the client's own, where a proxy has told us
    read: Read | None  # once its connection is open, as the others
    request: Request | None
    running: Running
    served: bool  # whether it is our turn, and it waits for us
    shown: Any  # the ServerConnection that the application has asked for, or None
    task: object  # as that knows itself
    write: Write | None

    def __init__(
        self,
        accepted: socket.socket,
        clients: set[Client],
        peer: Any = None,
        began: float = 0.0,
    ) -> None:
        self.accepted = accepted
        self.peer = peer or None
        self.began = began
        self.clients = clients
        self.counted_by = None
        self.ends_server = False
        self.id = next(_numbers)
        self.opened_at = 0.0
        self.over_tls = False
        self.proxied = None
        self.read = None
        self.request = None
        self.served = False
        self.shown = None
        self.task = None
        self.write = None
        clients.add(self)

    def __str__(self) -> str:
        who = f"connection {self.id} from {self.address or address_in_words(self.peer)}"
        if self.proxied in (None, ClientAddress.of_socket(self.peer)):
            return who
        return f"{who} through {address_in_words(self.peer)}"

    @property
    def address(self) -> ClientAddress | None:
        """The client's own, as far as it is known by now."""
        return self.proxied or ClientAddress.of_socket(self.peer)

    def begin(self, task: object) -> socket.socket:
        """Its task has begun, and takes the socket over."""
        assert self.accepted is not None
        self.task = task
        accepted, self.accepted = self.accepted, None
        return accepted

    def opened(self, request: Request, read: Read, write: Write) -> None:
        """It has its connection."""
        self.opened_at = time.time()
        self.request = request
        self.read = read
        self.write = write

    def ended(self, _running: object = None) -> None:
        """Its task has ended; one that was cancelled before it began closes no socket."""
        self.clients.discard(self)
        if self.accepted is not None:
            self.accepted.close()
        if self.counted_by is not None:
            self.counted_by.ended(self)

    __call__ = ended
