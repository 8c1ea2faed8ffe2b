"""What arguments and options are checked for in every room: their type, their range, their name.

The rule: a bool does not count as an int. To Python True is 1, but `port=True` is a mistake.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, TypeGuard

from ._errors import InvalidOption, InvalidOptionType
from ._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["check_int", "check_names", "is_int", "wrong_type"]


def is_int(value: object) -> TypeGuard[int]:
    """Whether this is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_int(
    name: str,
    value: object,
    least: int,
    most: int | None = None,
    *,
    or_none: bool = False,
    span: str | None = None,
    option: str | None = None,
) -> int:
    """`value`, if it is an int from `least` to `most`; else InvalidOption or InvalidOptionType.

    Args:
        name: what the error calls it.
        or_none: whether the error says that None may be given too.
        span: what the error says it must be, where that is more than the two numbers.
        option: the option to name in the error; by default `name`.
    """
    if not is_int(value):
        raise wrong_type(name, "int or None" if or_none else "int", value, option)
    if value < least or (most is not None and value > most):
        if span is None:
            span = f"{least} or more" if most is None else f"from {least} to {most}"
            span += ", or None" if or_none else ""
        raise InvalidOption(f"{name} must be {span}, not {_number(value)}", option or name)
    return value


def _number(value: int) -> str:
    # Python refuses to write very large numbers in decimal.
    return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"


def wrong_type(
    name: str, expected: str, value: object, option: str | None = None
) -> InvalidOptionType:
    """The error for a value of a type that cannot be used. It shows the type only."""
    return InvalidOptionType(
        f"{name} must be {expected}, not {type(value).__name__}", option or name
    )


def check_names(
    given: Iterable[object],
    known: Sequence[str],
    what: str,
    instead: Mapping[str, str] | None = None,
) -> None:
    """InvalidOptionType if a name in `given` is not one of `known`; it suggests a known one.

    `instead` has what to say for names that other libraries use.
    """
    for name in given:
        if not isinstance(name, str):
            raise InvalidOptionType(f"the name of a {what} must be str, not {type(name).__name__}")
        if name in known:
            continue
        hint = (instead or {}).get(name)
        if hint is None:
            close = difflib.get_close_matches(name[:64], known, 1)
            hint = f"did you mean {close[0]!r}?" if close else "there are " + ", ".join(known)
        raise InvalidOptionType(f"no {what} is called {clip(name, 64)}: {hint}", name)
