"""The few things that opening, serving and `wrap_io` ask of an event loop.

They run once per connection, or less often. What a connection does for each message is a
`Runtime`'s. Sockets are given to an event loop by what is to be done with them, and not by what
they are ready for: Windows' proactor tells only when something has been done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from .runtime import Runtime

    Work = Callable[[], Awaitable[None]]

__all__ = [
    "ENDS_THE_PROGRAM",
    "Acceptor",
    "Event",
    "Limit",
    "Loop",
    "Running",
    "SocketLoop",
    "Watch",
]


# What leaves the loop, or a coroutine that nobody runs any more. Every other BaseException that is
# not a cancellation is a failure of whoever raised it: an event loop would keep it in its task.
ENDS_THE_PROGRAM = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Event(Protocol):
    def set(self) -> object: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Running(Protocol):
    """Work that goes on by itself."""

    def cancel(self) -> object: ...
    def done(self) -> bool: ...


class Watch(Protocol):
    """Waits for one socket, and may have the loop watch it from one time to the next."""

    @property
    def kept(self) -> bool:
        """Whether the loop watches it now: whoever has it do so next takes the place of this."""
        ...

    async def receive(self, most: int) -> bytes:
        """As the loop's own."""
        ...

    async def readable(self) -> None:
        """Wait until something can be received, or accepted. It may return too early."""
        ...

    async def writable(self) -> None:
        """Wait until something can be sent."""
        ...

    def close(self) -> None:
        """Watch it no more; its descriptor is still open."""
        ...


class Acceptor(Protocol):
    """Accepts the clients of one listener.

    `ends_with_listener`: what it has begun is ended by closing the listener, and before that it
    may accept one more client.
    """

    @property
    def ends_with_listener(self) -> bool: ...

    async def accept(self) -> tuple[socket.socket, Any]:
        """A client's socket and address; one is never lost by a cancellation. Raises OSError."""
        ...

    def close(self) -> None:
        """Accept no more; the listener stays open."""
        ...

    async def last(self) -> tuple[socket.socket, Any] | None:
        """End it: a client that was accepted when `accept` was cancelled, if there is one."""
        ...


class Limit(Protocol):
    """The deadline of a block."""

    def expired(self) -> bool:
        """Whether the block was ended because it took too long; it then raises TimeoutError."""
        ...


class Loop(Protocol):
    """Tasks, and how they end.

    `spawns` says whether it can run work by itself and let one task wait for another.
    """

    spawns: bool

    @property
    def runtime(self) -> Runtime:
        """What the connections of this loop share."""
        ...

    def is_closed(self) -> bool:
        """Whether nothing runs on it any more, though work may have been left unfinished."""
        ...

    def event(self) -> Event: ...

    def spawn(self, work: Work, ended: Callable[[Any], object] | None = None) -> Running:
        """Run the work in a task of its own.

        ended: called with the task once that is over, also if it is cancelled before it begins.
        """
        ...

    async def sleep(self, seconds: float) -> None: ...

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether the running task is being cancelled, and this is what tells it so."""
        ...

    def is_failure(self, error: BaseException) -> bool:
        """Whether the code that raised this has failed: it was not cancelled, nor told to exit."""
        ...


class SocketLoop(Loop, Protocol):
    """What opening and serving need besides. Its sockets are non-blocking."""

    @property
    def watches_sockets(self) -> bool:
        """Whether it can tell when a socket is ready, as the streams of ours need it."""
        ...

    def check_runs_here(self, call: str) -> None:
        """Raise OtherEventLoopError, which tells what to do, if the caller does not run on it.

        call: what was called of a server, as in "server.close()".
        """
        ...

    def time(self) -> float: ...

    def limit(self, seconds: float | None) -> AbstractAsyncContextManager[Limit]:
        """A block that may take so many seconds; None: any number."""
        ...

    def end(self, limit: Any) -> None:
        """End the block of a `limit` now, as if its time were over."""
        ...

    def current_task(self) -> object: ...

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call it in the next turn of the loop. Any thread may ask for that.

        Raises RuntimeError if the loop has ended.
        """
        ...

    async def wait(
        self, tasks: Collection[Running], within: float | None = None, *, first: bool = False
    ) -> None:
        """Wait for at most so many seconds until all have ended, or only the `first` of them."""
        ...

    def watch(self, sock: socket.socket) -> Watch:
        """What waits for this socket."""
        ...

    async def connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to a resolved address. Raises OSError."""
        ...

    async def receive(self, sock: socket.socket, most: int) -> bytes:
        """The next bytes; b"" at the end of the stream. Raises OSError."""
        ...

    async def send(self, sock: socket.socket, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        ...

    def acceptor(self, listener: socket.socket) -> Acceptor:
        """What accepts the clients of this listener: one for as long as that is served."""
        ...
