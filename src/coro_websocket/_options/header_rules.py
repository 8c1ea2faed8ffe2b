"""What a caller may have sent in the head of a message, checked before a byte of it is sent.

The rule: nothing that could end a line early ever leaves this file. Every name and value
that a caller supplies passes `normalise_headers`, so no option can inject a header or a second
request.

RFC 9110 sections 5.1 (names), 5.5 (values) and 5.6.2 (tokens); RFC 9112 section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .._errors import InvalidOption, InvalidOptionType
from .._quoting import clip

__all__ = [
    "check_pathname",
    "check_subprotocols",
    "check_value",
    "is_host",
    "is_token",
    "normalise_headers",
    "refuse_reserved",
]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# field-vchar / SP / HTAB, obs-text included: bytes from 0x80 up travel as latin-1.
_NOT_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
OPTIONAL_WHITESPACE = " \t"
# uri-host [":" port] (RFC 9110 section 7.2), and the origin-form of a target (RFC 9112 3.2.1).
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=%:\[\]]*")
_NOT_IN_PATHNAME = re.compile(r"[^!-\"$-~]")


def is_token(value: str) -> bool:
    """Whether `value` is a token (RFC 9110 section 5.6.2): a header name, a subprotocol."""
    return _TOKEN.fullmatch(value) is not None


def first_outside_token(value: str) -> int | None:
    """The position of the first character that no token has; None if there is none."""
    match = _TOKEN.match(value)
    end = 0 if match is None else match.end()
    return end if end < len(value) else None


def normalise_headers(
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None, option: str = "headers"
) -> tuple[tuple[str, str], ...]:
    """The headers that a caller supplied, as pairs that are safe to send.

    Order, duplicates and the case of names are kept; whitespace around a value is dropped,
    as it is not part of it (RFC 9110 section 5.5). `headers` is an iterable of `(name, value)`
    pairs, or a mapping, or None for no headers. `option` is the option to name in errors.

    Raises:
        InvalidOption: a name is not a token, or a value has a character that no header value may
            have: CR, LF, NUL and other controls, or anything outside latin-1. The message has
            the name of the header and never its value, which may be a password.
        InvalidOptionType: `headers` is of another type, or a name or value is not a `str`.
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
            f"{what} has {char} at position {fault.start()}, where only printable "
            "latin-1, spaces and tabs are allowed (RFC 9110 section 5.5)",
            option,
        )
    return value.strip(OPTIONAL_WHITESPACE)


def check_pathname(pathname: str) -> str:
    """`pathname` if it can stand in a request line (RFC 9112 section 3.2.1), else InvalidOption."""
    if not pathname.startswith("/"):
        raise InvalidOption("pathname must start with '/' (RFC 9112 section 3.2.1)", "pathname")
    fault = _NOT_IN_PATHNAME.search(pathname)
    if fault is not None:
        raise InvalidOption(
            f"pathname has {fault.group()!a} at position {fault.start()}, where only "
            "printable ASCII but '#' is allowed; percent-encode the rest (RFC 9112 section 3.2.1)",
            "pathname",
        )
    return pathname


class CheckedSubprotocols(tuple[str, ...]):
    """Subprotocols that `check_subprotocols` has let pass."""

    __slots__ = ()


def check_subprotocols(subprotocols: Sequence[str]) -> CheckedSubprotocols:
    """`subprotocols` if each is a token and none comes twice, else InvalidOption.

    RFC 6455 section 4.1, item 10 of the client's requirements.
    """
    if isinstance(subprotocols, CheckedSubprotocols):
        return subprotocols
    if isinstance(subprotocols, (str, bytes)):
        raise InvalidOptionType("subprotocols must be a list of str", "subprotocol")
    seen: dict[str, None] = {}
    for name in subprotocols:
        if not isinstance(name, str):
            raise InvalidOptionType(
                f"a subprotocol must be str, not {type(name).__name__}", "subprotocol"
            )
        # Not the name: bearer tokens travel there.
        number = len(seen) + 1
        if not is_token(name):
            at = first_outside_token(name)
            what = "it is empty" if at is None else f"it has {name[at]!a} at position {at}"
            raise InvalidOption(
                f"subprotocol {number} is not a token: {what} (RFC 6455 section 4.1)", "subprotocol"
            )
        if name in seen:
            raise InvalidOption(
                f"subprotocol {number} is given twice (RFC 6455 section 4.1)", "subprotocol"
            )
        seen[name] = None
    return CheckedSubprotocols(seen)


def refuse_reserved(headers: Iterable[tuple[str, str]], reserved: Mapping[str, str]) -> None:
    """InvalidOption if one of `headers` is a key of `reserved`, whose value says why."""
    for name, _ in headers:
        why = reserved.get(name.lower())
        if why is not None:
            raise InvalidOption(f"the header {clip(name)} cannot be set: {why}", "headers")


def is_host(value: str) -> bool:
    """Whether `value` has only what a `Host` header may have (RFC 9110 section 7.2)."""
    return _HOST.fullmatch(value) is not None
