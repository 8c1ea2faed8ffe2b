"""Closing a server's clients: those with a connection are told, the others are cancelled.

The rule: the caller is not waited for, so that a handler may close its own server; every other
handler has `close_timeout` seconds to return once its connection is closed, and then is cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._runtimes.event_loop import SocketLoop
    from .client import Client

__all__ = ["cancel_others", "close_others"]


async def close_others(
    loop: SocketLoop, clients: Iterable[Client], code: int, reason: str, within: float | None
) -> None:
    """Close every connection, and wait for the handlers; cancel those that take too long."""
    others = _others(loop, clients)
    closings = []
    for client in others:
        if client.write is None:  # still in its opening handshake
            client.running.cancel()
        else:
            closings.append(client.write.close(code, reason))
    try:
        for closing in closings:
            await closing
    finally:
        for closing in closings:
            closing.close()  # of those that nobody awaits any more
    running = [client.running for client in others]
    await loop.wait(running, within)
    late = [each for each in running if not each.done()]
    for each in late:
        each.cancel()
    await loop.wait(late)


def cancel_others(loop: SocketLoop, clients: Iterable[Client]) -> None:
    for client in _others(loop, clients):
        client.running.cancel()


def _others(loop: SocketLoop, clients: Iterable[Client]) -> list[Client]:
    current = loop.current_task()
    return [client for client in clients if client.task is not current]
