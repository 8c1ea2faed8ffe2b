"""The client's opening handshake, without a network: RFC 6455 section 4.1, and attacks on it."""

from __future__ import annotations

import base64
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.server_handshake import receive

from coro_websocket._errors import InvalidOption, InvalidOptionType
from coro_websocket._http.client_handshake import (
    ClientHandshake,
    check_response,
    encode_request,
    request_headers,
)
from coro_websocket._http.keys import accept_key, new_key
from coro_websocket._http.opening_errors import HandshakeError
from coro_websocket._http.request_and_response import Response
from coro_websocket._http.server_handshake import ServerHandshake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FRAMES = b"\x81\x05Hello\r\n\r\n\x89\x00"


def client(**options: Any) -> ClientHandshake:
    return ClientHandshake(**{"host_header": "example.com", "pathname": "/chat", **options})


def sent_headers(handshake: ClientHandshake) -> list[tuple[str, str]]:
    lines = handshake.request().decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:-2])]


def key_of(handshake: ClientHandshake) -> str:
    return dict(sent_headers(handshake))["Sec-WebSocket-Key"]


def valid(handshake: ClientHandshake, **changes: str | None) -> list[str]:
    """The lines of a valid answer; `changes` replaces or (None) leaves out headers."""
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key(key_of(handshake)),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [f"{name}: {value}" for name, value in headers.items() if value is not None]


def answer(*lines: str, status: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def refused(handshake: ClientHandshake, *pieces: bytes) -> HandshakeError:
    *first, last = pieces
    for piece in first:
        assert handshake.receive(piece) is None
    with pytest.raises(HandshakeError) as caught:
        handshake.receive(last)
    assert isinstance(caught.value, ConnectionError)
    return caught.value


def drip(data: bytes, size: int = 1) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# Keys (RFC 6455 section 1.3).


def test_the_key_of_rfc_6455_section_1_3_gives_the_accept_that_stands_there():
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_new_key_is_16_fresh_bytes_in_base64():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


# The request (RFC 6455 section 4.1).


def test_the_request_is_what_rfc_6455_section_4_1_asks_for():
    handshake = client(host_header="example.com:8080", pathname="/chat?a=b%20c")
    assert handshake.request().startswith(
        b"GET /chat?a=b%20c HTTP/1.1\r\nHost: example.com:8080\r\n"
    )
    assert handshake.request().endswith(b"\r\n\r\n")
    headers = dict(sent_headers(handshake))
    assert headers["Upgrade"] == "websocket"
    assert headers["Connection"] == "Upgrade"
    assert headers["Sec-WebSocket-Version"] == "13"
    assert len(base64.b64decode(headers["Sec-WebSocket-Key"], validate=True)) == 16
    assert headers["User-Agent"].startswith("coro-websocket")
    assert set(headers) == {
        "Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "User-Agent"
    }  # fmt: skip


def test_every_handshake_has_a_key_of_its_own():
    assert key_of(client()) != key_of(client())


def test_subprotocols_are_offered_in_order():
    headers = dict(sent_headers(client(subprotocols=["b", "a"])))
    assert headers["Sec-WebSocket-Protocol"] == "b, a"


def test_the_users_headers_keep_order_case_and_duplicates():
    mine = [("x-one", "1"), ("X-TWO", "2"), ("x-one", "3"), ("Cookie", "caf\xe9")]
    handshake = client(headers=mine)
    assert sent_headers(handshake)[-4:] == mine
    assert b"Cookie: caf\xe9\r\n" in handshake.request()


def test_the_users_host_user_agent_and_authorization_take_the_place_of_ours():
    mine = [("host", "other.example"), ("user-agent", ""), ("AUTHORIZATION", "Bearer x")]
    headers = sent_headers(client(headers=mine, authorization="Basic YTpi"))
    assert [pair for pair in headers if pair[0].lower() in dict(mine) or pair in mine] == mine
    assert [name.lower() for name, _ in headers].count("host") == 1
    assert [name.lower() for name, _ in headers].count("authorization") == 1


def test_authorization_from_the_url_is_sent():
    assert ("Authorization", "Basic YTpi") in sent_headers(client(authorization="Basic YTpi"))


@pytest.mark.parametrize(
    "name",
    ["Upgrade", "connection", "SEC-WEBSOCKET-KEY", "Sec-WebSocket-Version", "Content-Length",
     "Sec-WebSocket-Extensions", "Sec-WebSocket-Accept", "Transfer-Encoding"],
)  # fmt: skip
def test_headers_that_make_the_handshake_cannot_be_set(name: str):
    with pytest.raises(InvalidOption, match=f"'{name}' cannot be set: ") as caught:
        client(headers=[(name, "sesame")])
    assert caught.value.option == "headers"
    assert "sesame" not in str(caught.value)


def test_a_subprotocol_by_header_is_refused_with_a_hint():
    with pytest.raises(InvalidOption, match="option subprotocol"):
        client(headers={"Sec-WebSocket-Protocol": "chat"})


def test_two_hosts_are_refused():
    with pytest.raises(InvalidOption, match="'Host' is given twice"):
        client(headers=[("Host", "a"), ("host", "b")])


@pytest.mark.parametrize("subprotocols", [[""], ["a b"], ["a,b"], ["a\r\nX: y"], ["a\x00"], ["é"]])
def test_a_subprotocol_that_is_no_token_is_refused(subprotocols: list[str]):
    with pytest.raises(InvalidOption, match="is not a token") as caught:
        client(subprotocols=subprotocols)
    assert caught.value.option == "subprotocol"


def test_a_subprotocol_that_is_no_token_is_not_shown_but_for_what_is_wrong():
    with pytest.raises(InvalidOption) as caught:
        client(subprotocols=["v1", "bearer sesame"])
    assert "subprotocol 2 is not a token: it has ' ' at position 6" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_subprotocol_may_be_offered_only_once():
    with pytest.raises(InvalidOption, match="subprotocol 3 is given twice"):
        client(subprotocols=["a", "b", "a"])


@pytest.mark.parametrize("subprotocols", ["chat", b"chat", [b"chat"], [None]])
def test_subprotocols_of_another_type_are_refused(subprotocols: Any):
    with pytest.raises(InvalidOptionType) as caught:
        client(subprotocols=subprotocols)
    assert caught.value.option == "subprotocol"


@pytest.mark.parametrize("injected", ["\r\nX: y", "\n", "\r", "\x00", "\x7f", "\x1b"])
@pytest.mark.parametrize(
    ("option", "make"),
    [
        ("pathname", lambda bad: {"pathname": "/a" + bad}),
        ("host", lambda bad: {"host_header": "a" + bad}),
        ("authorization", lambda bad: {"authorization": "Basic a" + bad + "b"}),
        ("subprotocol", lambda bad: {"subprotocols": ["a" + bad]}),
        ("headers", lambda bad: {"headers": [("a" + bad, "b")]}),
        ("headers", lambda bad: {"headers": [("a", "b" + bad)]}),
        ("headers", lambda bad: {"headers": [("Host", "b" + bad)]}),
    ],
)
def test_no_option_injects_into_the_request(
    option: str, make: Callable[[str], dict[str, Any]], injected: str
):
    with pytest.raises(InvalidOption) as caught:
        client(**make(injected))
    assert caught.value.option == option
    assert all(ord(char) >= 32 for char in str(caught.value))


@pytest.mark.parametrize(
    "pathname", ["", "a", "*", "http://a/", "/a b", "/a#b", "/é", "/a HTTP/1.1"]
)
def test_a_pathname_is_sent_as_it_is_or_refused(pathname: str):
    with pytest.raises(InvalidOption, match=r"RFC 9112 section 3\.2\.1") as caught:
        client(pathname=pathname)
    assert caught.value.option == "pathname"


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a,\tb", "bücher", 'a"', "a\\b"])
def test_a_host_that_is_none_is_refused(host: str):
    with pytest.raises(InvalidOption, match="is not a Host header"):
        client(host_header=host)


@pytest.mark.parametrize("host", ["localhost", "[::1]:80", "xn--bcher-kva.example", "1.2.3.4:8"])
def test_names_addresses_and_ports_are_sent_as_host(host: str):
    assert sent_headers(client(host_header=host))[0] == ("Host", host)


def test_an_authorization_that_cannot_be_sent_is_not_shown():
    with pytest.raises(InvalidOption) as caught:
        client(authorization="Basic sesame\n")
    assert "sesame" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["host_header", "pathname", "authorization"]), st.text()))
