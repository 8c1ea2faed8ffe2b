"""What an application is given as `receive` and `send`, marked as coroutine functions.

What is compiled is none to `inspect`, though it returns what can be awaited; and asgiref, by which
Django Channels calls `send` from threads, warns of a callable that is none.
"""

from __future__ import annotations

import asyncio.coroutines
import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .exchange import Exchange

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[Any], Awaitable[None]]

__all__ = ["receive_and_send"]


def receive_and_send(exchange: Exchange) -> tuple[Receive, Send]:
    """The two for the application that this exchange is for."""
    next_event, send_event = exchange.receive, exchange.send

    def receive() -> Awaitable[dict[str, Any]]:
        return next_event()

    def send(event: Any) -> Awaitable[None]:
        return send_event(event)

    return _marked(receive), _marked(send)


if sys.version_info >= (3, 12):
    _marked = inspect.markcoroutinefunction
else:

    def _marked(function: Any) -> Any:
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        return function
