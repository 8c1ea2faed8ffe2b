"""Patterns of paths, `/chat/{room}`, as werkzeug's rules, `/chat/<string:room>`.

The rule: what stands outside of braces is text and means itself. What no path can have, what
werkzeug would read in another way than it looks, and what would take long to match, is an
InvalidOption.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from typing import TypeAlias

from .._checks import wrong_type
from .._errors import InvalidOption
from .._quoting import clip

__all__ = ["Parameter", "Pattern", "join_patterns", "parse_pattern"]

_PIECE = re.compile(r"\{([^{}]*)\}|([^{}]+)")
_PARAMETER = re.compile(
    r"([a-z_][a-z0-9_]*)(?::([a-z_][a-z0-9_]*)(?:\((.*)\))?)?", re.IGNORECASE | re.ASCII
)
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_ELSEWHERE = re.compile(r"/(?::[a-z_]|\*+(?:/|$))", re.IGNORECASE)  # "/:name", "/*"
_NO_TEXT = frozenset({"int", "float", "uuid", "any"})
_MOST_TEXTS = 2  # in a segment: each more would be another power in the time to match it

_Arguments: TypeAlias = tuple[tuple[object, ...], tuple[tuple[str, object], ...]]


@dataclass(frozen=True)
class Parameter:
    """A parameter: its name, and the converter with the arguments by position and by name."""

    name: str
    converter: str
    arguments: _Arguments


@dataclass(frozen=True)
class Pattern:
    """A pattern that was read: text and parameters in turn, without a slash at the end.

    Attributes:
        text: as it was written.
        pieces: what it consists of.
        split: the parameters that begin a segment of several.
    """

    text: str
    pieces: tuple[str | Parameter, ...]
    split: frozenset[str]

    @property
    def rule(self) -> str:
        """As werkzeug writes it; the converters' arguments are not in it."""
        return "".join(
            piece if isinstance(piece, str) else f"<{piece.converter}:{piece.name}>"
            for piece in self.pieces
        )

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by name, in order."""
        return {piece.name: piece for piece in self.pieces if isinstance(piece, Parameter)}

    @property
    def shape(self) -> tuple[object, ...]:
        """What is the same for patterns that differ in the names of their parameters alone."""
        return tuple(
            piece if isinstance(piece, str) else (piece.converter, piece.arguments)
            for piece in self.pieces
        )


def parse_pattern(text: object) -> Pattern:
    """Read a pattern: text with `{name}`, `{name:converter}` or `{name:converter(arguments)}`.

    Raises:
        InvalidOption: it is none; the error says what is wrong.
    """
    if not isinstance(text, str):
        hint = ", as in @router.route('/path')" if callable(text) else ""
        raise wrong_type("a pattern", f"str{hint}", text, "routes")
    if not text.startswith("/"):
        raise _invalid(text, "it must start with '/'")
    pieces = _pieces(text)
    _check_parameters(text, pieces)
    without = "".join(piece if isinstance(piece, str) else "{}" for piece in pieces)
    if not {".", ".."}.isdisjoint(without.split("/")):
        raise _invalid(text, "a segment '.' or '..' is never matched")
    split = _split_segments(text, pieces)
    if text != "/" and isinstance(last := pieces[-1], str):
        pieces[-1:] = filter(None, [last.removesuffix("/")])
    return Pattern(text, tuple(pieces), split)


def _pieces(text: str) -> list[str | Parameter]:
    pieces: list[str | Parameter] = []
    end = 0
    for found in _PIECE.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        inside, literal = found.groups()
        if literal is not None:
            _check_literal(text, literal)
            pieces.append(literal)
        else:
            pieces.append(_parse_parameter(text, inside))
    if end != len(text):
        raise _invalid(text, f"the brace at position {end} has no other")
    return pieces


def _check_literal(text: str, literal: str) -> None:
    if "<" in literal or ">" in literal:
        raise _invalid(text, "parameters are written in braces, '{name}' or '{name:int}'")
    if _ELSEWHERE.search(literal):
        raise _invalid(text, "parameters are written in braces, '{name}' or '{name:path}'")
    if "?" in literal or "#" in literal:
        raise _invalid(text, "a path has neither query nor fragment")
    if "//" in literal:
        raise _invalid(text, "there is an empty segment")
    if _ESCAPE.search(literal):
        raise _invalid(text, "write text as it is, not percent-encoded")
    if not literal.isprintable():
        raise _invalid(text, "there is a character that is not printable")


def _parse_parameter(text: str, inside: str) -> Parameter:
    parameter = _PARAMETER.fullmatch(inside)
    if parameter is None:
        raise _invalid(
            text,
            f"expected 'name', 'name:converter' or 'name:converter(arguments)' in braces, "
            f"not {clip(inside)}",
        )
    name, converter, arguments = parameter.groups()
    if keyword.iskeyword(name):
        raise _invalid(text, f"{name!r} cannot be the name of an argument")
    return Parameter(name, converter or "string", _parse_arguments(text, arguments))


def _parse_arguments(text: str, arguments: str | None) -> _Arguments:
    """Literals, with or without a name; a word is the text of itself."""
    if not arguments:
        return (), ()
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError
        return (
            tuple(_literal(each) for each in call.args),
            tuple((_name(each), _literal(each.value)) for each in call.keywords),
        )
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _invalid(
            text, f"expected literals as the arguments of a converter, not {clip(arguments)}"
        ) from None


def _name(argument: ast.keyword) -> str:
    if argument.arg is None:
        raise ValueError
    return argument.arg


def _literal(node: ast.expr) -> object:
    value = node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
    if not isinstance(value, (str, int, float, bool, type(None))):
        raise ValueError
    return value


def _check_parameters(text: str, pieces: list[str | Parameter]) -> None:
    """They have names of their own, and something between them; a `path` is the last one."""
    names: set[str] = set()
    before: str | Parameter = ""
    after_path = False
    for piece in pieces:
        if isinstance(piece, Parameter):
            if isinstance(before, Parameter):
                raise _invalid(text, "something must stand between two parameters")
            if after_path:
                raise _invalid(text, "no parameter may come after a path")
            if piece.name in names:
                raise _invalid(text, f"the parameter {piece.name!r} comes twice")
            names.add(piece.name)
            after_path = piece.converter == "path"
        before = piece


def _split_segments(text: str, pieces: list[str | Parameter]) -> frozenset[str]:
    """The first parameter of each segment that has several."""
    firsts = set()
    for segment in _segments(pieces):
        if len(segment) > 1:
            firsts.add(segment[0].name)
            if any(each.converter == "path" for each in segment):
                raise _invalid(text, "a path begins with a segment of its own")
        if sum(each.converter not in _NO_TEXT for each in segment) > _MOST_TEXTS:
            raise _invalid(
                text, f"there are more than {_MOST_TEXTS} parameters of any text in a segment"
            )
    return frozenset(firsts)


def _segments(pieces: list[str | Parameter]) -> list[list[Parameter]]:
    """The parameters of each segment."""
    segments: list[list[Parameter]] = [[]]
    for piece in pieces:
        if isinstance(piece, Parameter):
            segments[-1].append(piece)
        elif "/" in piece:
            segments.append([])
    return segments


def join_patterns(prefix: str, text: str) -> str:
    """The pattern `text` under `prefix`."""
    return prefix.rstrip("/") + text


def _invalid(text: str, why: str) -> InvalidOption:
    return InvalidOption(f"{clip(text)} is no pattern of a path: {why}", "routes")