def test_the_request_always_has_the_lines_it_should_have(options: dict[str, str]):
    try:
        handshake = client(**options)
    except InvalidOption:
        return
    lines = 6 + ("authorization" in options)
    assert handshake.request().count(b"\r\n") == lines + 2
    assert handshake.request().count(b"\n") == handshake.request().count(b"\r") == lines + 2


# A valid answer.


def test_a_valid_answer_is_returned_as_the_response():
    handshake = client()
    res = handshake.receive(answer(*valid(handshake), "Server: x", "server: y"))
    assert res is not None
    assert (res.code, res.reason, res.version) == (101, "Switching Protocols", 1.1)
    assert (res.keep_alive, res.subprotocol, res.extensions) == (False, None, ())
    assert res[0] == ("Upgrade", "websocket")
    assert res[-2:] == (("Server", "x"), ("server", "y"))
    assert (res.body, handshake.leftover) == (b"", b"")


@pytest.mark.parametrize(
    "connection",
    ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade, keep-alive", ",, upgrade ,",
     "foo,upgrade\t,bar"],
)  # fmt: skip
def test_connection_is_a_list_in_any_order_and_case(connection: str):
    handshake = client()
    assert handshake.receive(answer(*valid(handshake, Connection=connection)))


def test_connection_may_come_in_several_lines():
    handshake = client()
    lines = ["Connection: keep-alive", *valid(handshake), "connection: foo"]
    assert handshake.receive(answer(*lines))


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "WEBSOCKET", " websocket\t"])
def test_upgrade_is_websocket_in_any_case(upgrade: str):
    handshake = client()
    assert handshake.receive(answer(*valid(handshake, Upgrade=upgrade)))


def test_lower_case_names_and_values_without_a_space_are_read():
    handshake = client()
    lines = [line.replace(": ", ":") for line in valid(handshake)]
    lines = [name.lower() + ":" + value for name, _, value in (li.partition(":") for li in lines)]
    assert handshake.receive(answer(*lines))


