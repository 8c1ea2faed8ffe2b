"""What peers and callers supplied, made fit for messages and logs.

The rule: such text can neither fill a log nor forge a line in one, nor control a terminal.
"""

from __future__ import annotations

__all__ = ["clip", "printable"]


def clip(value: str | bytes, limit: int = 100) -> str:
    """What a peer or a caller supplied, fit for an error message.

    At most `limit` characters of it, in quotes, everything but printable ASCII escaped, so
    that it can neither fill a log nor forge a line in one.
    """
    text = value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else value
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "..."


def printable(text: str, keep: str = "") -> str:
    """The text with everything escaped that is not printable, but for the characters of `keep`."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
