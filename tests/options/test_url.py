"""URLs: what is read from them, what is refused, and that no credentials are shown."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coro_websocket._errors import InvalidURL, WebSocketError
from coro_websocket._options.url import (
    URL,
    check_socket_path,
    normalise_host,
    normalise_pathname,
    parse_port,
    parse_url,
)


def refusal(url: object) -> InvalidURL:
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)  # type: ignore[arg-type]
    return caught.value


def outcome(url: str) -> URL | InvalidURL:
    try:
        return parse_url(url)
    except InvalidURL as error:
        return error


# What luvit's page says of parseUrl.


def test_the_example_of_luvits_page() -> None:
    url = parse_url("ws://ex.example.org/path/name")
    assert (url.host, url.port, url.pathname, url.tls) == (
        "ex.example.org",
        80,
        "/path/name",
        False,
    )
    assert (url.username, url.password, url.path) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "port", "tls"),
    [
        ("ws://h/", 80, False),
        ("wss://h/", 443, True),
        ("ws://h:443/", 443, False),
        ("wss://h:80/", 80, True),
        ("ws://h:1/", 1, False),
        ("ws://h:65535/", 65535, False),
        ("ws://h:/", 80, False),
        ("wss://h:", 443, True),
        ("ws://h:0080/", 80, False),
        ("WS://h/", 80, False),
        ("wSs://h/", 443, True),
    ],
)
def test_ports_and_schemes_of_rfc_6455_section_3(text: str, port: int, tls: bool) -> None:
    url = parse_url(text)
    assert (url.port, url.tls) == (port, tls)


@pytest.mark.parametrize(
    ("text", "pathname"),
    [
        ("ws://h", "/"),
        ("ws://h/", "/"),
        ("ws://h?x=1", "/?x=1"),
        ("ws://h:8080?x=1/2", "/?x=1/2"),
        ("ws://h/a/b?c=d&e[]=f", "/a/b?c=d&e[]=f"),
        ("ws://h//a/../b", "//a/../b"),
        ("ws://h/?", "/?"),
        ("ws://h/é?ü=€", "/%C3%A9?%C3%BC=%E2%82%AC"),
        ("ws://h/\U0001f600", "/%F0%9F%98%80"),
        ("ws://h/%C3%A9%2f", "/%C3%A9%2f"),
        ("ws://h/100%", "/100%"),
        ("ws://h/%zz", "/%zz"),
        ('ws://h/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("ws://h/@:!$&'()*+,;=-._~", "/@:!$&'()*+,;=-._~"),
    ],
)
def test_the_pathname_is_all_from_the_first_slash_as_http_can_carry_it(
    text: str, pathname: str
) -> None:
    assert parse_url(text).pathname == pathname


# Hosts (RFC 3986 section 3.2.2).


@pytest.mark.parametrize(
    ("host", "read"),
    [
        ("EXAMPLE.Com", "example.com"),
        ("my_service", "my_service"),
        ("example.com.", "example.com."),
        ("127.0.0.1", "127.0.0.1"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("[::1]", "::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("b%C3%BCcher.de", "xn--bcher-kva.de"),
        ("bücher.DE", "xn--bcher-kva.de"),
        ("BÜCHER.de", "xn--bcher-kva.de"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("%65xample.com", "example.com"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),  # full-width digits
        ("a" * 63 + ".b", "a" * 63 + ".b"),
        (".".join(["a" * 49] * 5) + ".abc.", ".".join(["a" * 49] * 5) + ".abc."),
    ],
)
def test_a_host_is_read_in_lower_case_and_a_labels(host: str, read: str) -> None:
    assert parse_url(f"ws://{host}:81/").host == read


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "missing"),
        ("a..b", "1 to 63"),
        (".a", "1 to 63"),
        (".", "1 to 63"),
        ("a" * 64, "1 to 63"),
        ("ü" * 60, "internationalised"),
        (".".join(["a" * 50] * 5), "253"),
        ("a" * 300, "253"),
        ("a!b", "'!'"),
        ("a,b", "','"),
        ("a%2Fb", "'/'"),
        ("a%00b", "'\\x00'"),
        ("a%20b", "' '"),
        ("a%3A1", "':'"),
        ("a%zz", "hexadecimal"),
        ("%", "hexadecimal"),
        ("%FF", "internationalised"),
        ("℀.example", "'/'"),  # becomes "a/c" in normalisation
        ("a\uff1a1", "':'"),
        ("xn--ü", "internationalised"),
        ("ab\u200dc", "xn-- form"),
        ("straße.de", "xn-- form"),
        ("[::1", "closing"),
        ("[::1]x", "only ':'"),
        ("[]", "IPv6"),
        ("[1.2.3.4]", "IPv6"),
        ("[::1/64]", "missing|closing"),
        ("[::g]", "IPv6"),
        ("[[::1]]", "IPv6|only"),
        ("::1", "brackets"),
        ("2001:db8::1", "brackets"),
        ("a:b:c", "brackets"),
        ("a\\b", "'\\'"),
    ],
)
def test_a_host_that_is_none_is_refused(host: str, says: str) -> None:
    error = refusal(f"ws://{host}/")
    assert error.part == "host"
    assert any(word in str(error) for word in says.split("|"))


def test_ipvfuture_is_refused_and_named() -> None:
    assert "IPvFuture" in str(refusal("ws://[v1.fe80::a]/"))


@pytest.mark.parametrize(
    "host", ["1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3.256", "a.1", "1.2.3.4."]
)
def test_what_resolvers_would_take_for_another_ipv4_address_is_refused(host: str) -> None:
    error = refusal(f"ws://{host}/")
    assert error.part == "host"
    assert "IPv4" in str(error)


# What else is refused.


@pytest.mark.parametrize(
    "port",
    ["0", "00", "65536", "99999", "1" * 5000, "+80", "-1", "8 0", "8_0", "٣", "0x50", "http"],
)
def test_a_port_is_1_to_65535_in_ascii_digits(port: str) -> None:
    assert refusal(f"ws://h:{port}/").part == ("url" if " " in port else "port")


@pytest.mark.parametrize("text", ["ws://h/#", "ws://h/#a", "ws://h#", "ws://h?#", "ws://a#b@h/"])
def test_a_fragment_is_refused_even_if_empty_rfc_6455_section_3(text: str) -> None:
    error = refusal(text)
    assert error.part == "fragment"
    assert "section 3" in str(error)


@pytest.mark.parametrize("text", ["ws+unix:///a.sock:/#", "wss://h/a#b"])
def test_a_fragment_is_refused_in_every_scheme(text: str) -> None:
    assert refusal(text).part == "fragment"


@pytest.mark.parametrize("number", [*range(0x21), *range(0x7F, 0xA0), 0xD800, 0xDFFF])
@pytest.mark.parametrize("form", ["{}ws://h/", "w{}s://h/", "ws:/{}/h/", "ws://h{}/", "ws://h/{}"])
def test_controls_spaces_and_surrogates_are_refused_anywhere(number: int, form: str) -> None:
    error = refusal(form.format(chr(number)))
    assert error.part == "url"
    assert ascii(chr(number)) in str(error)


@pytest.mark.parametrize(
    "text", ["", "h", "//h/", "example.com/path", "ftp://h/", "localhost:80/", "wsx://h/", "ws"]
)
def test_another_scheme_or_none_is_refused(text: str) -> None:
    error = refusal(text)
    assert error.part == "scheme"
    assert "ws" in str(error)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("http://h/", "must be ws"),
        ("HTTPS://h/", "must be wss"),
        ("http+unix:///s", "must be ws+unix"),
    ],
)
def test_http_is_refused_with_the_scheme_to_use_instead(text: str, instead: str) -> None:
    error = refusal(text)
    assert error.part == "scheme"
    assert str(error).endswith(instead)


@pytest.mark.parametrize("text", ["ws:h", "ws:/h", "ws:", "wss:\\\\h/"])
def test_a_url_without_an_authority_is_refused(text: str) -> None:
    assert refusal(text).part == "url"


@pytest.mark.parametrize(
    "text", ["ws://good.example\\@evil.example/", "ws://a\\:b@h/", "ws://h\\/", "ws://h\\"]
)
def test_a_backslash_before_the_path_is_refused(text: str) -> None:
    assert refusal(text).part == "host"


@pytest.mark.parametrize("value", [None, 5, b"ws://h/", bytearray(b"ws://h/"), ["ws://h/"]])
def test_what_is_no_str_is_refused_with_its_type(value: object) -> None:
    assert type(value).__name__ in str(refusal(value))


def test_an_invalid_url_is_a_value_error_and_a_websocket_error() -> None:
    assert isinstance(refusal(""), ValueError)
    assert isinstance(refusal(""), WebSocketError)


def test_a_long_url_is_read_in_linear_time() -> None:
    begin = time.perf_counter()
    parse_url("ws://h/" + "é" * 200_000)
    for text in ("ws://" + "ü" * 1_000_000, "ws://h:" + "9" * 1_000_000, "ws://" + "@" * 1_000_000):
        refusal(text)
    assert time.perf_counter() - begin < 5


# The parts for the handshake.


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("ws://H/", "h"),
        ("ws://h:80/", "h"),
        ("wss://h:443/", "h"),
        ("ws://h:443/", "h:443"),
        ("wss://h:80/", "h:80"),
        ("ws://[::1]/", "[::1]"),
        ("ws://[::1]:8080/", "[::1]:8080"),
        ("ws://u:p@h:8080/", "h:8080"),
        ("ws+unix:///s", "localhost"),
    ],
)
def test_the_authority_is_the_value_of_the_host_header_rfc_6455_section_4_1(
    text: str, authority: str
) -> None:
    assert parse_url(text).authority == authority


# Userinfo (RFC 3986 section 3.2.1, RFC 7617).


@pytest.mark.parametrize(
    ("userinfo", "username", "password"),
    [
        ("u:p", "u", "p"),
        ("u", "u", None),
        ("u:", "u", ""),
        (":p", "", "p"),
        ("", None, None),
        (":", None, None),
        ("u:a:b", "u", "a:b"),
        ("u:p@q", "u", "p@q"),
        ("%75%40x:%3a%2F", "u@x", ":/"),
        ("é:%C3%BC", "é", "ü"),
    ],
)
def test_userinfo_is_decoded_and_kept_apart(userinfo: str, username: str, password: str) -> None:
    url = parse_url(f"ws://{userinfo}@h/")
    assert (url.host, url.username, url.password) == ("h", username, password)
    assert parse_url(url.with_userinfo()) == url


def test_the_authorization_is_basic_in_utf_8_rfc_7617_section_2_1() -> None:
    url = parse_url("ws://test:123%C2%A3@h/")
    assert url.authorization == "Basic dGVzdDoxMjPCow=="
    assert parse_url("ws://u@h/").authorization == "Basic " + base64.b64encode(b"u:").decode()
    assert parse_url("ws://h/").authorization is None


@pytest.mark.parametrize(
    "userinfo", ["u%3Av:p", "u%0A:p", "u:p%00", "u:%FF", "u:%", "u:%7f", "%g1"]
)
def test_userinfo_that_basic_authentication_cannot_carry_is_refused(userinfo: str) -> None:
    assert refusal(f"ws://{userinfo}@h/").part == "userinfo"


def test_a_url_made_by_hand_is_checked_where_its_authorization_is_asked_for() -> None:
    for url in (URL("h", 80, False, "/", "a:b", "c"), URL("h", 80, False, "/", "a", "b\r\nX: y")):
        with pytest.raises(InvalidURL):
            assert url.authorization


def test_neither_repr_nor_str_shows_userinfo() -> None:
    url = parse_url("wss://someone:hunter2@h/p")
    for shown in (repr(url), str(url), f"{url}", "%s" % url):  # noqa: UP031
        assert "hunter2" not in shown
        assert "someone" not in shown
    assert str(url) == "wss://h/p"
    assert url.with_userinfo() == "wss://someone:hunter2@h/p"


@pytest.mark.parametrize(
    "form",
    [
        "ws://{}:{}@h:port/",
        "ws://{}:{}@h:99999/",
        "ws://{}:{}@h!/",
        "ws://{}:{}@/",
        "ws://{}:{}@[::g]/",
        "ws://{}:{}@h/#",
        "ws://{}:{}#@h/",
        "ws://{}:{}@h/ ",
        "ws://{} :{}@h/",
        "ws://{}:{}/x@h/",
        "ws://{}:{}?x@h/",
        "ws://{}:99999/{}@h/",
        "ws://{}!/{}@h/",
        "ws://{}!%40{}/",
        "ws://[{}]/{}@h/",
        "ws://{}:{}\\@h/",
        "ws://{}:{}%@h/",
        "ws://{}:{}%FF@h/",
        "ws://{}%3A:{}@h/",
        "ws://{}:{}%00@h/",
        "ws:{}:{}@h/",
        "ws:/{}:{}@h/",
        "http://{}:{}@h/",
        "x://{}:{}@h/",
        "{}:{}@h/",
        "{}{}@h/",
        "ws://{}:{}%40h/",
        "ws+unix://{}:{}@h/s",
        "ws+unix://{}:{}@/s%zz",
        "ws+unix:{}:{}@h",
    ],
)
def test_no_error_shows_credentials(form: str) -> None:
    error = refusal(form.format("someone", "hunter2"))
    text = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert "hunter2" not in text
    assert "someone" not in text


# Unix sockets, in the form of the npm package ws.


@pytest.mark.parametrize(
    ("text", "path", "pathname"),
    [
        ("ws+unix:///run/a.sock:/chat?x=1", "/run/a.sock", "/chat?x=1"),
        ("ws+unix:/run/a.sock:/chat", "/run/a.sock", "/chat"),
        ("ws+unix:///run/a.sock", "/run/a.sock", "/"),
        ("ws+unix:///run/a.sock:", "/run/a.sock", "/"),
        ("ws+unix:///run/a.sock:?x", "/run/a.sock", "/?x"),
        ("ws+unix:///a%3Ab%3Fc%20d.sock:/", "/a:b?c d.sock", "/"),
        ("ws+unix:///é.sock:/", "/é.sock", "/"),
        ("ws+unix:///%FF.sock:/", "/\udcff.sock", "/"),
        ("ws+unix:relative.sock:/x", "relative.sock", "/x"),
        ("ws+unix:%00abstract:/", "\0abstract", "/"),
        ("ws+unix:////a:/b:c", "//a", "/b:c"),
    ],
)
def test_a_unix_socket_has_a_path_and_a_pathname(text: str, path: str, pathname: str) -> None:
    for scheme, port in (("ws+unix", 80), ("wss+UNIX", 443)):
        url = parse_url(text.replace("ws+unix", scheme))
        assert (url.host, url.port, url.tls) == ("localhost", port, port == 443)
        assert (url.path, url.pathname) == (path, pathname)
        assert parse_url(str(url)) == url


def test_a_unix_socket_may_have_userinfo() -> None:
    url = parse_url("ws+unix://u:p@/run/a.sock:/x")
    assert (url.username, url.password, url.path) == ("u", "p", "/run/a.sock")
    assert url.with_userinfo() == "ws+unix://u:p@/run/a.sock:/x"
    relative = URL("localhost", 80, False, "/", "u", "p", "a.sock")
    assert relative.with_userinfo() == str(relative) == "ws+unix:a.sock:/"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ws+unix:", "path"),
        ("ws+unix://", "path"),
        ("ws+unix://:/x", "host"),
        ("ws+unix://h/a.sock", "host"),
        ("ws+unix:///a.sock:x", "path"),
        ("ws+unix:///a.sock?x", "path"),
        ("ws+unix:///a:b:/x", "path"),
        ("ws+unix:///a%00b", "path"),
        ("ws+unix:%00", "path"),
        ("ws+unix:///a%zz", "path"),
    ],
)
def test_an_invalid_url_of_a_unix_socket_is_refused(text: str, part: str) -> None:
    assert refusal(text).part == part


# The rules that options share.


def test_normalise_host_takes_ipv6_with_brackets_and_without() -> None:
    assert normalise_host("[::1]") == normalise_host("0::1") == "::1"
    assert normalise_host("Example.COM") == "example.com"
    for host in ("", "a:1", "[::1]:80", "a\r\nb", "a\0", "a b", "%41", "[::1%]", "\ud800"):
        with pytest.raises(InvalidURL):
            normalise_host(host)


def test_normalise_pathname_begins_with_a_slash_and_is_stable() -> None:
    for pathname, normal in (("", "/"), ("a", "/a"), ("?x", "/?x"), ("/ü", "/%C3%BC")):
        assert normalise_pathname(pathname) == normal
        assert normalise_pathname(normal) == normal
    for pathname in ("/a b", "/\r\nX: y", "/\0", "/\x7f", "/#", "/\ud800"):
        with pytest.raises(InvalidURL) as caught:
            normalise_pathname(pathname)
        assert caught.value.part == "path"


def test_parse_port_gives_none_for_the_default() -> None:
    assert parse_port("") is None
    assert parse_port("443") == 443


def test_a_socket_path_without_utf_8_is_refused() -> None:
    with pytest.raises(InvalidURL):
        check_socket_path("/\ud800")


# Properties.

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
PIECES = st.lists(
    st.sampled_from([*":/?#@[]%\\|.aAüß。℀٣\t\n "])
    | st.sampled_from(["ws:", "wss:", "ws+unix:", "//", "%40", "%00", "%C3%BC", "xn--"])
    | st.sampled_from([":80", ":0", "::1", "[::1]", "127.0.0.1"])
    | TEXT
).map("".join)


@given(TEXT | PIECES | TEXT.map("ws://{}".format) | PIECES.map("ws://{}".format))
@example("ws://[")
@example("ws://]")
@example("ws://@")
@example("ws://:@:")
def test_any_text_is_a_url_or_an_invalid_url(text: str) -> None:
    url = outcome(text)
    if isinstance(url, InvalidURL):
        assert url.part in {"scheme", "userinfo", "host", "port", "path", "fragment", "url"}
        assert str(url).isprintable()
        return
    assert str(url).isascii()
    assert " " not in str(url)
    assert 1 <= url.port <= 65535
    assert url.pathname.startswith("/")
    assert parse_url(url.with_userinfo()) == url
    assert str(parse_url(str(url))) == str(url)


HOSTS = (
    st.from_regex(
        r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?(\.[a-z]{1,10}){0,3}\.?", fullmatch=True
    ).filter(lambda host: not host.split(".")[0].isdigit() and not host.startswith("0x"))
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
)
PATHNAMES = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=" #")).map(
    normalise_pathname
)
CREDENTIALS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=":"))


@given(
    st.builds(URL, HOSTS, st.integers(1, 65535), st.booleans(), PATHNAMES),
)
def test_a_url_is_what_its_str_says(url: URL) -> None:
    assert parse_url(str(url)) == url


@given(HOSTS, CREDENTIALS.filter(bool), CREDENTIALS)
def test_userinfo_is_what_with_userinfo_says(host: str, username: str, password: str) -> None:
    url = URL(host, 80, False, "/", username, password)
    assert parse_url(url.with_userinfo()) == url
    by_hand = f"ws://{quote(username, safe='')}:{quote(password, safe='')}@{url.authority}/"
    assert parse_url(by_hand) == url
    authorization = url.authorization
    assert authorization is not None
    assert base64.b64decode(authorization[6:]).decode() == f"{username}:{password}"


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.booleans(),
    PATHNAMES,
)
def test_a_socket_path_is_what_its_str_says(path: str, tls: bool, pathname: str) -> None:
    url = URL("localhost", 443 if tls else 80, tls, pathname, path=path)
    assert parse_url(str(url)) == url


@given(
    TEXT, st.sampled_from(["ws://{}@h{}/", "ws://{}@{}", "{}@h/{}", "ws:{}@{}", "ws://{}/{}@h/"])
)
def test_a_password_is_not_shown_wherever_the_url_is_wrong(noise: str, form: str) -> None:
    secret = "zQ9hunter2"
    url = outcome(form.format("u:" + secret, noise))
    if isinstance(url, InvalidURL):
        assert secret not in f"{url} {url.__context__!r}"
    else:
        assert secret not in repr(URL(url.host, url.port, url.tls, "/", url.username, url.password))
