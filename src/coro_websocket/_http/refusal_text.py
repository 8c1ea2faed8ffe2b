"""The part of a refusal's body that may be quoted in an error message.

The rule: one line of plain text or JSON, without control characters, clipped; and nothing that
echoes what we have sent, which may be credentials. The whole body stays in `response.body`.

RFC 9110 sections 8.3 (types) and 8.4 (codings).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .request_and_response import Response

__all__ = ["refusal_text"]

_READ = 400  # bytes of the body that are looked at
_TYPE = re.compile(r"\s*(text/plain|application/(?:[\w.+-]+\+)?json)\s*(?:;|\Z)", re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset="?([\w-]+)', re.IGNORECASE)
# Codecs that decode each byte by itself, or UTF-8: others can be slow.
_CODECS = re.compile(r"utf-?8|us-ascii|iso-8859-\d\d?|windows-125\d", re.IGNORECASE)

# Headers of the request whose values are not secret.
_OPEN = frozenset(
    {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "user-agent",
        "origin",
    }
)
_ECHO = 6  # characters of a value in a row that are an echo of it


def refusal_text(response: Response, request: bytes) -> str:
    """The line that a refusal's body begins with, in quotes; "" if there is none to show.

    request: the head that it answers.
    """
    if response.get("Content-Encoding", "identity").lower() != "identity":
        return ""
    kind = response.get("Content-Type", "text/plain")
    of_text = _TYPE.match(kind)
    charset = _CHARSET.search(kind)
    codec = charset[1] if charset is not None else "utf-8"
    if of_text is None or not _CODECS.fullmatch(codec):
        return ""
    text = response.body[:_READ].decode(codec, "ignore").removeprefix("\ufeff").strip()
    if "json" in of_text[1].lower():
        line = " ".join(text.split())  # a line of it may be a brace
    else:
        line = text.splitlines()[0].strip() if text else ""
    if not line.isprintable() or line.startswith("<"):
        return ""
    if any(_echoes(line, value) for value in _values(request)):
        return ""
    return clip(line) if line else ""


def _echoes(line: str, value: str) -> bool:
    line, value = line.casefold(), value.casefold()
    if len(value) < _ECHO:
        return len(value) > 2 and value in line
    return any(value[i : i + _ECHO] in line for i in range(len(value) - _ECHO + 1))


def _values(request: bytes) -> Iterator[str]:
    """What the caller has had us send: header values, subprotocols, the query, in their parts."""
    start, *lines = request.decode("latin-1").rstrip("\r\n").split("\r\n")
    yield from _parts(start.split(" ")[1].partition("?")[2])
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() in _OPEN:
            continue
        scheme, _, credentials = value.strip().partition(" ")
        if name.lower().endswith("authorization") and credentials:
            yield from _parts(credentials)
            if scheme.lower() == "basic":
                yield from _basic(credentials)
        else:
            yield from _parts(value)


def _parts(value: str) -> Iterator[str]:
    for part in re.split(r"[\s,;&]+", value):
        name, _, rest = part.partition("=")
        found = (rest if rest.strip("=") else name).strip("\"'")
        yield found
        if "%" in found:
            yield unquote(found)


def _basic(credentials: str) -> Iterator[str]:
    try:
        yield from base64.b64decode(credentials).decode().split(":", 1)
    except (binascii.Error, UnicodeDecodeError):
        return
