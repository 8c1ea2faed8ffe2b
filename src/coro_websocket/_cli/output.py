"""What the command says, and the values of its options that are no text."""

from __future__ import annotations

import argparse
import sys

from .._http.opening_errors import HandshakeError
from .._quoting import printable

__all__ = ["complain", "seconds", "without_controls"]


def complain(error: object) -> None:
    print(f"coro-websocket: {without_controls(str(error))}", file=sys.stderr)
    if isinstance(error, HandshakeError) and error.response is not None and error.response.body:
        body = error.response.body.decode(errors="replace").strip()
        print(
            "\n".join(f"  | {without_controls(line)}" for line in body.splitlines()),
            file=sys.stderr,
        )


def without_controls(text: str) -> str:
    """The text without what could control a terminal."""
    return printable(text, keep="\t\n")


def seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds, 0 or more")
    return seconds
