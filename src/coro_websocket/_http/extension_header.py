"""The `Sec-WebSocket-Extensions` header: a list of names with parameters.

RFC 6455 section 9.1. Parsing takes linear time, whatever is sent.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from .._errors import InvalidOption, InvalidOptionType
from .._options.header_rules import is_token
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._rfc6455.extension import Parameters

__all__ = ["format_extensions", "parse_extensions"]

USUAL = 128  # characters: what is longer is not kept

# One piece at a time, each decided by its first character: nothing is ever tried twice.
_PIECE = re.compile(
    r"""[ \t]*
    (?: (?P<token> [!#$%&'*+\-.^_`|~0-9A-Za-z]+ )
      | "(?P<quoted> (?: [^"\\] | \\. )* )"
      | (?P<mark> [,;=] )
      | \Z )""",
    re.VERBOSE,
)


# What is expected -> the pieces that may come, and what is expected after each. An empty element
# of the list is nothing (RFC 9110 section 5.6.1).
_EXPECTED = {
    "name": {"token": "mark", ",": "name"},
    "mark": {",": "name", ";": "parameter"},
    "parameter": {"token": "mark or value"},
    "mark or value": {",": "name", ";": "parameter", "=": "value"},
    "value": {"token": "mark", "quoted": "mark"},
}


def parse_extensions(values: Iterable[str]) -> tuple[tuple[str, Parameters], ...]:
    """The extensions in the header's values, in order; ValueError says what is wrong."""
    lines = tuple(values)
    return _parse_usual(lines) if sum(map(len, lines)) <= USUAL else _parse(lines)


@functools.lru_cache(maxsize=64)  # nearly all clients offer one of a few
def _parse_usual(values: tuple[str, ...]) -> tuple[tuple[str, Parameters], ...]:
    return _parse(values)


def _parse(values: tuple[str, ...]) -> tuple[tuple[str, Parameters], ...]:
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    for value in values:
        expected = "name"
        for kind, text in _pieces(value):
            if kind not in _EXPECTED[expected]:
                raise ValueError(f"unexpected {clip(text)}")
            if expected == "parameter":
                found[-1][1].append((text, None))
            elif expected == "value":
                name, _ = found[-1][1].pop()
                found[-1][1].append((name, _unquoted(text)))
            elif kind == "token":
                found.append((text, []))
            expected = _EXPECTED[expected][kind]
        if expected in ("parameter", "value"):
            raise ValueError(f"a {expected} is missing at the end of {clip(value)}")
    return tuple((name, tuple(parameters)) for name, parameters in found)


def _pieces(value: str) -> Iterator[tuple[str, str]]:
    """What a value is made of: "token", "quoted" or a mark, and its text."""
    at = 0
    while at < len(value):
        piece = _PIECE.match(value, at)
        if piece is None:
            raise ValueError(f"unexpected {clip(value[at : at + 40])}")
        at = piece.end()
        if piece.lastgroup is not None:
            text = piece[0].lstrip(" \t")
            yield (text if piece.lastgroup == "mark" else piece.lastgroup), text


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if not is_token(text):
        raise ValueError(f"the value {clip(text)} is not a token")
    return text


def format_extensions(extensions: Iterable[tuple[str, Parameters]]) -> str:
    """The value of the header for these extensions.

    Raises InvalidOption if one is not made of tokens, which alone cannot be taken for more than
    they are: another parameter, another header.
    """
    return ", ".join("; ".join(_written(name, parameters)) for name, parameters in extensions)


def _written(name: str, parameters: Parameters) -> Iterator[str]:
    yield _token(name, name)
    if not isinstance(parameters, (tuple, list)):
        raise InvalidOptionType(
            f"the parameters of {clip(name)} must be a tuple, not {type(parameters).__name__}",
            "extensions",
        )
    for parameter in parameters:
        if not isinstance(parameter, (tuple, list)) or len(parameter) != 2:
            raise InvalidOptionType(
                f"a parameter of {clip(name)} must be a pair of name and value", "extensions"
            )
        key, value = parameter
        yield _token(key, name) + ("" if value is None else f"={_token(value, name)}")


def _token(text: str, extension: str) -> str:
    if not isinstance(text, str):
        raise InvalidOptionType(
            f"a name or value of {clip(extension)} must be str, not {type(text).__name__}",
            "extensions",
        )
    if not is_token(text):
        raise InvalidOption(
            f"{clip(text)} in the extension {clip(extension)} is not a token "
            "(RFC 6455 section 9.1)",
            "extensions",
        )
    return text
