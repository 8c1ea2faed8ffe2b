"""The `Sec-WebSocket-Extensions` header: a list of names with parameters.

RFC 6455 section 9.1. Parsing takes linear time, whatever is sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from ._headers import clip, is_token

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Parameters", "format_extensions", "parse_extensions"]

Parameters: TypeAlias = tuple[tuple[str, str | None], ...]
"""An extension's parameters in the order sent; None for one without a value."""

# One piece at a time, each decided by its first character: nothing is ever tried twice.
_PIECE = re.compile(
    r"""[ \t]*
    (?: (?P<token> [!#$%&'*+\-.^_`|~0-9A-Za-z]+ )
      | "(?P<quoted> (?: [^"\\] | \\. )* )"
      | (?P<mark> [,;=] )
      | $ )""",
    re.VERBOSE,
)


def parse_extensions(values: Iterable[str]) -> tuple[tuple[str, Parameters], ...]:
    """The extensions in the header's values, in order; ValueError says what is no list of them."""
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    for value in values:
        expected = "name"
        at = 0
        while at < len(value):
            piece = _PIECE.match(value, at)
            if piece is None:
                raise ValueError(f"unexpected {clip(value[at : at + 40])}")
            at = piece.end()
            token, quoted, mark = piece["token"], piece["quoted"], piece["mark"]
            if token is None and quoted is None and mark is None:
                break
            if mark is not None:
                if mark == "," and expected in ("mark", "mark or value", "name"):
                    expected = "name"  # an empty element is nothing (RFC 9110 section 5.6.1)
                elif mark == ";" and expected in ("mark", "mark or value"):
                    expected = "parameter"
                elif mark == "=" and expected == "mark or value":
                    expected = "value"
                else:
                    raise ValueError(f"unexpected {mark!r}")
            elif expected == "name" and token is not None:
                found.append((token, []))
                expected = "mark"
            elif expected == "parameter" and token is not None:
                found[-1][1].append((token, None))
                expected = "mark or value"
            elif expected == "value":
                text = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
                if not is_token(text):
                    raise ValueError(f"the value {clip(text)} is no token")
                found[-1][1][-1] = (found[-1][1][-1][0], text)
                expected = "mark"
            else:
                raise ValueError(f"unexpected {clip(piece[0].strip())}")
        if expected in ("parameter", "value"):
            raise ValueError(f"a {expected} is missing at the end of {clip(value)}")
    return tuple((name, tuple(parameters)) for name, parameters in found)


def format_extensions(extensions: Iterable[tuple[str, Parameters]]) -> str:
    """The value of the header for these extensions."""
    return ", ".join(
        "; ".join(
            [name, *(key if value is None else f"{key}={value}" for key, value in parameters)]
        )
        for name, parameters in extensions
    )
