"""Frames in the log: a line for each, with its payload shortened.

Whether there are any is decided when a connection opens, so that where there are none a frame
costs no more for it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

__all__ = ["frame_tracer"]

logger = logging.getLogger("coro_websocket.frames")

HEX = 32  # bytes that are shown of what is not text
_NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_numbers = itertools.count(1)

Tracer = Callable[[bool, int, int, bytes], None]


def frame_tracer(client: bool) -> Tracer | None:
    """A function that logs each frame of a new connection; None if frames are not logged.

    It takes whether the frame was sent, its first byte, the length of its payload and the first
    bytes of that, as far as they have come.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        return None
    name = f"{'client' if client else 'server'} {next(_numbers)}"

    def trace(sent: bool, bits: int, length: int, start: bytes) -> None:
        opcode = bits & 15
        flags = "".join(
            f" {flag}" for bit, flag in ((64, "rsv1"), (32, "rsv2"), (16, "rsv3")) if bits & bit
        )
        logger.debug(
            "%s %s %s%s%s, %d bytes%s",
            name,
            "sent" if sent else "received",
            _NAMES.get(opcode, f"opcode {opcode}"),
            "" if bits & 128 else " (not fin)",
            flags,
            length,
            _payload_start(opcode, flags != "", length, start),
        )

    return trace


def _payload_start(opcode: int, transformed: bool, length: int, start: bytes) -> str:
    if not length:
        return ""
    more = "..." if length > len(start) else ""
    if opcode == 8 and length >= 2:
        return f": {int.from_bytes(start[:2], 'big')} {start[2:].decode(errors='replace')!r}{more}"
    if opcode == 1 and not transformed:
        return f": {start.decode(errors='replace')!r}{more}"
    return f": {start[:HEX].hex(' ')}{'...' if length > HEX else ''}"
