"""The heads that are read without h11: what h11 says of them, and that the usual ones are."""

from __future__ import annotations

import re
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coro_websocket import HandshakeError
from coro_websocket._http import client_handshake, parsing, server_handshake
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._http.usual_heads import usual_answer, usual_request
from coro_websocket.extensions import Deflate
from fuzz.targets import usual_heads

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def head(first, *lines):
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


# As these send them: the libraries' captured, the browsers' and the proxies' written down.
REQUESTS = {
    "Chrome": head(
        "GET /chat?room=1 HTTP/1.1",
        "Host: example.com",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/126.0.0.0 Safari/537.36",
        "Upgrade: websocket",
        "Origin: https://example.com",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9",
        "Cookie: sid=0123456789abcdef; theme=dark",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ),
    "Firefox": head(
        "GET / HTTP/1.1",
        "Host: localhost:8080",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        "Accept: */*",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Sec-WebSocket-Version: 13",
        "Origin: null",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Extensions: permessage-deflate",
        f"Sec-WebSocket-Key: {KEY}",
        "DNT: 1",
        "Connection: keep-alive, Upgrade",
        "Sec-Fetch-Dest: empty",
        "Sec-Fetch-Mode: websocket",
        "Sec-Fetch-Site: cross-site",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "Upgrade: websocket",
    ),
    "websockets": head(
        "GET /chat?a=b HTTP/1.1",
        "Host: 127.0.0.1:43201",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "User-Agent: Python/3.12 websockets/17.4",
    ),
    "aiohttp": head(
        "GET /chat?a=b HTTP/1.1",
        "Host: 127.0.0.1:43201",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        "User-Agent: Python/3.12 aiohttp/3.14.5",
    ),
    "picows": head(
        "GET /chat?a=b HTTP/1.1",
        "Host: 127.0.0.1:43201",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    ),
    "through nginx": head(
        "GET /chat HTTP/1.1",
        "Upgrade: websocket",
        "Connection: upgrade",
        "Host: example.com",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    ),
    "a health check": head("GET /healthz HTTP/1.1", "Host: 10.0.0.7:80", "Connection: close"),
    "ours": ClientHandshake(
        host_header="example.com",
        pathname="/chat?a=%20b",
        headers={"Cookie": "a=b", "X-Name": "Zo\u00eb"},
        subprotocols=["chat"],
        origin="https://example.com",
        extensions=[Deflate()],
    ).request(),
}
ANSWERS = {
    "websockets": head(
        "HTTP/1.1 101 Switching Protocols",
        "Date: Tue, 01 Dec 2026 13:04:23 GMT",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; "
        "client_max_window_bits=12",
        "Server: Python/3.12 websockets/17.4",
    ),
    "aiohttp": head(
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Date: Tue, 01 Dec 2026 13:04:23 GMT",
        "Server: Python/3.12 aiohttp/3.14.5",
    ),
    "picows": head(
        "HTTP/1.1 101 Switching Protocols",
        "Connection: upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Accept: {ACCEPT}",
    ),
    "uvicorn": head(
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "date: Tue, 01 Dec 2026 13:04:23 GMT",
        "server: uvicorn",
    ),
}


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_usual_requests_are_read_without_h11(sent):
    usual_heads.check(sent)
    target, headers = usual_request(sent)
    assert sent.startswith(f"GET {target} HTTP/1.1\r\n".encode())
    assert head(f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)) == sent


@pytest.mark.parametrize("sent", ANSWERS.values(), ids=ANSWERS)
def test_usual_answers_are_read_without_h11(sent):
    usual_heads.check(sent)
    reason, headers = usual_answer(sent)
    assert reason == "Switching Protocols"
    lines = (f"{name}: {value}" for name, value in headers)
    assert head(f"HTTP/1.1 101 {reason}", *lines) == sent


