"""Options: what each may be, how they are put together, and that no secrets are shown."""

from __future__ import annotations

import dataclasses
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._errors import InvalidOption, InvalidOptionType, InvalidURL, WebSocketError
from coro_websocket._options.options import Options, OptionValues
from coro_websocket._options.tls import TLSOptions
from coro_websocket._options.url import URL, parse_url

DURATIONS = ["timeout", "close_timeout", "heartbeat", "ping_interval", "ping_timeout"]
LIMITS = [
    "max_message_size",
    "max_head_size",
    "max_header_lines",
    "read_high_water",
    "write_high_water",
]


def refusal(make: Any, *args: Any, **options: Any) -> InvalidOption:
    with pytest.raises(InvalidOption) as caught:
        make(*args, **options)
    return caught.value


def build(*args: Any, **options: Any) -> Options:
    """Options.build, out of the type checker's sight."""
    return Options.build(*args, **options)


# The table of luvit's coro-websocket page.


def test_the_example_of_luvits_page() -> None:
    options = build({"host": "echo.websocket.org", "port": 443, "tls": True})
    assert options.url == build("wss://echo.websocket.org").url
    assert options.url == URL("echo.websocket.org", 443, True, "/")


def test_every_field_of_luvits_page_is_there() -> None:
    names = {field.name for field in dataclasses.fields(Options)}
    specified = "path, host, port, tls, pathname, subprotocol, headers, timeout, heartbeat, mask"
    assert names >= set(specified.split(", "))
    assert names == set(OptionValues.__annotations__)
    for name in names:
        assert f" {name}: " in (Options.__doc__ or "")


def test_the_defaults_are_safe_for_a_public_network() -> None:
    options = Options()
    assert (options.host, options.port, options.path, options.tls) == (None, None, None, False)
    assert (options.pathname, options.subprotocol, options.headers) == ("/", (), ())
    assert (options.username, options.password, options.mask) == (None, None, None)
    assert (options.timeout, options.close_timeout, options.heartbeat) == (10.0, 10.0, None)
    assert (options.ping_interval, options.ping_timeout) == (20.0, 20.0)
    assert (options.max_message_size, options.max_head_size) == (16 * 1024 * 1024, 65536)
    assert (options.max_header_lines, options.read_high_water) == (128, 262144)
    assert (options.write_high_water, options.fragments, options.control) == (65536, False, False)


# host, port, path, tls: where to.


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("Example.COM", "example.com"),
        ("bücher.de", "xn--bcher-kva.de"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0::1", "::1"),
    ],
)
def test_a_host_is_held_as_a_url_holds_it(given: str, held: str) -> None:
    options = Options(host=given)
    assert options.host == held
    assert parse_url(str(options.url)) == options.url


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "a\r\nX: y", "a\0", "\x7f", "a/b", "a@b", "a:80", "[::1]:80", "[::1"),
        *("::1%", "127.1", "a..b", "ws://h", "\ud800", "a" * 64, "ß"),
    ],
)
def test_a_host_that_is_none_is_refused(host: str) -> None:
    error = refusal(build, host=host)
    assert error.option == "host"
    assert not isinstance(error, InvalidOptionType)


def test_the_host_of_a_port_alone_is_127_0_0_1() -> None:
    options = build(port=8080)
    assert options.host == "127.0.0.1"
    assert str(options.url) == "ws://127.0.0.1:8080/"


def test_the_port_is_80_or_443_by_default_rfc_6455_section_3() -> None:
    assert build(host="h").url.port == 80
    assert build(host="h", tls=True).url.port == 443
    assert build(host="h", tls={}).url.port == 443
    assert build(host="h", port=443).url.port == 443
    assert build(build("wss://h"), tls=False).url.port == 80


@pytest.mark.parametrize("port", [0, -1, 65536, 10**40, pytest.param(10**5000, id="huge")])
def test_a_port_is_1_to_65535(port: int) -> None:
    assert refusal(build, host="h", port=port).option == "port"


@pytest.mark.parametrize("port", ["80", 80.0, True])
def test_a_port_is_an_int(port: Any) -> None:
    error = refusal(build, host="h", port=port)
    assert isinstance(error, InvalidOptionType)
    assert error.option == "port"


