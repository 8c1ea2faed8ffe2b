"""The server's opening handshake, without a network: RFC 6455 section 4.2, and attacks on it."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.server_handshake import receive

from coro_websocket._errors import InvalidOption, InvalidOptionType
from coro_websocket._http.answers import encode_response, response_headers
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.http_response import HTTPResponse
from coro_websocket._http.opening_errors import HandshakeError
from coro_websocket._http.request_and_response import Request, Response
from coro_websocket._http.request_rules import check_request
from coro_websocket._http.server_handshake import ServerHandshake

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FRAMES = b"\x81\x85\r\n\r\nHello"


def lines(**changes: str | None) -> list[str]:
    """The header lines of a valid request; `changes` replaces or (None) leaves out headers."""
    headers: dict[str, str | None] = {
        "Host": "example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [f"{name}: {value}" for name, value in headers.items() if value is not None]


def request(*header_lines: str, start: str = "GET /chat HTTP/1.1") -> bytes:
    return "\r\n".join([start, *header_lines, "", ""]).encode("latin-1")


def accepted(*header_lines: str, start: str = "GET /chat HTTP/1.1", **options: Any) -> Request:
    received = receive(ServerHandshake(**options), request(*header_lines, start=start))
    assert received is not None
    return received


def refused(data: bytes, **options: Any) -> tuple[Response, str]:
    """The answer to `data`, read by h11, and the text of the error."""
    server = ServerHandshake(**options)
    with pytest.raises(HandshakeError) as caught:
        receive(server, data)
    response = parse(server.refusal(), head_only=data.startswith(b"HEAD "))
    assert caught.value.response is not None
    assert response.code == caught.value.response.code
    assert f"refused with {response.code}: " in str(caught.value)
    return response, str(caught.value)


def parse(data: bytes, *, head_only: bool = False) -> Response:
    """A closing answer as a strict HTTP client reads it."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(
        h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("Host", "a")])
    )
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    head = peer.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert peer.trailing_data == (b"", False)
    pairs = [(name.decode(), value.decode("latin-1")) for name, value in head.headers.raw_items()]
    response = Response(
        pairs, code=head.status_code, reason=head.reason.decode(), version=1.1, body=body
    )
    assert response.keep_alive is False
    return response


def drip(data: bytes, size: int = 1) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# A request to accept (RFC 6455 section 4.2.1).


def test_the_handshake_of_rfc_6455_section_1_3_gets_the_answer_that_stands_there():
    server = ServerHandshake(subprotocols=["chat"])
    received = receive(
        server,
        request(
            *lines(Origin="http://example.com", Sec_WebSocket_Protocol="chat, superchat"),
        ),
    )
    assert received is not None
    assert (received.method, received.pathname, received.version) == ("GET", "/chat", 1.1)
    assert (received.host, received.origin) == ("example.com", "http://example.com")
    assert (received.subprotocols, received.subprotocol) == (("chat", "superchat"), "chat")
    assert server.leftover == b""
    assert server.accept() == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: chat\r\n"
        b"\r\n"
    )


def test_our_client_and_our_server_agree():
    client = ClientHandshake(host_header="a", pathname="/?q=%20", subprotocols=["x", "y", "z"])
    server = ServerHandshake(subprotocols=["z", "y"])
    received = receive(server, client.request())
    assert received is not None
    assert received.pathname == "/?q=%20"
    res = client.receive(server.accept([("X-One", "1"), ("x-one", "2")]) + FRAMES)
    assert res is not None
    assert res.subprotocol == received.subprotocol == "z"
    assert res.get_all("X-One") == ["1", "2"]
    assert client.leftover == FRAMES


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": "keep-alive, Upgrade"},  # Firefox
        {"Connection": "UPGRADE ,keep-alive"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Content-Length": "0"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec-WebSocket-Protocol": " , a ,,b,"},
        {"Host": "[::1]:8080"},
        {"Host": ""},
        {"X": "a\r\n folded"},
    ],
)
def test_requests_as_browsers_and_others_send_them_are_accepted(changes: dict[str, str]):
    assert accepted(*lines(**changes)).subprotocol is None


def test_lists_may_be_spread_over_lines_and_names_may_be_lower_case():
    head = [line.lower() for line in lines(Sec_WebSocket_Key=None, Connection="keep-alive")]
    extra = ["connection: upgrade", "sec-websocket-protocol: a", "sec-websocket-protocol: b"]
    received = accepted(*head, f"sec-websocket-key:{KEY}", *extra, subprotocols=["b"])
    assert received.subprotocols == ("a", "b")
    assert received.subprotocol == "b"


