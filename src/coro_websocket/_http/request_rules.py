"""What makes a request well-formed HTTP, and what makes it an opening handshake to accept.

The rule: it is accepted only if RFC 6455 section 4.2.1 allows it in every point. The checks come
in the order of `check_request`, and the first that fails says what to answer. They are three
steps, as an application may want to answer what is well-formed and no opening handshake.

RFC 6455 sections 4.2.1, 4.4 and 10.2; RFC 9112 sections 2.3 and 3.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._errors import InvalidOption
from .._options.header_rules import check_pathname, is_host, is_token
from .._options.url import without_query, without_userinfo
from .._quoting import clip
from .answers import quoted, refusal
from .headers import has_option, too_long_list
from .origins import check_origin, check_origins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .opening_errors import HandshakeError
    from .origins import Origins
    from .request_and_response import Request

__all__ = [
    "asks_for_upgrade",
    "check_for_hooks",
    "check_opening",
    "check_origin_of_upgrade",
    "check_request",
    "check_well_formed",
    "choose_subprotocol",
]

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
# Host and port of an absolute target, without userinfo (RFC 9110 section 4.2.4).
_AUTHORITY = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
)


def check_request(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    origins: Origins = "same",
) -> str | None:
    """The subprotocol to agree on, or None, if `request` is an opening handshake to accept.

    It is the first of `subprotocols`, the server's, that the client offers too. `origins` says
    which `Origin` to accept; None, for any, is right only where neither cookies nor addresses are
    trusted.

    Raises:
        HandshakeError: the request cannot be accepted. `response` is the answer to send.
    """
    check_well_formed(request)
    check_origin_of_upgrade(request, origins)
    check_opening(request)
    return choose_subprotocol(request, subprotocols)


def choose_subprotocol(request: Request, subprotocols: Sequence[str]) -> str | None:
    """The first of `subprotocols`, the server's, that the client offers too (section 4.2.2)."""
    offered = request.subprotocols
    return next((name for name in subprotocols if name in offered), None)


# HTTP


def check_well_formed(request: Request) -> None:
    """HandshakeError if `request` is not what HTTP/1.x allows, or has lists without measure."""
    _check_http_version(request)
    _check_authority(request)
    _check_host(request)
    _check_lists(request)
    _check_target(request)


def _check_http_version(request: Request) -> None:
    if not 1 <= request.version < 2:
        raise refusal(
            505, f"expected HTTP/1.1, received HTTP/{request.version} (RFC 9112 section 2.3)"
        )


def _check_authority(request: Request) -> None:
    authority = request._host
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        raise refusal(
            400,
            f"expected host and port in the target, received {clip(without_userinfo(authority))} "
            "(RFC 9112 section 3.2.2)",
        )


def _check_host(request: Request) -> None:
    hosts = request._values_of("host")
    if not hosts and request.version < 1.1:
        return
    if len(hosts) != 1 or not is_host(hosts[0]):
        received = ", ".join(clip(without_userinfo(host)) for host in hosts) or "none"
        raise refusal(400, f"expected one Host, received {received} (RFC 9112 section 3.2)")


def _check_lists(request: Request) -> None:
    if (too_long := too_long_list(request)) is not None:
        raise refusal(431, f"{too_long} (RFC 6585 section 5)")


def _check_target(request: Request) -> None:
    if request.method == "CONNECT" or (request.method, request.pathname) == ("OPTIONS", "*"):
        return  # its target is no path (RFC 9112 section 3.2)
    try:
        check_pathname(request.pathname)
    except InvalidOption:
        received = clip(without_userinfo(without_query(request.pathname)))
        raise refusal(400, f"expected a path, received {received} (RFC 9112 section 3.2)") from None