def test_whitespace_around_the_accept_is_ignored():
    handshake = client()
    accept = f"  {accept_key(key_of(handshake))}\t "
    assert handshake.receive(answer(*valid(handshake, Sec_WebSocket_Accept=accept)))


def test_a_folded_header_is_read_as_one_line():
    # RFC 9112 section 5.2: a user agent replaces the fold with spaces.
    handshake = client()
    res = handshake.receive(answer(*valid(handshake), "X-Long: one,", "\t two", " three"))
    assert res is not None
    assert res["X-Long"] == "one, two three"


def test_bare_line_feeds_end_lines_too():
    # RFC 9112 section 2.2: a recipient may take one as a line terminator.
    handshake = client()
    assert handshake.receive(answer(*valid(handshake)).replace(b"\r\n", b"\n") + FRAMES)
    assert handshake.leftover == FRAMES


@pytest.mark.parametrize("reason", ["", " ", " Web Socket Protocol Handshake", " \xe9"])
def test_the_reason_phrase_may_be_anything(reason: str):
    handshake = client()
    res = handshake.receive(answer(*valid(handshake), status="HTTP/1.1 101" + reason))
    assert res is not None
    assert res.reason == reason[1:]


def test_a_101_has_no_body_whatever_its_headers_say():
    # RFC 9112 section 6.3, item 1: a 1xx ends with its head.
    for framing in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        handshake = client()
        assert handshake.receive(answer(*valid(handshake), framing) + FRAMES)
        assert handshake.leftover == FRAMES


MEANINGLESS = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "transfer-encoding:",
    "Content-Length: 5",
    "Content-Length: -1",
    "Content-Length: 1, 2",
    "CONTENT-LENGTH: eight",
    "Content-Length: 5\r\n ,6",
    "Content-Length: 1\r\nContent-Length: 2",
    "Content-Length: " + "9" * 1000,
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
]


@pytest.mark.parametrize("line", MEANINGLESS)
@pytest.mark.parametrize("at", ["first", "last"])
def test_length_headers_mean_nothing_in_a_101_rfc_9112_6_3(line: str, at: str):
    handshake = client()
    lines = [*valid(handshake), line] if at == "last" else [line, *valid(handshake)]
    res = handshake.receive(answer(*lines) + FRAMES)
    assert res is not None
    assert handshake.leftover == FRAMES
    names = [each.partition(":")[0] for each in line.split("\r\n") if each[0] != " "]
    assert [name for name, _ in res if "-Length" in name.title() or "fer-" in name] == names
    assert res["Upgrade"] == "websocket"


@pytest.mark.parametrize("line", MEANINGLESS)
def test_length_headers_mean_nothing_in_an_interim_answer_rfc_9112_6_3(line: str):
    handshake = client()
    assert handshake.receive(answer(line, status="HTTP/1.1 103 Early Hints")) is None
    assert handshake.receive(answer(*valid(handshake))) is not None


def test_headers_are_kept_as_they_were_sent():
    handshake = client()
    lines = valid(handshake)
    mine = ["X: a\r\n\tb", "Content-LENGTH: 0, 0", "x-content-length: 5", "X:", "A: b"]
    res = handshake.receive(answer(*lines, *mine))
    assert res is not None
    assert list(res)[len(lines) :] == [
        ("X", "a b"), ("Content-LENGTH", "0, 0"), ("x-content-length", "5"), ("X", ""), ("A", "b"),
    ]  # fmt: skip


def test_a_subprotocol_that_was_offered_is_agreed_on():
    handshake = client(subprotocols=["chat", "v2"])
    res = handshake.receive(answer(*valid(handshake, Sec_WebSocket_Protocol="v2")))
    assert res is not None
    assert res.subprotocol == "v2"


def test_the_server_may_choose_no_subprotocol():
    handshake = client(subprotocols=["chat"])
    res = handshake.receive(answer(*valid(handshake)))
    assert res is not None
    assert res.subprotocol is None


def test_interim_responses_are_skipped():
    # RFC 9110 section 15.2: a client reads any number of 1xx before the final response.
    handshake = client()
    interim = answer(status="HTTP/1.1 100 Continue") + answer("Link: </a>", status="HTTP/1.1 103 X")
    res = handshake.receive(interim + answer(*valid(handshake)) + FRAMES)
    assert res is not None
    assert res.code == 101
    assert handshake.leftover == FRAMES


def test_frames_that_come_after_the_answer_join_what_came_with_it():
    handshake = client()
    res = handshake.receive(answer(*valid(handshake)) + FRAMES[:3])
    assert handshake.receive(FRAMES[3:]) is res
    assert handshake.leftover == FRAMES


# Any split of the stream (frames smuggled in behind the head).


