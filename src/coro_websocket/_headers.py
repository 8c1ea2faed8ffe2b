"""Header fields: what may be sent, how a list of them is looked up, how a value is read.

The rule: nothing that could end a line early ever leaves this file. Every name and value
that a caller supplies passes `normalise_headers` before a byte of it is sent, so no option
can inject a header or a second request.

RFC 9110 sections 5.1 (names), 5.5 (values), 5.6.1 (lists) and 5.6.2 (tokens).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from ._errors import InvalidOption, InvalidOptionType

__all__ = [
    "Headers",
    "check_value",
    "clip",
    "first_outside_token",
    "header_bytes",
    "is_token",
    "normalise_headers",
    "parse_token_list",
    "too_long_list",
]

_Default = TypeVar("_Default")

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# field-vchar / SP / HTAB, obs-text included: bytes from 0x80 up travel as latin-1.
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_OPTIONAL_WHITESPACE = " \t"

# The headers of a handshake that are lists, and how long one may be.
_LISTS = ("Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
MAX_LIST = 128

# Their values are no secrets, and say what went on: printed. What else there is may be a
# credential, whatever its name, and is hidden; also subprotocols, as tokens travel there.
_SHOWN = frozenset(
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


def clip(value: str | bytes, limit: int = 100) -> str:
    """What a peer or a caller supplied, fit for an error message.

    At most `limit` characters of it, in quotes, everything but printable ASCII escaped, so
    that it can neither fill a log nor forge a line in one.
    """
    text = value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else value
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "..."


def is_token(value: str) -> bool:
    """Whether `value` is a token (RFC 9110 section 5.6.2): a header name, a subprotocol."""
    return _TOKEN.fullmatch(value) is not None


def first_outside_token(value: str) -> int | None:
    """The position of the first character that no token has; None if there is none."""
    match = _TOKEN.match(value)
    end = 0 if match is None else match.end()
    return end if end < len(value) else None


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
        if (element := part.strip(_OPTIONAL_WHITESPACE))
    ]


def too_long_list(headers: Headers) -> str | None:
    """What to say of a header whose list is longer than any handshake needs; None if none is.

    Each element costs some work, and as many as fit into a head would cost much of it. Parameters
    count as elements do, and so do the escapes in their values.
    """
    for name in _LISTS:
        values = headers.get_all(name)
        marks = sum(value.count(mark) for value in values for mark in ",;\\")
        if marks + len(values) > MAX_LIST:
            return f"expected at most {MAX_LIST} elements and parameters in {name}"
    return None


def header_bytes(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers that were normalised, as they travel."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]


def normalise_headers(
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None, option: str = "headers"
) -> tuple[tuple[str, str], ...]:
    """The headers that a caller supplied, as pairs that are safe to send.

    Order, duplicates and the case of names are kept; whitespace around a value is dropped,
    as it is no part of it (RFC 9110 section 5.5). `headers` is an iterable of `(name, value)`
    pairs, or a mapping, or None for no headers. `option` is the option to name in errors.

    Raises:
        InvalidOption: a name is no token, or a value has a character that no header value may
            have: CR, LF, NUL and other controls, or anything outside latin-1. The message has
            the name of the header and never its value, which may be a password.
        InvalidOptionType: `headers` is of another type, or a name or value is no `str`.
    """
    if headers is None:
        return ()
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise InvalidOptionType(
            f"{option} must be a list of (name, value) pairs or a mapping, "
            f"not {type(headers).__name__}",
            option,
        )
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple(_checked(pair, option) for pair in pairs)


def _checked(pair: object, option: str) -> tuple[str, str]:
    # A string of two characters would unpack as a pair too, and is never meant as one.
    if not isinstance(pair, Sequence) or isinstance(pair, (str, bytes)) or len(pair) != 2:
        raise InvalidOptionType(
            f"{option} must hold (name, value) pairs, not {type(pair).__name__}", option
        )
    name, value = pair
    if not isinstance(name, str):
        raise InvalidOptionType(
            f"a header name in {option} must be str, not {type(name).__name__}", option
        )
    token = _TOKEN.match(name)
    if token is None or token.end() != len(name):
        # Shown only up to the fault: of "Cookie: secret" passed as a name, no more than "Cookie".
        good = token.group() if token else ""
        what = f"goes on with {name[len(good)]!a} after {clip(good)}" if name else "is empty"
        raise InvalidOption(
            f"a header name in {option} {what}: a name is a token (RFC 9110 section 5.6.2)", option
        )
    return name, check_value(value, f"the value of the header {clip(name)} in {option}", option)


def check_value(value: object, what: str, option: str) -> str:
    """`value` without the whitespace around it, if a line of a head can have it as its end.

    Else InvalidOption or InvalidOptionType, which call it `what` and do not show it.
    """
    if not isinstance(value, str):
        raise InvalidOptionType(f"{what} must be str, not {type(value).__name__}", option)
    fault = _NOT_IN_VALUE.search(value)
    if fault is not None:
        char = ascii(fault.group()) if fault.group() < "\x80" else "a character outside latin-1"
        raise InvalidOption(
            f"{what} has {char} at position {fault.start()}, but may have printable latin-1, "
            "spaces and tabs only (RFC 9110 section 5.5)",
            option,
        )
    return value.strip(_OPTIONAL_WHITESPACE)


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

    `repr()` shows the values of headers that are known to be no credentials, and of URLs such as
    that of `Location` neither userinfo nor query nor fragment; it hides all others.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)

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
            return self.get(item) is not None
        if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str):
            return item[1] in self.get_all(item[0])
        return False

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get(self, name: str, default: object = None) -> object:
        """The value of the first header called `name`, whatever its case, or `default`."""
        wanted = name.lower()
        return next((value for key, value in self._pairs if key.lower() == wanted), default)

    def get_all(self, name: str) -> list[str]:
        """The values of all headers called `name`, whatever its case, in the order sent."""
        wanted = name.lower()
        return [value for key, value in self._pairs if key.lower() == wanted]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown()!r})"

    def _shown(self) -> list[tuple[str, str]]:
        return [(name, _printed(name.lower(), value)) for name, value in self._pairs]


def _printed(name: str, value: str) -> str:
    if name in _SHOWN:
        return value
    if name not in _URLS:
        return "[hidden]"
    path = _QUERY.sub(lambda match: f"{match.group()[0]}...", value)
    _, at, rest = path.rpartition("@")
    return f"[hidden]{at}{rest}" if at else path