@pytest.mark.parametrize("path", ["/run/a.sock", b"/run/a.sock", Path("/run/a.sock")])
def test_a_unix_socket_is_connected_to_by_path(path: Any) -> None:
    options = build(path=path, pathname="/x")
    assert (options.path, options.host, options.port) == ("/run/a.sock", None, None)
    assert options.url == parse_url("ws+unix:///run/a.sock:/x")
    assert build(path=path, tls=True).url == parse_url("wss+unix:///run/a.sock")


def test_path_is_only_for_when_host_and_port_are_not_given() -> None:
    assert refusal(build, path="/s", host="h").option == "path"
    assert refusal(build, path="/s", port=80).option == "path"
    assert build(path="/s", host=None, port=None).path == "/s"


@pytest.mark.parametrize("path", ["", "a\0b", "\0", b"a\0b", "/\ud800"])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    error = refusal(build, path=path)
    assert error.option == "path"
    assert not isinstance(error, InvalidOptionType)


def test_an_abstract_socket_has_a_name_after_nul() -> None:
    assert build(path="\0name").path == "\0name"


def test_tls_is_a_bool_a_context_tls_options_or_a_mapping() -> None:
    context = ssl.create_default_context()
    assert build(host="h", tls=context).tls is context
    assert build(host="h", tls=True).tls is True
    assert build(host="h", tls=None).tls is False
    for tls in (TLSOptions(insecure=True), {"insecure": True}):
        assert build(host="h", tls=tls).tls == TLSOptions(insecure=True)


def test_tls_options_are_checked_with_the_options() -> None:
    assert refusal(build, host="h", tls={"insecure": "yes"}).option == "tls.insecure"
    error = refusal(build, host="h", tls={"cerf": "x"})
    assert "'cert'" in str(error)


@pytest.mark.parametrize("name", ["host", "path", "pathname"])
@pytest.mark.parametrize("value", [5, True, ["h"]])
def test_a_place_of_another_type_is_refused(name: str, value: Any) -> None:
    error = refusal(build, **{"port": 80, name: value})
    assert isinstance(error, InvalidOptionType)
    assert error.option == name
    assert type(value).__name__ in str(error)


# pathname, subprotocol, headers: what is asked for.


@pytest.mark.parametrize(
    ("given", "held"),
    [(None, "/"), ("", "/"), ("/", "/"), ("a/b?c", "/a/b?c"), ("?x", "/?x"), ("/ü", "/%C3%BC")],
)
def test_pathname_is_everything_after_the_host_with_a_leading_slash(given: Any, held: str) -> None:
    assert build(host="h", pathname=given).pathname == held


@pytest.mark.parametrize("pathname", ["/a b", "/a\r\nX: y", "/\0", "/\x7f", "/#a", "/\ud800"])
def test_a_pathname_that_http_cannot_carry_is_refused(pathname: str) -> None:
    assert refusal(build, host="h", pathname=pathname).option == "pathname"


@pytest.mark.parametrize(
    ("given", "held"),
    [(None, ()), ("chat", ("chat",)), (["b", "a"], ("b", "a")), ((), ()), (("x.y",), ("x.y",))],
)
def test_subprotocols_become_a_tuple_in_order(given: Any, held: tuple[str, ...]) -> None:
    assert build(host="h", subprotocol=given).subprotocol == held


@pytest.mark.parametrize("given", ["", "a b", "a,b", "a\r\nb", "é", ["a", "a"], ["a", ""]])
def test_a_subprotocol_is_a_token_that_comes_once_rfc_6455_section_4_1(given: Any) -> None:
    error = refusal(build, host="h", subprotocol=given)
    assert error.option == "subprotocol"
    assert not isinstance(error, InvalidOptionType)


@pytest.mark.parametrize("given", [b"a", 1, [1], {"a", "b"}, [None], bytearray(b"a")])
def test_a_subprotocol_of_another_type_is_refused(given: Any) -> None:
    error = refusal(build, host="h", subprotocol=given)
    assert isinstance(error, InvalidOptionType)
    assert error.option == "subprotocol"


