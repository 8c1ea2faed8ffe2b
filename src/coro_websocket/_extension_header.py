"""The `Sec-WebSocket-Extensions` header: a list of names with parameters.

RFC 6455 section 9.1. Parsing takes linear time, whatever is sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._errors import InvalidOption, InvalidOptionType
from ._header_rules import is_token
from ._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .extensions import Parameters

__all__ = ["format_extensions", "parse_extensions"]


# One piece at a time, each decided by its first character: nothing is ever tried twice.
_PIECE = re.compile(
    r"""[ \t]*
    (?: (?P<token> [!#$%&'*+\-.^_`|~0-9A-Za-z]+ )
      | "(?P<quoted> (?: [^"\\] | \\. )* )"
      | (?P<mark> [,;=] )
      | \Z )""",
    re.VERBOSE,
)


def parse_extensions(values: Iterable[str]) -> tuple[tuple[str, Parameters], ...]:
    """The extensions in the header's values, in order; ValueError says what is wrong."""
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
                    raise ValueError(f"the value {clip(text)} is not a token")
                found[-1][1][-1] = (found[-1][1][-1][0], text)
                expected = "mark"
            else:
                raise ValueError(f"unexpected {clip(piece[0].strip())}")
        if expected in ("parameter", "value"):
            raise ValueError(f"a {expected} is missing at the end of {clip(value)}")
    return tuple((name, tuple(parameters)) for name, parameters in found)


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