def test_a_target_in_absolute_form_gives_pathname_and_host():
    # RFC 6455 section 4.2.1, item 1; RFC 9112 section 3.2.2: the target's host counts.
    received = accepted(*lines(), start="GET http://real.example:81/chat?x HTTP/1.1")
    assert (received.pathname, received.host) == ("/chat?x", "real.example:81")
    assert accepted(*lines(), start="GET ws://real.example HTTP/1.1").pathname == "/"
    assert accepted(*lines(), start="GET ws://real.example?q HTTP/1.1").pathname == "/?q"


@pytest.mark.parametrize(
    ("pathname", "path", "query"),
    [
        ("/", "/", {}),
        ("/chat?", "/chat", {}),
        (
            "/a%2Fb?room=a+b&room=c&empty=&x%3D=%C3%A9",
            "/a%2Fb",
            {"room": "a b", "empty": "", "x=": "é"},
        ),
        ("/?a=1?b=2&&c", "/", {"a": "1?b=2", "c": ""}),
        ("/?%FF=%zz", "/", {"\ufffd": "%zz"}),
    ],
)
def test_path_and_query_are_the_parts_of_the_pathname(pathname: str, path: str, query: object):
    received = Request(pathname=pathname)
    assert (received.path, received.query) == (path, query)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("headers", "the Request is them"),
        ("remote_address", "it is req.client"),
        ("path_params", "it is req.params"),
        ("query_params", "it is req.query"),
        ("user", "basic_auth sets req.state.user"),
        ("nothing", "'nothing'$"),
    ],
)
def test_what_other_libraries_call_it_is_told_by_the_error(name: str, hint: str):
    request = Request()
    with pytest.raises(AttributeError, match=hint):
        getattr(request, name)
    assert getattr(request, name, 5) == 5


def test_state_that_no_hook_has_set_is_told_of():
    state = Request().state
    with pytest.raises(AttributeError, match="has no 'user': no hook has set it"):
        _ = state.user
    state.user = "ann"
    assert (state.user, copy.copy(state)) == ("ann", state)


@pytest.mark.parametrize("host", ["h", "h:80", "h:", "[::1]", "[::1]:80", "a%20b", "a-b_c.d"])
def test_a_target_in_absolute_form_may_have_any_host_and_port(host: str):
    assert accepted(*lines(), start=f"GET ws://{host}/x HTTP/1.1").host == host


@pytest.mark.parametrize(
    "host",
    ["", ":80", "u:secret@h", "@h", "a:b:c", "h:x", "[h", "h]", "[::1]x", "a%0", '"h"', "a\\b"],
)
def test_a_target_with_no_host_or_userinfo_is_refused_rfc_9112_3_2_2(host: str):
    with pytest.raises(HandshakeError, match=r"host and port in the target") as caught:
        accepted(*lines(), start=f"GET ws://{host}/x HTTP/1.1")
    assert caught.value.response is not None
    assert caught.value.response.code == 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_an_empty_line_before_the_request_is_ignored_rfc_9112_2_2(line_end: bytes):
    stream = line_end + request(*lines()) + FRAMES
    for at in range(1, len(stream)):
        server = ServerHandshake()
        received = receive(server, stream[:at])
        received = receive(server, stream[at:]) or received
        assert received is not None
        assert server.leftover == FRAMES
    for start in (line_end * 2, b"\r\r\n", line_end + b" "):
        with pytest.raises(HandshakeError, match="expected an HTTP request"):
            receive(ServerHandshake(), start + request(*lines()))


@pytest.mark.parametrize(
    "start",
    [
        "GET /x?token=secret HTTP/1.1 more",
        "GET /x?token=secret",
        "GET /\x80?token=secret HTTP/1.1",
        "GET /#?token=secret HTTP/1.1",
        "\x01GET /x?token=secret HTTP/1.1",
    ],
)
def test_a_query_is_not_shown_when_a_request_is_refused(start: str):
    server = ServerHandshake()
    with pytest.raises(HandshakeError) as caught:
        receive(server, "\r\n".join([start, *lines(), "", ""]).encode("latin-1"))
    assert "secret" not in str(caught.value)
    assert b"secret" not in server.refusal()


def test_a_subprotocol_that_is_refused_is_not_shown_as_it_may_be_a_token():
    server = ServerHandshake()
    with pytest.raises(HandshakeError, match="Sec-WebSocket-Protocol") as caught:
        receive(server, request(*lines(Sec_WebSocket_Protocol="bearer secret=, b")))
    assert "secret" not in str(caught.value)
    assert b"secret" not in server.refusal()


def test_the_servers_order_of_subprotocols_decides():
    offer = lines(Sec_WebSocket_Protocol="a, b, C")
    assert accepted(*offer, subprotocols=["x", "b", "a"]).subprotocol == "b"
    assert accepted(*offer, subprotocols=["c"]).subprotocol is None
    assert accepted(*lines(), subprotocols=["a"]).subprotocol is None


