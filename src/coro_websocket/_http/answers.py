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
from .keys import accept_key
from .opening_errors import HandshakeError
from .request_and_response import Response
from .reserved_headers import check_refusal_headers, check_response_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .request_and_response import Request

__all__ = [
    "PHRASES",
    "closing_response",
    "encode_response",
    "quoted",
    "refusal",
    "response_headers",
    "switching_protocols",
]

PHRASES = {status.value: status.phrase for status in HTTPStatus}


def response_headers(
    request: Request,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
) -> tuple[tuple[str, str], ...]:
    """The headers of the 101 that accepts `request`, in the order to send them.

    The subprotocol in it is `request.subprotocol`. The headers that make the handshake what it
    is cannot be set by `headers`: InvalidOption says why.

    RFC 6455 section 4.2.2, item 5.
    """
    return _headers_of_101(request, "", check_response_headers(headers))


def switching_protocols(
    request: Request, extensions: str, checked: Iterable[tuple[str, str]]
) -> bytes:
    """The 101 that accepts `request`, as it goes on the wire.

    Args:
        extensions: the value of `Sec-WebSocket-Extensions`; "" if none is used.
        checked: more headers, of which `check_response_headers` has said that a 101 may have them.
    """
    return _head("101 Switching Protocols", _headers_of_101(request, extensions, checked))


def _headers_of_101(
    request: Request, extensions: str, checked: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    chosen = request.subprotocol
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(request["Sec-WebSocket-Key"])),
        *([("Sec-WebSocket-Protocol", chosen)] if chosen is not None else []),
        *([("Sec-WebSocket-Extensions", extensions)] if extensions else []),
        *checked,
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
    head = _head(f"{response.code} {response.reason}", response)
    return head if method == "HEAD" else head + response.body


def _head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1")


def quoted(values: Sequence[str]) -> str:
    """The values of a header that was refused, for the answer to say."""
    return clip(", ".join(values)) if values else "none"
