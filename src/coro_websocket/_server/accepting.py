"""Accepting connections from a listening socket.

The rule: whatever clients do and whatever accept() says, the event loop goes on. A few are
accepted in each of its turns, and an error that stays is met with a pause.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from .._connection.log import address_in_words
from .log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtimes.event_loop import Acceptor, SocketLoop
    from .unfinished import Unfinished

__all__ = ["ACCEPTS_PER_TURN", "CLIENT_HAS_GONE", "accept_connections"]

ACCEPTS_PER_TURN = 16  # of all listeners of a server
PAUSE = 1.0  # seconds after an error
LOG_AGAIN = 60.0  # seconds until an error that stays is logged again

# What accept() says of a client that has gone, or of the network it came from: see accept(2).
CLIENT_HAS_GONE = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EPROTO",
    )
    if hasattr(errno, name)
)
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})  # of this process, of the system
PAUSE_OF_CLIENTS = 0.01  # seconds, where many clients in succession have gone


def _close(accepted: socket.socket, _address: Any) -> None:
    accepted.close()


async def accept_connections(
    loop: SocketLoop,
    listener: socket.socket,
    most: int,
    begin: Callable[[socket.socket, Any], None],
    unfinished: Unfinished,
    leave: Callable[[socket.socket], object] = socket.socket.close,
    turn_away: Callable[[socket.socket, Any], object] = _close,
) -> None:
    """Give `begin` each connection with its peer's address until cancelled; `leave` the listener.

    At most `most` are accepted in a turn of the loop: what each costs is paid before the next.
    Where there is no room for one more, or no descriptor, `unfinished` makes some; one that waits
    for it when this is cancelled is given to `turn_away`, as is one accepted in that moment.
    """
    log = _ErrorLog(loop, address_in_words(listener.getsockname()))
    acceptor = loop.acceptor(listener)
    failures = 0  # in succession
    try:
        while listener.fileno() >= 0:
            for _ in range(most):
                pause = 0.0
                try:
                    accepted, address = await acceptor.accept()
                    failures = 0
                    if unfinished.full:
                        try:
                            await unfinished.room()
                        except BaseException:
                            turn_away(accepted, address)
                            raise
                    begin(accepted, address)
                except Exception as error:
                    if listener.fileno() < 0:
                        break
                    failures += 1
                    if await _has_room_now(error, unfinished):
                        log.write(error)
                    elif getattr(error, "errno", None) not in CLIENT_HAS_GONE:
                        pause = PAUSE
                    elif failures >= most:
                        pause = PAUSE_OF_CLIENTS
                    if pause:
                        log.write(error)
                if pause:
                    await loop.sleep(pause)
            await loop.sleep(0)
    finally:
        acceptor.close()
        try:
            if not acceptor.ends_with_listener:
                await _turn_away_last(acceptor, turn_away)
        finally:
            leave(listener)  # also where the loop ends and nobody has closed the server
        if acceptor.ends_with_listener:
            await _turn_away_last(acceptor, turn_away)


async def _turn_away_last(
    acceptor: Acceptor, turn_away: Callable[[socket.socket, Any], object]
) -> None:
    client = await acceptor.last()
    if client is not None:
        turn_away(*client)


async def _has_room_now(error: Exception, unfinished: Unfinished) -> bool:
    """Whether that was for want of descriptors, and some could be had."""
    if getattr(error, "errno", None) not in NO_DESCRIPTORS:
        return False
    return await unfinished.free_descriptors("there were no more descriptors")


class _ErrorLog:
    """A line for each error at once, and now and then for one that stays."""

    def __init__(self, loop: SocketLoop, where: str) -> None:
        self.loop = loop
        self.where = where
        self.written_at: dict[object, float] = {}

    def write(self, error: Exception) -> None:
        kind = getattr(error, "errno", None) or type(error)
        now = self.loop.time()
        before = self.written_at.get(kind)
        if before is None or now - before >= LOG_AGAIN:
            self.written_at[kind] = now
            why = getattr(error, "strerror", None) or repr(error)
            logger.error("cannot accept a connection on %s: %s", self.where, why)