def test_without_a_common_subprotocol_the_answer_names_none():
    server = ServerHandshake(subprotocols=["x"])
    assert receive(server, request(*lines(Sec_WebSocket_Protocol="a")))
    assert b"Protocol:" not in server.accept()


# What came after the head.


def test_at_every_split_point_request_and_frames_are_the_same():
    stream = request(*lines()) + FRAMES
    for at in range(len(stream) + 1):
        server = ServerHandshake()
        received = receive(server, stream[:at]) if at else None
        received = receive(server, stream[at:]) or received
        assert received is not None
        assert list(received) == list(accepted(*lines()))
        assert server.leftover == FRAMES


@given(st.data(), st.binary(max_size=40))
def test_any_pieces_give_the_same_request_and_frames(data: st.DataObject, frames: bytes):
    server = ServerHandshake()
    stream = request(*lines()) + frames
    received = None
    while stream:
        at = data.draw(st.integers(1, len(stream)))
        received = receive(server, stream[:at])
        stream = stream[at:]
    assert received is not None
    assert received.pathname == "/chat"
    assert server.leftover == frames


# Requests to refuse, each with its answer.


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"Upgrade": None}, 426, "expected 'websocket' in Upgrade, received none"),
        ({"Upgrade": "h2c"}, 426, "expected 'websocket' in Upgrade, received 'h2c'"),
        ({"Connection": None}, 426, "expected 'upgrade' in Connection, received none"),
        ({"Connection": "close"}, 426, "expected 'upgrade' in Connection, received 'close'"),
        ({"Sec-WebSocket-Version": "8"}, 426, "Version: 13, received '8'"),
        ({"Sec-WebSocket-Version": "14"}, 426, "Version: 13, received '14'"),
        ({"Sec-WebSocket-Version": None}, 400, "Version: 13, received none"),
        ({"Sec-WebSocket-Version": "8, 13"}, 400, "Version: 13, received '8, 13'"),
        ({"Sec-WebSocket-Version": "x"}, 400, "Version: 13, received 'x'"),
        ({"Sec-WebSocket-Key": None}, 400, "16 bytes in base64, received none"),
        ({"Sec-WebSocket-Key": ""}, 400, "received ''"),
        ({"Sec-WebSocket-Key": "AAAA"}, 400, "received 'AAAA'"),
        ({"Sec-WebSocket-Key": "A" * 24}, 400, "received 'AAAA"),  # 18 bytes
        ({"Sec-WebSocket-Key": "A" * 27 + "="}, 400, "received 'AAAA"),  # 20 bytes
        ({"Sec-WebSocket-Key": "!" * 22 + "=="}, 400, "received '!!!!"),
        ({"Sec-WebSocket-Key": "A" * 22}, 400, "received 'AAAA"),
        ({"Content-Length": "5"}, 400, "expected no body"),
        ({"Transfer-Encoding": "chunked"}, 400, "expected no body"),
        ({"Host": None}, 400, "Host"),
        ({"Host": "a b"}, 400, "expected one Host, received 'a b'"),
        ({"Host": "a/b"}, 400, "expected one Host, received 'a/b'"),
        ({"Sec-WebSocket-Protocol": "a b"}, 400, "expected tokens"),
        ({"Sec-WebSocket-Protocol": "a;b"}, 400, "expected tokens"),
        ({"X": "\x00"}, 400, "starts 'X:'"),
        ({"Bad Name": "x"}, 400, "starts 'Bad '"),
        ({"Content-Length": "x"}, 400, "Content-Length"),
    ],
)  # fmt: skip
def test_a_request_that_breaks_a_rule_of_section_4_2_1_is_refused(
    changes: dict[str, str | None], code: int, message: str
):
    response, error = refused(request(*lines(**changes)))
    assert response.code == code
    assert message in error
    assert "(RFC " in error
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert int(response["Content-Length"]) == len(response.body)
    assert response.body.decode().rstrip("\n") in error
    if code == 426:  # RFC 9110 sections 7.8 and 15.5.22
        assert response["Upgrade"] == "websocket"
        assert response["Connection"] == "Upgrade, close"
    else:
        assert "close" in response["Connection"]
    if "Sec-WebSocket-Version" in changes:  # RFC 6455 section 4.4
        assert response["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize("name", ["Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
def test_headers_that_must_come_once_are_refused_twice(name: str):
    once = next(line for line in lines() if line.startswith(name))
    response, _ = refused(request(*lines(), once.replace(name, name.lower())))
    assert response.code == 400


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("GET /chat HTTP/1.0", 400),
        ("GET /chat HTTP/0.9", 505),
        ("GET /chat HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("POST /chat HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
        ("get /chat HTTP/1.1", 405),
        ("CONNECT a:80 HTTP/1.1", 405),
        ("GET * HTTP/1.1", 400),
        ("GET chat HTTP/1.1", 400),
        ("GET ftp://a/ HTTP/1.1", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /chat", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET /\x00 HTTP/1.1", 400),
        ("G(T /chat HTTP/1.1", 400),
    ],
)
def test_another_method_version_or_target_is_refused(start: str, code: int):
    response, error = refused(request(*lines(), start=start))
    assert response.code == code
    assert "(RFC " in error
    if code == 405:  # RFC 9110 section 15.5.6
        assert response["Allow"] == "GET"


