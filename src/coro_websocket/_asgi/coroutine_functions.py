"""Compiled functions that return what can be awaited, marked as coroutine functions.

They are none to `inspect`, and asgiref, by which Django Channels calls `send` from threads, warns
of a callable that is none. A wrapper in Python would cost a fifteenth of what a message does.
"""

from __future__ import annotations

import asyncio.coroutines
import contextlib
import inspect
import sys
from typing import Any

__all__ = ["mark_as_coroutine_function"]


if sys.version_info >= (3, 12):
    mark_as_coroutine_function = inspect.markcoroutinefunction
else:

    def mark_as_coroutine_function(function: Any) -> Any:
        """As inspect.markcoroutinefunction of Python 3.12, for asyncio.iscoroutinefunction."""
        with contextlib.suppress(AttributeError):  # of Cython before 3.3, which has one of its own
            function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        return function
