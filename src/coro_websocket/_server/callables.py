"""Functions that a user gives: whether they can be called as they will be."""

from __future__ import annotations

import inspect
from typing import Any

from .._quoting import clip

__all__ = ["wrong_arguments"]


def wrong_arguments(function: Any, count: int) -> str | None:
    """What to say of a function that does not take so many arguments; None if it does."""
    try:
        # Of the function that is called, not of one that it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # not every callable tells it
        return None
    try:
        signature.bind(*[None] * count)
    except TypeError:
        # The names alone: a default may be a secret.
        names = ", ".join(signature.parameters)
        return f"this one takes ({clip(names)[1:-1]})" if names else "this one takes no arguments"
    return None
