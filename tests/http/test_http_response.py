"""HTTPResponse, and what a Request keeps for the application."""

from __future__ import annotations

import dataclasses
import http
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket import HTTPResponse, InvalidOption, InvalidOptionType, Request
from coro_websocket._http.server_handshake import ServerHandshake


def test_it_holds_what_it_was_given():
    response = HTTPResponse(200, {"X-A": "1"}, "é")
    assert (response.status, response.body, response.reason) == (200, "é".encode(), None)
    assert response.headers["x-a"] == "1"
    assert list(HTTPResponse(200, [("a", "1"), ("a", "2")]).headers) == [("a", "1"), ("a", "2")]
    for body in (b"b", bytearray(b"b"), memoryview(b"b")):
        assert HTTPResponse(200, body=body).body == b"b"
    assert HTTPResponse(http.HTTPStatus.NOT_FOUND).status == 404
    assert HTTPResponse(200, None, reason="Fine").reason == "Fine"


def test_equal_ones_are_equal():
    one, other = HTTPResponse(200, {"a": "1"}, "x"), HTTPResponse(200, [("a", "1")], b"x")
    assert one == other
    assert hash(one) == hash(other)
    assert one != HTTPResponse(201, {"a": "1"}, "x")
    assert one != HTTPResponse(200, {"a": "2"}, "x")
    assert one != 200


def test_it_cannot_be_changed_but_gives_others():
    response = HTTPResponse(200, {"a": "1"}, "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        response.status = 500  # type: ignore[misc]
    more = response.with_headers({"b": "2"}).with_headers([("c", "3")]).with_cookie("d", "4")
    assert list(more.headers) == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("Set-Cookie", "d=4; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ]
    assert (more.status, more.body) == (200, b"x")
    assert len(response.headers) == 1
    assert dataclasses.replace(response, status=500).headers["a"] == "1"


def test_its_repr_hides_what_may_be_a_secret():
    response = HTTPResponse(
        302, {"Location": "/a?t0ken", "Set-Cookie": "s3cret", "Retry-After": "5"}, "b0dy"
    )
    assert repr(response) == (
        "<HTTPResponse 302 [('Location', '/a?...'), ('Set-Cookie', '[hidden]'), "
        "('Retry-After', '5')] 4 bytes of body>"
    )
    assert repr(HTTPResponse(204)) == "<HTTPResponse 204 []>"


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": 100},
        {"status": 199},
        {"status": 600},
        {"status": "200"},
        {"status": 200.0},
        {"status": True},
        {"status": 101, "body": "x"},
        {"status": 101, "headers": {"Upgrade": "x"}},
        {"status": 101, "headers": {"Sec-WebSocket-Protocol": "x"}},
        {"headers": {"Content-Length": "5"}},
        {"headers": {"transfer-encoding": "chunked"}},
        {"headers": {"Connection": "keep-alive"}},
        {"headers": {"A": "s3cret\r\nB: c"}},
        {"headers": {"A\r\n": "b"}},
        {"headers": {"A": 5}},
        {"headers": "A: b"},
        {"headers": [("A",)]},
        {"body": 5},
        {"body": None},
        {"reason": "a\r\n"},
        {"reason": 5},
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_made(arguments: dict[str, Any]):
    with pytest.raises(InvalidOption) as caught:
        HTTPResponse(**{"status": 200, **arguments})
    assert "s3cret" not in str(caught.value)


TOKENS = st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255).filter(lambda c: c != "\x7f"))


@given(
    st.integers(200, 599),
    st.lists(st.tuples(TOKENS, TEXTS), max_size=5),
    st.binary(max_size=100) | st.text(max_size=100),
    st.sampled_from(["GET", "HEAD", "POST"]),
)
def test_whatever_it_holds_is_read_by_a_strict_client(status, headers, body, method):
    try:
        response = HTTPResponse(status, headers, body)
    except InvalidOption:
        return
    server = ServerHandshake()
    server.receive(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(server.reject(*response._parts()))
    head = client.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code == status
    sent = [(name.decode(), value.decode("latin-1")) for name, value in head.headers.raw_items()]
    assert sent[: len(headers)] == [(name, value.strip(" \t")) for name, value in headers]
    received = b""
    while isinstance(event := client.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    empty = method == "HEAD" or status in (204, 304)
    assert received == (b"" if empty else response.body)
    assert client.their_state is h11.MUST_CLOSE


# The Request


def test_state_is_a_namespace_whose_repr_shows_names_alone():
    req = Request()
    assert repr(req.state) == "<State>"
    req.state.user = "ann"
    req.state.token = "s3cret"
    assert (req.state.user, req.state.token) == ("ann", "s3cret")
    assert repr(req.state) == "<State user token>"
    assert not hasattr(req.state, "other")
    assert not vars(Request().state)


def test_what_would_break_the_handshake_cannot_be_added():
    req = Request()
    for name in ("Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Content-Length"):
        with pytest.raises(InvalidOption, match="cannot be set"):
            req.add_response_header(name, "x")
    with pytest.raises(InvalidOption, match=r"req\.choose_subprotocol\(\)"):
        req.add_response_header("Sec-WebSocket-Protocol", "x")
    with pytest.raises(InvalidOptionType):
        req.add_response_header("X", 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption):
        req.set_cookie("a", "b; c")
    assert req._added == ()
