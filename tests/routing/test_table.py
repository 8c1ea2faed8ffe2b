"""The table of routes: which one a path belongs to, and that what is built from values matches."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.routing import BaseConverter, ValidationError

from coro_websocket import HandshakeError, InvalidOption, InvalidOptionType
from coro_websocket._routing.converters import check_converters
from coro_websocket._routing.paths import MAX_PATH
from coro_websocket._routing.patterns import parse_pattern
from coro_websocket._routing.table import Missing, Route, Table

UUID = "12345678-1234-5678-1234-567812345678"


async def handler(*_: Any, **__: Any) -> None:
    pass


def table(*patterns: str, converters: Any = None) -> Table:
    made = Table(check_converters(converters or {}))
    for pattern in patterns:
        add(made, pattern)
    return made


def add(to: Table, pattern: str, *methods: str) -> Route:
    kind = frozenset(methods) if methods else None
    route = Route(pattern, pattern, handler, kind, True, parse_pattern(pattern), ())
    to.add(route)
    return route


def match(of: Table, pathname: str, method: str = "GET", *, websocket: bool = True) -> Any:
    """The pattern and the values; None if there is none."""
    try:
        route, values = of.match(pathname, method, websocket=websocket)
    except Missing:
        return None
    return route.pattern, values


@pytest.mark.parametrize(
    ("pattern", "pathname", "values"),
    [
        ("/", "/", {}),
        ("/", "/?a=b", {}),
        ("/chat", "/chat", {}),
        ("/chat", "/chat/", {}),
        ("/chat/", "/chat", {}),
        ("/chat/", "/chat/", {}),
        ("/Grüße", "/Gr%C3%BC%c3%9Fe", {}),
        ("/a b", "/a%20b", {}),
        ("/50%", "/50%25", {}),
        ("/50%", "/50%", {}),
        ("/a.b", "/a.b", {}),
        ("/(a|b)*", "/(a|b)*", {}),
        ("/chat/{room}", "/chat/lobby?token=x/y", {"room": "lobby"}),
        ("/chat/{room}", "/chat/caf%C3%A9", {"room": "café"}),
        ("/chat/{room}", "/chat/a%2Fb", {"room": "a/b"}),
        ("/chat/{room}", "/chat/%252F", {"room": "%2F"}),
        ("/chat/{room}", "/chat/%3Cint:x%3E", {"room": "<int:x>"}),
        ("/chat/{room}/", "/chat/a", {"room": "a"}),
        ("/{a}-{b}", "/1-2-3", {"a": "1-2", "b": "3"}),
        ("/{a}.{b}x", "/p.qx", {"a": "p", "b": "q"}),
        ("/n/{n:int}", "/n/007", {"n": 7}),
        ("/n/{n:int(min=-5, signed=True)}", "/n/-5", {"n": -5}),
        ("/f/{x:float}", "/f/1.50", {"x": 1.5}),
        ("/u/{id:uuid}", f"/u/{UUID}", {"id": uuid.UUID(UUID)}),
        ("/k/{kind:any(rooms, 'a/b')}", "/k/rooms", {"kind": "rooms"}),
        ("/k/{kind:any(1, 2)}", "/k/2", {"kind": "2"}),
        ("/k/{kind:any(rooms, 'a/b', 'é')}", "/k/a%2Fb", {"kind": "a/b"}),
        ("/l/{lang:string(length=2)}", "/l/%C3%A9%2F", {"lang": "é/"}),
        ("/files/{path:path}", "/files/a/b%20c/d%2Fe", {"path": "a/b c/d/e"}),
        ("/files/{path:path}", "/files/a/", {"path": "a"}),
        ("/files/{path:path}/raw", "/files/a/b/raw", {"path": "a/b"}),
    ],
)
def test_a_pattern_matches(pattern: str, pathname: str, values: dict[str, Any]):
    assert match(table(pattern), pathname) == (pattern, values)


@pytest.mark.parametrize(
    ("pattern", "pathname"),
    [
        ("/", "/a"),
        ("/", "//"),
        ("/", "*"),
        ("/chat", "/Chat"),
        ("/chat", "/chats"),
        ("/chat", "/chat//"),
        ("/chat", "//chat"),
        ("/chat", "/chat/x"),
        ("/chat", "chat"),
        ("/chat", "/chat%2F"),
        ("/a/b", "/a%2Fb"),
        ("/a.b", "/aXb"),
        ("/chat/{room}", "/chat"),
        ("/chat/{room}", "/chat/"),
        ("/chat/{room}", "/chat/a/b"),
        ("/chat/{room}", "/chat/.."),
        ("/chat/{room}", "/chat/%2e%2e%2fadmin"),
        ("/{room}", "*"),
        ("/n/{n:int}", "/n/-1"),
        ("/n/{n:int}", "/n/%D9%A3"),
        ("/n/{n:int(max=5)}", "/n/6"),
        ("/f/{x:float}", "/f/1"),
        ("/u/{id:uuid}", "/u/1234"),
        ("/k/{kind:any(a, b)}", "/k/c"),
        ("/l/{lang:string(length=2)}", "/l/abc"),
        ("/files/{path:path}", "/files/"),
        ("/files/{path:path}", "/files//etc/passwd"),
        ("/files/{path:path}", "/files/a/../../etc"),
        ("/{a}-{b}", "/" + "-" * 129),
    ],
)
def test_a_pattern_does_not_match(pattern: str, pathname: str):
    assert match(table(pattern), pathname) is None


def test_text_goes_before_parameters_and_narrow_ones_before_wide_ones_whatever_came_first():
    made = table("/{any:path}", "/{name}", "/{n:int}", "/about")
    assert match(made, "/about") == ("/about", {})
    assert match(made, "/5") == ("/{n:int}", {"n": 5})
    assert match(made, "/x") == ("/{name}", {"name": "x"})
    assert match(made, "/x/y") == ("/{any:path}", {"any": "x/y"})


def test_websockets_and_plain_http_are_apart_at_one_path():
    made = Table({})
    add(made, "/both")
    add(made, "/both", "GET", "HEAD")
    add(made, "/page", "GET", "HEAD")
    add(made, "/socket")
    assert match(made, "/both") is not None
    assert match(made, "/both", "HEAD", websocket=False) is not None
    for path, websocket in (("/page", True), ("/socket", False)):
        with pytest.raises(Missing) as caught:
            made.match(path, "GET", websocket=websocket)
        assert caught.value.other_kind
    with pytest.raises(Missing) as caught:
        made.match("/page", "POST", websocket=False)
    assert caught.value.methods == ("GET", "HEAD")


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a"), ("/a", "/a/"), ("/{x}", "/{y:string}"), ("/{x:int(min=1)}", "/{y:int(min=1)}")],
)
def test_two_patterns_that_match_the_same_are_refused(first: str, second: str):
    made = table(first)
    with pytest.raises(InvalidOption, match="matches what"):
        add(made, second)
    add(made, second, "GET")
    add(made, first, "POST")
    with pytest.raises(InvalidOption, match="matches what"):
        add(made, first, "PUT", "GET")
    assert len(made.routes) == 3


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/{a:number}", "the converter 'number' does not exist"),
        ("/{a:int(length=2)}", "length"),
        ("/{a:string(length=x)}", "is no pattern"),
    ],
)
def test_a_converter_that_there_is_not_is_refused_when_the_route_is_added(pattern: str, said: str):
    with pytest.raises(InvalidOption, match=said) as caught:
        table(pattern)
    assert caught.value.option == "routes"


# Converters of one's own


class Even(BaseConverter):
    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        if int(value) % 2:
            raise ValidationError
        return int(value)


class Words(BaseConverter):
    def to_python(self, value: str) -> list[str]:
        return value.split("+")

    def to_url(self, value: list[str]) -> str:
        return "+".join(super(Words, self).to_url(each) for each in value)


def test_a_converter_of_ones_own():
    made = table("/{n:even}", "/w/{words:words}", converters={"even": Even, "words": Words})
    assert match(made, "/4") == ("/{n:even}", {"n": 4})
    assert match(made, "/5") is None
    route = made.routes[1]
    path = made.path_of(route, {"words": ["a/b", "é"]})
    assert path == "/w/a%2Fb+%C3%A9"
    assert match(made, path) == ("/w/{words:words}", {"words": ["a/b", "é"]})


class Broken(BaseConverter):
    regex = "("


@pytest.mark.parametrize(
    ("converters", "kind"),
    [
        ({"a": Broken}, InvalidOption),
        ({"a": int}, InvalidOptionType),
        ({"a b": Even}, InvalidOptionType),
        ({5: Even}, InvalidOptionType),
    ],
)
def test_what_is_no_converter_is_refused(converters: Any, kind: type[Exception]):
    with pytest.raises(kind, match="converter"):
        check_converters(converters)


# The path of a route


@pytest.mark.parametrize(
    ("pattern", "values", "path"),
    [
        ("/", {}, "/"),
        ("/Grüße/", {}, "/Gr%C3%BC%C3%9Fe/"),
        ("/50%", {}, "/50%25"),
        ("/chat/{room}", {"room": "a/b ü?#%"}, "/chat/a%2Fb%20%C3%BC%3F%23%25"),
        ("/chat/{room}/", {"room": 5}, "/chat/5/"),
        ("/n/{n:int}", {"n": "7"}, "/n/7"),
        ("/f/{x:float}", {"x": 1}, "/f/1.0"),
        ("/u/{id:uuid}", {"id": uuid.UUID(UUID)}, f"/u/{UUID}"),
        ("/k/{kind:any(a, 'b c', 'd%2F')}", {"kind": "d%2F"}, "/k/d%252F"),
        ("/files/{path:path}", {"path": "a/b c"}, "/files/a/b%20c"),
    ],
)
def test_the_path_of_a_route_is_percent_encoded(pattern: str, values: Any, path: str):
    made = table(pattern)
    assert made.path_of(made.routes[0], values) == path


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("/chat/{room}", {"room": ""}),
        ("/chat/{room}", {"room": ".."}),
        ("/chat/{room}", {"room": "a/../b"}),
        ("/chat/{room}", {"room": "\ufdd0"}),
        ("/chat/{room}", {"room": "\ud800"}),
        ("/chat/{room}", {"room": "x" * MAX_PATH}),
        ("/n/{n:int}", {"n": -1}),
        ("/n/{n:int}", {"n": "x"}),
        ("/n/{n:int}", {"n": None}),
        ("/k/{kind:any(a, b)}", {"kind": "c"}),
        ("/l/{lang:string(length=2)}", {"lang": "abc"}),
        ("/{a}-{b}", {"a": "x", "b": "y-z"}),
        ("/files/{path:path}", {"path": "/a"}),
        ("/files/{path:path}", {"path": "a/"}),
    ],
)
def test_values_that_no_path_has_are_refused_and_not_shown(pattern: str, values: Any):
    made = table(pattern)
    with pytest.raises(InvalidOption, match="no path that"):
        made.path_of(made.routes[0], values)


def test_a_path_that_belongs_to_another_route_is_refused():
    made = table("/{name}", "/about")
    with pytest.raises(InvalidOption, match="would be matched by '/about'"):
        made.path_of(made.routes[0], {"name": "about"})


@given(st.text(max_size=20), st.integers(0, 10**9), st.text(max_size=20))
def test_what_is_built_matches_with_the_same_values_or_is_refused(room: str, n: int, path: str):
    made = table("/chat/{room}/{n:int}", "/files/{path:path}")
    both: list[dict[str, Any]] = [{"room": room, "n": n}, {"path": path}]
    for route, values in zip(made.routes, both, strict=True):
        try:
            built = made.path_of(route, values)
        except InvalidOption:
            continue
        assert built.isascii()
        assert match(made, built) == (route.pattern, values)


@given(st.text(st.sampled_from("/abchat-.%2Fé{}<>+0"), max_size=30))
def test_whatever_is_asked_for_it_matches_or_is_refused(text: str):
    made = table("/chat/{room}", "/{a}-{b}", "/n/{n:int}", "/{path:path}/raw")
    try:
        found = match(made, "/" + text)
    except HandshakeError as error:
        assert error.response.code == 400
        return
    if found is not None and isinstance(found[1].get("room"), str):
        assert found[1]["room"] != ""


def test_the_time_to_match_does_not_explode():
    made = table("/{a}-{b}x", "/d/{a:int}1{b:int}1{c:int}x", "/p/{a:path}/x/y")
    for text in ("/" + "-" * 4000, "/d/" + "1" * 4000, "/d/" + "1" * 128, "/p" + "/x" * 2000):
        for _ in range(20):
            assert match(made, text) is None
