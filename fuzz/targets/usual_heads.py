"""The native reader of usual heads, against h11.

Whatever head it reads h11 takes, too, and finds the same in it, with nothing left over. Whatever it
does not read is h11's alone, and nothing is said of it here.
"""

from __future__ import annotations

import h11

from coro_websocket._http.parsing import decode_headers
from coro_websocket._http.usual_heads import usual_answer, usual_request

from ..plain_http import cut_short, head_of
from ..source import Source
from .client_handshake import GOOD as GOOD_ANSWER
from .client_handshake import HEADERS as ANSWER_HEADERS
from .client_handshake import LINES as ANSWER_LINES
from .server_handshake import GOOD, HEADERS, LINES

OTHERS = (
    "Host:",
    "HOST: h",
    "X:",
    "X: \t \t",
    "X:\ta  b\t",
    "x-\u00e9: a",
    "X: \u00e9",
    "Expect: x",
)
OTHERS += (
    "eXPECT:100-continue",
    "transfer-Encoding:chunked",
    "Content-length: 0",
    "\tfolded",
    "A b:c",
)


def run(data: bytes) -> None:
    source = Source(data)
    if source.flag():
        text = head_of(source, LINES, GOOD, HEADERS + OTHERS)
    else:
        text = head_of(source, ANSWER_LINES, GOOD_ANSWER, ANSWER_HEADERS + OTHERS)
    head = bytearray(cut_short(source, text.encode("latin-1", "replace")))
    for _ in range(source.byte() % 4):  # a byte that is another one, comes in between, or is gone
        at = source.number(2) % (len(head) + 1)
        head[at : at + source.byte() % 2] = source.bytes(2)
    check(bytes(head))
    check(source.rest())


def check(head: bytes) -> None:
    request = usual_request(head)
    if request is not None:
        event = parsed(h11.Connection(h11.SERVER), head)
        assert isinstance(event, h11.Request)
        target, headers = request
        assert (event.method, event.http_version) == (b"GET", b"1.1")
        assert event.target.decode("latin-1") == target
        assert tuple(decode_headers(event)) == headers
    answer = usual_answer(head)
    if answer is not None:
        event = parsed(asking_for_an_upgrade(), head)
        assert isinstance(event, h11.InformationalResponse)
        reason, headers = answer
        assert (event.status_code, event.http_version) == (101, b"1.1")
        assert event.reason.decode("latin-1") == reason
        assert tuple(decode_headers(event)) == headers
    assert request is None or answer is None


def parsed(connection: h11.Connection, head: bytes) -> object:
    """What h11 finds in a head, of which it must leave nothing."""
    connection.receive_data(head)
    event = connection.next_event()
    assert connection.trailing_data == (b"", False)
    return event


def asking_for_an_upgrade() -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    connection.send(h11.Request(method="GET", target="/", headers=headers))
    connection.send(h11.EndOfMessage())
    return connection
