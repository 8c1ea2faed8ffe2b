"""Header fields: how they are looked up, how a list of them is read, and what `repr` shows.

What may be sent is checked by `_options.header_rules`.

RFC 9110 sections 5.1 (names) and 5.6.1 (lists).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

from .._options.header_rules import OPTIONAL_WHITESPACE

__all__ = [
    "Headers",
    "has_option",
    "header_bytes",
    "parse_token_list",
    "too_long_list",
]

_Default = TypeVar("_Default")

# The headers of a handshake that are lists, and how long one may be.
_LISTS = {
    name.lower(): name
    for name in ("Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
}
MAX_LIST = 128

# Their values are not secrets, and say what went on: shown. Any other may be a credential,
# whatever its name, and is hidden; so are subprotocols, as tokens travel there.
_NO_SECRETS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "access-control-allow-origin",
        "age",
        "allow",
        "cache-control",
        "connection",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "expires",
        "forwarded",
        "host",
        "keep-alive",
        "origin",
        "pragma",
        "retry-after",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-version",
        "server",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "vary",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    }
)
# Their values are URLs, which may have credentials in them.
_URLS = frozenset({"location", "content-location", "referer"})
_QUERY = re.compile(r"[?#].*", re.DOTALL)


def parse_token_list(values: Iterable[str]) -> list[str]:
    """The elements of a comma-separated header, in order and as they were written.

    For `Connection`, `Upgrade` and `Sec-WebSocket-Protocol`: `values` holds the header's
    lines, which mean the same as one line joined by commas. Whitespace around an element is
    dropped and so are empty elements (RFC 9110 section 5.6.1.2). Time is linear in the length.
    """
    return [
        element
        for value in values
        for part in value.split(",")
        if (element := part.strip(OPTIONAL_WHITESPACE))
    ]


def has_option(values: Iterable[str], option: str) -> bool:
    """Whether the comma-separated lists in `values` have `option`, in any case."""
    for value in values:
        lower = value.lower()
        if lower == option or option in parse_token_list((lower,)):
            return True
    return False


def too_long_list(headers: Headers) -> str | None:
    """What to say of a header whose list is longer than any handshake needs; None if none is.

    Each element costs some work, and as many as fit into a head would cost much of it. Parameters
    count as elements do, and so do the escapes in their values.
    """
    for lower, name in _LISTS.items():
        values = headers._values_of(lower)
        if not values or sum(map(len, values)) + len(values) <= MAX_LIST:
            continue  # as usual: it need not be counted
        marks = sum(value.count(mark) for value in values for mark in ",;\\")
        if marks + len(values) > MAX_LIST:
            return f"expected at most {MAX_LIST} elements and parameters in {name}"
    return None


def header_bytes(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers that were normalised, as they travel."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]


# Any, and not the pair, so that type checkers take `"Upgrade" in headers` for what it is; the
# methods below say that the items are pairs.
class Headers(Sequence[Any]):
    """The headers of a message: an immutable sequence of `(name, value)` pairs.

    Order, duplicates and the case of names are as sent. Besides by position, headers are found
    by name, whatever its case (RFC 9110 section 5.1)::

        headers[0]                    # ("Upgrade", "websocket")
        headers["upgrade"]            # "websocket", the first of that name; KeyError if none
        headers.get("Origin")         # None if there is none
        headers.get_all("Set-Cookie") # each value, in order
        "Upgrade" in headers          # also: ("Upgrade", "websocket") in headers

    `repr()` shows the values of headers that are known not to be credentials, and of URLs such as
    that of `Location` neither userinfo nor query nor fragment; it hides all others.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._values: dict[str, list[str]] | None = None  # by name, in lower case

    def _by_name(self) -> dict[str, list[str]]:
        """The values of each name: a handshake looks up more headers than there are."""
        values = self._values
        if values is None:
            values = self._values = {}
            for name, value in self._pairs:
                values.setdefault(name.lower(), []).append(value)
        return values

    def _values_of(self, name: str) -> Sequence[str]:
        """What `get_all` gives of a name in lower case: not a copy, for those who only look."""
        return self._by_name().get(name, ())

    def _forget_names(self) -> None:
        """Free what has made the handshake fast: a connection may keep its head for days."""
        self._values = None

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[str, str], ...]: ...
    @overload
    def __getitem__(self, index: str) -> str: ...
    def __getitem__(
        self, index: int | slice | str
    ) -> tuple[str, str] | tuple[tuple[str, str], ...] | str:
        if not isinstance(index, str):
            return self._pairs[index]
        value = self.get(index)
        if value is None:
            raise KeyError(index)
        return value

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            return item.lower() in self._by_name()
        if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str):
            return item[1] in self.get_all(item[0])
        return False

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get(self, name: str, default: object = None) -> object:
        """The value of the first header called `name`, whatever its case, or `default`."""
        values = self._by_name().get(name.lower())
        return default if values is None else values[0]

    def get_all(self, name: str) -> list[str]:
        """The values of all headers called `name`, whatever its case, in the order sent."""
        return list(self._by_name().get(name.lower(), ()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._redacted()!r})"

    def _redacted(self) -> list[tuple[str, str]]:
        return [(name, _redacted_value(name.lower(), value)) for name, value in self._pairs]


def _redacted_value(name: str, value: str) -> str:
    if name in _NO_SECRETS:
        return value
    if name not in _URLS:
        return "[hidden]"
    path = _QUERY.sub(lambda match: f"{match.group()[0]}...", value)
    _, at, rest = path.rpartition("@")
    return f"[hidden]{at}{rest}" if at else path
