"""Origins: which web pages may connect.

The rule: browsers send `Origin` with every opening handshake, whoever wrote the page, and the
user's cookies with it. Checking it is the only defence against cross-site requests. What could be
no origin is compared with nothing and shown to no function; a function that fails lets nobody in.

RFC 6455 section 10.2; RFC 6454 sections 6 and 7.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._errors import InvalidOptionType
from .._options.url import without_query
from .._quoting import clip
from .answers import quoted, refusal
from .origin_patterns import could_be_sent, parse_origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request_and_response import Request

__all__ = ["CheckedOrigins", "OriginFunction", "Origins", "check_origin", "check_origins"]

OriginFunction: TypeAlias = "Callable[[str | None], object]"
"""Called with an `Origin` in lower case, or None for a request without one; true lets it in."""

Origins: TypeAlias = (
    "Sequence[str | OriginFunction | None] | OriginFunction | CheckedOrigins "
    "| Literal['same'] | None"
)
"""The origins to let in: "same", those of a list, those that a function lets in, or None: all.

"same" is a request without an `Origin`, or whose origin has the host and port in `Host`. In a
list, a str is an origin or a pattern, `https://*.example.com`, and None a request without one.
"""

_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_HOST_AND_PORT = re.compile(r"(.*?)(?::([0-9]*))?")


@dataclass(frozen=True)
class CheckedOrigins:
    """The option `origins`, fit to compare each request with."""

    same: bool  # None of the rest then
    exact: frozenset[str | None] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()
    functions: tuple[OriginFunction, ...] = ()


def check_origins(origins: Origins) -> CheckedOrigins | None:
    """`origins` if each could be that of an `Origin` header, else InvalidOption."""
    if origins is None or isinstance(origins, CheckedOrigins):
        return origins
    if origins == "same":
        return CheckedOrigins(same=True)
    if callable(origins):
        return CheckedOrigins(same=False, functions=(_check_function(origins),))
    if isinstance(origins, (str, bytes, re.Pattern)) or not isinstance(origins, Iterable):
        raise InvalidOptionType(
            "origins must be 'same', a list of str, None and functions, a function, or None"
            + (": put it into a list, or give None for any" if isinstance(origins, str) else ""),
            "origins",
        )
    exact: set[str | None] = set()
    patterns = []
    functions = []
    for origin in origins:
        if origin is None:
            exact.add(None)
        elif isinstance(origin, str):
            parsed = parse_origin(origin)
            if isinstance(parsed, str):
                exact.add(parsed)
            else:
                patterns.append(parsed)
        else:
            functions.append(_check_function(origin))
    return CheckedOrigins(False, frozenset(exact), tuple(patterns), tuple(functions))


def _check_function(function: Any) -> OriginFunction:
    if isinstance(function, re.Pattern):
        raise InvalidOptionType(
            "an origin cannot be a regular expression, in which a dot matches anything: give "
            "'https://*.example.com', or a function",
            "origins",
        )
    if not callable(function):
        raise InvalidOptionType(
            f"an origin must be str, None or a function, not {type(function).__name__}", "origins"
        )
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - what it is, not whether it is there
    ):
        raise InvalidOptionType(
            "a function of origins must be a plain one, def allowed(origin): it is not awaited",
            "origins",
        )
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise InvalidOptionType(
            "a function of origins is called with one argument, the origin or None", "origins"
        ) from None
    except ValueError:  # not every callable tells its arguments
        pass
    return function  # type: ignore[no-any-return]


def check_origin(request: Request, origins: CheckedOrigins | None) -> None:
    """HandshakeError if `origins` does not let in where the request comes from."""
    if origins is None:
        return
    received = request._values_of("origin")
    origin = received[0].lower() if received else None
    hint = ""
    if len(received) <= 1:
        if _is_let_in(origin, origins, request):
            return
        if origin is None or could_be_sent(origin):
            lets_in = clip(origin) if origin is not None else "None"
            hint = f"; origins=[{lets_in}, {'None' if origins.same else '...'}] lets it in"
    raise refusal(
        403,
        f"the origin is not allowed: received Origin {quoted(list(map(_redacted, received)))} and "
        f"Host {clip(request.host)}{hint} (RFC 6455 section 10.2)",
    )


def _redacted(received: str) -> str:
    """An `Origin` without userinfo, though no browser sends any."""
    scheme, mark, rest = without_query(received).partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}...@{host}" if at else scheme + mark + rest


def _is_let_in(origin: str | None, origins: CheckedOrigins, request: Request) -> bool:
    if origins.same:
        return origin is None or _is_of_host(origin, request.host)
    if origin is not None and not could_be_sent(origin):
        return False
    if origin in origins.exact:
        return True
    if origin is not None and any(each.fullmatch(origin) for each in origins.patterns):
        return True
    return any(_says_yes(each, origin) for each in origins.functions)


def _says_yes(function: OriginFunction, origin: str | None) -> bool:
    """What the function says; where it fails, the request is refused with 500, and it is logged."""
    try:
        answer = function(origin)
        if not inspect.isawaitable(answer):
            return bool(answer)
        if inspect.iscoroutine(answer):
            answer.close()  # nobody will await it, of which Python would warn
        raise TypeError("a function of origins returned an awaitable, which is not awaited")
    except Exception as error:
        raise refusal(500, "the check of the origin has failed") from error


def _is_of_host(origin: str, host: str) -> bool:
    """Whether `origin`, in lower case, has the host and port that `host`, a Host header, names.

    The scheme of the origin says which port is meant where there is none: that of the connection
    may be another, behind a proxy that ends TLS.
    """
    scheme, _, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme, "")
    return bool(authority) and _with_port(authority, default) == _with_port(host.lower(), default)


def _with_port(authority: str, default: str) -> tuple[str, str]:
    match = _HOST_AND_PORT.fullmatch(authority)
    return (match[1], match[2] or default) if match is not None else (authority, default)
