"""The errors of opening a connection: it was not reached, or not accepted.

They stand above `Response`, as some of them carry the answer that a server or a proxy gave. The
other errors are in `_errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import WebSocketError

if TYPE_CHECKING:
    from .request_and_response import Response

__all__ = [
    "ConnectError",
    "ProxyError",
    "TLSError",
    "ConnectTimeout",
    "HandshakeError",
    "may_be_granted_later",
]


def may_be_granted_later(status: int) -> bool:
    """Whether a request refused with this HTTP status may be granted later, as it is.

    408 Request Timeout, 425 Too Early, 429 Too Many Requests, and 5xx, which are the server's
    faults (RFC 9110 section 15, RFC 8470 section 5.2, RFC 6585 section 4).
    """
    return status in (408, 425, 429) or status >= 500


class ConnectError(WebSocketError, ConnectionError):
    """The server could not be reached. Check address and network; retrying may help.

    `phase` says how far it came: "resolve", "connect", "proxy", "tls" or "handshake".
    """

    def __init__(self, message: str, phase: str = "connect") -> None:
        super().__init__(message)
        self.phase = phase


class ProxyError(ConnectError):
    """The proxy did not connect us to the server, or could not be used. Check the option `proxy`.

    Attributes:
        status: the HTTP status that it refused with, 407 if it asks for credentials; else None.
        response: its HTTP answer, without a body, where it refused with one; else None.
        permanent: True where the same again can be expected: a certificate that is not accepted,
            credentials that are rejected, a rule against this server, a proxy that speaks another
            protocol, and every HTTP status but 408, 425, 429 and 5xx.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        *,
        response: Response | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(message, "proxy")
        self.status = response.code if response is not None else status
        self.response = response
        refused = self.status is not None and not may_be_granted_later(self.status)
        self.permanent = permanent or refused


class TLSError(ConnectError):
    """TLS could not be set up: certificate, name, version or cipher. Check the TLS options."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "tls")


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not open within `timeout`. `phase` says what was being waited for."""


class HandshakeError(WebSocketError, ConnectionError):
    """The peer answered, but not with a valid opening handshake (RFC 6455 section 4).

    `response` is the whole answer (status, headers and body) where there was one
    that could be parsed, else None. `phase` is "handshake", as that of a ConnectError
    would be. A peer that hangs up before it has answered is a ConnectError.
    """

    phase = "handshake"

    def __init__(self, message: str, response: Response | None = None) -> None:
        super().__init__(message)
        self.response = response