@pytest.mark.parametrize("prefix", [b"", answer("Link: </a>", status="HTTP/1.1 103 Early Hints")])
def test_at_every_split_point_response_and_frames_are_the_same(prefix: bytes):
    size = len(prefix + answer(*valid(client())) + FRAMES)
    for at in range(size + 1):
        handshake = client()
        stream = prefix + answer(*valid(handshake), "x: y") + FRAMES
        res = handshake.receive(stream[:at]) if at else None
        res = handshake.receive(stream[at:]) or res
        assert res is not None
        assert list(res) == [
            (n, v) for n, _, v in (li.partition(": ") for li in valid(handshake))
        ] + [("x", "y")]
        assert handshake.leftover == FRAMES


@given(st.data(), st.binary(max_size=40))
def test_any_pieces_give_the_same_response_and_frames(data: st.DataObject, frames: bytes):
    handshake = client(subprotocols=["a"])
    stream = answer(*valid(handshake, Sec_WebSocket_Protocol="a"), "X: y", " z") + frames
    res = None
    while stream:
        at = data.draw(st.integers(1, len(stream)))
        res = handshake.receive(stream[:at])
        stream = stream[at:]
    assert res is not None
    assert (res.code, res.subprotocol, res["x"]) == (101, "a", "y z")
    assert handshake.leftover == frames


# Answers that do not complete the handshake (RFC 6455 section 4.1).


@pytest.mark.parametrize(
    ("changes", "expected", "received"),
    [
        ({"Upgrade": None}, "Upgrade: 'websocket'", "no Upgrade header"),
        ({"Upgrade": "h2c"}, "Upgrade: 'websocket'", "Upgrade: 'h2c'"),
        ({"Upgrade": "websockets"}, "Upgrade: 'websocket'", "Upgrade: 'websockets'"),
        ({"Upgrade": "websocket, h2c"}, "Upgrade: 'websocket'", "Upgrade: 'websocket, h2c'"),
        ({"Connection": None}, "'Upgrade' among", "no Connection header"),
        ({"Connection": "close"}, "'Upgrade' among", "Connection: 'close'"),
        ({"Connection": "Upgraded, xUpgrade"}, "'Upgrade' among", "Connection: 'Upgraded"),
        ({"Sec_WebSocket_Accept": None}, "one Sec-WebSocket-Accept", "no Sec-WebSocket-Accept"),
        ({"Sec_WebSocket_Accept": ""}, "one Sec-WebSocket-Accept", "Sec-WebSocket-Accept: ''"),
        ({"Sec_WebSocket_Accept": "AAAA="}, "one Sec-WebSocket-Accept", "'AAAA='"),
        ({"Sec_WebSocket_Protocol": "chat"}, "no subprotocol", "Sec-WebSocket-Protocol"),
        ({"Sec_WebSocket_Protocol": ""}, "no subprotocol", "Sec-WebSocket-Protocol"),
        ({"Sec_WebSocket_Extensions": "permessage-deflate; a=b"}, "no extension", "'permessage-de"),
    ],
)  # fmt: skip
def test_an_answer_that_breaks_a_rule_of_section_4_1_is_refused(
    changes: dict[str, str | None], expected: str, received: str
):
    handshake = client()
    error = refused(handshake, answer(*valid(handshake, **changes)))
    assert f"expected {expected}" in str(error)
    assert received in str(error)
    assert "RFC 6455 section 4.1" in str(error)
    assert error.response is not None
    assert error.response.code == 101
    assert error.response.subprotocol is None


def test_the_accept_of_another_key_is_refused():
    handshake = client()
    accept = accept_key(key_of(client()))
    error = refused(handshake, answer(*valid(handshake, Sec_WebSocket_Accept=accept)))
    assert f"received Sec-WebSocket-Accept: '{accept}'" in str(error)


def test_the_accept_is_compared_with_its_case():
    handshake = client()
    accept = accept_key(key_of(handshake)).swapcase()
    refused(handshake, answer(*valid(handshake, Sec_WebSocket_Accept=accept)))


def test_a_second_accept_is_refused_even_if_both_are_right():
    handshake = client()
    lines = valid(handshake)
    assert "received Sec-WebSocket-Accept" in str(refused(handshake, answer(*lines, lines[-1])))


@pytest.mark.parametrize("chosen", ["Chat", "other", "chat, v2", ""])
def test_a_subprotocol_that_was_not_offered_is_refused(chosen: str):
    handshake = client(subprotocols=["chat", "v2"])
    error = refused(handshake, answer(*valid(handshake, Sec_WebSocket_Protocol=chosen)))
    assert "one of the 2 subprotocols that were offered, received another" in str(error)
    assert "chat" not in str(error)  # a bearer token may travel there


def test_a_second_subprotocol_is_refused():
    # RFC 6455 section 11.3.4: it must not appear more than once in a response.
    handshake = client(subprotocols=["chat", "v2"])
    lines = valid(handshake, Sec_WebSocket_Protocol="chat")
    for line in ("Sec-WebSocket-Protocol: chat", "sec-websocket-protocol: v2"):
        handshake = client(subprotocols=["chat", "v2"])
        lines = valid(handshake, Sec_WebSocket_Protocol="chat")
        assert "at most one" in str(refused(handshake, answer(*lines, line)))


@pytest.mark.parametrize("version", ["1.0", "0.9", "2.0"])
def test_a_101_of_another_http_is_refused(version: str):
    handshake = client()
    error = refused(handshake, answer(*valid(handshake), status=f"HTTP/{version} 101 Fine"))
    assert f"expected HTTP/1.1, received HTTP/{version}" in str(error)


