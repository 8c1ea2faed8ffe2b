"""The path of a request as text to match: decoded segment by segment.

The rule: only a slash that was sent as one separates segments. One that was percent-encoded is
part of its segment, and stands in the text as `ENCODED_SLASH` until a parameter is read.

RFC 3986 sections 2.4 and 3.3; RFC 6455 section 3 (the query is no part of the path).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .._http.answers import refusal

__all__ = ["ENCODED_SLASH", "MAX_PATH", "MAX_SPLIT", "decode_path"]

# A noncharacter: no text that is interchanged has it (Unicode 23.7).
ENCODED_SLASH = "\ufdd0"

MAX_PATH = 4096  # bytes
# Characters of a segment that has several parameters: the time to tell them apart grows with the
# square of its length, and faster if there are more than two.
MAX_SPLIT = 128

_SEPARATOR = re.compile(r"[/\\]")


def decode_path(pathname: str) -> str | None:
    """The path of `pathname`, as sent, without its query; None if no pattern may match it.

    None stands for paths with a segment `.` or `..`, however it is encoded: whoever has looked
    at the path before, a proxy or a hook, may have resolved them, or not. A backslash counts as a
    separator there, as it does to those who open files on Windows.

    Raises:
        HandshakeError: the path is too long (414), or not UTF-8 once it is decoded (400).
    """
    path = pathname.partition("?")[0]
    if len(path) > MAX_PATH:
        raise refusal(
            414, f"expected a path of at most {MAX_PATH} bytes (RFC 9110 section 15.5.15)"
        )
    if ENCODED_SLASH in path or path.startswith("//"):
        return None
    segments = []
    for segment in path.split("/"):
        try:
            text = unquote_to_bytes(segment).decode()
        except UnicodeDecodeError:
            raise refusal(400, "expected a path in UTF-8 (RFC 3986 section 2.5)") from None
        if ENCODED_SLASH in text or not {".", ".."}.isdisjoint(_SEPARATOR.split(text)):
            return None
        segments.append(text.replace("/", ENCODED_SLASH))
    if len(segments) > 2 and not segments[-1]:
        del segments[-1]  # a slash at the end makes no difference
    return "/".join(segments)
