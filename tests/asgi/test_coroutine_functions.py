"""What an application is given as `receive` and `send`, to who looks at it."""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any
from unittest.mock import Mock

from coro_websocket._asgi.conversation import Conversation


async def test_they_are_coroutine_functions():
    """By the rule of each Python, as asgiref looks."""
    old = sys.version_info < (3, 12)
    is_one: Any = asyncio.iscoroutinefunction if old else inspect.iscoroutinefunction
    conversation = Conversation(Mock())
    assert is_one(conversation.receive)
    assert is_one(conversation.send)