def test_headers_are_pairs_or_a_mapping_in_order_with_duplicates() -> None:
    pairs = [("X-A", "1"), ("x-a", "2"), ("X-A", " 1 ")]
    assert build(host="h", headers=pairs).headers == (("X-A", "1"), ("x-a", "2"), ("X-A", "1"))
    assert build(host="h", headers={"X-A": "1"}).headers == (("X-A", "1"),)
    assert build(host="h", headers=iter(pairs)).headers[1] == ("x-a", "2")
    assert build(host="h", headers=None).headers == ()


@pytest.mark.parametrize("value", ["hunter2\r\nX: y", "hunter2\0", "hunter2\u20ac"])
def test_a_header_value_that_could_break_out_is_refused_and_not_shown(value: str) -> None:
    error = refusal(build, host="h", headers=[("X-Token", value)])
    assert error.option == "headers"
    assert "X-Token" in str(error)
    assert "hunter2" not in str(error)


# Credentials.


def test_credentials_come_from_the_url_or_by_name_and_the_names_win() -> None:
    options = build("ws://u:p@h/")
    assert (options.username, options.password) == ("u", "p")
    assert options.url.authorization == "Basic dTpw"
    assert build("ws://h/", username="u", password="p") == options
    assert build("ws://a:b@h/", username="u", password="p") == options
    assert build("ws://a:b@h/", username="u").url.authorization == "Basic dTo="
    assert build("ws://:p@h/").url.authorization == "Basic OnA="


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("username", {"username": "a:hunter2"}),
        ("username", {"username": "hunter2\n", "password": "p"}),
        ("password", {"username": "u", "password": "hunter2\0"}),
        ("password", {"username": "u", "password": "hunter2\ud800"}),
        ("password", {"password": "hunter2"}),
        ("password", {"username": "u", "password": b"hunter2"}),
        ("username", {"username": 1}),
    ],
)
def test_credentials_that_basic_authentication_cannot_carry_are_refused(
    name: str, given: dict[str, Any]
) -> None:
    error = refusal(build, host="h", **given)
    assert error.option == name
    assert "hunter2" not in f"{error} {error.__context__!r}"


def test_repr_shows_what_is_not_default_and_no_secrets() -> None:
    options = build(
        "wss://someone:hunter2@h/p",
        headers=[("X-Token", "hunter2"), ("Cookie", "hunter2")],
        tls={"key": "-----BEGIN PRIVATE KEY-----hunter2", "cert": "-----BEGIN hunter2"},
        timeout=5,
    )
    assert repr(options) == (
        "Options(host='h', tls=TLSOptions(cert=[PEM text], key=[hidden]), pathname='/p', "
        "headers=[('X-Token', '[hidden]'), ('Cookie', '[hidden]')], timeout=5.0)"
    )
    assert "hunter2" not in repr(options.url)
    assert repr(Options()) == "Options()"


# Durations and limits.


@pytest.mark.parametrize("name", DURATIONS)
def test_durations_are_seconds_or_timedelta_and_none_turns_them_off(name: str) -> None:
    for value in (2, 2.0, timedelta(seconds=2)):
        held = getattr(build(host="h", **{name: value}), name)
        assert held == 2.0
        assert type(held) is float
    assert getattr(build(host="h", **{name: timedelta(milliseconds=1)}), name) == 0.001
    assert getattr(build(host="h", **{name: None}), name) is None


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    "value", [0, 0.0, -1, -0.5, float("nan"), float("inf"), 10**400, timedelta(), timedelta(-1)]
)
def test_a_duration_is_above_0_and_finite(name: str, value: Any) -> None:
    error = refusal(build, host="h", **{name: value})
    assert error.option == name
    assert "None" in str(error)
    assert not isinstance(error, InvalidOptionType)


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["1", True, b"1", 1j, [1]])
def test_a_duration_of_another_type_is_refused(name: str, value: Any) -> None:
    error = refusal(build, host="h", **{name: value})
    assert isinstance(error, InvalidOptionType)
    assert error.option == name


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_1_or_more_or_none(name: str) -> None:
    for value in (1, 2**63 - 1, None):
        assert getattr(build(host="h", **{name: value}), name) == value
    for value in (0, -1, 2**63, 10**5000):
        error = refusal(build, host="h", **{name: value})
        assert error.option == name
        assert not isinstance(error, InvalidOptionType)
    for wrong in (True, 1.0, "1"):
        assert isinstance(refusal(build, host="h", **{name: wrong}), InvalidOptionType)


