"""Close codes and reasons: which may be on the wire, and how an end is told to people.

RFC 6455 sections 7.1.5 to 7.1.7 and 7.4, and IANA's registry of close codes.
"""

from __future__ import annotations

from typing import TypeGuard

from .._checks import is_int
from .._errors import ConnectionClosedError, InvalidMessage
from .._quoting import printable

__all__ = [
    "ABNORMAL",
    "INTERNAL_ERROR",
    "NORMAL",
    "NO_STATUS",
    "TRY_AGAIN_LATER",
    "broken_off",
    "close_payload",
    "describe",
    "failure",
    "may_be_sent",
]

NORMAL = 1000
NO_STATUS = 1005
ABNORMAL = 1006
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013

# The reason where a part of a message has been sent and the rest is not to come.
_BROKEN_OFF = "a fragmented message was broken off"

# What ends a connection without an error, if the peer closed it.
CLEAN = frozenset({1000, 1001, NO_STATUS})

NAMES = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status received",
    1006: "abnormal closure",
    1007: "invalid payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake",
}

_NEVER_SENT = frozenset({1004, NO_STATUS, ABNORMAL, 1015})


def may_be_sent(code: object) -> TypeGuard[int]:
    """Whether a Close frame may carry this code (RFC 6455 section 7.4)."""
    if not is_int(code):
        return False
    return (1000 <= code <= 1014 and code not in _NEVER_SENT) or 3000 <= code <= 4999


def describe(code: int, reason: str) -> str:
    """A code and a reason in words: `1001 (going away): shutting down`.

    The reason may be the peer's: what is not printable is escaped, so that it forges no line of
    a log.
    """
    if code >= 4000:
        name = "private use"
    elif code >= 3000:
        name = "registered with IANA"
    else:
        name = NAMES.get(code, "unknown")
    return f"{code} ({name})" + (f": {printable(reason)}" if reason else "")


def broken_off() -> ConnectionClosedError:
    """How a connection ended that we closed because a message of ours was broken off."""
    return ConnectionClosedError(
        f"we closed the connection: {_BROKEN_OFF} (close code {INTERNAL_ERROR})",
        INTERNAL_ERROR,
        _BROKEN_OFF,
    )


def close_payload(code: int | None, reason: str = "") -> bytes:
    """The payload of a Close frame (RFC 6455 section 5.5.1); None is a Close without a code.

    Raises InvalidMessage for a code that may not be sent, a reason of more than
    123 bytes of UTF-8 or a reason without a code.
    """
    if code is None:
        if reason:
            raise InvalidMessage("a close reason needs a close code (RFC 6455 section 5.5.1)")
        return b""
    if not may_be_sent(code):
        raise InvalidMessage(
            "a close code that may be sent is 1000 to 1003, 1007 to 1014 or 3000 to 4999 "
            f"(RFC 6455 section 7.4), not {code!r}"
        )
    try:
        encoded = reason.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidMessage(
            "a close reason is a str that is encodable as UTF-8 (RFC 6455 section 5.5.1)"
        ) from None
    if len(encoded) > 123:
        raise InvalidMessage(
            f"a close reason is at most 123 bytes of UTF-8 (RFC 6455 section 5.5), "
            f"not {len(encoded)}"
        )
    return code.to_bytes(2, "big") + encoded


def failure(code: object, reason: object) -> tuple[int, str]:
    """The close code and reason to send for an error; that of an extension may hold anything."""
    if not may_be_sent(code):
        code = INTERNAL_ERROR
    if not isinstance(reason, str):
        reason = ""
    return code, reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