def test_what_came_is_clipped_and_escaped_in_the_message():
    handshake = client()
    error = refused(handshake, answer(*valid(handshake, Upgrade="\x1b[31m" + "x" * 5000)))
    assert "'\\x1b[31mxxx" in str(error)
    assert len(str(error)) < 400


def test_the_check_works_on_a_response_from_elsewhere():
    pairs = [("upgrade", "WebSocket"), ("connection", "a, UPGRADE")]
    accept = [("sec-websocket-accept", " s3pPLMBiTxaQ9kYGzzhZRbK+xOo= ")]
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    chosen = [("Sec-WebSocket-Protocol", "chat")]
    assert check_response(Response(pairs + accept, code=101), key=key) is None
    assert check_response(
        Response(pairs + accept + chosen, code=101), key=key, subprotocols=["chat"]
    ) == ("chat")
    with pytest.raises(HandshakeError, match="no Sec-WebSocket-Accept"):
        check_response(Response(pairs, code=101), key=key)


@pytest.mark.parametrize(
    "header", ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
def test_a_list_longer_than_any_handshake_needs_is_refused(header: str):
    for more in ("a, " * 128, "a;" + "b;" * 128, 'a; b="' + "\\c" * 128 + '"'):
        handshake = client()
        error = refused(handshake, answer(*valid(handshake), f"{header}: {more}"))
        assert f"expected at most 128 elements and parameters in {header}" in str(error)
    handshake = client()
    lines = valid(handshake, Connection=", ".join(["Upgrade", *["a"] * 127]))
    assert handshake.receive(answer(*lines)) is not None


# A server that refuses: the whole answer is in the error.


def test_a_refusal_carries_status_headers_and_body():
    error = refused(
        client(),
        answer("Content-Length: 6", "X-Why: because", status="HTTP/1.1 403 Forbidden") + b"Go",
        b" awa",
    )
    assert "expected 101 'Switching Protocols', received 403 'Forbidden'" in str(error)
    res = error.response
    assert res is not None
    assert (res.code, res.reason, res["x-why"], res.body) == (
        403,
        "Forbidden",
        "because",
        b"Go awa",
    )


def test_a_chunked_body_is_put_together():
    body = b"4;ext=1\r\nNot \r\n5\r\nfound\r\n0\r\nTrailer: x\r\n\r\n"
    head = answer("Transfer-Encoding: chunked", status="HTTP/1.1 404 Not Found")
    for pieces in ([head + body], [head, body], drip(head + body)):
        error = refused(client(), *pieces)
        assert error.response is not None
        assert error.response.body == b"Not found"


@pytest.mark.parametrize("code", [200, 204, 301, 304, 401, 426, 500, 999])
def test_a_refusal_without_a_body_needs_no_more_bytes(code: int):
    lines = [] if code in (204, 304) else ["Content-Length: 0"]
    error = refused(client(), answer(*lines, status=f"HTTP/1.1 {code} X"))
    assert error.response is not None
    assert (error.response.code, error.response.body) == (code, b"")


def test_a_body_without_a_length_goes_on_to_the_end():
    error = refused(client(), answer(status="HTTP/1.0 404 Not Found"), b"No", b"pe", b"")
    assert error.response is not None
    assert (error.response.version, error.response.body) == (1.0, b"Nope")


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_is_cut_off_is_kept_as_far_as_it_came(framing: str):
    piece = b"8\r\nA little" if "chunked" in framing else b"A little"
    error = refused(client(), answer(framing, status="HTTP/1.1 500 Oops") + piece, b"")
    assert error.response is not None
    assert error.response.body == b"A little"


@pytest.mark.parametrize("broken", [b"zz\r\nabc", b"3\r\nabcdef", b"g" * 20_000])
def test_a_body_that_is_malformed_is_kept_as_far_as_it_made_sense(broken: bytes):
    head = answer("Transfer-Encoding: chunked", status="HTTP/1.1 500 Oops")
    error = refused(client(), head + b"2\r\nOK\r\n" + broken)
    assert error.response is not None
    assert error.response.body.startswith(b"OK")


@pytest.mark.parametrize(
    ("lines", "sent", "body"),
    [
        (["Transfer-Encoding: gzip, chunked"], b"4\r\nbusy\r\n0\r\n\r\n", b"busy"),
        (["Transfer-Encoding: gzip", "transfer-encoding: CHUNKED"], b"1\r\nb\r\n0\r\n\r\n", b"b"),
        (["Transfer-Encoding: chunked", "Content-Length: x"], b"1\r\nb\r\n0\r\n\r\n", b"b"),
        (["Transfer-Encoding: identity", "Content-Length: 4"], b"busy", b"busy"),
        (["Content-Length: 4", "Content-Length: 4, 4"], b"busy", b"busy"),
        (["Content-Length: 4"], b"busybody", b"busy"),
        (["Content-Length: 0004"], b"busy", b"busy"),
    ],
)
def test_a_body_whose_end_is_known_needs_no_more_bytes(lines: list[str], sent: bytes, body: bytes):
    head = answer("Retry-After: 7", *lines, status="HTTP/1.1 503 Busy")
    for pieces in ([head + sent], [head, sent], drip(head + sent)):
        handshake = client()
        with pytest.raises(HandshakeError) as caught:
            for piece in pieces:
                handshake.receive(piece)
        response = caught.value.response
        assert response is not None
        assert (response.code, response.reason, response["Retry-After"]) == (503, "Busy", "7")
        assert (response.body, response.body_truncated) == (body, False)


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: \x01",
        "Content-Length: -1",
        "Content-Length: 4, 5",
        "Content-Length: four",
        "Content-Length: \xb2",
        "Content-Length:",
        "Content-Length: " + "4" * 5000,
        "Content-Length: 4\r\nContent-Length: 5",
    ],
)
def test_a_body_whose_length_is_not_known_goes_on_to_the_end(line: str):
    head = answer(line, "Retry-After: 7", status="HTTP/1.1 503 Busy")
    error = refused(client(), head + b"bu", b"sy", b"")
    assert "received 503 'Busy'" in str(error)
    assert error.response is not None
    assert (error.response.code, error.response["Retry-After"]) == (503, "7")
    assert (error.response.body, error.response.body_truncated) == (b"busy", False)
    error = refused(client(max_body_size=3), head + b"bu", b"sy")
    assert error.response is not None
    assert (error.response.body, error.response.body_truncated) == (b"bus", True)
    handshake = client()
    assert handshake.receive(head + b"bu") is None
    with pytest.raises(HandshakeError) as caught:
        handshake.give_up()
    assert caught.value.response is not None
    assert (caught.value.response.code, caught.value.response.body) == (503, b"bu")