def test_a_usual_handshake_needs_no_h11_at_all(monkeypatch):
    class NotNeeded:
        def __init__(self, *arguments):
            raise AssertionError("h11 was asked")

    monkeypatch.setattr(h11, "Connection", NotNeeded)
    client = ClientHandshake(host_header="h", pathname="/", extensions=[Deflate()])
    server = ServerHandshake(extensions=[Deflate()])
    assert server.receive(client.request()) is not None
    server.check()
    assert client.receive(server.accept(headers={"X-A": "b"}))["X-A"] == "b"
    with pytest.raises(AssertionError, match="h11 was asked"):
        ServerHandshake().receive(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(AssertionError, match="h11 was asked"):
        ClientHandshake(host_header="h", pathname="/").receive(b"HTTP/1.1 200 OK\r\n\r\n")


LINE = "GET / HTTP/1.1"
NOT_USUAL = {
    "nothing": b"",
    "only its beginning": b"GET ",
    "no empty line": b"GET / HTTP/1.1\r\nHost: h\r\n",
    "half an empty line": b"GET / HTTP/1.1\r\nHost: h\r\n\r",
    "more than a head": head(LINE, "Host: h") + b"\x81",
    "another method": head("HEAD / HTTP/1.1", "Host: h"),
    "a method in lower case": head("get / HTTP/1.1", "Host: h"),
    "HTTP/1.0": head("GET / HTTP/1.0", "Host: h"),
    "HTTP/1.2": head("GET / HTTP/1.2", "Host: h"),
    "an absolute target": head("GET http://h/ HTTP/1.1", "Host: h"),
    "a fragment": head("GET /#a HTTP/1.1", "Host: h"),
    "a target outside of ASCII": head("GET /\u00e9 HTTP/1.1", "Host: h"),
    "two spaces": head("GET /  HTTP/1.1", "Host: h"),
    "a space behind the version": head("GET / HTTP/1.1 ", "Host: h"),
    "no Host": head(LINE, "Upgrade: websocket"),
    "two Hosts": head(LINE, "Host: h", "hOST: h"),
    "a folded line": head(LINE, "Host: h", " folded"),
    "a line folded with a tab": head(LINE, "Host: h", "\tfolded"),
    "no colon": head(LINE, "Host: h", "name"),
    "no name": head(LINE, "Host: h", ": value"),
    "a space before the colon": head(LINE, "Host : h"),
    "a name outside of ASCII": head(LINE, "Host: h", "n\u00e4me: value"),
    "a length": head(LINE, "Host: h", "Content-Length: 0"),
    "a coding": head(LINE, "Host: h", "TRANSFER-ENCODING: chunked"),
    "an expectation": head(LINE, "Host: h", "expect: 100-continue"),
    "NUL": head(LINE, "Host: h", "A: b\0c"),
    "another control character": head(LINE, "Host: h", "A: b\x01c"),
    "DEL": head(LINE, "Host: h", "A: b\x7fc"),
    "CR within a line": head(LINE, "Host: h", "A: b\rc"),
    "a bare LF": head(LINE, "Host: h", "A: b\nB: c"),
    "no CR": head(LINE, "Host: h").replace(b"\r", b""),
    "a bare LF behind all": b"GET / HTTP/1.1\r\nHost: h\r\n\n",
}


@pytest.mark.parametrize("sent", NOT_USUAL.values(), ids=NOT_USUAL)
def test_what_is_not_plainly_usual_is_left_to_h11(sent):
    assert usual_request(sent) is None
    if sent.startswith(b"GET / HTTP/1.1\r\n") and sent.lower().count(b"host") == 1:
        answer = sent.replace(b"GET / HTTP/1.1", b"HTTP/1.1 101 Switching Protocols")
        assert usual_answer(answer) is None


@pytest.mark.parametrize(
    "first",
    [
        "HTTP/1.1 101",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 100 Continue",
        "HTTP/1.1 1011 OK",
        "HTTP/1.0 101 OK",
        "http/1.1 101 OK",
        "HTTP/1.1  101 OK",
        "HTTP/1.1 101 \x01",
    ],
)
def test_other_answers_are_left_to_h11(first):
    assert usual_answer(head(first, "Upgrade: websocket")) is None


def test_whitespace_around_values_is_not_part_of_them():
    lines = ("Host:h", "A:\t b \t", "B:", "C:   ", "D: \t", "E: b\tc d", "F: \u00ff\u0080")
    assert usual_request(head(LINE, *lines)) == (
        "/",
        (
            ("Host", "h"),
            ("A", "b"),
            ("B", ""),
            ("C", ""),
            ("D", ""),
            ("E", "b\tc d"),
            ("F", "\u00ff\u0080"),
        ),
    )


def test_only_bytes_are_read():
    values: tuple[Any, ...] = (None, REQUESTS["picows"].decode(), bytearray(REQUESTS["picows"]))
    for value in values:
        with pytest.raises(TypeError):
            usual_request(value)
        with pytest.raises(TypeError):
            usual_answer(value)


# What h11 says, of anything that looks like a head

PARTS = st.sampled_from(
    [
        *("GET", "POST", " ", "/", "/a?b=c", "*", "http://h/", "#", " HTTP/1.1", " HTTP/1.0"),
        *("HTTP/1.1 101 ", "HTTP/1.1 101", "HTTP/1.1 200 OK", "Switching Protocols"),
        *(
            "\r\n",
            "\r\n",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            ":",
            ": ",
            "\t",
            " ",
            "\0",
            "\x0b",
            "\x7f",
        ),
        *(
            "Host",
            "Host: h\r\n",
            "host:h\r\n",
            "Expect: a\r\n",
            "content-length:1\r\n",
            "a",
            "\u00e9",
        ),
        *("Transfer-Encoding: chunked\r\n", "A: b\r\n", "A: b \t\r\n", "A:\r\n", "A b: c\r\n"),
    ]
)
STARTS = st.sampled_from(
    ["GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: h\r\n", "HTTP/1.1 101 a\r\n", ""]
)
HEADS = st.builds(
    lambda start, parts, end: (start + "".join(parts) + end).encode("latin-1"),
    STARTS,
    st.lists(PARTS | st.text(st.characters(max_codepoint=255), max_size=3), max_size=12),
    st.sampled_from(["\r\n", "\r\n\r\n", ""]),
)


@given(HEADS)
@example(REQUESTS["Chrome"])
@example(ANSWERS["websockets"])
def test_what_is_read_h11_takes_with_the_same_result(data):
    usual_heads.check(data)


@given(st.sampled_from([*REQUESTS.values(), *ANSWERS.values()]), st.data())
def test_what_is_read_of_a_head_that_was_changed_h11_takes_too(sent, data):
    at = data.draw(st.integers(0, len(sent)))
    gone = data.draw(st.integers(0, 2))
    usual_heads.check(sent[:at] + data.draw(st.binary(max_size=2)) + sent[at + gone :])


@given(HEADS)
def test_a_handshake_is_the_same_where_h11_reads_all(data):
    def outcome(handshake):
        try:
            got = handshake.receive(data) or handshake.receive(b"")
        except HandshakeError as error:
            return str(error), error.response and list(error.response)
        return got.pathname, list(got), got.version, handshake.leftover

    of_usual = outcome(ServerHandshake())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_handshake, "usual_request", lambda head: None)
        assert outcome(ServerHandshake()) == of_usual


