"""The client's half of the opening handshake, against whatever a server may answer.

A Response only for an answer that, read in the plainest way, completes the handshake; else
HandshakeError. The pieces that the answer comes in change nothing, and no byte of frames is lost.
No header about the length of a body changes the status.
"""

from __future__ import annotations

import re

from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.keys import accept_key
from coro_websocket._http.opening_errors import HandshakeError
from coro_websocket._http.request_and_response import Response
from coro_websocket._rfc6455.deflate import Deflate, DeflateExtension

from ..plain_http import cut_short, fields_of, head_of
from ..source import Source

LINES = ("HTTP/1.1 101 Switching Protocols",) * 6
LINES += (
    "HTTP/1.1 101 ",
    "HTTP/1.0 101 OK",
    "HTTP/2.0 101 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 100 C",
)
LINES += ("HTTP/1.1 302 Found", "HTTP/1.1 404 Not Found", "HTTP/1.1 999 ?", "HTTP/1.1 401", "http")
LINES += ("HTTP/1.1 103 Early Hints", "HTTP/1.1 204 No", "ICY 200 OK", "\x16\x03\x01", "")
GOOD = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}")
HEADERS = ("upgrade: WebSocket", "Upgrade: websocket, h2c", "Connection: keep-alive, upgrade")
HEADERS += ("Connection: close", "Sec-WebSocket-Accept: AAAA", "sec-websocket-accept:{accept} ")
HEADERS += ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat, chat", "A:b", "A: ")
HEADERS += ("Sec-WebSocket-Protocol: Chat", "Sec-WebSocket-Extensions: permessage-deflate")
HEADERS += ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10",)
HEADERS += ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=8", "Location: /")
HEADERS += ('Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits="9"', "No colon")
HEADERS += (
    "Sec-WebSocket-Extensions: x-other",
    "Content-Length: 5",
    "Content-Length: 5, 5",
    " folded",
)
HEADERS += ("Content-Length: -1", "Transfer-Encoding: chunked", "Set-Cookie: a=b", "A\tB: c", ": d")
HEADERS += (
    "Transfer-Encoding: gzip, chunked",
    "transfer-encoding:identity",
    "Content-Length: 3, 4",
)
HEADERS += ("CONTENT-LENGTH: 99999999999999999999999", "Connection:" + "upgrade," * 150)
FRAMES = b"\x81\x05Hello"
LENGTHS = re.compile(rb"^(?:content-length|transfer-encoding):[ -~]*\r?\n", re.IGNORECASE | re.M)


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    options = {
        "subprotocols": ("chat", "superchat") if flags & 1 else (),
        "extensions": [Deflate()] if flags & 2 else [],
        "max_head_size": (65536, None, 200, 400)[flags >> 2 & 3],
        "max_header_lines": (128, None, 4, 6)[flags >> 4 & 3],
        "max_body_size": (65536, None, 0, 4)[flags >> 6],
    }
    cuts = Source(bytes([source.byte(), source.byte()]))
    handshake, whole = (ClientHandshake(host_header="h", pathname="/", **options) for _ in "12")
    whole._key = handshake._key
    answer = answer_of(source, accept_key(handshake._key))
    outcome = receive(handshake, list(cuts.pieces(answer)))
    assert outcome == receive(whole, [answer]), answer
    if isinstance(outcome[0], tuple):
        check(answer, handshake, options)
    if options["max_head_size"] in (65536, None) and options["max_header_lines"] in (128, None):
        check_lengths(answer, outcome, handshake, options)


def check_lengths(
    answer: bytes,
    outcome: tuple[object, ...],
    handshake: ClientHandshake,
    options: dict[str, object],
) -> None:
    """RFC 9112 section 6.3: they say nothing of what the answer is."""
    if b"\n " in answer or b"\n\t" in answer:  # a folded line would belong to another header
        return
    without = ClientHandshake(host_header="h", pathname="/", **options)  # type: ignore[arg-type]
    without._key = handshake._key
    assert code_of(receive(without, [LENGTHS.sub(b"", answer)])) == code_of(outcome), answer


def code_of(outcome: tuple[object, ...]) -> object:
    contents = outcome[0] if isinstance(outcome[0], tuple) else outcome[-1]
    return contents[0] if isinstance(contents, tuple) else None


def answer_of(source: Source, accept: str) -> bytes:
    pieces = []
    for _ in range(1 + (source.byte() > 200)):  # an interim answer may come first
        pieces.append(head_of(source, LINES, GOOD, HEADERS).replace("{accept}", accept))
    head = cut_short(source, "".join(pieces).encode("utf-8", "replace"))
    return head + (FRAMES if source.flag() else b"") + source.rest()


def receive(handshake: ClientHandshake, pieces: list[bytes]) -> tuple[object, ...]:
    """What the handshake comes to: a Response's contents, or a refusal's."""
    response: Response | None = None
    error: HandshakeError | None = None
    try:
        for piece in pieces:
            if piece:
                response = handshake.receive(piece)
        if response is None:
            handshake.receive(b"")
            raise AssertionError("the end of the stream must end the handshake")
    except HandshakeError as refused:
        error = refused
        assert str(error).isascii()
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 1000
        response = error.response
    if response is None:
        return (None,)
    contents = (
        response.code,
        response.reason,
        list(response),
        response.body,
        response.subprotocol,
        response.extensions,
    )
    return (contents, handshake.leftover) if error is None else (error is not None, contents)


def check(answer: bytes, handshake: ClientHandshake, options: dict[str, object]) -> None:
    """RFC 6455 section 4.1, items 1 to 6 of the answer."""
    heads, found = [], answer.replace(b"\r\n", b"\n")
    while not heads or heads[-1].split(b" ")[1][:3] != b"101":
        head, _, found = found.partition(b"\n\n")
        heads.append(head)
    lines = heads[-1].decode("latin-1").split("\n")
    assert lines[0].startswith("HTTP/1.1 101")
    values, words = fields_of(lines[1:])
    for name in ("connection", "upgrade", "sec-websocket-protocol", "sec-websocket-extensions"):
        assert len(words.get(name, ())) <= 128
    assert set(words["upgrade"]) - {""} == {"websocket"}
    assert "upgrade" in words["connection"]
    assert values["sec-websocket-accept"] == [accept_key(handshake._key)]
    assert values.get("sec-websocket-protocol", [""]) in (
        [[""], *([name] for name in options["subprotocols"])]  # type: ignore[attr-defined]
    )
    agreed = [w for w in words.get("sec-websocket-extensions", []) if w]
    assert len(handshake.extensions) == len(agreed)
    for extension in handshake.extensions:
        assert isinstance(extension, DeflateExtension)
        assert options["extensions"]
        assert 9 <= extension.send_bits <= 12
        assert 8 <= extension.receive_bits <= 15
    if b"\r" not in answer.replace(b"\r\n", b""):
        assert handshake.leftover.replace(b"\r\n", b"\n") == found
