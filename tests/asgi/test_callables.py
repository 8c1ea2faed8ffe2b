"""What an application is given as `receive` and `send`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any
from unittest.mock import Mock

from coro_websocket._asgi.callables import receive_and_send
from coro_websocket._asgi.exchange import Exchange


def test_they_are_coroutine_functions_to_who_looks():
    """As asgiref does, which has a rule for each Python."""
    old = sys.version_info < (3, 12)
    is_one: Any = asyncio.iscoroutinefunction if old else inspect.iscoroutinefunction
    receive, send = receive_and_send(Mock(spec=Exchange))
    assert is_one(receive)
    assert is_one(send)
