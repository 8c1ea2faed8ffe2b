"""The `Sec-WebSocket-Extensions` header, read and written. RFC 6455 section 9.1."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coro_websocket import InvalidOption
from coro_websocket._http import extension_header
from coro_websocket._http.extension_header import format_extensions, parse_extensions

TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

tokens = st.text(TCHAR, min_size=1, max_size=8)
extensions = st.lists(
    st.tuples(
        tokens, st.lists(st.tuples(tokens, st.none() | tokens), max_size=3).map(tuple)
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        ([""], ()),
        (["foo"], (("foo", ()),)),
        (["foo; bar; baz=2"], (("foo", (("bar", None), ("baz", "2"))),)),
        (["foo, bar; baz=2"], (("foo", ()), ("bar", (("baz", "2"),)))),
        (["deflate-stream"], (("deflate-stream", ()),)),
        # One list in several headers is the same as one in one.
        (["foo", "bar; baz=2"], (("foo", ()), ("bar", (("baz", "2"),)))),
        # Whitespace is allowed around everything (RFC 9110 section 5.6.1), elements may be empty.
        (["\t foo ;\tbar = 2 , baz "], (("foo", (("bar", "2"),)), ("baz", ()))),
        ([" , ,foo,, bar ,"], (("foo", ()), ("bar", ()))),
        # A quoted value is what stands between the quotes, with what is escaped unescaped.
        (['foo; bar="2"'], (("foo", (("bar", "2"),)),)),
        (['foo; bar="a\\b\\c"'], (("foo", (("bar", "abc"),)),)),
        # Names are kept as they are, and so are duplicates: they are for the extension to judge.
        (["foo; a; a=1; A"], (("foo", (("a", None), ("a", "1"), ("A", None))),)),
        (["foo, foo; a"], (("foo", ()), ("foo", (("a", None),)))),
    ],
)
def test_a_list_of_extensions_is_read_in_order(values, expected):
    assert parse_extensions(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "foo;",
        "foo; ",
        "foo; a=",
        "foo; a=;",
        "foo; a=, bar",
        "foo;; a",
        "foo; , bar",
        "foo; =1",
        "=foo",
        ";foo",
        "foo=1",
        "foo bar",
        "foo; a b",
        "foo; a=1 2",
        "foo; a=1=2",
        "foo; a==1",
        '"foo"',
        'foo; "a"',
        'foo; "a"=1',
        'foo; a="1"2',
        # A value, once unquoted, must still be a token.
        'foo; a=""',
        'foo; a="1 2"',
        'foo; a="1,2"',
        'foo; a="\\""',
        # Quotes that never close.
        'foo; a="1',
        'foo; a="1\\"',
        'foo; a="',
        "foo/bar",
        "foo; a=b/c",
        "föö",
        "foo\x00",
        "foo; a=\x7f",
        "(comment)",
    ],
)  # fmt: skip
def test_what_is_no_list_of_extensions_is_refused(value):
    with pytest.raises(ValueError, match=r"unexpected|missing|not a token"):
        parse_extensions([value])


@pytest.mark.parametrize("value", ["", " ", "foo", "foo; a", "foo; a=1", 'foo; a="1"', "foo,"])
def test_a_line_end_behind_a_list_is_refused(value):
    with pytest.raises(ValueError, match="unexpected"):
        parse_extensions([value + "\n"])


def test_a_fault_is_shown_clipped_and_escaped():
    with pytest.raises(ValueError) as caught:
        parse_extensions(["foo; a=" + "\x01" * 10_000])
    assert "\x01" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(extensions)
def test_what_is_written_is_read_as_the_same(given_extensions):
    written = format_extensions(given_extensions)
    assert parse_extensions([written]) == tuple(given_extensions)


@given(st.text(st.sampled_from('abz09;,= \t"\\/\x00é'), max_size=40))
@example('a;b="c\\"')
def test_any_value_is_read_or_refused_and_what_is_read_is_made_of_tokens(value):
    try:
        found = parse_extensions([value])
    except ValueError:
        return
    assert parse_extensions([format_extensions(found)]) == found


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "," * n,
        lambda n: " " * n + "\x00",
        lambda n: "a" * n,
        lambda n: "a, " * n,
        lambda n: "a; b=c; " * n + "d",
        lambda n: "a" + "; b" * n,
        lambda n: 'a; b="' + "c" * n,
        lambda n: 'a; b="' + "\\c" * n + '"',
        lambda n: 'a; b="' + "\\" * (2 * n),
        lambda n: 'a; b="c"' * n,
        lambda n: "a; b=" + '"c" ' * n,
        lambda n: "a " * n,
    ],
)
def test_reading_takes_linear_time_whatever_is_sent(make):
    def seconds(n: int) -> float:
        value = make(n)
        best = 10.0
        for _ in range(3):
            start = time.process_time()
            try:
                parse_extensions([value])
            except ValueError:
                pass
            best = min(best, time.process_time() - start)
        return best

    # 16 times as much; a quadratic parser would take 256 times as long.
    assert seconds(32_000) < 64 * seconds(2_000) + 0.05


# Writing


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("", ()),
        ("a b", ()),
        ("a, b", ()),
        ("a\r\nX: y", ()),
        ("a", (("b; c", None),)),
        ("a", (("", None),)),
        ("a", (("b", ""),)),
        ("a", (("b", "1, c"),)),
        ("a", (("b", '"1"'),)),
        ("a", (("b", "1\r\nX: y"),)),
        ("a", (("b", "1\n"),)),
        ("a", (("b", "1\x00"),)),
        ("a", (("b", "é"),)),
        ("a", "b"),
        ("a", None),
        ("a", {"b": "c"}),
        ("a", ("bc",)),
        ("a", (("b",),)),
        ("a", (("b", "c", "d"),)),
        ("a", (("b", 10),)),
        ("a", ((None, "c"),)),
        ("a", ((b"b", b"c"),)),
    ],
)
def test_what_is_not_made_of_tokens_is_not_written(name, parameters):
    with pytest.raises(InvalidOption) as caught:
        format_extensions([("ok", ()), (name, parameters)])
    assert caught.value.option == "extensions"
    assert "\n" not in str(caught.value)


def test_parameters_are_written_in_order_without_quotes():
    written = format_extensions([("a", (("b", "1"), ("c", None))), ("d", [("e", "2")])])  # type: ignore[list-item]
    assert written == "a; b=1; c, d; e=2"


def test_only_a_few_short_headers_are_kept_once_parsed():
    for value in ("a", "b; c=d", "a" * 200):
        for _ in range(2):
            assert parse_extensions([value])[0][0] == value.partition(";")[0]
    kept = extension_header._parse_usual.cache_info()
    assert 2 <= kept.currsize <= kept.maxsize <= 64
    before = kept.misses
    parse_extensions(["a" * 200])
    assert extension_header._parse_usual.cache_info().misses == before