def test_an_answer_to_head_has_no_body():
    # RFC 9110 section 9.3.2.
    response, _ = refused(request("Host: a", start="HEAD / HTTP/1.1"))
    assert response.code == 405
    assert int(response["Content-Length"]) > 0
    assert response.body == b""


def test_plain_http_requests_are_told_what_the_server_speaks():
    response, _ = refused(request("Host: a", "Accept: text/html", start="GET / HTTP/1.1"))
    assert (response.code, response.reason) == (426, "Upgrade Required")
    assert b"this is a WebSocket server" in response.body


@pytest.mark.parametrize("garbage", [b"\x00", b"\xff\xfe", b"\r\n\r\n", b" GET / HTTP/1.1\r\n"])
def test_garbage_is_refused_as_soon_as_it_comes(garbage: bytes):
    response, error = refused(garbage)
    assert response.code == 400
    assert "expected an HTTP request" in error


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\0" * 12, r"'\r\n'..."),  # PROXY, version 2
        (b"\r\n\r\n\0GET /\r\n", r"'\r\n'..."),
        (b"\0GET /x?token=sesame HTTP/1.1\r\n", r"'\x00GET /x'..."),
        (b"\0\r\n", r"'\x00'..."),
        (b" Bearer: sesame\r\n", "' Bearer'..."),
        (b"\0" + b"x" * 10_000, r"'\x00" + "x" * 39 + "'..."),
        (b"Authorization: Bearer sesame\r\n", "'Authorization'..."),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "'PROXY TCP4 192.0.2.1 192.0.2.2 1 2' "),
        (b"GET ws://user:sesame@h/ HTTP/1.1 \r\n", "'GET ws'..."),
    ],
)
def test_what_is_no_request_is_quoted_as_far_as_its_first_line_and_never_a_header(
    data: bytes, shown: str
):
    data += "\r\n".join([*lines(), "Authorization: Bearer sesame", "", ""]).encode()
    for pieces in ([data], drip(data), drip(data, 7)):
        server = ServerHandshake()
        with pytest.raises(HandshakeError) as caught:
            for piece in pieces:
                receive(server, piece)
        assert "sesame" not in str(caught.value)
        assert b"sesame" not in server.refusal()
        assert b"Sec-WebSocket-Key" not in server.refusal()
    response, error = refused(data)
    assert response.code == 400
    assert shown in error


def test_userinfo_is_not_shown_wherever_it_comes():
    for data in (
        request(*lines(Host="user:sesame@h")),
        request(*lines(), start="GET ws://user:sesame@h/ HTTP/1.1"),
        request(*lines(), start="GET user:sesame@h HTTP/1.1"),
        request(*lines(), start="CONNECT user:sesame@h:80 HTTP/1.1"),
    ):
        response, error = refused(data)
        assert "sesame" not in error
        assert b"sesame" not in response.body


