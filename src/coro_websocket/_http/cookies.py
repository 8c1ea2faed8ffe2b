"""Cookies: what a browser has sent, and the line that has it keep one.

The rule: a cookie is as safe as can be unless its caller says otherwise: sent over TLS alone,
hidden from scripts, and left out of requests that other sites' pages start.

RFC 6265 sections 4.1 and 4.2, and draft-ietf-httpbis-rfc6265bis for `SameSite` and the prefixes
of names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from .._checks import check_int, wrong_type
from .._errors import InvalidOption
from .._options.header_rules import OPTIONAL_WHITESPACE, is_token
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SameSite", "cookie_line", "parse_cookies"]

SameSite = Literal["Strict", "Lax", "None"]

_SAME_SITE: dict[str, SameSite] = {"strict": "Strict", "lax": "Lax", "none": "None"}
_NOT_IN_VALUE = re.compile(r"[^!#-+\--:<-\[\]-~]")  # cookie-octet (RFC 6265 section 4.1.1)
_NOT_IN_PATH = re.compile(r"[^\x20-:<-~]")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*")
MAX_SIZE = 4096  # bytes of name and value that browsers keep


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """The cookies in `Cookie` headers, by name, each value as it was sent.

    Of two of one name the first counts: that with the longer path (RFC 6265 section 5.4).
    """
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, content = pair.partition("=")
            # No other whitespace: a name that browsers take for another one keeps what it is.
            if equals and (name := name.strip(OPTIONAL_WHITESPACE)):
                cookies.setdefault(name, content.strip(OPTIONAL_WHITESPACE))
    return cookies


def cookie_line(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = True,
    http_only: bool = True,
    same_site: SameSite | None = "Lax",
) -> str:
    """The value of a `Set-Cookie` header (RFC 6265 section 4.1).

    Args:
        name: a token. One that begins with `__Host-` or `__Secure-` has a browser insist on what
            the prefix says.
        value: without spaces, quotes, commas, semicolons and backslashes: encode others.
        max_age: in seconds, after which it is forgotten, 0 at once; None: with the browser's end.
        path: it is sent only with requests beneath this path; None: that of the request.
        domain: it is sent to the hosts in this domain, too; None: to this host alone.
        secure: whether it is sent over TLS only.
        http_only: whether scripts cannot read it.
        same_site: "Lax", "Strict" or "None": whether requests have it that another site's page
            starts; None for the browser's default.

    Raises:
        InvalidOption: one of them cannot be used, or they contradict each other. The error does
            not show the value.
    """
    _check_name_and_value(name, value)
    parts = [f"{name}={value}"]
    if max_age is not None:
        parts.append(f"Max-Age={check_int('max_age', max_age, 0, or_none=True)}")
    if domain is not None:
        parts.append(f"Domain={_checked_domain(domain)}")
    if path is not None:
        parts.append(f"Path={_checked_path(path)}")
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        parts.append(f"SameSite={_checked_same_site(same_site, secure)}")
    _check_prefix(name, secure=bool(secure), path=path, domain=domain)
    return "; ".join(parts)


def _check_name_and_value(name: str, value: str) -> None:
    if not isinstance(name, str):
        raise wrong_type("the name of a cookie", "str", name, "name")
    if not is_token(name):
        raise InvalidOption("the name of a cookie must be a token (RFC 6265 section 4.1.1)", "name")
    if not isinstance(value, str):
        raise wrong_type(f"the value of the cookie {clip(name)}", "str", value, "value")
    fault = _NOT_IN_VALUE.search(value)
    if fault is not None:
        raise InvalidOption(
            f"the value of the cookie {clip(name)} has {fault.group()!a} at position "
            f"{fault.start()}: encode it, with urllib.parse.quote() say (RFC 6265 section 4.1.1)",
            "value",
        )
    if len(name) + len(value) > MAX_SIZE:
        raise InvalidOption(
            f"the cookie {clip(name)} has {len(name) + len(value)} bytes, of which browsers keep "
            f"at most {MAX_SIZE}",
            "value",
        )


def _checked_domain(domain: object) -> str:
    if not isinstance(domain, str):
        raise wrong_type("domain", "str or None", domain)
    if not _DOMAIN.fullmatch(domain):
        raise InvalidOption(
            f"domain: {clip(domain)} is not the name of a host (RFC 6265 section 4.1.2.3)", "domain"
        )
    return domain


def _checked_path(path: object) -> str:
    if not isinstance(path, str):
        raise wrong_type("path", "str or None", path)
    if not path.startswith("/") or _NOT_IN_PATH.search(path):
        raise InvalidOption(
            "path must begin with '/' and have only printable ASCII without ';' "
            "(RFC 6265 section 4.1.2.4)",
            "path",
        )
    return path


def _checked_same_site(same_site: object, secure: object) -> SameSite:
    found = _SAME_SITE.get(same_site.lower()) if isinstance(same_site, str) else None
    if found is None:
        raise InvalidOption("same_site must be 'Strict', 'Lax', 'None' or None", "same_site")
    if found == "None" and not secure:
        raise InvalidOption(
            "same_site='None' needs secure=True: browsers drop it else", "same_site"
        )
    return found


def _check_prefix(name: str, *, secure: bool, path: str | None, domain: str | None) -> None:
    """What browsers ask of names with a prefix (rfc6265bis section 4.1.3)."""
    prefix = name.lower()
    if prefix.startswith(("__secure-", "__host-")) and not secure:
        raise InvalidOption(f"a cookie called {clip(name)} needs secure=True", "secure")
    if prefix.startswith("__host-") and (path != "/" or domain is not None):
        raise InvalidOption(f"a cookie called {clip(name)} needs path='/' and no domain", "path")
