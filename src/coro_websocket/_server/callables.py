"""Functions that a user gives: whether they can be called as they will be."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["name_of", "takes_exactly", "wrong_arguments"]


def name_of(function: Any) -> str:
    """The name of a function, without what `functools.partial` puts around it."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def takes_exactly(function: Any, names: Sequence[str]) -> bool:
    """Whether these are the names of a function's parameters, as far as it tells them."""
    try:
        return [*inspect.signature(function).parameters] == [*names]
    except (TypeError, ValueError):
        return False


def wrong_arguments(
    function: Any, count: int, named: Iterable[str] = (), *, more: bool = False
) -> str | None:
    """What to say of a function that does not take so many arguments; None if it does.

    Args:
        named: the names of those that it gets as keyword arguments besides.
        more: whether it may get more of these.
    """
    try:
        # Of the function that is called, not of one that it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # not every callable tells it
        return None
    try:
        bind = signature.bind_partial if more else signature.bind
        bind(*[None] * count, **dict.fromkeys(named))
    except TypeError:
        # The names alone: a default may be a secret.
        names = ", ".join(signature.parameters)
        return f"this one takes ({clip(names)[1:-1]})" if names else "this one takes no arguments"
    return None
