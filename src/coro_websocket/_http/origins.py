"""Origins: which web pages may connect.

The rule: browsers send `Origin` with every opening handshake, whoever wrote the page, and the
user's cookies with it. Checking it is the only defence against cross-site requests.

RFC 6455 section 10.2; RFC 6454 sections 6 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias

from .._errors import InvalidOption, InvalidOptionType
from .._options.url import without_query, without_userinfo
from .._quoting import clip
from .answers import quoted, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request_and_response import Request

__all__ = ["Origins", "check_origin", "check_origins"]

Origins: TypeAlias = "Sequence[str | None] | Literal['same'] | None"
"""The origins to let in: "same", those of a list with None for a request without one, or None: all.

"same" is a request without an `Origin`, or whose origin has the host and port in `Host`.
"""

# As browsers write it: without the port of the scheme, and in ASCII (RFC 6454 section 6.2).
_ORIGIN = re.compile(
    r"(?!http://[^/]*:80\Z|https://[^/]*:443\Z)"
    r"[a-z][a-z0-9+\-.]*://(?:[a-z0-9\-._~!$&'()+,;=%]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?|null",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_HOST_AND_PORT = re.compile(r"(.*?)(?::([0-9]*))?")


def check_origins(origins: Origins) -> tuple[str | None, ...] | Literal["same"] | None:
    """`origins` if each could be that of an `Origin` header, else InvalidOption."""
    if origins is None or origins == "same":
        return origins
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Iterable):
        raise InvalidOptionType(
            "origins must be 'same', a list of str and None, or None", "origins"
        )
    origins = tuple(origins)
    for origin in origins:
        if origin is not None and not isinstance(origin, str):
            raise InvalidOptionType(
                f"an origin must be str or None, not {type(origin).__name__}", "origins"
            )
        if origin is not None and not _ORIGIN.fullmatch(origin):
            raise InvalidOption(
                f"{clip(without_userinfo(origin))} is not an origin: expected 'scheme://host' or "
                f"'scheme://host:port' without a path (RFC 6454 section 6.1){_origin_hint(origin)}",
                "origins",
            )
    return origins


def _origin_hint(origin: str) -> str:
    """What to give in place of an origin that no `Origin` header has."""
    if origin == "same":
        return "; 'same' stands alone: in a list, name the origins of your own pages"
    if "*" in origin:
        return "; there are no wildcards: list each origin, or give origins=None to let in any"
    scheme, _, rest = origin.rpartition("://")
    scheme = scheme.lower() or "https"
    host = without_userinfo(re.split(r"[/?#]", rest)[0])
    host = host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))
    instead = f"{scheme}://{host}"
    return f"; did you mean {instead!r}?" if _ORIGIN.fullmatch(instead) else ""


def check_origin(request: Request, origins: Origins) -> None:
    """HandshakeError if `origins` does not let in where the request comes from."""
    if origins is None:
        return
    received = request.get_all("Origin")
    origin = received[0].lower() if received else None
    hint = ""
    if len(received) <= 1:
        if _is_let_in(origin, origins, request.host):
            return
        if origin is None or (_ORIGIN.fullmatch(origin) and origin.isascii()):
            lets_in = clip(origin) if origin is not None else "None"
            hint = f"; origins=[{lets_in}, {'None' if origins == 'same' else '...'}] lets it in"
    # Not userinfo, though no browser sends any.
    redacted = [re.sub(r"(?<=://).*@", "...@", without_query(each)) for each in received]
    raise refusal(
        403,
        f"the origin is not allowed: received Origin {quoted(redacted)} and "
        f"Host {clip(request.host)}{hint} (RFC 6455 section 10.2)",
    )


def _is_let_in(
    origin: str | None, origins: Sequence[str | None] | Literal["same"], host: str
) -> bool:
    if origins == "same":
        return origin is None or _is_of_host(origin, host)
    return origin in [each.lower() if each is not None else None for each in origins]


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
