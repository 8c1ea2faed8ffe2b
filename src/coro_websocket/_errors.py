"""The errors that coro-websocket raises: one tree, with `WebSocketError` at its root.

Each class says whose fault it was and what the caller can do about it. Where
Python has a built-in exception that fits, the class is a subclass of it too, so
`except ValueError`, `except TimeoutError` and `except ConnectionError` work.

The errors of opening a connection, some of which carry the answer, are in `_http.opening_errors`.
"""

from __future__ import annotations

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
    "ServeError",
    "ConnectionClosedError",
    "ProtocolError",
    "LimitError",
    "PingTimeout",
]


class WebSocketError(Exception):
    """The root of the tree: catch this to catch everything the library raises."""


# The caller's own mistakes: correct the call.


class InvalidURL(WebSocketError, ValueError):
    """The URL is not a WebSocket URL (RFC 6455 section 3). Correct the URL.

    `part` names the part that is wrong: "scheme", "userinfo", "host", "port",
    "path", "fragment" or "url".
    """

    def __init__(self, message: str, part: str = "url") -> None:
        super().__init__(message)
        self.part = part


class InvalidOption(WebSocketError, ValueError):
    """An option has a value that cannot be used. Correct the option that `option` names."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class InvalidOptionType(InvalidOption, TypeError):
    """An option is of a type that cannot be used, or there is no option of this name."""


class InvalidMessage(WebSocketError, ValueError):
    """What was to be sent is not a valid message or close. Nothing was sent."""


class InvalidMessageType(InvalidMessage, TypeError):
    """What was to be sent is of a type that cannot be sent. Nothing was sent."""


class ConcurrencyError(WebSocketError, RuntimeError):
    """Two tasks use at once what only one may use: two `read()`s, or two parts of one message."""


class NoEventLoopError(WebSocketError, RuntimeError):
    """`connect` or `serve` was called where no event loop runs: call it from a coroutine.

    Also where `wrap_io` needs an event loop that it knows: asyncio's or trio's.
    """


class OtherEventLoopError(WebSocketError, RuntimeError):
    """A connection was used in an event loop that is not its own: nothing was sent or read.

    It belongs to the loop in which it was opened. From another thread, have that loop run the
    call: `asyncio.run_coroutine_threadsafe(write(message), loop)`.
    """


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