def test_a_body_larger_than_the_limit_is_cut_there():
    head = answer("Content-Length: 1000000", status="HTTP/1.1 200 OK")
    for pieces in ([head + b"x" * 65537], [head, b"x" * 65535, b"x"], [head, b"x" * 10**6]):
        error = refused(client(), *pieces)
        assert error.response is not None
        assert error.response.body == b"x" * 65536


def test_an_endless_chunk_header_is_cut_at_the_limit_too():
    head = answer("Transfer-Encoding: chunked", status="HTTP/1.1 200 OK")
    refused(client(max_body_size=100), head + b"1;" + b"x" * 97, b"x")


def test_no_body_is_waited_for_if_the_limit_is_0_and_all_of_it_if_it_is_none():
    head = answer("Content-Length: 200000", status="HTTP/1.1 200 OK")
    refused(client(max_body_size=0), head)
    error = refused(client(max_body_size=None), head + b"x" * 199_999, b"x")
    assert error.response is not None
    assert len(error.response.body) == 200_000


def test_an_error_is_raised_again_whatever_comes_after_it():
    handshake = client()
    error = refused(handshake, answer("Content-Length: 0", status="HTTP/1.1 404 Not Found"))
    assert refused(handshake, answer(*valid(handshake))) is error


# No HTTP at all.


@pytest.mark.parametrize(
    ("garbage", "shown"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "'SSH-2.0-OpenSSH_9.2"),
        (b"220 mail.example ESMTP\r\n", "'220 mail.example"),
        (b"\x00\x00\x12\x04\x00\x00\x00", "'\\x00\\x00\\x12\\x04"),
        (b"<html>", "'<html>'"),
        (b"http/1.1 101 OK\r\n", "'http/1.1"),
        (b"HTTX", "'HTTX'"),
        (b"\r\n\r\n", "'\\r\\n\\r\\n'"),
        (b"G" * 10**6, "'GGG"),
    ],
)
def test_garbage_is_named_as_soon_as_it_comes(garbage: bytes, shown: str):
    error = refused(client(), garbage)
    assert "does not speak HTTP" in str(error)
    assert shown in str(error)
    assert error.response is None
    assert len(str(error)) < 400


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_an_echo_of_our_request_is_not_quoted_beyond_its_path(line_end: str):
    handshake = client(pathname="/chat?token=sesame", authorization="Basic sesame")
    echo = handshake.request().replace(b"\r\n", line_end.encode())
    assert "received 'GET /chat'..." in str(refused(handshake, echo))
    for cut in range(len(echo)):
        handshake = client()
        with pytest.raises(HandshakeError) as caught:
            handshake.receive(b"HTTP/1.1 101 OK" + line_end.encode() + echo[:cut])
            handshake.receive(b"")
        assert "sesame" not in str(caught.value)


def test_a_tls_alert_comes_with_the_advice_to_use_wss():
    assert "use wss://" in str(refused(client(), b"\x15\x03\x01\x00\x02\x02\x46"))


def test_the_end_before_any_byte_is_named():
    error = refused(client(), b"")
    assert str(error) == "the server closed the connection without an answer"
    assert error.response is None


def test_the_end_in_the_middle_of_the_head_is_named():
    error = refused(client(), b"HTTP/1.1 101 Swi", b"")
    assert "in the middle of its answer's head, after 16 bytes: 'HTTP/1.1 101 Swi'" in str(error)