@pytest.mark.parametrize(
    "header", ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
def test_a_list_longer_than_any_handshake_needs_is_refused_with_431(header: str):
    for more in (
        *(f"{header}: {unit * 128}" for unit in ("a,", ",", "a;b,", "a;b", ";")),
        f'{header}: a; b="' + "\\c" * 128 + '"',
        f"{header}: a\r\n" * 126 + f"{header}: a,a,a",
    ):
        # RFC 6585 section 5.
        response, error = refused(request(*lines(), more), max_header_lines=None)
        assert response.code == 431
        assert f"expected at most 128 elements and parameters in {header}" in error


def test_lists_of_128_elements_are_read():
    names = [f"p{i}" for i in range(128)]
    received = accepted(
        *lines(Sec_WebSocket_Protocol=",".join(names), Connection="a," * 127 + "upgrade"),
        "Sec-WebSocket-Extensions: a" + "; b" * 127,
        subprotocols=["p127"],
    )
    assert received.subprotocol == "p127"
    assert len(received.subprotocols) == 128


def test_a_tls_handshake_is_named():
    assert "received a TLS handshake" in refused(b"\x16\x03\x01\x02\x00\x01")[1]


def test_what_came_is_escaped_in_answer_and_message():
    response, error = refused(request(*lines(Sec_WebSocket_Key="\x1b[31m<b>" + "\xe9" * 5000)))
    assert "'\\x1b[31m<b>\\xe9" in error
    assert len(error) < 700
    assert response.body.isascii()


def test_the_client_may_go_away_without_an_answer():
    for data, message in ((b"", "without sending its request"), (b"GET /", "after 5 bytes")):
        server = ServerHandshake()
        if data:
            assert receive(server, data) is None
        with pytest.raises(HandshakeError, match=message) as caught:
            receive(server, b"")
        assert caught.value.response is None
        assert server.refusal() == b""


def test_a_second_request_behind_a_refused_one_is_not_read():
    server = ServerHandshake()
    bad = request("Host: a", start="GET / HTTP/1.1")
    with pytest.raises(HandshakeError) as first:
        receive(server, bad + request(*lines()))
    with pytest.raises(HandshakeError) as second:
        receive(server, request(*lines()))
    assert second.value is first.value


# Origins (RFC 6455 section 10.2).


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (None, "https://evil.example", True),
        (None, None, True),
        (["https://example.com"], "https://example.com", True),
        (["https://Example.com"], "HTTPS://EXAMPLE.COM", True),
        (["https://a.example", None], None, True),
        (["null"], "null", True),
        (["https://example.com"], None, False),
        ([], None, False),
        (["https://example.com"], "", False),
        (["https://example.com"], "null", False),
        (["https://example.com", None], "null", False),
        (["https://example.com"], "http://example.com", False),
        (["https://example.com"], "https://example.com:444", False),
        (["https://example.com"], "https://example.com.evil.example", False),
        (["https://example.com"], "https://evil.example, https://example.com", False),
    ],
)
def test_only_listed_origins_may_connect(
    origins: list[str | None] | None, origin: str | None, allowed: bool
):
    data = request(*lines(Origin=origin))
    if allowed:
        assert receive(ServerHandshake(origins=origins), data)
    else:
        response, error = refused(data, origins=origins)
        assert response.code == 403
        assert "RFC 6455 section 10.2" in error


