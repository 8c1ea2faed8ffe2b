"""Origins by value, by pattern and by function: what each lets in, and what cannot be one.

RFC 6455 section 10.2; RFC 6454 sections 6 and 7.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket import HandshakeError, InvalidOption, InvalidOptionType, Request
from coro_websocket._http.origins import check_origin, check_origins


def lets_in(origins: Any, origin: str | None, host: str = "server.example") -> bool:
    pairs = [("Host", host), *([("Origin", origin)] if origin is not None else [])]
    try:
        check_origin(Request(pairs), check_origins(origins))
    except HandshakeError as error:
        assert error.response is not None
        assert error.response.code == 403
        return False
    return True


SUBDOMAINS = "https://*.example.com"


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        (SUBDOMAINS, "https://a.example.com"),
        (SUBDOMAINS, "https://a.b.example.com"),
        (SUBDOMAINS, "https://x_y.a-b.example.com"),
        (SUBDOMAINS, "https://xn--exmple-cua.example.com"),
        (SUBDOMAINS, "HTTPS://A.Example.COM"),
        ("HTTPS://*.Example.Com", "https://a.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("https://*.example.com:*", "https://a.example.com"),
        ("https://*.example.com:*", "https://a.example.com:8443"),
        ("http://localhost:*", "http://localhost"),
        ("http://localhost:*", "http://localhost:3000"),
        ("http://127.0.0.1:*", "http://127.0.0.1:3000"),
        ("http://[::1]:*", "http://[::1]:3000"),
        ("http://*.localhost:3000", "http://app.localhost:3000"),
        ("app://*.example.com", "app://a.example.com"),
    ],
)
def test_a_pattern_lets_in(pattern: str, origin: str):
    assert lets_in([pattern], origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        (SUBDOMAINS, "https://example.com"),
        (SUBDOMAINS, "https://evilexample.com"),
        (SUBDOMAINS, "https://evil-example.com"),
        (SUBDOMAINS, "https://a.evilexample.com"),
        (SUBDOMAINS, "https://.example.com"),
        (SUBDOMAINS, "https://a..example.com"),
        (SUBDOMAINS, "https://a.example.com.evil.org"),
        (SUBDOMAINS, "https://a.example.com."),
        (SUBDOMAINS, "https://a.exampleXcom"),
        (SUBDOMAINS, "https://a.example.com:8443"),
        (SUBDOMAINS, "https://a.example.com:443"),
        (SUBDOMAINS, "http://a.example.com"),
        (SUBDOMAINS, "wss://a.example.com"),
        (SUBDOMAINS, "https://evil.org/.example.com"),
        (SUBDOMAINS, "https://evil.org#.example.com"),
        (SUBDOMAINS, "https://evil.org?.example.com"),
        (SUBDOMAINS, "https://evil.org\\.example.com"),
        (SUBDOMAINS, "https://evil.org@a.example.com"),
        (SUBDOMAINS, "https://evil.org%00.example.com"),
        (SUBDOMAINS, "https://evil.org:80.example.com"),
        (SUBDOMAINS, "https://a.example.com https://evil.org"),
        (SUBDOMAINS, "https://a.example.com\n"),
        (SUBDOMAINS, "https://*.example.com"),
        (SUBDOMAINS, "null"),
        (SUBDOMAINS, ""),
        (SUBDOMAINS, None),
        ("http://localhost:*", "http://localhost.evil.org"),
        ("http://localhost:*", "http://localhost:"),
        ("http://localhost:*", "http://localhost:80.evil.org"),
        ("http://localhost:*", "http://localhost:99999"),
        ("http://localhost:*", "https://localhost"),
        ("http://localhost:*", "http://a.localhost:3000"),
    ],
)
def test_a_pattern_lets_nothing_else_in(pattern: str, origin: str | None):
    assert not lets_in([pattern], origin)


LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_\-]{0,8}[a-z0-9_])?", fullmatch=True)
# What hosts, ports and paths are made of.
PIECES = st.lists(
    st.sampled_from(["a", "evil", "example", "com", "org", ".", "-", ":", "/", "@", "#", "443"]),
    max_size=8,
).map("".join)


@given(st.lists(LABEL, min_size=1, max_size=4))
def test_a_pattern_lets_in_every_subdomain(labels: list[str]):
    assert lets_in([SUBDOMAINS], f"https://{'.'.join(labels)}.example.com")


@given(PIECES, PIECES)
def test_what_a_pattern_lets_in_is_the_domains_whatever_is_put_around_it(before: str, after: str):
    origin = f"https://{before}example.com{after}"
    if lets_in([SUBDOMAINS], origin):
        assert re.fullmatch(r"https://(([a-z0-9\-]+)\.)+example\.com", origin)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_matches_a_pattern_that_another_reading_of_origins_does_not(before, after):
    for origin in (before, f"https://{before}.example.com{after}", f"{before}://a.example.com"):
        if lets_in([SUBDOMAINS], origin):
            scheme, _, host = origin.lower().partition("://")
            assert scheme == "https"
            assert host.split(".")[-2:] == ["example", "com"]
            assert all(re.fullmatch(r"[a-z0-9_\-]+", label) for label in host.split("."))


@given(st.text(st.sampled_from("*.:/@abc-0"), max_size=30))
def test_whatever_is_given_it_is_an_origin_a_pattern_or_an_invalid_option(text: str):
    for origin in (text, f"https://{text}", f"https://*.{text}"):
        try:
            check_origins([origin])
        except InvalidOption as error:
            assert error.option == "origins"
        else:
            assert not lets_in([origin], "https://evil.org")


def test_time_is_linear_in_the_length_of_an_origin():
    assert not lets_in([SUBDOMAINS], "https://" + "a." * 30_000 + "evil.org")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*", "give origins=None to let in any page"),
        ("https://*", "give origins=None to let in any page"),
        ("https://*:*", "give origins=None to let in any page"),
        ("*://*", "give origins=None to let in any page"),
        ("*.example.com", "did you mean 'https://*.example.com'?"),
        ("*://*.example.com", "a '*' stands for"),
        ("http*://a.example.com", "a '*' stands for"),
        ("https://app-*.example.com", "a '*' stands for"),
        ("https://a.*.example.com", "a '*' stands for"),
        ("https://example.*", "a '*' stands for"),
        ("https://*example.com", "a '*' stands for"),
        ("https://*.*.example.com", "a '*' stands for"),
        ("https://*.example.com/", "a '*' stands for"),
        ("https://*.example.com:80*", "a '*' stands for"),
        ("https://*.com", "'https://*.example.com'"),
        ("https://*.xn--p1ai", "everybody under .xn--p1ai"),
        ("https://*.example.com.", "the name of a domain"),
        ("https://*..com", "the name of a domain"),
        ("https://*.0.0.1", "the name of a domain"),
        ("https://*.[::1]", "the name of a domain"),
        ("https://*.example.com:443", "did you mean 'https://*.example.com'?"),
        ("http://*.example.com:99999", "matches no origin"),
        ("https://example.com:99999", "is not an origin"),
    ],
)
def test_a_pattern_that_matches_nothing_or_too_much_is_refused(pattern: str, said: str):
    with pytest.raises(InvalidOption) as caught:
        check_origins([pattern])
    assert said in str(caught.value)
    assert caught.value.option == "origins"


def test_no_password_is_shown_of_a_pattern():
    with pytest.raises(InvalidOption) as caught:
        check_origins(["https://user:secret@*.example.com"])
    assert "secret" not in str(caught.value)


# Functions


def test_a_function_decides_and_is_given_the_origin_in_lower_case_or_none():
    seen = []

    def allowed(origin: str | None) -> bool:
        seen.append(origin)
        return origin is None or origin.startswith("https://preview-")

    assert lets_in(allowed, "HTTPS://Preview-1.example.net")
    assert lets_in(allowed, None)
    assert not lets_in(allowed, "https://other.example")
    assert not lets_in(allowed, "null")
    assert seen == ["https://preview-1.example.net", None, "https://other.example", "null"]


@pytest.mark.parametrize(
    "origin",
    ["", "https://a, https://b", "https://a/.good.example", "https://a@b", "ä", "https://a:0"],
)
def test_what_can_be_no_origin_is_shown_to_no_function(origin: str):
    def allowed(_: str | None) -> bool:
        raise AssertionError

    assert not lets_in(allowed, origin)


def test_what_is_true_or_false_counts_as_such():
    assert lets_in(lambda origin: re.search("a", origin or ""), "https://a")
    assert not lets_in(lambda origin: re.search("a", origin or ""), "https://b")


def test_a_list_may_mix_values_patterns_functions_and_none():
    origins = ["https://a.example", SUBDOMAINS, lambda origin: origin == "https://f", None]
    for origin in ("https://a.example", "https://x.example.com", "https://f", None):
        assert lets_in(origins, origin)
    assert not lets_in(origins, "https://evil.example")


def test_pages_of_files_may_be_let_in_by_name():
    assert lets_in(["file://"], "file://")
    assert not lets_in(["null"], "file://")
    assert not lets_in("same", "file://", host="")


async def coroutine(_: str | None) -> bool:
    return True


class Asynchronous:
    async def __call__(self, _: str | None) -> bool:
        return True


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (coroutine, "is not awaited"),
        (functools.partial(coroutine), "is not awaited"),
        (Asynchronous(), "is not awaited"),
        (lambda: True, "one argument"),
        (lambda a, b: True, "one argument"),
    ],
)
def test_a_function_that_cannot_be_asked_is_refused(function: Any, said: str):
    for origins in (function, [function]):
        with pytest.raises(InvalidOptionType, match=said) as caught:
            check_origins(origins)
        assert caught.value.option == "origins"


@pytest.mark.parametrize("origins", [re.compile("a"), [re.compile("a")], [1], {1: 2}, 5])
def test_what_is_of_another_type_is_refused(origins: Any):
    with pytest.raises(InvalidOptionType):
        check_origins(origins)


def fails(_: str | None) -> bool:
    raise ValueError("the secret of the database")


@pytest.mark.parametrize("function", [fails, lambda _: coroutine(None)])
def test_a_function_that_fails_lets_nobody_in(function: Any):
    request = Request([("Host", "h"), ("Origin", "https://a.example")])
    with pytest.raises(HandshakeError) as caught:
        check_origin(request, check_origins([function]))
    response = caught.value.response
    assert response is not None
    assert response.code == 500
    assert b"secret" not in response.body
    assert isinstance(caught.value.__cause__, (ValueError, TypeError))
