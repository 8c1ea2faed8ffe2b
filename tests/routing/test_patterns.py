"""Patterns of paths: how they are read, and what is none."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket import InvalidOption
from coro_websocket._routing.patterns import join_patterns, parse_pattern


@pytest.mark.parametrize(
    ("text", "rule", "parameters"),
    [
        ("/", "/", ()),
        ("/chat", "/chat", ()),
        ("/chat/", "/chat", ()),
        ("/{room}", "/<string:room>", ("room",)),
        ("/chat/{room}", "/chat/<string:room>", ("room",)),
        ("/{a}/{b:int}/", "/<string:a>/<int:b>", ("a", "b")),
        ("/v{major:int}.{minor:int}", "/v<int:major>.<int:minor>", ("major", "minor")),
        ("/files/{path:path}", "/files/<path:path>", ("path",)),
        ("/Grüße/{_n1}", "/Grüße/<string:_n1>", ("_n1",)),
        ("/50%/a b", "/50%/a b", ()),
        ("/{a}..", "/<string:a>..", ("a",)),
    ],
)
def test_braces_become_a_rule_of_werkzeug(text: str, rule: str, parameters: tuple[str, ...]):
    pattern = parse_pattern(text)
    assert (pattern.text, pattern.rule, tuple(pattern.parameters)) == (text, rule, parameters)


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("min=-5, max=5", ((), (("min", -5), ("max", 5)))),
        ("signed=True", ((), (("signed", True),))),
        ("a, b, 'c/(d)', \"e,f\"", (("a", "b", "c/(d)", "e,f"), ())),
        ("", ((), ())),
    ],
)
def test_the_arguments_of_a_converter_are_literals_or_words(arguments: str, read: Any):
    assert parse_pattern(f"/{{n:int({arguments})}}").parameters["n"].arguments == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "start with '/'"),
        ("chat", "start with '/'"),
        ("{room}", "start with '/'"),
        ("/a//b", "an empty segment"),
        ("//", "an empty segment"),
        ("/{a}{b}", "between two parameters"),
        ("/{a}/{a}", "'a' comes twice"),
        ("/{a", "the brace at position 1"),
        ("/a}", "the brace at position 2"),
        ("/{{a}}", "the brace at position"),
        ("/{}", "in braces, not ''"),
        ("/{1a}", "in braces, not '1a'"),
        ("/{a b}", "in braces"),
        ("/{ä}", "in braces"),
        ("/{int:}", "in braces"),
        ("/{a:int(}", "in braces"),
        ("/{a:int(x}", "in braces"),
        ("/{class}", "'class' cannot be the name"),
        ("/{a:int(1+1)}", "expected literals"),
        ("/{a:any(user-page)}", "expected literals"),
        ("/{a:int(min=f())}", "expected literals"),
        ("/{a:int())(}", "in braces"),
        ("/{a:int()(1)}", "expected literals"),
        ("/{a:int(1) + f(2)}", "expected literals"),
        ("/{a:int(**x)}", "expected literals"),
        ("/<a>", "written in braces"),
        ("/<int:a>", "written in braces"),
        ("/a?b=c", "neither query nor fragment"),
        ("/a#b", "neither query nor fragment"),
        ("/a%20b", "not percent-encoded"),
        ("/a/../b", "a segment '.' or '..'"),
        ("/.", "a segment '.' or '..'"),
        ("/a\nb", "not printable"),
        ("/a\0b", "not printable"),
        ("/\ufdd0", "not printable"),
        ("/{a}-{b}-{c}", "more than 2 parameters of any text"),
        ("/{a:path}/{b}", "after a path"),
        ("/{a}-{b:path}", "a segment of its own"),
        ("/{a:any([1])}", "expected literals"),
    ],
)
def test_what_is_no_pattern_is_refused_and_says_why(text: str, said: str):
    with pytest.raises(InvalidOption, match="is no pattern of a path") as caught:
        parse_pattern(text)
    assert said in str(caught.value)
    assert caught.value.option == "routes"


@pytest.mark.parametrize("text", [None, 5, b"/chat"])
def test_a_pattern_is_str(text: Any):
    with pytest.raises(InvalidOption, match="must be str"):
        parse_pattern(text)


def test_numbers_and_segments_of_their_own_are_not_limited():
    parse_pattern("/{a:int}.{b:int}.{c:int}.{d:int}")
    parse_pattern("/{a}/{b}/{c}/{d}/{e}-{f}/{g:path}")


def test_what_matches_the_same_has_the_same_shape():
    same = [parse_pattern(each).shape for each in ("/a/{b}", "/a/{c:string}", "/a/{d}/")]
    assert len(set(same)) == 1
    assert parse_pattern("/a/{b:int}").shape != same[0]
    assert parse_pattern("/a/{b:string(length=2)}").shape != same[0]


def test_a_prefix_is_joined_without_an_empty_segment():
    assert join_patterns("/api", "/chat") == "/api/chat"
    assert join_patterns("/api/", "/chat") == "/api/chat"
    assert join_patterns("/", "/chat") == "/chat"
    assert join_patterns("/api", "/") == "/api/"


@given(st.text(st.sampled_from("/{}<>:()ab1,='\"%.?#\\ é\n"), max_size=30))
def test_whatever_is_given_is_a_rule_without_surprises_or_an_invalid_option(text: str):
    try:
        pattern = parse_pattern("/" + text)
    except InvalidOption:
        return
    assert re.findall(r"<\w+:(\w+)>", pattern.rule) == list(pattern.parameters)
    assert re.sub(r"<\w+:\w+>", "", pattern.rule).isprintable()
    assert pattern.rule.count("<") == pattern.rule.count(">") == len(pattern.parameters)
    assert "//" not in pattern.rule
    assert parse_pattern(pattern.text) == pattern