@pytest.mark.parametrize("name", ["fragments", "control", "mask"])
def test_flags_are_bool(name: str) -> None:
    for value in (True, False):
        assert getattr(build(host="h", **{name: value}), name) is value
    for wrong in (1, 0, "yes"):
        error = refusal(build, host="h", **{name: wrong})
        assert isinstance(error, InvalidOptionType)
        assert error.option == name
    assert build(host="h", mask=None).mask is None


# Putting them together.


def test_a_url_a_mapping_keywords_and_options_say_the_same() -> None:
    wanted = Options(host="h", port=81, pathname="/p?q", timeout=3)
    assert build("ws://h:81/p?q", timeout=3) == wanted
    assert build(parse_url("ws://h:81/p?q"), timeout=3) == wanted
    assert build({"host": "h", "port": 81, "pathname": "p?q", "timeout": 3}) == wanted
    assert build(host="h", port=81, pathname="/p?q", timeout=3) == wanted
    assert build(None, host="h", port=81, pathname="/p?q", timeout=3) == wanted
    assert build(wanted) == wanted
    assert hash(build(wanted)) == hash(wanted)
    assert dataclasses.replace(wanted, timeout=4.0) == build(wanted, timeout=4)


def test_keywords_win() -> None:
    assert build({"host": "h", "timeout": 3}, timeout=4).timeout == 4.0
    assert build({"host": "h", "headers": [("A", "1")]}, headers=None).headers == ()
    assert build(Options(host="a", timeout=3), host="b").url.host == "b"
    assert build("ws://h/a", pathname="/b").pathname == "/b"
    assert build({"host": "h", "timeout": 3}, timeout=None).timeout is None


def test_a_mapping_is_not_changed() -> None:
    mapping = {"host": "h"}
    build(mapping, timeout=1)
    assert mapping == {"host": "h"}


@pytest.mark.parametrize(
    ("url", "given", "name"),
    [
        ("ws://h/", {"host": "g"}, "host"),
        ("ws://h/", {"port": 81}, "port"),
        ("ws://h:81/", {"port": 80}, "port"),
        ("ws://h/", {"path": "/s"}, "path"),
        ("ws+unix:///s", {"host": "localhost"}, "host"),
        ("ws+unix:///s", {"port": 80}, "port"),
        ("ws+unix:///s", {"path": "/t"}, "path"),
        ("wss://h/", {"tls": False}, "tls"),
        ("wss+unix:///s", {"tls": False}, "tls"),
        ("ws://h/", {"tls": True}, "tls"),
        ("ws://h/", {"tls": {}}, "tls"),
        ("ws://h/", {"tls": TLSOptions()}, "tls"),
    ],
)
def test_a_url_cannot_be_contradicted(url: str, given: dict[str, Any], name: str) -> None:
    assert refusal(build, url, **given).option == name
    assert refusal(build, parse_url(url), **given).option == name


def test_what_a_url_says_may_be_said_again() -> None:
    assert build("ws://h/", host="H", port=80, tls=False) == build("ws://h/")
    assert build("ws://h/", host=None, port=None, path=None, tls=None) == build("ws://h/")
    assert build("ws+unix:///s", path=b"/s") == build(path="/s")
    assert build("wss://h/", tls=True) == build("wss://h/")
    assert build("wss://h/", tls={"insecure": True}).tls == TLSOptions(insecure=True)


