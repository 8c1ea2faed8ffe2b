"""Converters: what text a parameter matches, and what value it has.

The rule: these are werkzeug's, for text as `paths` decodes it, and so that what is built from a
value matches as that value again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.routing import (
    AnyConverter,
    BaseConverter,
    FloatConverter,
    IntegerConverter,
    PathConverter,
    UnicodeConverter,
    UUIDConverter,
)

from .._errors import InvalidOption, InvalidOptionType
from .paths import ENCODED_SLASH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.routing import Map

__all__ = ["CONVERTERS", "check_converters"]

_SAFE_IN_PATH = "%!$&'()*+,/:;=@"  # with what is encoded already (RFC 3986 section 3.3)


def _for_decoded_text(base: type[BaseConverter]) -> type[BaseConverter]:
    """The converter, for text in which a slash that is part of a segment is `ENCODED_SLASH`."""

    class Converter(base):  # type: ignore[misc, valid-type]
        def to_python(self, value: str) -> Any:
            return super().to_python(value.replace(ENCODED_SLASH, "/"))

        def to_url(self, value: Any) -> str:
            url = quote(super().to_url(value), safe=_SAFE_IN_PATH)
            return url.replace("/", "%2F") if self.part_isolating else url

    Converter.__name__ = base.__name__
    return Converter


# Python's \d has the digits of every script.
class _Integer(IntegerConverter):
    regex = "[0-9]+"


class _Float(FloatConverter):
    regex = r"[0-9]+\.[0-9]+"


class _Any(AnyConverter):
    def __init__(self, map: Map, *items: object) -> None:
        super().__init__(map, *(str(item).replace("/", ENCODED_SLASH) for item in items))
        self.items = {str(item) for item in items}

    def to_url(self, value: Any) -> str:
        return quote(super().to_url(value), safe="")


CONVERTERS: Mapping[str, type[BaseConverter]] = {
    name: _for_decoded_text(converter)
    for name, converter in {
        "string": UnicodeConverter,
        "path": PathConverter,
        "int": _Integer,
        "float": _Float,
        "uuid": UUIDConverter,
        "any": _Any,
    }.items()
}


def check_converters(converters: Mapping[str, Any]) -> dict[str, type[BaseConverter]]:
    """A user's own converters, ready to be used; InvalidOptionType if one is none."""
    checked = {}
    for name, converter in converters.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidOptionType("the name of a converter must be an identifier", "converters")
        if not (isinstance(converter, type) and issubclass(converter, BaseConverter)):
            raise InvalidOptionType(
                "a converter must be a subclass of werkzeug.routing.BaseConverter", "converters"
            )
        try:
            re.compile(converter.regex)
        except re.error as error:
            raise InvalidOption(
                f"the regex of the converter {name!r} is invalid: {error}", "converters"
            ) from None
        checked[name] = _for_decoded_text(converter)
    return checked