def test_the_end_after_an_interim_response_is_named():
    error = refused(client(), answer(status="HTTP/1.1 103 Early Hints"), b"")
    assert "after an interim 103" in str(error)


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        (b"HTTP/1.1\r\n\r\n", "first line is 'HTTP/1.1'"),
        (b"HTTP/1.1 1 Small\r\n\r\n", "first line is 'HTTP/1.1 1 Small'"),
        (b"HTTP/1.1 007 Bond\r\n\r\n", "status_code"),
        (b"HTTP/1.1 101 OK\r\nSet-Cookie : sesame\r\n\r\n", "starts 'Set-Cookie '"),
        (b"HTTP/1.1 101 OK\r\nA: b\r\nSet-Cookie: ses\x00ame\r\n\r\n", "starts 'Set-Cookie:'"),
        (b"HTTP/1.1 101 OK\r\nA: b\r\n ses\x00ame\r\n\r\n", "is not a header"),
        (b"HTTP/1.1 101 OK\r\nA: ses\rame\r\n\r\n", "starts 'A:'"),
        (b"HTTP/1.1 101 OK\r\n folded: first\r\n\r\n", "continuation line"),
        (b"HTTP/1.1 101 OK\r\nA: b\r\nsesame\r\n\r\n", "header line 2 is not a header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: ses\x00\r\n\r\n", "starts 'Content-Length:'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n", "starts 'Content-Length '"),
        (b"HTTP/1.1 101 OK\r\nTransfer-Encoding: ses\rame\r\n\r\n", "'Transfer-Encoding:'"),
    ],
)
def test_a_malformed_head_is_refused_without_showing_values(head: bytes, shown: str):
    error = refused(client(), head)
    assert "the server's answer is malformed" in str(error)
    assert shown in str(error)
    assert "ses" not in str(error)


@given(st.lists(st.binary(max_size=60)))
def test_random_bytes_raise_nothing_but_handshake_errors(pieces: list[bytes]):
    handshake = client()
    for piece in pieces:
        with suppress(HandshakeError):
            handshake.receive(piece)


ALPHABET = [
    b"HTTP/1.1 101 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 404 ", b"HTTP/1.1 100 C", b"\r\n", b"\n",
    b"\r\n\r\n", b"\r", b" ", b"\t", b":", b"a", b"5\r\n", b"0\r\n\r\n", b"Content-Length: 5",
    b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: websocket", b"\x00", b"\xff",
]  # fmt: skip


@given(st.lists(st.sampled_from(ALPHABET)), st.integers(1, 50))
def test_random_http_raises_nothing_but_handshake_errors(words: list[bytes], size: int):
    handshake = client(max_body_size=20)
    for piece in (*drip(b"HTTP/1.1 " + b"".join(words), size), b"", b"more"):
        with suppress(HandshakeError):
            assert handshake.receive(piece) is None  # nobody guesses the accept


# Limits on the head.


def head_of(handshake: ClientHandshake, size: int) -> bytes:
    head = answer(*valid(handshake), "X: ")
    return answer(*valid(handshake), "X: " + "x" * (size - len(head)))


@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_a_head_of_exactly_the_limit_passes_in_any_pieces(piece: int):
    handshake = client(max_head_size=65536)
    results = [handshake.receive(data) for data in drip(head_of(handshake, 65536), piece)]
    assert results[-1] is not None


@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_a_head_one_byte_larger_is_refused_in_any_pieces(piece: int):
    handshake = client(max_head_size=65536)
    error = refused(handshake, *drip(head_of(handshake, 65537), piece))
    assert "max_head_size=65536" in str(error)
    assert error.response is None


def test_frames_behind_the_head_do_not_count_as_head():
    handshake = client(max_head_size=1000)
    assert handshake.receive(head_of(handshake, 1000) + b"x" * 10_000)
    assert len(handshake.leftover) == 10_000