@given(HEADS)
def test_an_answer_is_the_same_where_h11_reads_all(data):
    def outcome():
        handshake = ClientHandshake(host_header="h", pathname="/")
        handshake._key = KEY
        try:
            handshake.receive(data)
            handshake.receive(b"")
        except HandshakeError as error:
            response = error.response
            return str(error), response and (response.code, response.reason, list(response))
        raise AssertionError("no such head completes a handshake")

    of_usual = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_handshake, "usual_answer", lambda head: None)
        assert outcome() == of_usual


# Where a head ends

EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n")


@given(st.text("\r\na", max_size=12).map(str.encode), st.integers(0, 12))
@example(b"a\n\n\r\n", 0)
def test_a_head_ends_with_its_first_empty_line(data, start):
    match = EMPTY_LINE.search(data)
    expected = None if match is None else match.end()
    assert parsing._end_of_head(bytearray(data), 0) == expected
    if match is not None and start <= match.start():
        assert parsing._end_of_head(bytearray(data), start) == expected


def test_what_all_clients_send_is_kept_once():
    """A connection keeps its head for as long as it lasts."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nX-Of-Mine: abc\r\n\r\n"
    (_, one), (_, other) = usual_request(head), usual_request(head)
    assert one == other == (("Host", "a"), ("Upgrade", "websocket"), ("X-Of-Mine", "abc"))
    assert one[1][0] is other[1][0]
    assert one[1][1] is other[1][1]
    assert one[2][1] is not other[2][1]
