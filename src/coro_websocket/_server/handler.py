"""What may handle the connections of a server: `serve` refuses a mistake at once.

The rule: only what cannot be a handler is refused. A function that is not `async def` may return an
awaitable all the same; of these, lambdas and what wraps a coroutine function are let through.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from .._errors import InvalidOptionType
from .._quoting import clip

__all__ = ["check_handler"]

_EXPECTED = "handler must be a coroutine function, async def handler(req, read, write)"


def check_handler(handler: object) -> None:
    """InvalidOptionType if this cannot be awaited when it is called with three arguments."""
    wrong = _not_a_coroutine_function(handler) or _wrong_arguments(handler)
    if wrong is not None:
        raise InvalidOptionType(f"{_EXPECTED}: {wrong}", "handler")


def _not_a_coroutine_function(handler: Any) -> str | None:
    if inspect.iscoroutine(handler):
        handler.close()  # nobody will await it, of which Python would warn
        return "pass the function itself, without calling it"
    if not callable(handler):
        return f"{type(handler).__name__} cannot be called"
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isclass(handler):
        return None if hasattr(handler, "__await__") else "this is a class"
    if inspect.isasyncgenfunction(handler):
        return "there is a yield in it"
    if inspect.isfunction(handler) or inspect.ismethod(handler):
        wrapped = inspect.unwrap(handler)
        if not (
            inspect.iscoroutinefunction(handler)
            or inspect.iscoroutinefunction(wrapped)
            or getattr(wrapped, "__name__", "<lambda>") == "<lambda>"
        ):
            return f"{clip(handler.__name__)} is a plain def, put async before it"
    return None


def _wrong_arguments(handler: Any) -> str | None:
    try:
        # Of the function that is called, not of one that it wraps.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # not every callable tells it
        return None
    try:
        signature.bind(None, None, None)
    except TypeError:
        # The names alone: a default may be a secret.
        names = ", ".join(signature.parameters)
        return f"this one takes ({clip(names)[1:-1]})" if names else "this one takes no arguments"
    return None