SAME = [
    ("example.com", None),
    ("example.com", "https://example.com"),
    ("example.com", "http://example.com"),  # TLS may end at a proxy
    ("Example.COM", "https://eXample.com"),
    ("example.com:443", "https://example.com"),
    ("example.com", "http://example.com:80"),
    ("example.com:", "http://example.com"),
    ("example.com:8080", "http://example.com:8080"),
    ("localhost:8080", "http://localhost:8080"),
    ("127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("[::1]:8080", "http://[::1]:8080"),
    ("[::1]", "https://[::1]"),
    ("app", "custom://app"),
]
OTHER = [
    ("127.0.0.1", "https://evil.example"),
    ("rebound.evil.example", "https://evil.example"),
    ("localhost", "null"),
    ("null", "null"),
    ("", "null"),
    ("", "file://"),
    ("", ""),
    ("example.com", ""),
    ("example.com", "example.com"),
    ("example.com", "https://example.com/"),
    ("example.com", "https://example.com/@example.com"),
    ("example.com", "https://evil.example@example.com"),
    ("example.com", "https://example.com.evil.example"),
    ("example.com", "https://example.co"),
    ("example.com", "https://sub.example.com"),
    ("example.com:8080", "http://example.com"),
    ("example.com", "http://example.com:8080"),
    ("example.com:80", "https://example.com"),
    ("example.com", "https://example.com, https://example.com"),
    ("localhost", "http://127.0.0.1"),
    ("[::1]:80", "http://[::1]:81"),
    ("app:80", "custom://app"),
]


@pytest.mark.parametrize(("host", "origin"), SAME)
def test_by_default_a_page_of_the_host_itself_and_no_browser_may_connect(
    host: str, origin: str | None
):
    assert receive(ServerHandshake(), request(*lines(Host=host, Origin=origin)))


@pytest.mark.parametrize(("host", "origin"), OTHER)
def test_by_default_no_page_of_another_host_may_connect(host: str, origin: str):
    data = request(*lines(Host=host, Origin=origin))
    response, error = refused(data)
    assert response.code == 403
    shown = "https://...@example.com" if "@" in origin else origin
    for text in (error, response.body.decode()):
        assert f"received Origin {shown!r} and Host {host!r}" in text
        assert "RFC 6455 section 10.2" in text
    assert receive(ServerHandshake(origins=None), data)


def test_the_host_of_a_target_in_absolute_form_counts_for_the_origin_rfc_9112_3_2_2():
    offer = lines(Host="evil.example", Origin="http://evil.example")
    response, error = refused(request(*offer, start="GET http://good.example/ HTTP/1.1"))
    assert response.code == 403
    assert "Host 'good.example'" in error


@pytest.mark.parametrize("origin", ["https://evil.example:8443", "null", "https://a.example"])
def test_a_refusal_says_which_option_lets_the_origin_in(origin: str):
    data = request(*lines(Origin=origin))
    assert f"; origins=[{origin!r}, None] lets it in" in refused(data)[1]
    assert receive(ServerHandshake(origins=[origin]), data)
    assert "lets it in" not in refused(request(*lines(Origin="https://a/" + "b" * 500)))[1]


def test_a_list_of_origins_says_what_to_add():
    data = request(*lines(Origin="https://a.example"))
    _, error = refused(data, origins=["https://b.example"])
    assert "Origin 'https://a.example' and Host 'example.com'" in error
    assert "origins=['https://a.example', ...] lets it in" in error
    assert "origins=[None, ...] lets it in" in refused(request(*lines()), origins=["https://b"])[1]
    assert refused(request(*lines(Origin="https://example.com")), origins=[])[0].code == 403


@pytest.mark.parametrize("origins", ["same", ["https://a.example"]])
def test_two_origins_are_refused(origins: Any):
    data = request(
        *lines(Host="a.example", Origin="https://a.example"), "Origin: https://a.example"
    )
    assert refused(data, origins=origins)[0].code == 403


def test_origins_may_come_from_a_generator():
    data = request(*lines(Origin="https://a.example"))
    assert receive(ServerHandshake(origins=(each for each in ["https://a.example"])), data)  # type: ignore[arg-type]


def test_same_stands_alone():
    with pytest.raises(InvalidOption, match="'same' stands alone"):
        ServerHandshake(origins=["same"])


@pytest.mark.parametrize("origin", ["https://a/", "https://a/b", "a.example", "", "*", "https://"])
def test_what_no_origin_header_can_be_is_refused_as_an_option(origin: str):
    with pytest.raises(InvalidOption, match="is not an origin") as caught:
        ServerHandshake(origins=[origin])
    assert caught.value.option == "origins"


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("https://example.com:443", "did you mean 'https://example.com'?"),
        ("HTTP://example.com:80", "did you mean 'http://example.com'?"),
        ("https://[::1]:443", "did you mean 'https://[::1]'?"),
        ("https://example.com/", "did you mean 'https://example.com'?"),
        ("https://example.com:8443/chat?x#y", "did you mean 'https://example.com:8443'?"),
        ("https://user:pass@example.com", "did you mean 'https://example.com'?"),
        ("example.com", "did you mean 'https://example.com'?"),
        ("localhost:3000", "did you mean 'https://localhost:3000'?"),
        ("*", "give origins=None to let in any"),
        ("https://*", "give origins=None to let in any"),
        ("*.example.com", "did you mean 'https://*.example.com'?"),
        ("https://exämple.com", "is not an origin"),
        ("https://a b", "is not an origin"),
        ("https://a:port", "is not an origin"),
        ("https://a\n", "is not an origin"),
    ],
)
def test_an_origin_that_could_never_match_is_refused_with_one_that_does(origin: str, said: str):
    with pytest.raises(InvalidOption, match="is not an origin") as caught:
        ServerHandshake(origins=[origin])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://Example.COM",
        "https://example.com:80",
        "http://example.com:443",
        "http://localhost:3000",
        "http://[::1]:3000",
        "https://xn--exmple-cua.com",
        "chrome-extension://abcdefghijklmnop",
        "app://localhost",
        "null",
    ],
)
def test_an_origin_as_programs_send_it_is_let_in(origin: str):
    assert receive(ServerHandshake(origins=[origin]), request(*lines(Origin=origin)))


@pytest.mark.parametrize("origins", ["https://a", "SAME", b"https://a", [b"https://a"], [1], 1])
def test_origins_of_another_type_are_refused(origins: Any):
    with pytest.raises(InvalidOptionType):
        ServerHandshake(origins=origins)


@pytest.mark.parametrize("subprotocols", ["chat", ["a b"], ["a", "a"], [1]])
def test_the_servers_subprotocols_are_checked_too(subprotocols: Any):
    with pytest.raises(InvalidOption):
        ServerHandshake(subprotocols=subprotocols)


# Limits on the head.


@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_the_limit_on_the_heads_size_is_exact_in_any_pieces(piece: int):
    spare = 65536 - len(request(*lines(X="")))
    server = ServerHandshake()
    assert [receive(server, data) for data in drip(request(*lines(X="x" * spare)), piece)][-1]
    server = ServerHandshake()
    with pytest.raises(HandshakeError, match="max_head_size=65536"):
        [receive(server, data) for data in drip(request(*lines(X="x" * spare + "x")), piece)]
    assert parse(server.refusal()).code == 431


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_10_000_lines_or_one_of_1_mib_are_too_large(end: bytes):
    start = b"GET / HTTP/1.1\r\n"
    for data, limit in ((b"a:b\r\n" * 10_000, "max_header_lines=128"), (b"a" * 2**20, "head_size")):
        response, error = refused(start + data + end)
        assert (response.code, response.reason) == (431, "Request Header Fields Too Large")
        assert limit in error


def test_limits_can_be_turned_off():
    head = lines(**{f"X-{n}": "x" * 10 for n in range(10_000)})
    assert accepted(*head, max_head_size=None, max_header_lines=None)


