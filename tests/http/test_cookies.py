"""Cookies: RFC 6265, and what browsers ask of them besides."""

from __future__ import annotations

import http.cookies
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._errors import InvalidOption, InvalidOptionType
from coro_websocket._http.cookies import cookie_line, parse_cookies

NAMES = st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True)
VALUES = st.from_regex(r"[!#-+\--:<-\[\]-~]{0,50}", fullmatch=True)


def test_a_cookie_is_as_safe_as_can_be_by_default():
    assert cookie_line("a", "b") == "a=b; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_every_attribute_can_be_set_or_left_out():
    line = cookie_line("a", "b", max_age=60, path="/chat", domain="example.com", same_site="Strict")
    assert line == (
        "a=b; Max-Age=60; Domain=example.com; Path=/chat; Secure; HttpOnly; SameSite=Strict"
    )
    bare = cookie_line("a", "", path=None, secure=False, http_only=False, same_site=None)
    assert bare == "a="


@pytest.mark.parametrize("name", ["__Host-a", "__Secure-a", "__host-a"])
def test_the_prefixes_of_names_hold_what_they_promise(name: str):
    assert cookie_line(name, "b").startswith(f"{name}=b; Path=/; Secure")
    with pytest.raises(InvalidOption, match="needs secure=True"):
        cookie_line(name, "b", secure=False)
    if name != "__Secure-a":
        for wrong in ({"path": "/x"}, {"path": None}, {"domain": "example.com"}):
            with pytest.raises(InvalidOption, match="needs path='/' and no domain"):
                cookie_line(name, "b", **wrong)


@pytest.mark.parametrize("space", ["\xa0", "\x85", "\x1f", "\x0b"])
def test_whitespace_of_unicode_makes_no_other_name_one_with_a_prefix(space: str):
    """Browsers keep `\xa0__Host-a` from any subdomain and from plain HTTP: it has no prefix."""
    assert "__Host-a" not in parse_cookies([f"{space}__Host-a=evil"])
    assert "__Host-a" not in parse_cookies([f"__Host-a{space}=evil"])
    assert parse_cookies([f"a=b; {space}__Host-a=evil; __Host-a=good"])["__Host-a"] == "good"
    assert parse_cookies([" \ta = b \t"]) == {"a": "b"}


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": 5}, "name"),
        ({"value": 5}, "value"),
        ({"value": "s3cret;"}, "value"),
        ({"value": "s3cret "}, "value"),
        ({"value": 's3cret"'}, "value"),
        ({"value": "s3cret,"}, "value"),
        ({"value": "s3cret\\"}, "value"),
        ({"value": "s3cret\r\nX: y"}, "value"),
        ({"value": "s3cret\xe9"}, "value"),
        ({"value": "s3cret" * 1000}, "value"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"path": "chat"}, "path"),
        ({"path": "/a;b"}, "path"),
        ({"path": "/a\n"}, "path"),
        ({"path": 5}, "path"),
        ({"domain": "a b"}, "domain"),
        ({"domain": "a;b"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"domain": 5}, "domain"),
        ({"same_site": "none", "secure": False}, "same_site"),
        ({"same_site": "strict!"}, "same_site"),
        ({"same_site": True}, "same_site"),
    ],
)
def test_what_no_browser_would_take_is_refused_without_showing_the_value(
    arguments: dict[str, Any], option: str
):
    with pytest.raises(InvalidOption) as caught:
        cookie_line(**{"name": "a", "value": "b", **arguments})
    assert caught.value.option == option
    assert "s3cret" not in str(caught.value)
    given = next(iter(arguments.values()))
    if not isinstance(given, str) and option != "same_site":
        assert isinstance(caught.value, (InvalidOptionType, InvalidOption))


@given(NAMES, VALUES, st.none() | st.integers(0, 10**9), st.booleans(), st.booleans())
def test_pythons_own_parser_reads_what_is_written(
    name: str, value: str, max_age: int | None, secure: bool, http_only: bool
):
    name = "x" + name  # so that it is none of RFC 2109's attributes
    line = cookie_line(name, value, max_age=max_age, secure=secure, http_only=http_only)
    morsel = http.cookies.SimpleCookie(line)[name]
    assert morsel.value == value
    assert morsel["max-age"] == ("" if max_age is None else str(max_age))
    assert (bool(morsel["secure"]), bool(morsel["httponly"])) == (secure, http_only)
    assert (morsel["path"], morsel["samesite"]) == ("/", "Lax")


def test_what_a_browser_sends_is_found_by_name():
    assert parse_cookies(["a=b; c=d=e;f = g ", "h="]) == {"a": "b", "c": "d=e", "f": "g", "h": ""}
    assert parse_cookies([]) == {}
    assert parse_cookies(["a; =b; ;;"]) == {}


def test_of_two_of_one_name_the_first_counts():
    # RFC 6265 section 5.4: that with the longer path comes first.
    assert parse_cookies(["a=1; a=2", "a=3"]) == {"a": "1"}


@given(st.dictionaries(NAMES, VALUES, max_size=10))
def test_cookies_that_were_set_come_back_as_they_were(cookies: dict[str, str]):
    sent = "; ".join(f"{name}={value}" for name, value in cookies.items())
    assert parse_cookies([sent]) == cookies


@given(st.lists(st.text(max_size=50)))
def test_nothing_that_is_sent_breaks_the_parser(values: list[str]):
    parse_cookies(values)
