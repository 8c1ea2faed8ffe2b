"""Credentials in a request, and the challenges that ask for them.

The rule: whatever a client sends is credentials, none, or malformed; nothing of it is in an error
or in an answer.

RFC 9110 section 11; RFC 7617 (Basic); RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from .._options.header_rules import OPTIONAL_WHITESPACE, check_value

if TYPE_CHECKING:
    from .request_and_response import Request

__all__ = ["Malformed", "basic_credentials", "bearer_tokens", "challenge"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[!-~]+")  # more than RFC 6750 section 2.1 has: some issue "1|abc"


class Malformed(Exception):
    """The request has credentials that cannot be read."""


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """The name and the password that a request has; None if it has none (RFC 7617 section 2).

    Raises Malformed where it is no UTF-8 in base64 with a colon in it.
    """
    encoded = _credentials(request, "basic")
    if encoded is None:
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Malformed from None
    user, colon, password = decoded.partition(":")
    if not colon or _CONTROL.search(decoded):
        raise Malformed
    return user, password


def bearer_tokens(
    request: Request, *, query: str | None, cookie: str | None, subprotocol: str | None
) -> list[str]:
    """The tokens that a request has, from the header and each of the other places in use.

    Args:
        query: the name of a parameter.
        cookie: the name of a cookie. A browser sends it by itself, so it counts only where there
            is no other.
        subprotocol: how an offered subprotocol begins that is a token besides.

    Raises Malformed where one cannot be a token.
    """
    found = []
    in_header = _credentials(request, "bearer")
    if in_header is not None:
        found.append(in_header)
    if query is not None:
        found += _query_values(request, query)
    if subprotocol is not None:
        offered = [each for each in request.subprotocols if each.startswith(subprotocol)]
        found += [each.removeprefix(subprotocol) for each in offered]
    if cookie is not None and not found and cookie in (cookies := request.cookies):
        found.append(cookies[cookie])
    if not all(_TOKEN.fullmatch(token) for token in found):
        raise Malformed
    return found


def _credentials(request: Request, scheme: str) -> str | None:
    """What comes behind this scheme in `Authorization` (RFC 9110 section 11.6.2)."""
    values = request.get_all("Authorization")
    if len(values) > 1:
        raise Malformed
    name, _, rest = values[0].partition(" ") if values else ("", "", "")
    return rest.strip(OPTIONAL_WHITESPACE) if name.lower() == scheme else None


def _query_values(request: Request, name: str) -> list[str]:
    _, _, query = request.pathname.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    # A "+" stays one: tokens have it, and no spaces.
    return [_unquoted(value) for key, _, value in pairs if unquote_plus(key) == name]


def _unquoted(value: str) -> str:
    return unquote_plus(value.replace("+", "%2B"))


def challenge(scheme: str, **parameters: str | None) -> tuple[str, str]:
    """The `WWW-Authenticate` header that asks for credentials (RFC 9110 section 11.6.1)."""
    given = ", ".join(
        f"{name}={_quoted(value)}" for name, value in parameters.items() if value is not None
    )
    return "WWW-Authenticate", f"{scheme} {given}" if given else scheme


def _quoted(value: str) -> str:
    """As a quoted string (RFC 9110 section 5.6.4)."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{check_value(escaped, "realm", "realm")}"'
