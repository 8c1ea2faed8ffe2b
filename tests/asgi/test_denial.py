"""A response in place of the upgrade, as an HTTP client that we did not write reads it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._asgi.denial import Denial

parts = st.lists(st.binary(max_size=200), min_size=1, max_size=6)
tokens = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map("x-{}".format)
values = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0\x0b\x0c"), max_size=20)
headers = st.lists(st.tuples(tokens, values), max_size=4)


def as_read(sent: bytes) -> tuple[h11.Response, bytes]:
    """The head and the body of a response, whose end has come."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE
    return response, body


@given(status=st.sampled_from([200, 302, 401, 404, 503, 599]), given=headers, parts=parts)
def test_a_client_reads_what_the_application_has_sent_in_any_parts(status, given, parts):
    pairs = [(name.encode(), value.strip(" \t").encode("latin-1")) for name, value in given]
    try:
        denial = Denial(status, pairs, [(b"server", b"uvicorn")])
    except RuntimeError:  # a control character: what h11 sends nobody has to read
        return
    sent = b"".join(denial.body(part, more=True) for part in parts[:-1])
    sent += denial.body(parts[-1], more=False)
    response, body = as_read(sent)
    assert denial.complete
    assert (response.status_code, body) == (status, b"".join(parts))
    assert [pair for pair in response.headers if pair[0].startswith(b"x-")] == pairs


def test_a_body_that_comes_at_once_has_its_length():
    response, body = as_read(Denial(401, [], []).body(b"who are you?", more=False))
    assert (b"content-length", b"12") in list(response.headers)
    assert body == b"who are you?"


def test_a_length_of_the_applications_is_kept():
    denial = Denial(401, [(b"Content-Length", b"4")], [])
    sent = denial.body(b"ab", more=True) + denial.body(b"cd", more=False)
    response, body = as_read(sent)
    assert [value for name, value in response.headers if name == b"content-length"] == [b"4"]
    assert body == b"abcd"


def test_what_is_left_without_a_body_has_an_empty_one():
    denial = Denial(404, [], [])
    assert as_read(denial.head())[1] == b""
    assert denial.head() == b""


@pytest.mark.parametrize("status", [101, 199, 600, "404", None])
def test_a_status_that_no_response_has_is_refused(status):
    with pytest.raises(RuntimeError, match=r"from 200 to 599 in 'websocket.http.response.start'"):
        Denial(status, [], [])


@pytest.mark.parametrize(
    "header", [(b"a b", b""), (b"a", b"b\r\nc: d"), (b"content-length", b"many")], ids=str
)
def test_a_header_that_cannot_be_sent_is_refused(header):
    with pytest.raises(RuntimeError, match="The response to a WebSocket request is not valid"):
        Denial(404, [header], [])