def check_for_hooks(request: Request) -> None:
    """HandshakeError if `request`, which is well-formed, is none that a server's hooks see.

    A body is not read: whoever sends one learns so. CONNECT asks for a tunnel to somewhere else,
    which a 200 would promise (RFC 9110 section 9.3.6).
    """
    if request.method == "CONNECT":
        raise refusal(405, "expected GET, received 'CONNECT'", [("Allow", "GET")])
    if _has_body(request):
        raise refusal(413, "expected a request without a body (RFC 9110 section 15.5.14)")


def _has_body(request: Request) -> bool:
    """Whether there is content behind the head, as far as that says (RFC 9112 section 6)."""
    length = request._values_of("content-length")
    return bool(length and length[0].strip("0")) or "Transfer-Encoding" in request


# WebSocket


def asks_for_upgrade(request: Request) -> bool:
    """Whether `request` means to be an opening handshake, be it a proper one or not."""
    asks = request._asks_for_upgrade
    if asks is None:
        asks = has_option(request._values_of("upgrade"), "websocket")
        request._asks_for_upgrade = asks
    return asks


def check_origin_of_upgrade(request: Request, origins: Origins) -> None:
    """HandshakeError if `request` asks for an upgrade and `origins` does not let it in.

    It comes before whatever may act upon the cookies that a browser sends with it: the page that
    has it sent may be anybody's (RFC 6455 section 10.2).
    """
    if asks_for_upgrade(request):
        check_origin(request, check_origins(origins))


def check_opening(request: Request) -> None:
    """HandshakeError if `request`, which is well-formed, is no opening handshake."""
    _check_request_line(request)
    _check_upgrade(request)
    _check_no_body(request)
    _check_protocol_version(request)
    _check_key(request)
    _check_subprotocols(request)


def _check_request_line(request: Request) -> None:
    # An upgrade is a thing of HTTP/1.1 (RFC 6455 section 4.2.1, item 1; RFC 9110 section 7.8).
    if request.version < 1.1:
        raise refusal(
            400,
            f"expected HTTP/1.1, received HTTP/{request.version}: a proxy in between may have "
            "lowered it (RFC 6455 section 4.2.1)",
        )
    if request.method != "GET":
        raise refusal(
            405,
            f"expected GET, received {clip(request.method)} (RFC 6455 section 4.2.1)",
            [("Allow", "GET")],
        )


def _check_upgrade(request: Request) -> None:
    if not asks_for_upgrade(request):
        raise _no_upgrade(request, "Upgrade", "websocket")
    if not has_option(request._values_of("connection"), "upgrade"):
        raise _no_upgrade(request, "Connection", "upgrade")


def _no_upgrade(request: Request, header: str, option: str) -> HandshakeError:
    return refusal(
        426,
        f"this is a WebSocket server: expected {option!r} in {header}, "
        f"received {quoted(request.get_all(header))} (RFC 6455 section 4.2.1)",
        [("Upgrade", "websocket")],
    )


def _check_no_body(request: Request) -> None:
    if _has_body(request):
        raise refusal(400, "expected no body in an opening handshake (RFC 6455 section 4.1)")


def _check_protocol_version(request: Request) -> None:
    versions = request._values_of("sec-websocket-version")
    if len(versions) != 1 or versions[0] != "13":
        # One that we do not speak, or none that could be read (RFC 6455 section 4.4).
        raise refusal(
            426 if len(versions) == 1 and versions[0].isdecimal() else 400,
            f"expected one Sec-WebSocket-Version: 13, received {quoted(versions)} "
            "(RFC 6455 section 4.4)",
            [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        )


def _check_key(request: Request) -> None:
    keys = request._values_of("sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise refusal(
            400,
            "expected one Sec-WebSocket-Key with 16 bytes in base64, "
            f"received {quoted(keys)} (RFC 6455 section 4.2.1)",
        )


def _check_subprotocols(request: Request) -> None:
    if not all(map(is_token, request.subprotocols)):
        # Without the value: bearer tokens travel there.
        raise refusal(400, "expected tokens in Sec-WebSocket-Protocol (RFC 6455 section 4.1)")
