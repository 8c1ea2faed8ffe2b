"""Header fields: what may be sent, look-up by name, comma-separated lists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._errors import InvalidOption, InvalidOptionType, WebSocketError
from coro_websocket._http.headers import Headers, parse_token_list
from coro_websocket._options.header_rules import is_token, normalise_headers
from coro_websocket._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Callable

TCHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def growth(work: Callable[[int], object], small: int, factor: int) -> float:
    """How much longer `work` takes for `factor` times the size: about `factor` if linear."""

    def best(size: int) -> float:
        times = []
        for _ in range(5):
            begin = time.process_time()
            work(size)
            times.append(time.process_time() - begin)
        return min(times)

    return best(small * factor) / best(small)


# Tokens (RFC 9110 section 5.6.2).


def test_a_token_is_made_of_the_77_characters_of_rfc_9110_section_5_6_2():
    assert {chr(n) for n in range(0x250) if is_token(chr(n))} == set(TCHARS)
    assert is_token(TCHARS)


@pytest.mark.parametrize("value", ["", "a b", "a\n", "\na", "a,b", "a\x00", "é", "٣"])
def test_what_has_any_other_character_is_no_token(value: str):
    assert not is_token(value)


# What callers supply (RFC 9110 sections 5.1 and 5.5).


def test_order_duplicates_and_the_case_of_names_are_kept():
    pairs = [("X-b", "1"), ("x-A", "2"), ("X-b", "3")]
    assert normalise_headers(pairs) == (("X-b", "1"), ("x-A", "2"), ("X-b", "3"))


def test_a_mapping_a_generator_headers_and_none_are_taken():
    assert normalise_headers({"A": "1", "B": "2"}) == (("A", "1"), ("B", "2"))
    assert normalise_headers((name, "1") for name in "AB") == (("A", "1"), ("B", "1"))
    assert normalise_headers(Headers([("A", "1")])) == (("A", "1"),)
    assert normalise_headers(None) == ()


def test_lists_of_two_serve_as_pairs_as_in_luvit():
    assert normalise_headers([["A", "1"]]) == (("A", "1"),)  # type: ignore[list-item]


def test_whitespace_around_a_value_is_dropped_and_within_it_kept():
    assert normalise_headers([("A", " \tb \t c ")]) == (("A", "b \t c"),)
    assert normalise_headers([("A", "")]) == (("A", ""),)


def test_a_value_may_be_any_printable_latin_1():
    value = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x100)]))
    assert normalise_headers([("A", value)]) == (("A", value),)


@pytest.mark.parametrize("char", [chr(n) for n in range(0x20) if chr(n) != "\t"] + ["\x7f"])
@pytest.mark.parametrize("where", ["{}sesame", "ses{}ame", "sesame{}"])
def test_control_characters_in_a_value_are_refused_without_showing_the_value(char: str, where: str):
    with pytest.raises(InvalidOption) as caught:
        normalise_headers([("X-Password", where.format(char))])
    assert caught.value.option == "headers"
    assert "X-Password" in str(caught.value)
    assert "ame" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_what_no_byte_can_stand_for_is_refused_in_a_value():
    with pytest.raises(InvalidOption, match=r"'A'.*outside latin-1 at position 3"):
        normalise_headers([("A", "10 €")])


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", ":a", "a\r", "a\n", "a\x00", "a\r\nb: c", "é", " a", "a\t"]
)
def test_a_name_that_is_no_token_is_refused(name: str):
    with pytest.raises(InvalidOption, match="a name is a token") as caught:
        normalise_headers([(name, "v")], "extra")
    assert caught.value.option == "extra"
    assert not any(ord(char) < 32 for char in str(caught.value))


def test_a_whole_line_passed_as_a_name_does_not_show_its_value():
    with pytest.raises(InvalidOption, match="Cookie") as caught:
        normalise_headers([("Cookie: secret", "")])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    ["ab", b"ab", ["ab"], [b"ab"], 3, [3], [("a",)], [("a", "b", "c")], [("a", 1)], [(b"a", "b")],
     [("a", b"b")], [("a", None)], {"a": 1}, {"a": ["b"]}, [{"a": "b", "c": "d"}]],
)  # fmt: skip
def test_another_type_is_refused_as_a_type_error(headers: object):
    with pytest.raises(InvalidOptionType, match="headers") as caught:
        normalise_headers(headers)  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, WebSocketError)


@given(st.lists(st.tuples(st.text(), st.text())))
def test_nothing_that_passes_can_end_a_line(pairs: list[tuple[str, str]]):
    try:
        passed = normalise_headers(pairs)
    except InvalidOption:
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in passed).encode("latin-1")
    assert lines.count(b"\n") == lines.count(b"\r") == len(pairs)
    assert b"\x00" not in lines


# Comma-separated lists (RFC 9110 section 5.6.1).


@pytest.mark.parametrize(
    ("values", "elements"),
    [
        ([], []),
        ([""], []),
        (["Upgrade"], ["Upgrade"]),
        (["keep-alive, Upgrade"], ["keep-alive", "Upgrade"]),  # Firefox
        (["keep-alive", "Upgrade"], ["keep-alive", "Upgrade"]),
        ([" \ta\t ,\tb "], ["a", "b"]),
        ([",", ", a , ,, b,", ",c"], ["a", "b", "c"]),  # section 5.6.1.2
        (["foo ,bar,", "", "Foo"], ["foo", "bar", "Foo"]),
        (["a b, c/1.0"], ["a b", "c/1.0"]),
    ],
)
def test_list_elements_come_in_order_and_as_written(values: list[str], elements: list[str]):
    assert parse_token_list(values) == elements


@given(st.lists(st.text(TCHARS, min_size=1)), st.data())
def test_a_list_means_the_same_however_it_is_spread_over_lines(
    elements: list[str], data: st.DataObject
):
    gap = st.sampled_from([",", " ,", ", ", ",\t,", " , , "])
    text = "".join(element + data.draw(gap) for element in elements)
    assert parse_token_list([text]) == elements
    assert parse_token_list(text.split(",")) == elements


@pytest.mark.parametrize(
    "unit", [",", ", ", " ", "\t", "a,", "a", " a ,", ",,,,\t\t\t", 'a;b="', "a b "]
)
def test_pathological_lists_take_linear_time(unit: str):
    assert growth(lambda size: parse_token_list([unit * size]), 10_000, 8) < 30
    assert growth(lambda size: parse_token_list([unit] * size), 10_000, 8) < 30


# Look-up.


@pytest.fixture
def headers() -> Headers:
    return Headers([("Set-Cookie", "a=1"), ("X-One", "first"), ("set-COOKIE", "b=2")])


def test_headers_are_a_sequence_of_pairs(headers: Headers):
    assert len(headers) == 3
    assert headers[0] == ("Set-Cookie", "a=1")
    assert headers[-1] == ("set-COOKIE", "b=2")
    assert headers[1:] == (("X-One", "first"), ("set-COOKIE", "b=2"))
    assert [name for name, _ in headers] == ["Set-Cookie", "X-One", "set-COOKIE"]
    assert next(reversed(headers)) == ("set-COOKIE", "b=2")
    with pytest.raises(IndexError):
        headers[3]


def test_look_up_by_name_ignores_case_and_gives_the_first(headers: Headers):
    assert headers["SET-cookie"] == "a=1"
    assert headers.get("x-one") == "first"
    assert headers.get("Set-Cookie") == "a=1"
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_a_missing_name_is_a_key_error_none_or_the_default(headers: Headers):
    with pytest.raises(KeyError, match="Missing"):
        headers["Missing"]
    assert headers.get("Missing") is None
    assert headers.get("Missing", 5) == 5
    assert headers.get_all("Missing") == []


def test_in_works_for_a_name_and_for_a_pair(headers: Headers):
    assert "x-one" in headers
    assert "x-two" not in headers
    assert ("X-ONE", "first") in headers
    assert ("X-One", "FIRST") not in headers
    assert ("set-cookie", "b=2") in headers
    assert 5 not in headers
    assert (1, 2) not in headers


def test_headers_cannot_be_changed(headers: Headers):
    with pytest.raises(TypeError):
        headers[0] = ("a", "b")  # type: ignore[index]
    with pytest.raises(AttributeError):
        headers.extra = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    ["Authorization", "PROXY-authorization", "Cookie", "set-cookie", "X-Vault-Token", "X-One",
     "Sec-WebSocket-Protocol"],
)  # fmt: skip
def test_repr_shows_only_what_is_known_to_be_no_secret(name: str):
    text = repr(Headers([(name, "sesame"), ("User-AGENT", "shown")]))
    assert name in text
    assert "sesame" not in text
    assert "'User-AGENT', 'shown'" in text


# What goes into error messages.


def test_what_came_is_clipped_and_escaped_in_messages():
    assert clip("abc") == "'abc'"
    assert clip(b"a\r\n\x1b[31m\xff") == r"'a\r\n\x1b[31m\xff'"
    assert clip("x" * 101) == "'" + "x" * 100 + "'..."
    assert clip("\u202eabc") == r"'\u202eabc'"


def test_what_makes_looking_up_fast_can_be_given_back():
    headers = Headers([("A", "1"), ("a", "2")])
    assert headers.get_all("a") == ["1", "2"]
    headers._forget_names()
    assert headers._values is None
    assert headers["A"] == "1"
    assert headers.get_all("A") == ["1", "2"]
