"""The server's half of the opening handshake, against whatever a client may ask.

A Request only if, read in the plainest way, it is HTTP/1.x; it is accepted only if RFC 6455 section
4.2.1 allows it; else HandshakeError with one whole answer. The pieces change nothing, and no byte
of frames is lost. What an application answers instead is one whole answer, too. What the server
accepts, our own client finds to complete the handshake.
"""

from __future__ import annotations

import base64
import contextlib

import h11

from coro_websocket._errors import InvalidOption
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.http_response import HTTPResponse
from coro_websocket._http.opening_errors import HandshakeError
from coro_websocket._http.request_and_response import Request
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._server.authentication import basic_auth, bearer_auth
from coro_websocket.extensions import Deflate

from ..plain_http import cut_short, fields_of, head_of
from ..source import Source

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LINES = ("GET / HTTP/1.1",) * 6 + ("GET /a?b=c HTTP/1.1", "GET ws://h/x HTTP/1.1", "GET * HTTP/1.1")
LINES += (
    "POST / HTTP/1.1",
    "HEAD / HTTP/1.1",
    "GET / HTTP/1.0",
    "GET / HTTP/2.0",
    "get / HTTP/1.1",
)
LINES += ("GET /\u00e9 HTTP/1.1", "GET /a#b HTTP/1.1", "GET  / HTTP/1.1", "OPTIONS * HTTP/1.1", "")
LINES += ("PRI * HTTP/2.0", "GET http://h HTTP/1.1", "CONNECT h:1 HTTP/1.1", "\x16\x03\x01")
GOOD = ("Host: h", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
GOOD += (f"Sec-WebSocket-Key: {KEY}",)
HEADERS = ("host:h:80", "Upgrade: h2c, WebSocket", "Connection: keep-alive, upgrade", "Host: a b")
HEADERS += (
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Version: x",
    "Sec-WebSocket-Key: AAAA",
    "A: b",
)
HEADERS += ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", "Content-Length: 5", "Content-Length: 0")
HEADERS += (
    "Transfer-Encoding: chunked",
    "Origin: http://good",
    "Origin: http://evil",
    "Origin: null",
    "Origin: http://h",
    "Origin: https://H:80",
    "Connection: " + "upgrade, " * 150,
)
HEADERS += ("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: ,,x", "Expect: 100")
HEADERS += (
    "Sec-WebSocket-Protocol: a b",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "No colon",
)
HEADERS += ("Sec-WebSocket-Extensions: x-a, permessage-deflate; client_max_window_bits", " folded")
HEADERS += ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8", "Cookie: a=b")
HEADERS += (
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9;",
    "B\x00: c",
    ": d",
)
FRAMES = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    options = {
        "subprotocols": ("superchat", "chat") if flags & 1 else (),
        "extensions": [Deflate()] if flags & 2 else [],
        "max_head_size": (65536, None, 200, 400)[flags >> 2 & 3],
        "max_header_lines": (128, None, 5, 7)[flags >> 4 & 3],
        "origins": (None, ["http://good"], ["http://good", None], "same")[flags >> 6],
    }
    cuts = Source(bytes([source.byte(), source.byte()]))
    if source.byte() > 240:
        ask_ourselves(source, options)
        return
    handshake, whole = ServerHandshake(**options), ServerHandshake(**options)
    added = (source.text(12), source.text(12))
    request = request_of(source)
    outcome = receive(handshake, list(cuts.pieces(request)))
    assert outcome == receive(whole, [request]), request
    if outcome[0] == "accepted":
        check(request, handshake)
        check_answer(handshake, added)


def request_of(source: Source) -> bytes:
    text = head_of(source, LINES, GOOD, HEADERS)
    head = cut_short(source, text.encode("utf-8", "replace"))
    return head + (FRAMES if source.flag() else b"") + source.rest()


def receive(handshake: ServerHandshake, pieces: list[bytes]) -> tuple[object, ...]:
    request = None
    try:
        for piece in pieces:
            if piece:
                request = handshake.receive(piece)
        if request is None:
            handshake.receive(b"")
            raise AssertionError("the end of the stream must end the handshake")
        check_well_formed(pieces, request)
        check_what_hooks_see(handshake, request)
        handshake.check()
    except HandshakeError as error:
        assert str(error).isascii()
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 1000
        answer = handshake.refusal()
        if error.response is None:
            assert answer == b""
            return ("gone",)
        check_refusal(answer, handshake._method)
        return ("refused", error.response.code)
    contents = (request.method, request.pathname, list(request), request.subprotocol)
    return ("accepted", contents, handshake.leftover, handshake.accept())


def check_well_formed(pieces: list[bytes], request: Request) -> None:
    """What an application is asked about is what was sent, and HTTP/1.0 or 1.1 or the like."""
    head = b"".join(pieces).replace(b"\r\n", b"\n").removeprefix(b"\n").partition(b"\n\n")[0]
    method, target, version = head.partition(b"\n")[0].decode("latin-1").split(" ")
    assert request.method == method
    assert target.endswith(request.pathname) or request.pathname.startswith("/")
    assert version == f"HTTP/{request.version}"
    assert 1 <= request.version < 2
    assert request.pathname.startswith("/") or method in ("CONNECT", "OPTIONS")
    assert len(request.get_all("Host")) == 1 or request.version == 1.0
    assert not any("\n" in value or "\0" in value for _, value in request)


def check_what_hooks_see(handshake: ServerHandshake, request: Request) -> None:
    """Hooks and those that come with the library find nothing that makes them fail."""
    assert all(isinstance(value, str) for value in request.cookies.values())
    for hook in (BASIC, BEARER):
        response = hook(request)
        assert isinstance(response, HTTPResponse)
        status, reason, headers, body = response._parts()
        check_refusal(handshake.reject(status, reason, headers, body), request.method)


BASIC = basic_auth({"ann": "s3cret"})
BEARER = bearer_auth("t0ken", query="c", cookie="a", subprotocol="ch")


def check_refusal(answer: bytes, method: str) -> None:
    """One whole HTTP/1.1 answer, after which the connection is to be closed."""
    client = h11.Connection(h11.CLIENT)
    with contextlib.suppress(h11.LocalProtocolError):  # no method that h11 would send
        client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        event = client.next_event()
        assert isinstance(event, h11.Response)
        assert 400 <= event.status_code < 600
        while not isinstance(event, h11.EndOfMessage):
            event = client.next_event()
            assert isinstance(event, (h11.Data, h11.EndOfMessage)), answer
        assert client.trailing_data == (b"", False), answer
        assert client.their_state is h11.MUST_CLOSE, answer


def check(data: bytes, handshake: ServerHandshake) -> None:
    head, _, rest = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = head.decode("latin-1").split("\n")
    method, target, version = lines[0].split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    assert target.startswith(("/", "ws:", "wss:", "http:", "https:"))
    values, words = fields_of(lines[1:])
    assert len(values["host"]) == 1
    assert "websocket" in words["upgrade"]
    assert "upgrade" in words["connection"]
    assert values["sec-websocket-version"] == ["13"]
    (key,) = values["sec-websocket-key"]
    assert len(base64.b64decode(key, validate=True)) == 16
    assert "transfer-encoding" not in values
    assert values.get("content-length", ["0"])[0].strip("0") == ""
    if b"\r" not in data.replace(b"\r\n", b""):
        assert handshake.leftover.replace(b"\r\n", b"\n") == rest
    for name in ("connection", "upgrade", "sec-websocket-protocol", "sec-websocket-extensions"):
        assert len(words.get(name, ())) <= 128
    check_origin(handshake._origins, target, values["host"][0], values.get("origin", []))


def check_origin(origins: object, target: str, host: str, came: list[str]) -> None:
    """RFC 6455 section 10.2."""
    if origins == "same":
        if not target.startswith("/"):
            host = target.split("/")[2].partition("?")[0]
        name = host.lower().removesuffix(":80").removesuffix(":443")
        assert not came or came[0].lower() in (
            *(f"{scheme}://{name}{port}" for scheme in ("http", "ws") for port in ("", ":80")),
            *(f"{scheme}://{name}{port}" for scheme in ("https", "wss") for port in ("", ":443")),
            *(f"{scheme}://{host.lower()}" for scheme in ("http", "https", "ws", "wss")),
        )
    elif isinstance(origins, tuple):
        assert (came or [None])[0] in origins  # type: ignore[list-item]


def check_answer(handshake: ServerHandshake, added: tuple[str, str]) -> None:
    """Whatever a handler adds, the answer is one head with the lines that were meant."""
    try:
        answer = handshake.accept([added])
    except InvalidOption:
        return
    head, end, rest = answer.partition(b"\r\n\r\n")
    assert end
    assert rest == b""
    plain = handshake.accept()
    assert head.count(b"\r\n") == plain.count(b"\r\n") - 1
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")


def ask_ourselves(source: Source, options: dict[str, object]) -> None:
    """Our client's request, with whatever options it takes, is accepted and completes."""
    options = {**options, "origins": None, "max_head_size": None, "max_header_lines": None}
    try:
        client = ClientHandshake(
            host_header=source.pick(("h", "h:8080", "[::1]", "a b", source.text(10))),
            pathname="/" + source.text(20),
            headers=[(source.text(10), source.text(20)) for _ in range(source.byte() % 3)],
            subprotocols=[source.pick(("chat", "x", source.text(5)))],
            authorization=source.pick((None, "Basic eDp5", source.text(10))),
            extensions=[Deflate()] if source.flag() else [],
        )
    except InvalidOption:
        return
    server = ServerHandshake(**options)
    request = server.receive(client.request())
    assert request is not None
    server.check()
    response = client.receive(server.accept())
    assert response is not None
    assert response.subprotocol == request.subprotocol
    assert len(client.extensions) == len(server.extensions)
    assert server.leftover == client.leftover == b""