@given(st.lists(st.binary(max_size=60)))
def test_random_bytes_raise_nothing_but_handshake_errors(pieces: list[bytes]):
    server = ServerHandshake()
    for piece in pieces:
        with suppress(HandshakeError):
            receive(server, piece)
    refusal = server.refusal()
    assert not refusal or parse(refusal).code >= 400


WORDS = [
    b"GET / HTTP/1.1", b"GET * HTTP/1.0", b"POST http://a HTTP/1.1", b"HEAD ", b"\r\n", b"\n", b" ",
    b"\r\n\r\n", b"\r", b"\t", b":", b"a", b",", b"Host: a", b"Content-Length: 5", b"\x00", b"\xff",
    b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Version: 13", b"Origin: x",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Transfer-Encoding: chunked", b"Upgrade:,",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS)), st.integers(1, 50))
def test_random_http_raises_nothing_but_handshake_errors(words: list[bytes], size: int):
    server = ServerHandshake(origins=["https://a"])
    for piece in (*drip(b"".join(words), size), b"", b"more"):
        with suppress(HandshakeError):
            receive(server, piece)
    server.refusal()


# Between the steps.


@pytest.mark.parametrize(
    ("code", "start", "header_lines"),
    [
        (426, "GET /health?full HTTP/1.1", ["Host: a"]),
        (405, "HEAD /health?full HTTP/1.1", ["Host: a"]),
        (400, "GET /health?full HTTP/1.0", []),
        (405, "POST /health?full HTTP/1.1", ["Host: a", "Content-Length: 5"]),
        (426, "GET http://a/health?full HTTP/1.1", ["Host: b", "Origin: https://evil.example"]),
    ],
)
def test_a_request_that_is_no_opening_handshake_can_be_read_before_it_is_refused(
    code: int, start: str, header_lines: list[str]
):
    server = ServerHandshake()
    received = server.receive(request(*header_lines, start=start))
    assert received is not None
    assert (received.method, received.pathname) == (start.partition(" ")[0], "/health?full")
    server.check_origin()
    head_only = received.method == "HEAD"
    assert parse(server.reject(200, body="ok"), head_only=head_only).code == 200
    with pytest.raises(HandshakeError):
        server.check()
    assert parse(server.refusal(), head_only=head_only).code == code


@pytest.mark.parametrize(
    "data",
    [
        request("Host: a", start="GET / HTTP/2.0"),
        request("Host: a", start="GET / HTTP/0.9"),
        request("Host: a", start="GET relative HTTP/1.1"),
        request("Host: a", start="GET * HTTP/1.1"),
        request("Host: a", start="GET /#part HTTP/1.1"),
        request("Host: a", start="GET http://user@a/ HTTP/1.1"),
        request("Host: a", "Host: b"),
        request("Host: a b"),
        request(),
        request("Host: a", "Connection: " + "upgrade," * 200),
    ],
)
def test_what_is_not_well_formed_is_not_even_handed_out(data: bytes):
    with pytest.raises(HandshakeError):
        ServerHandshake().receive(data)


def test_where_a_page_may_not_connect_its_request_is_refused_before_all_other_rules():
    server = ServerHandshake()
    server.receive(request(*lines(Origin="https://evil.example", Sec_WebSocket_Key=None)))
    with pytest.raises(HandshakeError, match="refused with 403"):
        server.check_origin()
    assert parse(server.refusal()).code == 403


def test_the_application_may_choose_another_subprotocol_of_those_offered():
    for chosen, line in (("b", b"Sec-WebSocket-Protocol: b\r\n"), (None, b"")):
        server = ServerHandshake(subprotocols=["a"])
        received = receive(server, request(*lines(Sec_WebSocket_Protocol="a, b")))
        assert received is not None
        assert received.subprotocol == "a"
        server.choose(chosen)
        assert received.subprotocol == chosen
        assert (b"Sec-WebSocket-Protocol" in server.accept()) == bool(line)
        assert line in server.accept()


def test_a_subprotocol_that_was_not_offered_cannot_be_chosen():
    server = ServerHandshake(subprotocols=["a"])
    receive(server, request(*lines(Sec_WebSocket_Protocol="bearer.secret")))
    with pytest.raises(InvalidOption, match="one that the client offers") as caught:
        server.choose("bearer.other")
    assert "bearer" not in str(caught.value)


def test_the_steps_have_an_order():
    server = ServerHandshake()
    for too_early in (server.accept, server.check, server.check_origin, lambda: server.choose("a")):
        with pytest.raises(RuntimeError, match="no request"):
            too_early()
    server.receive(request(*lines()))
    with pytest.raises(RuntimeError, match="not checked"):
        server.accept()


# What a handler adds to the answer, or answers instead.


