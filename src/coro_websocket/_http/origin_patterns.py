"""One origin that a server lets in, as it is written in the option `origins`, and its pattern.

The rule: a `*` stands for whole labels at the left end of a host, or for a port, and what it
lets in must be the pages of one owner. What can match no `Origin`, or too many, is refused, with a
hint of what was meant.

RFC 6454 sections 6 and 7; what `*.` matches is that of a host in CSP 3 section 6.7.2.8.
"""

from __future__ import annotations

import re

from .._errors import InvalidOption
from .._options.url import without_userinfo
from .._quoting import clip

__all__ = ["could_be_sent", "parse_origin"]

# As browsers write it: without the port of the scheme, and in ASCII (RFC 6454 section 6.2).
_HOST = r"[a-z0-9\-._~!$&'()+,;=%]+|\[[0-9a-f:.]+\]"
_ORIGIN = re.compile(
    r"(?!http://[^/]*:80\Z|https://[^/]*:443\Z)"
    rf"[a-z][a-z0-9+\-.]*://(?:{_HOST})(?::([1-9][0-9]{{0,4}}))?|file://|null",
    re.IGNORECASE | re.ASCII,
)
_PATTERN = re.compile(
    rf"([a-z][a-z0-9+\-.]*://)(\*\.)?({_HOST})(:\*|:[1-9][0-9]{{0,4}})?", re.IGNORECASE | re.ASCII
)
_DOMAIN = re.compile(r"(?:[a-z0-9_\-]+\.)*[a-z][a-z0-9_\-]*", re.IGNORECASE | re.ASCII)
_ANY_SUBDOMAIN = r"(?:[a-z0-9_\-]+\.)+"
_ANY_PORT = r"(?::[1-9][0-9]{0,4})?"
_MAX_PORT = 65535

# Top-level domains in which nobody can register a name (RFC 6761; ICANN's for private use).
_OF_NOBODY = frozenset({"example", "internal", "localhost", "test"})


def could_be_sent(origin: str) -> bool:
    """Whether an `Origin` header may be this, by its form."""
    match = _ORIGIN.fullmatch(origin)
    return match is not None and int(match[1] or 1) <= _MAX_PORT


def parse_origin(origin: str) -> str | re.Pattern[str]:
    """What to compare an `Origin` in lower case with: itself, or a pattern that it matches whole.

    Raises:
        InvalidOption: no `Origin` could match it, or those of many owners could.
    """
    if could_be_sent(origin):
        return origin.lower()
    pattern = _PATTERN.fullmatch(origin) if "*" in origin else None
    if pattern is None:
        raise _invalid(
            f"{_shown(origin)} is not an origin: expected 'scheme://host' or "
            f"'scheme://host:port' without a path (RFC 6454 section 6.1){_hint(origin)}"
        )
    scheme, wildcard, host, port = pattern.groups(default="")
    if not could_be_sent(f"{scheme}{host}{port.removesuffix(':*')}"):
        raise _invalid(f"{_shown(origin)} matches no origin{_port_hint(origin)}")
    if wildcard:
        _check_domain(origin, host)
    return re.compile(
        re.escape(scheme.lower())
        + (_ANY_SUBDOMAIN if wildcard else "")
        + re.escape(host.lower())
        + (_ANY_PORT if port == ":*" else re.escape(port)),
        re.ASCII,
    )


def _check_domain(origin: str, domain: str) -> None:
    """What stands behind `*.` has to be a domain that somebody owns."""
    if not _DOMAIN.fullmatch(domain):
        raise _invalid(
            f"{_shown(origin)} matches no origin: behind '*.' stands the name of a domain, "
            "'https://*.example.com'"
        )
    if "." not in domain and domain.lower() not in _OF_NOBODY:
        raise _invalid(
            f"{_shown(origin)} would let in the pages of everybody under .{domain}: name the "
            f"domain too, 'https://*.example.{domain}'"
        )


def _hint(origin: str) -> str:
    """What to give in place of an origin that no `Origin` header has."""
    if origin == "same":
        return "; 'same' stands alone: in a list, name the origins of your own pages"
    if "*" in origin:
        instead = f"https://{origin}"
        if origin.startswith("*.") and _is_pattern(instead):
            return f"; did you mean {instead!r}?"
        if re.fullmatch(r"(?:[^/]*://)?\*(?::[\d*]*)?/?", origin):
            return "; give origins=None to let in any page"
        return (
            "; a '*' stands for the labels before a domain, 'https://*.example.com', or for "
            "a port, 'http://localhost:*': give a function for all else"
        )
    return _port_hint(origin)


def _port_hint(origin: str) -> str:
    """The same without what is too much: a path, userinfo, the scheme's own port."""
    scheme, _, rest = origin.rpartition("://")
    scheme = scheme.lower() or "https"
    host = without_userinfo(re.split(r"[/?#]", rest)[0])
    host = host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))
    instead = f"{scheme}://{host}"
    could_be = could_be_sent(instead) or (instead != origin and _is_pattern(instead))
    return f"; did you mean {instead!r}?" if could_be else ""


def _is_pattern(origin: str) -> bool:
    try:
        return (
            "*" in origin and _PATTERN.fullmatch(origin) is not None and bool(parse_origin(origin))
        )
    except InvalidOption:
        return False


def _shown(origin: str) -> str:
    return clip(without_userinfo(origin))


def _invalid(message: str) -> InvalidOption:
    return InvalidOption(message, "origins")
