"""Asking the system for a host's addresses, in threads of our own.

The rule: a look-up cannot be interrupted, so one that hangs must keep nothing else waiting. A
thread of the loop's executor would: `asyncio.run` joins it at the end, and it has few of them.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._quoting import clip

if TYPE_CHECKING:
    from .event_loop import Event, SocketLoop

__all__ = ["host_with_zone", "look_up", "look_up_to_listen", "scoped"]

MOST = 32  # threads at a time; what is asked beyond that waits its turn


@dataclass(slots=True, eq=False)
class Question:
    loop: SocketLoop
    answered: Event
    host: str | None
    port: int
    family: int
    flags: int
    found: list[tuple[Any, ...]] = field(default_factory=list)
    error: Exception | None = None

    def settle(self, found: list[tuple[Any, ...]], error: Exception | None) -> None:
        self.found, self.error = found, error
        self.answered.set()


class Threads:
    """The threads that look up, for all loops of the process; each ends when none is waiting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: collections.deque[Question] = collections.deque()
        self._running = 0

    def put(self, question: Question) -> None:
        with self._lock:
            self._waiting.append(question)
            if self._running == MOST:
                return
            self._running += 1
        try:
            threading.Thread(target=self._run, name="look-up of a host", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            with self._lock:
                self._running -= 1
            self.withdraw(question)
            raise OSError(str(error)) from error

    def withdraw(self, question: Question) -> None:
        """The answer is no longer wanted."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(question)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                question = self._waiting.popleft()
            found, failure = [], None
            try:
                found = socket.getaddrinfo(
                    question.host,
                    question.port,
                    question.family,
                    socket.SOCK_STREAM,
                    flags=question.flags,
                )
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                question.loop.call_soon(question.settle, found, failure)
            del question, found, failure


threads = Threads()


def _begin_again() -> None:
    """In a forked child: none of the threads is there, and the lock may be taken."""
    global threads
    threads = Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


async def look_up(
    loop: SocketLoop, host: str | None, port: int, family: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    """What `socket.getaddrinfo` says of a host, for streams. Raises OSError and UnicodeError."""
    question = Question(loop, loop.event(), host, port, family, flags)
    ours = threads
    ours.put(question)
    try:
        await question.answered.wait()
    finally:
        ours.withdraw(question)
    if question.error is not None:
        try:
            raise question.error
        finally:
            del question  # which refers to the error, and that to this frame
    return question.found


async def look_up_to_listen(loop: SocketLoop, host: str, port: int) -> list[tuple[Any, ...]]:
    """What to listen on at a host, at every address for "". Raises OSError and UnicodeError."""
    if "%" in host:  # the error for a zone says more than the system's
        address = scoped((host, port))
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
    return await look_up(loop, host or None, port, flags=socket.AI_PASSIVE)


# The zone of an IPv6 address (RFC 4007 section 11).


def scoped(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """A socket address with the zone of its host as a scope id, without which it is not used.

    Raises OSError if this machine has no such network interface (RFC 4007 section 11).
    """
    host, _, zone = str(address[0]).partition("%")
    if not zone:
        return address
    try:
        if zone.isdigit():
            scope = int(zone)
            socket.if_indextoname(scope)
        else:
            scope = socket.if_nametoindex(zone)
    except (OSError, OverflowError, ValueError):  # no name, and no number of one
        raise OSError(
            f"this machine has no network interface {clip(zone, 64)} (the IPv6 zone)"
        ) from None
    return host, address[1], 0, scope


def host_with_zone(address: tuple[Any, ...]) -> str:
    """The host of a socket address as the system gives it, with its zone, if it has one."""
    host, scope = str(address[0]), address[3] if len(address) > 3 else 0
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface has gone
        return f"{host}%{scope}"