def test_accept_sends_the_handlers_headers_in_order_and_case():
    server = ServerHandshake()
    receive(server, request(*lines()))
    data = server.accept([("set-COOKIE", "a=caf\xe9"), ("Set-Cookie", "b")])
    assert data.endswith(b"\r\nset-COOKIE: a=caf\xe9\r\nSet-Cookie: b\r\n\r\n")


@pytest.mark.parametrize(
    "name",
    ["Upgrade", "connection", "Sec-WebSocket-Accept", "sec-websocket-protocol", "Content-Length",
     "Sec-WebSocket-Extensions", "Transfer-Encoding"],
)  # fmt: skip
def test_headers_that_make_the_handshake_cannot_be_set(name: str):
    server = ServerHandshake()
    receive(server, request(*lines()))
    with pytest.raises(InvalidOption, match=f"'{name}' cannot be set"):
        server.accept({name: "x"})


def test_a_response_of_101_is_sent_with_its_headers():
    server = ServerHandshake(subprotocols=["x"])
    receive(server, request(*lines(Sec_WebSocket_Protocol="x")))
    response = HTTPResponse(101, [("X-A", "b"), ("Set-Cookie", "c=d")])
    assert server.accept_as(response) == server.accept(response.headers)


def test_nothing_can_be_accepted_before_a_request():
    with pytest.raises(RuntimeError, match="no request"):
        ServerHandshake().accept()
    with pytest.raises(RuntimeError, match="no request"):
        ServerHandshake().accept_as(HTTPResponse(101))


def test_reject_sends_a_whole_answer_that_closes():
    response = parse(ServerHandshake().reject(401, headers={"WWW-Authenticate": "Basic"}, body="é"))
    assert (response.code, response.reason) == (401, "Unauthorized")
    assert response["WWW-Authenticate"] == "Basic"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body == "é".encode()


def test_reject_takes_a_reason_and_another_type_of_body():
    data = ServerHandshake().reject(499, "Own Reason", [("content-type", "image/x")], b"\x00\xff")
    response = parse(data)
    assert (response.code, response.reason, response.body) == (499, "Own Reason", b"\x00\xff")
    assert response.get_all("Content-Type") == ["image/x"]
    assert parse(ServerHandshake().reject(498)).reason == ""


@pytest.mark.parametrize("code", [204, 304])
def test_answers_that_have_no_body_get_none(code: int):
    # RFC 9110 sections 8.6, 15.3.5 and 15.4.5.
    response = parse(ServerHandshake().reject(code, body="ignored"))
    assert "Content-Length" not in response
    assert response.body == b""


@pytest.mark.parametrize("injected", ["\r\nX: y", "\n", "\x00"])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: {"reason": "OK" + bad},
        lambda bad: {"headers": [("X" + bad, "y")]},
        lambda bad: {"headers": [("X", "y" + bad + "z")]},
    ],
)
def test_no_argument_injects_into_an_answer(make: Any, injected: str):
    with pytest.raises(InvalidOption):
        ServerHandshake().reject(403, **make(injected))


@pytest.mark.parametrize(
    "arguments",
    [
        {"code": 101},
        {"code": 600},
        {"code": 0},
        {"code": "403"},
        {"code": 403, "headers": {"Connection": "keep-alive"}},
        {"code": 403, "headers": {"content-length": "5"}},
        {"code": 403, "headers": {"Transfer-Encoding": "chunked"}},
    ],
)
def test_an_answer_that_would_not_end_the_handshake_is_refused(arguments: dict[str, Any]):
    with pytest.raises(InvalidOption):
        ServerHandshake().reject(**arguments)


# The rules as pure functions, for the codec.


PAIRS = [(name, value) for name, _, value in (line.partition(": ") for line in lines())]


def test_a_request_from_elsewhere_is_checked_and_answered_by_the_same_rules():
    received = Request([*PAIRS, ("Sec-WebSocket-Protocol", "a, b")], pathname="/")
    assert check_request(received, subprotocols=["b"]) == "b"
    assert check_request(received) is None
    assert response_headers(received, {"X": "y"}) == (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("X", "y"),
    )


@pytest.mark.parametrize(
    ("code", "received"),
    [
        (400, Request(PAIRS[1:])),
        (400, Request([*PAIRS, PAIRS[0]])),
        (400, Request([*PAIRS, ("Content-Length", "5")])),
        (400, Request(PAIRS, version=1.0)),
        (400, Request(PAIRS, pathname="")),
        (405, Request(PAIRS, method="PUT")),
        (426, Request(PAIRS[:1])),
    ],
)
def test_a_request_from_elsewhere_is_refused_by_the_same_rules(code: int, received: Request):
    with pytest.raises(HandshakeError) as caught:
        check_request(received)
    assert caught.value.response is not None
    assert parse(encode_response(caught.value.response)).code == code
