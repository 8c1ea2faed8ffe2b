"""One client of a server, from when it was accepted until its handler has ended."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .._connection.log import address_in_words
from .._http.client_address import ClientAddress

if TYPE_CHECKING:
    import socket

    from .._connection.read_write import Write
    from .._runtimes.event_loop import Running
    from .._streams.user_socket import ConnectionSocket

__all__ = ["Client"]

_numbers = itertools.count(1)  # of this process


class Client:
    """What its server knows of it. `str()` is how the log calls its connection."""

    __slots__ = (
        "accepted",
        "address",
        "began",
        "clients",
        "ends_server",
        "id",
        "over_tls",
        "peer",
        "running",
        "served",
        "sock",
        "task",
        "write",
    )

    accepted: socket.socket | None  # until its task has begun
    address: ClientAddress | None  # the client's own, as far as it is known by now
    began: float  # on the loop's clock; later by what it has waited for us since
    clients: set[Client]  # all of its server's
    ends_server: bool  # whether its handler is in a call that drains or closes the server
    id: int
    over_tls: bool  # whether its proxy says that it has come to that over TLS
    peer: Any  # the other end of the socket, as that calls it; None if it has no name
    running: Running
    served: bool  # whether it is our turn, and it waits for us
    sock: ConnectionSocket | None  # once its connection is open
    task: object  # as that knows itself
    write: Write | None  # once its connection is open

    def __init__(
        self,
        accepted: socket.socket,
        clients: set[Client],
        peer: Any = None,
        began: float = 0.0,
    ) -> None:
        self.accepted = accepted
        self.peer = peer or None
        self.address = ClientAddress.of_socket(peer)
        self.began = began
        self.clients = clients
        self.ends_server = False
        self.id = next(_numbers)
        self.over_tls = False
        self.served = False
        self.sock = None
        self.task = None
        self.write = None
        clients.add(self)

    def __str__(self) -> str:
        who = f"connection {self.id} from {self.address or address_in_words(self.peer)}"
        if self.address in (None, ClientAddress.of_socket(self.peer)):
            return who
        return f"{who} through {address_in_words(self.peer)}"

    def begin(self, task: object) -> socket.socket:
        """Its task has begun, and takes the socket over."""
        assert self.accepted is not None
        self.task = task
        accepted, self.accepted = self.accepted, None
        return accepted

    def ended(self, _running: object = None) -> None:
        """Its task has ended; one that was cancelled before it began closes no socket."""
        self.clients.discard(self)
        if self.accepted is not None:
            self.accepted.close()
