"""One client of a server, from when it was accepted until its handler has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from .._connection.read_write import Write
    from .._runtimes.event_loop import Running
    from .._streams.user_socket import ConnectionSocket

__all__ = ["Client"]


class Client:
    """What its server knows of it."""

    __slots__ = ("accepted", "clients", "ends_server", "running", "sock", "task", "write")

    accepted: socket.socket | None  # until its task has begun
    clients: set[Client]  # all of its server's
    ends_server: bool  # whether its handler is in a call that drains or closes the server
    running: Running
    sock: ConnectionSocket | None  # once its connection is open
    task: object  # as that knows itself
    write: Write | None  # once its connection is open

    def __init__(self, accepted: socket.socket, clients: set[Client]) -> None:
        self.accepted = accepted
        self.clients = clients
        self.ends_server = False
        self.sock = None
        self.task = None
        self.write = None
        clients.add(self)

    def begin(self, task: object) -> socket.socket:
        """Its task has begun, and takes the socket over."""
        assert self.accepted is not None
        self.task = task
        accepted, self.accepted = self.accepted, None
        return accepted

    def ended(self, _running: Running) -> None:
        """Its task has ended; one that was cancelled before it began closes no socket."""
        self.clients.discard(self)
        if self.accepted is not None:
            self.accepted.close()
