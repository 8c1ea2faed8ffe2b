"""Heads of HTTP messages on the wire: cut off the stream within limits, then parsed by h11.

The usual ones are read by `usual_heads`, and h11 has no work with them.

The rule: a head is measured before it is parsed. h11's own limit holds only while a head is
incomplete, so one that comes in a single piece would pass it; ours is exact for any pieces.
Of what is not a proper head only the first line is quoted, and no value of a header.

RFC 9112 sections 2 to 6.
"""

from __future__ import annotations

import re

import h11

from .._quoting import clip
from .headers import Headers, parse_token_list
from .opening_errors import HandshakeError
from .request_and_response import Response

__all__ = [
    "TCHAR",
    "HeadBuffer",
    "body_reader",
    "decode_headers",
    "parse_answer",
    "parse_head",
    "redacted_start",
]

TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEADER_LINE = re.compile(rb"(?:[%s]+:|[ \t])[^\x00\r\v\f]*" % re.escape(TCHAR))
_LENGTH_HEADER = re.compile(rb"^(?=(?:content-length|transfer-encoding):)", re.IGNORECASE | re.M)
_LENGTH = re.compile(r"[0-9]{1,20}")
# The start of a line, as far as neither a header's value nor a query or password can be in it.
_LINE_START = re.compile(rb"[\r\n]+|[^\r\n?:]*")


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
        end = _end_of_head(self._data, max(0, self._searched - 2))
        size = len(self._data) if end is None else end
        self._newlines += self._data.count(b"\n", self._searched, size)
        self._searched = size
        # Neither the start line nor the empty line is a header line.
        lines = max(0, self._newlines - (1 if end is None else 2))
        self._within("max_head_size", self._max_size, self._past_size + size, "bytes")
        self._within("max_header_lines", self._max_lines, self._past_lines + lines, "lines")
        if end is None:
            return None
        head = self.start(size)
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


def _end_of_head(data: bytearray, start: int) -> int | None:
    """Behind the first empty line; None if there is none yet. Before `start` there is none.

    A bare LF counts as the end of a line (RFC 9112 section 2.2), as it does to h11.
    """
    for empty_line in (b"\r\n", b"\n"):
        if data.startswith(empty_line):
            return len(empty_line)
    end = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, end + 1 if end >= 0 else len(data))
    if bare >= 0:
        return bare + 2
    return end + 3 if end >= 0 else None


def redacted_start(data: bytes, limit: int = 40) -> str:
    """How `data`, which is not a proper head, begins: for an error, of its first line only."""
    match = _LINE_START.match(data)
    start = b"" if match is None else match.group()[:limit]
    return clip(start) + ("..." if data[len(start) :].strip(b"\r\n") else "")


def parse_head(
    connection: h11.Connection, head: bytes, what: str, parsed: bytes | None = None
) -> h11.Event:
    """The event that h11 makes of one complete head; HandshakeError if it is malformed.

    parsed: what h11 is given in place of the head, line by line the same but for names.
    """
    connection.receive_data(head if parsed is None else parsed)
    event = fault = None
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        fault = _fault(str(error), head)
    if fault is not None:
        # Not raised above: the text of h11's error can have a whole line with credentials in it.
        raise HandshakeError(f"{what} is malformed: {fault}")
    assert isinstance(event, h11.Event)
    return event


def _fault(error: str, head: bytes) -> str:
    first, *lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
    if error.startswith("illegal header line"):
        number = next(
            (i for i, line in enumerate(lines, 1) if line and not _HEADER_LINE.fullmatch(line)), 0
        )
        bad = lines[number - 1]
        # Of the line only its name and one byte more, if it has one: the rest may be a password.
        name = bad[: len(bad) - len(bad.lstrip(TCHAR)) + 1] if b":" in bad else b""
        which = f"the line that starts {clip(name)}" if name else f"header line {number}"
        return f"{which} is not a header (RFC 9112 section 5)"
    if error.startswith("illegal"):
        return f"its first line is {redacted_start(first, 100)} (RFC 9112 sections 3 and 4)"
    return f"{clip(error)} (RFC 9112)"


def parse_answer(connection: h11.Connection, head: bytes, what: str) -> Response:
    """The head of an answer as a Response, with the headers as they were sent.

    `Content-Length` and `Transfer-Encoding` must be headers, but whatever is in them makes no
    answer malformed. In a 1xx, and in a 2xx to CONNECT, they mean nothing (RFC 9112 section 6.3;
    RFC 9110 section 9.3.6), and of any other answer only the body can be lost: see `body_reader`.

    Raises HandshakeError if it is malformed.
    """
    # To h11 they have names that it does not know.
    event = parse_head(connection, head, what, _LENGTH_HEADER.sub(b"X-", head))
    assert isinstance(event, (h11.InformationalResponse, h11.Response))
    lines = [line for line in head.split(b"\n")[1:] if line[:1] not in b" \t\r"]
    names = [line.partition(b":")[0].decode("ascii") for line in lines]
    values = [value for _, value in decode_headers(event)]
    return Response(
        zip(names, values, strict=True),
        code=event.status_code,
        reason=event.reason.decode("latin-1"),
        version=float(event.http_version),
    )


def body_reader(answer: Response) -> h11.Connection:
    """A connection that reads the body of `answer`, from its first byte on.

    Where its headers do not say how long that is, or not so that they could be believed, it goes
    on to the end of the connection. What is inside of "chunked" is left as it was sent.

    RFC 9112 section 6.3.
    """
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(f"HTTP/1.1 {answer.code}\r\n{_length_header(answer)}\r\n".encode())
    reader.next_event()
    return reader


def _length_header(headers: Headers) -> str:
    """The line that says how long a body is; "" if only the end of the connection does."""
    codings = [each.lower() for each in parse_token_list(headers.get_all("Transfer-Encoding"))]
    codings = [each for each in codings if each != "identity"]  # RFC 2616: none at all
    if codings:
        return "Transfer-Encoding: chunked\r\n" if codings[-1] == "chunked" else ""
    lengths = set(parse_token_list(headers.get_all("Content-Length")))
    length = lengths.pop() if len(lengths) == 1 else ""
    return f"Content-Length: {length}\r\n" if _LENGTH.fullmatch(length) else ""


def decode_headers(
    head: h11.Request | h11.InformationalResponse | h11.Response,
) -> list[tuple[str, str]]:
    """The headers of what h11 parsed, as pairs of `str`, the case of names as it was sent."""
    return [
        (name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers.raw_items()
    ]