def test_an_endless_head_is_refused_as_soon_as_it_crosses_the_limit():
    handshake = client(max_head_size=1000)
    assert handshake.receive(b"HTTP/1.1 200 OK\r\nX: ".ljust(1000, b"x")) is None
    assert "max_head_size=1000" in str(refused(handshake, b"x"))


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("piece", [4096, 10**7])
def test_a_line_of_1_mib_is_refused(piece: int, end: bytes):
    line = b"HTTP/1.1 101 OK\r\nX: " + b"x" * 2**20 + end
    pieces = list(drip(line, piece))[: 65536 // piece + 1]
    assert "max_head_size" in str(refused(client(), *pieces))


@pytest.mark.parametrize("end", ["", "\r\n"])
@pytest.mark.parametrize("eol", ["\r\n", "\n"])
def test_10_000_header_lines_are_refused(eol: str, end: str):
    lines = eol.join(["HTTP/1.1 101 OK", *(["a:b"] * 10_000), end]).encode()
    assert "max_header_lines=128" in str(refused(client(), lines))


@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_the_limit_on_lines_is_exact_in_any_pieces(piece: int):
    handshake = client(max_header_lines=10)
    lines = [*valid(handshake), *(["a: b"] * 6), " folded"]
    assert [handshake.receive(data) for data in drip(answer(*lines), piece)][-1]
    handshake = client(max_header_lines=10)
    head = answer(*valid(handshake), *(["a: b"] * 7), " folded")
    with pytest.raises(HandshakeError, match="max_header_lines=10: at least 11 lines"):
        [handshake.receive(data) for data in drip(head, piece)]


def test_endless_interim_responses_count_against_the_same_limits():
    interim = answer(status="HTTP/1.1 100 Continue")
    assert "max_head_size" in str(refused(client(), interim * 3000))
    interim = answer("a: b", status="HTTP/1.1 103 X")
    handshake = client()
    assert all(handshake.receive(interim) is None for _ in range(128))
    assert "max_header_lines" in str(refused(handshake, interim))


def test_limits_can_be_turned_off():
    handshake = client(max_head_size=None, max_header_lines=None)
    head = answer(*valid(handshake), *(["a: " + "b" * 10] * 20_000))
    assert handshake.receive(head)


def growth(work: Callable[[int], object], small: int, factor: int) -> float:
    """How much longer `work` takes for `factor` times the size: about `factor` if linear."""

    def best(size: int) -> float:
        times = []
        for _ in range(3):
            begin = time.process_time()
            work(size)
            times.append(time.process_time() - begin)
        return min(times)

    return best(small * factor) / best(small)


@pytest.mark.parametrize("unit", [b"x", b"\r", b"\n ", b"a:\r\n", b"X: ,\r\n"])
def test_a_head_that_drips_byte_by_byte_takes_linear_time(unit: bytes):
    def work(size: int) -> None:
        handshake = client(max_head_size=None, max_header_lines=None)
        for piece in drip(b"HTTP/1.1 200 OK\r\n" + (unit * size)[:size]):
            assert handshake.receive(piece) is None

    assert growth(work, 4000, 8) < 30


@pytest.mark.parametrize(
    "lines",
    [
        lambda size: ["Connection: " + "," * size],
        lambda size: ["Connection: " + "a, " * size],
        lambda size: ["Sec-WebSocket-Protocol: " + "a," * size],
        lambda size: ["Sec-WebSocket-Extensions: " + "a;b=\"c\"," * size],
        lambda size: ["Upgrade: x"] * size,
        lambda size: ["X: y", " z"] * size,
        lambda size: ["X: " + " " * size + "y"],
    ],
)  # fmt: skip
def test_pathological_lists_in_an_answer_take_linear_time(lines: Callable[[int], list[str]]):
    def work(size: int) -> None:
        handshake = client(max_head_size=None, max_header_lines=None)
        with pytest.raises(HandshakeError):
            handshake.receive(answer(*valid(handshake), *lines(size), "Upgrade: bad"))

    assert growth(work, 4000, 8) < 30


@pytest.mark.parametrize("name", ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Origin"])
@pytest.mark.parametrize("unit", [",", "a, ", "a,b ,", " "])
def test_pathological_lists_in_a_request_take_linear_time(name: str, unit: str):
    def work(size: int) -> None:
        server = ServerHandshake(
            subprotocols=["x"], origins=[None], max_head_size=None, max_header_lines=None
        )
        with suppress(HandshakeError):
            receive(server, client(headers={"X": "y"}).request()[:-2] + lists(size))

    def lists(size: int) -> bytes:
        return f"{name}: {unit * size}x\r\n".encode() * 2 + b"\r\n"

    assert growth(work, 4000, 8) < 30


# What is sent.

NAMES = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8) | st.sampled_from(
    ["Host", "HOST", "host", "Hosts", "Expect", "User-Agent", "Origin"]
)
VALUES = st.text(
    st.characters(max_codepoint=255, exclude_categories=["Cc"]) | st.just("\t"), max_size=8
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8),
)
def test_the_request_is_what_h11_would_send(headers, path):
    try:
        client = ClientHandshake(host_header="h", pathname=f"/{path}", headers=headers)
        pairs = request_headers(host_header="h", key=client._key, headers=headers)
    except InvalidOption:
        return
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]
    request = h11.Request(method="GET", target=f"/{path}", headers=encoded)
    assert client.request() == h11.Connection(h11.CLIENT).send(request)
    assert client.request() == encode_request(f"/{path}", pairs)


@pytest.mark.parametrize("option", ["origin", "user_agent", "authorization"])
def test_no_option_can_end_a_line(option):
    options: dict[str, Any] = {option: "a\r\nX: y"}
    with pytest.raises(InvalidOption, match=r"has '.r' at position 1"):
        ClientHandshake(host_header="h", pathname="/", **options)


# The headers as a pure function, for the codec.


def test_request_headers_are_the_ones_that_the_handshake_sends():
    pairs = request_headers(
        host_header="a", key="KEY", headers={"X": "y"}, subprotocols=["b"], authorization="Basic c"
    )
    assert [pair for pair in pairs if pair[0] != "User-Agent"] == [
        ("Host", "a"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "KEY"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "b"),
        ("Authorization", "Basic c"),
        ("X", "y"),
    ]


def test_the_user_agent_has_the_version_of_the_package_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
):
    from importlib import metadata

    from coro_websocket._version import version

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    for installed, expected in ((lambda name: "1.2.3", "/1.2.3"), (missing, "/0")):
        monkeypatch.setattr(metadata, "version", installed)
        version.cache_clear()
        assert dict(request_headers(host_header="a", key="K"))["User-Agent"] == (
            "coro-websocket" + expected
        )
    version.cache_clear()
