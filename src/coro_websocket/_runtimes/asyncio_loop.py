"""What opening and serving ask of asyncio's event loops, uvloop's among them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from .._errors import OtherEventLoopError
from .asyncio_runtime import runtime_of
from .event_loop import ENDS_THE_PROGRAM
from .nonblocking import EachTime, NonBlockingSockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from .event_loop import Acceptor, Event, Watch, Work
    from .runtime import Runtime

__all__ = ["AsyncioLoop", "ProactorAcceptor", "asyncio_loop"]

PROACTOR: Any = getattr(asyncio, "ProactorEventLoop", ())
TIME_TO_END = 1.0  # seconds that a call has once its listener is closed


class AsyncioLoop(NonBlockingSockets):
    """A loop that has `add_reader`. `loop` is asyncio's own."""

    __slots__ = ("_context", "loop")

    spawns = True
    watches_sockets = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context: contextvars.Context | None = None  # of what is called when a task has ended

    @property
    def runtime(self) -> Runtime:
        return runtime_of(self.loop)

    def is_closed(self) -> bool:
        return self.loop.is_closed()

    def check_runs_here(self, call: str) -> None:
        if asyncio._get_running_loop() is not self.loop:
            raise OtherEventLoopError(
                f"{call} was called where the server's event loop does not run: a server belongs "
                "to the loop in which it was started. In another thread, use "
                f"asyncio.run_coroutine_threadsafe({call}, loop)"
            )

    # Time and tasks

    def time(self) -> float:
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def limit(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)

    def end(self, limit: asyncio.Timeout) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            limit.reschedule(self.loop.time())

    def event(self) -> Event:
        return asyncio.Event()

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        self.loop.call_soon_threadsafe(function, *arguments)

    def spawn(
        self, work: Work, ended: Callable[[Any], object] | None = None
    ) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work())
        if ended is not None:
            if self._context is None:  # one for all: a copy would be kept for as long as each task
                self._context = contextvars.copy_context()
            task.add_done_callback(ended, context=self._context)
        return task

    async def wait(
        self, tasks: Collection[Any], within: float | None = None, *, first: bool = False
    ) -> None:
        if tasks:
            until = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
            await asyncio.wait(tasks, timeout=within, return_when=until)

    def current_task(self) -> object:
        return asyncio.current_task()

    def is_cancellation(self, error: BaseException) -> bool:
        # A future that somebody has cancelled raises the same error where it is awaited.
        if not isinstance(error, asyncio.CancelledError):
            return False  # perhaps no loop runs any more
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0

    def is_failure(self, error: BaseException) -> bool:
        return not isinstance(error, ENDS_THE_PROGRAM) and not self.is_cancellation(error)

    # Sockets

    def watch(self, sock: socket.socket) -> Watch:
        return KeptWatch(self, sock)

    async def readable(self, sock: socket.socket) -> None:
        await self._ready(sock, self.loop.add_reader, self.loop.remove_reader)

    async def writable(self, sock: socket.socket) -> None:
        await self._ready(sock, self.loop.add_writer, self.loop.remove_writer)

    async def _ready(
        self, sock: socket.socket, watch: Callable[..., object], unwatch: Callable[[int], object]
    ) -> None:
        descriptor = sock.fileno()
        ready = self.loop.create_future()
        watch(descriptor, _settle, ready)
        try:
            await ready
        finally:
            unwatch(descriptor)


class KeptWatch:
    """A `Watch` that leaves the socket watched: to begin and to end that takes system calls.

    A loop tells again and again that there is something: where nobody waits for it, the socket is
    watched no more.
    """

    __slots__ = ("_descriptor", "_loop", "_sock", "_told", "_waiting", "kept")

    def __init__(self, loop: AsyncioLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._waiting: asyncio.Future[None] | None = None
        self._told = False
        self.kept = False

    async def receive(self, most: int) -> bytes:
        while True:
            try:
                return self._sock.recv(most)
            except BlockingIOError:
                await self.readable()

    async def readable(self) -> None:
        self._waiting = self._loop.loop.create_future()
        try:
            if not self.kept:
                self._loop.loop.add_reader(self._descriptor, self._ready)
                self.kept = True
            await self._waiting
        finally:
            self._waiting = None

    def _ready(self) -> None:
        if self._waiting is not None:
            _settle(self._waiting)
            self._told = True
        elif self._told:  # asyncio tells again before a task that was told has received
            self._told = False
        else:
            self.close()

    async def writable(self) -> None:
        await self._loop.writable(self._sock)

    def close(self) -> None:
        if self.kept:
            self.kept = False
            self._loop.loop.remove_reader(self._descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class TransportsOnlyLoop(AsyncioLoop):
    """A loop without `add_reader`, such as Windows' proactor; its calls for sockets are its own."""

    __slots__ = ()

    watches_sockets = False

    def watch(self, sock: socket.socket) -> Watch:
        return EachTime(self, sock)

    async def connect(self, sock: socket.socket, address: Any) -> None:
        await self.loop.sock_connect(sock, address)

    async def receive(self, sock: socket.socket, most: int) -> bytes:
        return await self.loop.sock_recv(sock, most)

    async def send(self, sock: socket.socket, data: bytes) -> None:
        await self.loop.sock_sendall(sock, data)

    def acceptor(self, listener: socket.socket) -> Acceptor:
        kind = ProactorAcceptor if isinstance(self.loop, PROACTOR) else LoopsAcceptor
        return kind(self.loop, listener)


class LoopsAcceptor:
    """Accepts by the loop's own call."""

    __slots__ = ("_listener", "_loop")

    ends_with_listener = False

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        self._listener = listener
        self._loop = loop

    async def accept(self) -> tuple[socket.socket, Any]:
        return await self._loop.sock_accept(self._listener)

    def close(self) -> None:
        pass

    async def last(self) -> tuple[socket.socket, Any] | None:
        return None


class ProactorAcceptor(LoopsAcceptor):
    """Accepts by the proactor's call.

    That loses its client if it is cancelled when the system has accepted one. So it is left to
    itself until the listener is closed, and whoever accepts next is given its client.
    """

    __slots__ = ("_accepting",)

    ends_with_listener = True

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        super().__init__(loop, listener)
        self._accepting: asyncio.Task[tuple[socket.socket, Any]] | None = None

    async def accept(self) -> tuple[socket.socket, Any]:
        if self._accepting is None:
            self._accepting = self._loop.create_task(super().accept())
        accepting = self._accepting
        await asyncio.wait([accepting])
        self._accepting = None
        return accepting.result()

    async def last(self) -> tuple[socket.socket, Any] | None:
        accepting, self._accepting = self._accepting, None
        if accepting is None:
            return None
        await asyncio.wait([accepting], timeout=TIME_TO_END)
        accepting.cancel()
        await asyncio.wait([accepting])
        if accepting.cancelled() or accepting.exception() is not None:
            return None
        return accepting.result()


_kinds: dict[type[asyncio.AbstractEventLoop], type[AsyncioLoop]] = {}


def asyncio_loop(loop: asyncio.AbstractEventLoop) -> AsyncioLoop:
    """What an event loop of asyncio's gives us."""
    kind = _kinds.get(type(loop))
    if kind is None:
        kind = _kinds[type(loop)] = AsyncioLoop if _has_add_reader(loop) else TransportsOnlyLoop
    return kind(loop)


def _has_add_reader(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        loop.remove_reader(-1)
    except NotImplementedError:
        return False
    except (OSError, ValueError):  # there is no such descriptor
        pass
    return True
