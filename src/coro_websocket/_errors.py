"""Every error that coro-websocket raises, in one tree.

Each class says whose fault it was and what the caller can do about it. Where
Python has a built-in exception that fits, the class is a subclass of it too, so
`except ValueError`, `except TimeoutError` and `except ConnectionError` work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._response import Response

__all__ = [
    "WebSocketError",
    "InvalidURL",
    "InvalidOption",
    "InvalidOptionType",
    "InvalidMessage",
    "InvalidMessageType",
    "ConcurrencyError",
    "NoEventLoopError",
    "OtherEventLoopError",
    "ConnectError",
    "ProxyError",
    "TLSError",
    "ConnectTimeout",
    "HandshakeError",
    "ServeError",
    "ConnectionClosedError",
    "ProtocolError",
    "LimitError",
    "PingTimeout",
]


class WebSocketError(Exception):
    """The root of the tree: catch this to catch everything the library raises."""


def may_pass(status: int) -> bool:
    """Whether a request refused with this HTTP status may be granted later, as it is.

    408 Request Timeout, 425 Too Early, 429 Too Many Requests, and 5xx, which are the server's
    faults (RFC 9110 section 15, RFC 8470 section 5.2, RFC 6585 section 4).
    """
    return status in (408, 425, 429) or status >= 500


# The caller's own mistakes: mend the call.


class InvalidURL(WebSocketError, ValueError):
    """The URL is not a WebSocket URL (RFC 6455 section 3). Mend the URL.

    `part` names the part that is wrong: "scheme", "userinfo", "host", "port",
    "path", "fragment" or "url".
    """

    def __init__(self, message: str, part: str = "url") -> None:
        super().__init__(message)
        self.part = part


class InvalidOption(WebSocketError, ValueError):
    """An option has a value that cannot be used. Mend the option that `option` names."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class InvalidOptionType(InvalidOption, TypeError):
    """An option is of a type that cannot be used, or no option has this name."""


class InvalidMessage(WebSocketError, ValueError):
    """What was to be sent is no valid message or close. Nothing was sent; mend the message."""


class InvalidMessageType(InvalidMessage, TypeError):
    """What was to be sent is of a type that cannot be sent. Nothing was sent."""


class ConcurrencyError(WebSocketError, RuntimeError):
    """Two tasks use at once what only one may: two `read()`s, or two parts of one message."""


class NoEventLoopError(WebSocketError, RuntimeError):
    """`connect` or `serve` was called where no event loop runs: call it from a coroutine.

    Also where `wrap_io` needs an event loop that it knows: asyncio's or trio's.
    """


class OtherEventLoopError(WebSocketError, RuntimeError):
    """A connection was used in an event loop that is not its own: nothing was sent or read.

    It belongs to the loop in which it was opened. From another thread, have that loop run the
    call: `asyncio.run_coroutine_threadsafe(write(message), loop)`.
    """


# Getting connected.


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
        refused = self.status is not None and not may_pass(self.status)
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


# Getting a server to listen.


class ServeError(WebSocketError, OSError):
    """`serve` cannot listen on the address: it is in use, not of this machine, not allowed.

    Choose another address, or free it. `errno` is the operating system's number of the error.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


# A connection that was open.


class ConnectionClosedError(WebSocketError, ConnectionError):
    """The connection is closed: abnormally, or before this message could be sent.

    Attributes:
        code: the close code (RFC 6455 section 7.4): the peer's, or ours where we
            failed the connection; 1006 where there was no Close frame at all.
        reason: the reason in the Close frame, "" if there was none.
    """

    # Also where a subclass of an extension's has an `__init__` that forgets them.
    code: int = 1006
    reason: str = ""
    _engine: int = 0  # the id of the engine of the connection that this is the end of

    def __init__(self, message: str, code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ProtocolError(ConnectionClosedError):
    """The peer broke the protocol; the connection was failed with `code` (1002 or 1007).

    The message names what was violated and the section of the RFC.
    """


class LimitError(ProtocolError):
    """The peer's message was larger than a limit of ours (1009). Raise the limit if it is right.

    `limit` is the limit's option name, `value` the limit in force and `actual` what came.
    """

    def __init__(
        self,
        message: str,
        code: int = 1009,
        reason: str = "",
        *,
        limit: str = "",
        value: int = 0,
        actual: int = 0,
    ) -> None:
        super().__init__(message, code, reason)
        self.limit = limit
        self.value = value
        self.actual = actual


class PingTimeout(ConnectionClosedError, TimeoutError):
    """Nothing came from the peer for `ping_timeout` after a Ping: it is gone. Reconnect."""
