"""What every room checks arguments for."""

from __future__ import annotations

import enum

import pytest

from coro_websocket import InvalidOption, InvalidOptionType, connect, reconnect, serve
from coro_websocket._checks import check_int, is_int, wrong_type
from coro_websocket._rfc6455.close_codes import may_be_sent


class Number(enum.IntEnum):
    ONE = 1


def test_a_bool_does_not_count_as_an_int():
    assert is_int(1)
    assert is_int(Number.ONE)
    assert not is_int(True)
    assert not is_int(1.0)
    assert not is_int(None)


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (True, {}, "size must be int, not bool"),
        ("1", {"or_none": True}, "size must be int or None, not str"),
        (0, {}, "size must be 1 or more, not 0"),
        (9, {"most": 8}, "size must be from 1 to 8, not 9"),
        (0, {"or_none": True}, "size must be 1 or more, or None, not 0"),
        (9, {"most": 8, "span": "a digit below 9"}, "size must be a digit below 9, not 9"),
    ],
)
def test_an_error_says_what_an_int_must_be_and_what_came(value, limits, message):
    with pytest.raises(InvalidOption) as caught:
        check_int("size", value, 1, **limits)
    assert str(caught.value) == message
    assert caught.value.option == "size"
    assert isinstance(caught.value, InvalidOptionType) == (not is_int(value))


def test_an_error_does_not_write_out_a_very_large_int():
    with pytest.raises(InvalidOption, match="must be from 0 to 9, not a number of 19932 bits"):
        check_int("size", 10**6000, 0, 9)


def test_an_error_can_name_an_option_by_other_words():
    with pytest.raises(InvalidOption) as caught:
        check_int("the level of Deflate", 10, 0, 9, option="compression")
    assert caught.value.option == "compression"
    assert wrong_type("the level", "int", "9", "compression").option == "compression"


def test_the_error_of_a_type_does_not_show_the_value():
    assert "secret" not in str(wrong_type("password", "str", b"secret"))


def test_a_bool_does_not_count_as_a_close_code():
    assert may_be_sent(1000)
    assert not may_be_sent(True)
    assert not may_be_sent(1000.0)


async def test_a_port_is_checked_alike_everywhere():
    async def handler(req, read, write): ...

    for call in (
        lambda: connect(host="127.0.0.1", port=True),
        lambda: serve(handler, port=True),
        lambda: reconnect(host="127.0.0.1", port=True),
    ):
        with pytest.raises(InvalidOptionType, match=r"^port must be int, not bool$"):
            call()
    with pytest.raises(InvalidOption, match=r"^port must be from 0 to 65535, not 65536$"):
        serve(handler, port=65536)
