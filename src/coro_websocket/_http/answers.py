"""What a server answers: the 101 that completes the opening handshake, or a refusal.

The rule: a request that is refused gets a whole answer that says why, and its connection is
closed: there cannot be a second request, smuggled in behind a bad one.

RFC 6455 section 4.2.2; RFC 9110 section 15; RFC 9112 section 6.3.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from .._checks import check_int
from .._options.header_rules import check_value
from .._quoting import clip
from .extension_header import format_extensions
from .keys import accept_key
from .opening_errors import HandshakeError
from .request_and_response import Response
from .reserved_headers import check_refusal_headers, check_response_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._rfc6455.extension import Parameters
    from .request_and_response import Request

__all__ = [
    "PHRASES",
    "closing_response",
    "encode_response",
    "quoted",
    "refusal",
    "response_headers",
]

PHRASES = {status.value: status.phrase for status in HTTPStatus}


def response_headers(
    request: Request,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
    extensions: Iterable[tuple[str, Parameters]] = (),
) -> tuple[tuple[str, str], ...]:
    """The headers of the 101 that accepts `request`, in the order to send them.

    The subprotocol in it is `request.subprotocol`. The headers that make the handshake what it
    is cannot be set by `headers`: InvalidOption says why.

    RFC 6455 section 4.2.2, item 5.
    """
    given = check_response_headers(headers)
    chosen = request.subprotocol
    in_use = format_extensions(extensions)
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(request["Sec-WebSocket-Key"])),
        *([("Sec-WebSocket-Protocol", chosen)] if chosen is not None else []),
        *([("Sec-WebSocket-Extensions", in_use)] if in_use else []),
        *given,
    )


def refusal(code: int, message: str, headers: Iterable[tuple[str, str]] = ()) -> HandshakeError:
    """The error that a request is refused with; its `response` is the answer to send."""
    return HandshakeError(
        f"the client's opening handshake is refused with {code}: {message}",
        closing_response(code, headers=headers, body=message + "\n"),
    )


def closing_response(
    code: int,
    reason: str | None = None,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
    body: bytes | str = b"",
) -> Response:
    """The answer `code` after which the connection is closed; see `ServerHandshake.reject`."""
    check_int("code", code, 200, 599)
    if reason is None:
        reason = PHRASES.get(code, "")
    given = check_refusal_headers(headers)
    names = {name.lower() for name, _ in given}
    content = body.encode() if isinstance(body, str) else bytes(body)
    pairs = [*given]
    if code in (204, 304):  # these end with their head (RFC 9112 section 6.3)
        content = b""
    else:
        if content and "content-type" not in names:
            pairs.append(("Content-Type", "text/plain; charset=utf-8"))
        pairs.append(("Content-Length", str(len(content))))
    # An Upgrade header is named in Connection (RFC 9110 section 7.8).
    pairs.append(("Connection", "Upgrade, close" if "upgrade" in names else "close"))
    return Response(pairs, code=code, reason=check_value(reason, "reason", "reason"), body=content)


def encode_response(response: Response, *, method: str = "GET") -> bytes:
    """`response` as it goes on the wire; an answer to HEAD has no body (RFC 9110 section 9.3.2)."""
    lines = [f"HTTP/1.1 {response.code} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if method == "HEAD" else head + response.body


def quoted(values: Sequence[str]) -> str:
    """The values of a header that was refused, for the answer to say."""
    return clip(", ".join(values)) if values else "none"
