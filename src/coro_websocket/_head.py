"""Heads of HTTP messages on the wire: cut off the stream within limits, then parsed by h11.

The rule: a head is measured before it is parsed. h11's own limit holds only while a head is
incomplete, so one that comes in a single piece would pass it; ours is exact for any pieces.

RFC 9112 sections 2 to 5.
"""

from __future__ import annotations

import re

import h11

from ._errors import HandshakeError
from ._headers import clip

__all__ = ["HeadBuffer", "decode_headers", "parse_head"]

# An empty line ends a head. A bare LF counts as a line end (RFC 9112 section 2.2), as in h11.
_HEAD_END = re.compile(rb"(?:\A|\n)\r?\n")
_TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEADER_LINE = re.compile(rb"(?:[%s]+:|[ \t])[^\x00\r\v\f]*" % re.escape(_TCHAR))


class HeadBuffer:
    """Cuts heads off a stream of bytes, within limits, and keeps the bytes after them.

    A head that is too large is refused as soon as the limit is crossed, and one that is exactly
    as large passes, whether it comes in one piece or byte by byte; either way each byte is
    looked at once. Several heads (interim responses, then the final one) share the limits.
    """

    def __init__(self, what: str, max_head_size: int | None, max_header_lines: int | None) -> None:
        self._what = what
        self._max_size = max_head_size
        self._max_lines = max_header_lines
        self._data = bytearray()
        self._searched = 0  # bytes of the head in _data that hold no end of it
        self._newlines = 0  # among them
        self._past_size = 0  # of the heads before this one
        self._past_lines = 0

    @property
    def rest(self) -> bytes:
        """The bytes that came and are part of no complete head."""
        return bytes(self._data)

    def start(self, count: int) -> bytes:
        """The first bytes, at most `count`, of `rest`."""
        return bytes(self._data[:count])

    def skip_empty_line(self) -> bool:
        """Drop an empty line that comes before anything else; False if nothing has come yet."""
        came = bool(self._data)
        for line_end in (b"\r\n", b"\n"):
            if self._data.startswith(line_end):
                del self._data[: len(line_end)]
                break
        return came

    def feed(self, data: bytes) -> None:
        self._data += data

    def next_head(self) -> bytes | None:
        """The next head with its empty line, or None if it is not complete.

        Raises HandshakeError, which names the limit, if the head is too large.
        """
        match = _HEAD_END.search(self._data, max(0, self._searched - 2))
        size = match.end() if match else len(self._data)
        self._newlines += self._data.count(b"\n", self._searched, size)
        self._searched = size
        # Neither the start line nor the empty line is a header line.
        lines = max(0, self._newlines - (2 if match else 1))
        self._within("max_head_size", self._max_size, self._past_size + size, "bytes")
        self._within("max_header_lines", self._max_lines, self._past_lines + lines, "lines")
        if match is None:
            return None
        head = bytes(self._data[:size])
        del self._data[:size]
        self._past_size += size
        self._past_lines += lines
        self._searched = self._newlines = 0
        return head

    def _within(self, name: str, limit: int | None, actual: int, unit: str) -> None:
        if limit is not None and actual > limit:
            raise HandshakeError(
                f"the head of {self._what} is larger than {name}={limit}: "
                f"at least {actual} {unit} came"
            )


def parse_head(connection: h11.Connection, head: bytes, what: str) -> h11.Event:
    """The event that h11 makes of one complete head; HandshakeError if it is malformed."""
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        # The cause is left out: its text can have a whole line with credentials in it.
        raise HandshakeError(f"{what} is malformed: {_fault(str(error), head)}") from None
    assert isinstance(event, h11.Event)
    return event


def _fault(error: str, head: bytes) -> str:
    first, *lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
    if error.startswith("illegal header line"):
        bad = next((line for line in lines if not _HEADER_LINE.fullmatch(line) and line), b"")
        # Of the line only its name and one byte more: the rest may be a password.
        name = bad[: len(bad) - len(bad.lstrip(_TCHAR)) + 1]
        return f"the line that starts {clip(name)} is no header (RFC 9112 section 5)"
    if error.startswith("illegal"):
        return f"its first line is {clip(_without_query(first))} (RFC 9112 sections 3 and 4)"
    return f"{clip(error)} (RFC 9112)"


def _without_query(line: bytes) -> bytes:
    """A first line whose target's query, which may be a password, is left out."""
    path, mark, _ = line.partition(b"?")
    return path + mark + b"..." if mark else line


def decode_headers(
    head: h11.Request | h11.InformationalResponse | h11.Response,
) -> list[tuple[str, str]]:
    """The headers of what h11 parsed, as pairs of `str`, the case of names as it was sent."""
    return [
        (name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers.raw_items()
    ]