def test_nothing_that_says_where_to_is_refused() -> None:
    for options in ({}, {"timeout": 1}, {"host": None}):
        assert refusal(build, None, **options).option == "host"
        assert refusal(build, options).option == "host"
    with pytest.raises(InvalidOption):
        assert Options().url


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timout", "'timeout'"),
        ("subprotocols", "'subprotocol'"),
        ("Host", "'host'"),
        ("url", "first argument"),
        ("ssl", "'tls'"),
        ("extra_headers", "'headers'"),
        ("max_size", "'max_message_size'"),
        ("additional_headers", "'headers'"),
        ("header", "'headers'"),
        ("cookie", "Cookie"),
        ("sslopt", "'tls'"),
        ("ssl_context", "'tls'"),
        ("certfile", "tls={'cert'"),
        ("verify_ssl", "'insecure': True"),
        ("open_timeout", "'timeout'"),
        ("receive_timeout", "asyncio.timeout()"),
        ("max_msg_size", "'max_message_size'"),
        ("max_queue", "'read_high_water'"),
        ("write_limit", "'write_high_water'"),
        ("enable_auto_ping", "'ping_interval'"),
        ("autoping", "always answered"),
        ("compress", "'compression'"),
        ("protocols", "'subprotocol'"),
        ("origins", "'origin'"),
        ("user_agent_header", "'user_agent'"),
        ("auth", "'username'"),
        ("http_proxy_host", "proxy='http://"),
        ("redirect_limit", "'max_redirects'"),
        ("create_protocol", "read and write"),
        ("on_message", "async for"),
        ("logger", "'coro_websocket.client'"),
        ("zzz", "ping_interval"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, hint: str) -> None:
    for error in (
        refusal(build, "ws://h/", **{name: 1}),
        refusal(build, {"host": "h", name: 1}),
        refusal(Options.for_wrap_io, {name: 1}),
    ):
        assert isinstance(error, InvalidOptionType)
        assert isinstance(error, TypeError)
        assert error.option == name
        assert hint in str(error)


@pytest.mark.parametrize("url", [5, b"ws://h/", ["ws://h/"], True])
def test_what_says_where_to_is_of_a_known_type(url: Any) -> None:
    error = refusal(build, url)
    assert isinstance(error, InvalidOptionType)
    assert type(url).__name__ in str(error)
    assert isinstance(refusal(Options.for_wrap_io, "ws://h/"), InvalidOptionType)
    assert isinstance(refusal(build, {1: 2}), InvalidOptionType)


def test_an_invalid_url_is_refused_as_such() -> None:
    with pytest.raises(InvalidURL):
        build("http://h/")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL("a\r\nb", 80, False, "/"), "host"),
        (URL("h", 0, False, "/"), "port"),
        (URL("h", 80, False, "/ \r\n"), "pathname"),
        (URL("h", 80, False, "/", "a:b"), "username"),
        (URL("h", 80, False, "/", path="a\0b"), "path"),
        (URL(5, 80, False, "/"), "host"),  # type: ignore[arg-type]
        (URL("h", "80", False, "/"), "port"),  # type: ignore[arg-type]
        (URL("h", 80, "no", "/"), "tls"),  # type: ignore[arg-type]
    ],
)
def test_a_url_made_by_hand_is_checked(url: URL, name: str) -> None:
    assert refusal(build, url).option == name
    assert refusal(build, url, port=81).option in (name, "port")


def test_wrap_io_needs_nowhere_to_connect_to() -> None:
    assert Options.for_wrap_io() == Options()
    options = Options.for_wrap_io({"mask": True, "heartbeat": 3}, heartbeat=4)
    assert (options.mask, options.heartbeat) == (True, 4.0)
    assert Options.for_wrap_io(options, mask=False).mask is False


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().timeout = 1.0  # type: ignore[misc]


# Properties.

ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.timedeltas()
    | st.lists(
        st.text(max_size=5) | st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3
    )
    | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
)
NAMES = st.sampled_from(sorted(OptionValues.__annotations__)) | st.text(max_size=10)


@given(ANYTHING | st.sampled_from(["ws://h/", "wss://u:p@h:1/"]), st.dictionaries(NAMES, ANYTHING))
def test_any_values_make_options_or_an_error_of_ours(url: Any, given: dict[str, Any]) -> None:
    try:
        options = build(url, **given)
    except WebSocketError:
        return
    assert build(options) == options
    assert parse_url(options.url.with_userinfo()) == options.url
    assert dataclasses.replace(options) == options
