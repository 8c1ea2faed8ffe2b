"""The path of a request as text to match: decoded segment by segment, never into another path."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket import HandshakeError
from coro_websocket._routing.paths import ENCODED_SLASH, MAX_PATH, decode_path


@pytest.mark.parametrize(
    ("pathname", "path"),
    [
        ("/", "/"),
        ("/?token=/x", "/"),
        ("/a?b/..", "/a"),
        ("/a/", "/a"),
        ("/a//", "/a/"),
        ("/a//b", "/a//b"),
        ("/%41", "/A"),
        ("/%c3%A9", "/é"),
        ("/a%2Fb", f"/a{ENCODED_SLASH}b"),
        ("/a%3Fb%23", "/a?b#"),
        ("/a+b", "/a+b"),
        ("/a;v=1", "/a;v=1"),
        ("/50%", "/50%"),
        ("/%zz", "/%zz"),
        ("/%252e%252e", "/%2e%2e"),
        ("/...", "/..."),
        ("/.hidden", "/.hidden"),
        ("/A", "/A"),
    ],
)
def test_a_path_is_decoded_once_without_its_query(pathname: str, path: str):
    assert decode_path(pathname) == path


@pytest.mark.parametrize(
    "pathname",
    [
        "/.",
        "/..",
        "/../a",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e%2E/a",
        "/.%2e",
        "/a%2F..%2Fb",
        "/..%5Ca",
        "/a\\..\\b",
        "//a",
        "//",
        f"/{quote(ENCODED_SLASH)}",
        f"/{ENCODED_SLASH}",
    ],
)
def test_what_could_be_read_in_two_ways_matches_nothing(pathname: str):
    assert decode_path(pathname) is None


@pytest.mark.parametrize("pathname", ["/%FF", "/a/%C3", "/%C0%AF", "/%ED%A0%80"])
def test_what_is_not_utf_8_is_refused_with_400(pathname: str):
    with pytest.raises(HandshakeError, match="UTF-8") as caught:
        decode_path(pathname)
    assert caught.value.response is not None
    assert caught.value.response.code == 400


def test_a_path_that_is_too_long_is_refused_with_414_and_its_query_does_not_count():
    assert decode_path("/" + "a" * (MAX_PATH - 1) + "?" + "b" * MAX_PATH) is not None
    with pytest.raises(HandshakeError, match="at most 4096 bytes") as caught:
        decode_path("/" + "a" * MAX_PATH)
    assert caught.value.response is not None
    assert caught.value.response.code == 414


@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=4))
def test_segments_stay_apart_whatever_is_in_them(segments: list[str]):
    try:
        pathname = "/" + "/".join(quote(each, safe="") for each in segments)
    except UnicodeEncodeError:
        return  # half of a surrogate pair
    path = decode_path(pathname)
    if path is not None:
        read = [each.replace(ENCODED_SLASH, "/") for each in path.split("/")[1:]]
        assert read == segments


@given(st.text(st.sampled_from("/.%25eE\\cf2Fabé?"), max_size=20))
def test_no_path_that_may_match_has_a_dot_segment(text: str):
    try:
        path = decode_path("/" + text)
    except HandshakeError:
        return
    if path is not None:
        for segment in path.replace(ENCODED_SLASH, "/").replace("\\", "/").split("/"):
            assert segment not in (".", "..")
