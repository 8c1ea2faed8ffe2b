"""Response and Request: the fields of luvit's page, as values that cannot be changed."""

from __future__ import annotations

import pytest

from coro_websocket._http.client_address import ClientAddress
from coro_websocket._http.request_and_response import Request, Response

HEADERS = [("Upgrade", "websocket"), ("Set-Cookie", "sesame"), ("Connection", "Upgrade")]


def test_a_response_has_each_field_of_luvits_page():
    sock = object()
    res = Response(HEADERS, code=101, reason="Switching Protocols", version=1.1, socket=sock)
    assert [pair for pair in res] == HEADERS  # noqa: C416
    assert res[0] == ("Upgrade", "websocket")
    assert res["upgrade"] == "websocket"
    assert (res.code, res.reason, res.version) == (101, "Switching Protocols", 1.1)
    assert res.socket is sock
    assert res.keep_alive is False


def test_a_response_starts_without_what_only_a_handshake_can_tell():
    res = Response(code=404)
    assert (res.subprotocol, res.extensions, res.url, res.socket) == (None, (), None, None)
    assert (res.body, res.reason, len(res)) == (b"", "", 0)


@pytest.mark.parametrize(
    ("code", "version", "connection", "keep_alive"),
    [
        (101, 1.1, ["keep-alive, Upgrade"], False),
        (404, 1.1, [], True),
        (404, 1.1, ["close"], False),
        (404, 1.1, ["foo", "CLOSE , bar"], False),
        (404, 1.0, [], False),
        (404, 1.0, ["Keep-Alive"], True),
        (404, 1.0, ["keep-alive, close"], False),
    ],
)
def test_keep_alive_follows_rfc_9112_section_9_3(
    code: int, version: float, connection: list[str], keep_alive: bool
):
    headers = [("Connection", value) for value in connection]
    assert Response(headers, code=code, version=version).keep_alive is keep_alive


@pytest.mark.parametrize(
    "field",
    ["code", "reason", "version", "keep_alive", "socket", "subprotocol", "extensions", "url",
     "body", "anything"],
)  # fmt: skip
def test_a_response_cannot_be_changed(field: str):
    with pytest.raises(AttributeError):
        setattr(Response(HEADERS, code=101), field, None)


def test_the_package_binds_what_is_known_later_and_keeps_the_rest():
    res = Response(HEADERS, code=101)
    sock = object()
    assert res._bind(subprotocol="chat") is res
    assert res._bind(socket=sock) is res
    assert (res.subprotocol, res.socket) == ("chat", sock)


def test_the_repr_of_a_response_hides_credentials_and_bodies_and_is_one_line():
    text = repr(Response(HEADERS, code=403, reason="No\r\nway", body=b"secret"))
    assert "403 'No\\r\\nway'" in text
    assert "6 bytes" in text
    assert "sesame" not in text
    assert "secret" not in text
    assert "\n" not in text


def test_what_has_no_headers_is_true_all_the_same():
    assert Response(code=403)
    assert Request()
    assert len(Response(code=403)) == 0


def test_a_request_tells_what_the_client_asked_for():
    request = Request(
        [
            ("Host", "example.com:81"),
            ("Origin", "https://example.com"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
            ("sec-websocket-protocol", ",chat, v2"),
        ],
        method="GET",
        pathname="/a?b=c",
    )
    assert (request.method, request.pathname, request.version) == ("GET", "/a?b=c", 1.1)
    assert (request.host, request.origin) == ("example.com:81", "https://example.com")
    assert request.subprotocols == ("chat", "superchat", "v2")
    assert (request.subprotocol, request.socket, request.peer) == (None, None, None)
    assert (request.tls, request.scheme, request.client, request.id) == (None, "ws", None, None)


def test_a_request_without_host_and_origin_says_so():
    assert (Request().host, Request().origin, Request().subprotocols) == ("", None, ())


def test_the_server_binds_what_it_knows_of_the_connection():
    request = Request()
    sock = object()
    client = ClientAddress("::1", 80)
    request._bind(subprotocol="chat")._bind(socket=sock, peer=("::1", 80, 0, 0))
    request._bind(client=client, scheme="wss", id=7)
    assert (request.client, request.scheme, request.id) == (client, "wss", 7)
    assert request.peer == ("::1", 80, 0, 0)
    assert (request.subprotocol, request.socket) == ("chat", sock)


@pytest.mark.parametrize(
    "field",
    ["method", "pathname", "version", "host", "origin", "subprotocols", "subprotocol", "socket",
     "peer", "client", "scheme", "id", "tls", "anything"],
)  # fmt: skip
def test_a_request_cannot_be_changed(field: str):
    with pytest.raises(AttributeError):
        setattr(Request(), field, None)


def test_the_repr_of_a_request_hides_credentials():
    text = repr(Request([("Authorization", "Basic sesame"), ("Host", "a")], pathname="/chat"))
    assert text.startswith("<Request GET '/chat'")
    assert "'Host', 'a'" in text
    assert "sesame" not in text
