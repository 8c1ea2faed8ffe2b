"""Message, and what is taken for one. RFC 6455 sections 5.2, 5.4 and 5.6."""

from __future__ import annotations

import copy
import enum
import pickle
from array import array
from collections import OrderedDict, UserString
from types import MappingProxyType

import pytest
from tests.conftest import shown

from coro_websocket import InvalidMessage, InvalidMessageType, WebSocketError
from coro_websocket._rfc6455.messages import Message, as_fragment, as_message, is_fragments

FIELDS = ("fin", "rsv1", "rsv2", "rsv3", "opcode", "mask", "len", "payload")


def fields(message: Message) -> dict[str, object]:
    return {name: getattr(message, name) for name in FIELDS}


# The value


def test_a_message_has_the_fields_of_the_specification():
    message = Message(b"abc", 9, fin=False, rsv1=True, rsv2=True, rsv3=True, mask=True)
    assert fields(message) == {
        "fin": False,
        "rsv1": True,
        "rsv2": True,
        "rsv3": True,
        "opcode": 9,
        "mask": True,
        "len": 3,
        "payload": b"abc",
    }


def test_each_flag_is_its_own_bit():
    for name in ("fin", "rsv1", "rsv2", "rsv3", "mask"):
        message = Message(b"", 0, **{"fin": False, name: True})
        set_fields = [n for n in ("fin", "rsv1", "rsv2", "rsv3", "mask") if getattr(message, n)]
        assert set_fields == [name]
        assert message.opcode == 0


def made_by_hand():
    message = Message.__new__(Message)
    message.__init__(b"abc")
    return message


@pytest.mark.parametrize(
    "make",
    [
        lambda: Message(b"abc"),
        made_by_hand,
        lambda: as_message(b"abc"),
        lambda: pickle.loads(pickle.dumps(Message(b"abc"))),
        lambda: copy.deepcopy(Message(b"abc")),
    ],
    ids=["called", "by hand", "of a value", "unpickled", "copied"],
)
def test_a_message_cannot_be_made_anew(make):
    message = make()
    found = {message: "here"}
    with pytest.raises(TypeError, match="never changes"):
        message.__init__(b"changed", 9, fin=False, mask=True)
    assert message == Message(b"abc")
    assert found[message] == "here"


def test_a_message_that_was_made_while_it_is_made_stays_so():
    message = Message.__new__(Message)

    class Flag:
        def __bool__(self):
            message.__init__(b"first")
            return True

    with pytest.raises(TypeError, match="never changes"):
        message.__init__(b"second", fin=Flag())  # type: ignore[arg-type]
    assert message == Message(b"first")


def test_a_message_that_could_not_be_made_can_be_made_later():
    message = Message.__new__(Message)
    with pytest.raises(InvalidMessage):
        message.__init__(b"", 16)
    assert fields(message)["payload"] == b""
    message.__init__(b"abc")
    assert message == Message(b"abc")


def test_an_object_that_was_never_made_is_an_empty_message():
    message = Message.__new__(Message)
    assert message.payload == b""
    assert message.len == 0
    assert repr(message)
    assert pickle.loads(pickle.dumps(message)) == message


@pytest.mark.parametrize("opcode", range(16))
def test_every_opcode_of_four_bits_can_be_said(opcode):
    assert Message(b"", opcode).opcode == opcode


def test_by_default_it_is_empty_binary_and_whole():
    assert fields(Message()) == {
        "fin": True,
        "rsv1": False,
        "rsv2": False,
        "rsv3": False,
        "opcode": 2,
        "mask": False,
        "len": 0,
        "payload": b"",
    }


def test_a_str_without_an_opcode_is_binary_as_in_the_original():
    assert Message("text").opcode == 2
    assert Message("text").payload == "text"


def test_flags_are_bool_whatever_was_given_for_them():
    message = Message(b"", 2, fin=1, rsv1="yes", rsv2=0, rsv3=[], mask=object())  # type: ignore[arg-type]
    values = [message.fin, message.rsv1, message.rsv2, message.rsv3, message.mask]
    assert values == [True, True, False, False, True]
    assert all(type(value) is bool for value in values)


def test_flags_are_given_by_name_only():
    with pytest.raises(TypeError):
        Message(b"", 2, True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("payload", "length"),
    [
        ("", 0),
        ("abc", 3),
        ("\0", 1),
        ("é", 2),
        ("€", 3),
        ("😀", 4),
        ("aé€😀", 10),
        ("\U0010ffff" * 1000, 4000),
        (b"", 0),
        (b"\xff\x00", 2),
        (bytearray(b"abc"), 3),
        (memoryview(b"abcd"), 4),
        (memoryview(b"abcd")[::2], 2),
        (memoryview(array("I", [1, 2])), 2 * array("I").itemsize),
    ],
)
def test_len_is_in_bytes_of_text_in_bytes_of_its_utf_8(payload, length):
    assert Message(payload).len == length
    assert as_message(payload).len == length


@pytest.mark.parametrize("name", [*FIELDS, "anything"])
def test_no_field_can_be_set_or_deleted(name):
    message = Message("x", 1)
    before = fields(message)
    with pytest.raises(AttributeError):
        setattr(message, name, 1)
    with pytest.raises(AttributeError):
        delattr(message, name)
    assert fields(message) == before


def test_it_cannot_be_subclassed():
    with pytest.raises(TypeError):
        type("Sub", (Message,), {})


def test_a_message_that_init_never_saw_is_harmless():
    """`__new__` alone, as some copiers and mocks call it, must not leave half a message."""
    message = Message.__new__(Message)
    assert type(message.payload) in (str, bytes)
    assert message.len == len(message.payload)
    assert repr(message)
    assert message == Message(b"", 0, fin=False)


# Comparing, hashing, pickling, showing


VARIANTS = [
    Message(),
    Message("", 2),
    Message("", 1),
    Message(b"", 1),
    Message(b"a"),
    Message(b"a", 0),
    Message(b"a", fin=False),
    Message(b"a", rsv1=True),
    Message(b"a", rsv2=True),
    Message(b"a", rsv3=True),
    Message(b"a", mask=True),
    Message("aé€😀", 1),
    Message("\0", 1),
    Message(bytes(range(256)), 2),
]


@pytest.mark.parametrize("message", VARIANTS, ids=repr)
def test_messages_are_equal_if_all_their_fields_are(message):
    again = Message(
        message.payload,
        message.opcode,
        fin=message.fin,
        rsv1=message.rsv1,
        rsv2=message.rsv2,
        rsv3=message.rsv3,
        mask=message.mask,
    )
    assert message == again
    assert not message != again
    assert hash(message) == hash(again)
    assert [other for other in VARIANTS if other == message] == [message]
    assert [other for other in VARIANTS if not other != message] == [message]


def test_a_message_equals_nothing_but_messages():
    message = Message("a", 1)
    for other in ("a", b"a", None, 1, ("a", 1), {"payload": "a", "opcode": 1}, object()):
        assert message != other
        assert not message == other
    assert message.__eq__("a") is NotImplemented
    with pytest.raises(TypeError):
        assert message < message  # type: ignore[operator]  # noqa: PLR0124


def test_messages_can_be_kept_in_sets():
    assert len({Message("a", 1), Message("a", 1), Message(b"a", 1), Message("a", 2)}) == 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_every_field(protocol):
    for message in VARIANTS:
        again = pickle.loads(pickle.dumps(message, protocol))
        assert fields(again) == fields(message)
        assert type(again.payload) is type(message.payload)


def test_copying_keeps_every_field():
    for message in VARIANTS:
        assert copy.copy(message) == message
        assert copy.deepcopy(message) == message


@pytest.mark.parametrize("payload", [None, 1, [b"x"], "\ud800"])
def test_a_forged_pickle_is_checked_like_a_message(payload):
    rebuild, (_, bits, masked) = Message("x", 1).__reduce__()
    with pytest.raises(InvalidMessage):
        rebuild(payload, bits, masked)


def test_a_forged_pickle_with_bits_out_of_range_is_refused():
    rebuild, _ = Message("x", 1).__reduce__()
    for bits in (-1, 256, 2**70):
        with pytest.raises(OverflowError):
            rebuild(b"x", bits, False)


def test_repr_shows_what_matters():
    assert repr(Message("hi", 1)) == "Message('hi', opcode=1, fin=True, len=2)"
    shown = repr(Message(b"\xff", 0, fin=False, rsv1=True, rsv3=True, mask=True))
    assert shown == "Message(b'\\xff', opcode=0, fin=False, rsv1=True, rsv3=True, mask=True, len=1)"


@pytest.mark.parametrize("payload", ["x" * 1_000_000, b"\0" * 1_000_000, "😀" * 1_000_000])
def test_repr_shortens_a_long_payload(payload):
    shown = repr(Message(payload))
    assert len(shown) < 250
    assert repr(payload[:32]) + "..." in shown
    assert f"len={Message(payload).len}" in shown


@pytest.mark.parametrize("size", [31, 32, 33])
def test_repr_says_whether_it_has_shortened(size):
    assert ("..." in repr(Message("x" * size))) is (size > 32)


def test_a_message_can_be_matched():
    match Message("hi", 1):
        case Message(str(payload), 1):
            assert payload == "hi"
        case _:
            pytest.fail("no match")
    match Message(b"hi"):
        case Message(payload, opcode=2, fin=True, len=2):
            assert payload == b"hi"
        case _:
            pytest.fail("no match")


# Payloads


@pytest.mark.parametrize(
    "payload",
    [None, 1, 1.5, True, [b"a"], (), {}, {1}, object(), array("B", [1]), UserString("a"), str],
    ids=shown,
)
@pytest.mark.parametrize(
    "make", [Message, lambda payload: as_message({"payload": payload})], ids=["Message", "mapping"]
)
def test_other_types_of_payload_are_refused(make, payload):
    with pytest.raises(InvalidMessageType, match="payload") as caught:
        make(payload)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, WebSocketError)


@pytest.mark.parametrize("opcode", ["1", b"\x01", 1.0, None, True, False, [1]], ids=repr)
def test_an_opcode_is_an_int(opcode):
    with pytest.raises(InvalidMessageType, match="opcode"):
        Message(b"", opcode)
    with pytest.raises(InvalidMessageType, match="opcode"):
        as_message({"opcode": opcode})


@pytest.mark.parametrize("opcode", [-1, 16, 256 + 1, 2**64 + 1, -(2**70)])
def test_an_opcode_has_four_bits_rfc_6455_5_2(opcode):
    with pytest.raises(InvalidMessage, match=r"5\.2"):
        Message(b"", opcode)


def test_an_opcode_of_an_enumeration_is_taken_as_its_number():
    class Opcode(enum.IntEnum):
        TEXT = 1

    assert Message("x", Opcode.TEXT) == Message("x", 1)
    assert type(Message("x", Opcode.TEXT).opcode) is int


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "é" * 100 + "\udcff" + "é", "😀\ud83d"])
@pytest.mark.parametrize(
    "make",
    [Message, as_message, lambda text: as_message({"payload": text, "opcode": 1})],
    ids=["Message", "str", "mapping"],
)
def test_text_with_a_lone_surrogate_has_no_utf_8_and_is_refused_rfc_6455_5_6(make, text):
    at = next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
    with pytest.raises(InvalidMessage, match=rf"5\.6.*character {at} .*U\+{ord(text[at]):04X}"):
        make(text)


class Text(str):
    def encode(self, *args):
        return b"not what it is"

    def __len__(self):
        return 99

    def __getitem__(self, index):
        return "not what it is"


class Binary(bytes):
    def __len__(self):
        return 99


class Array(bytearray):
    def __len__(self):
        return 99


class Cyclic(bytes):
    """Its __bytes__ gives what is no plain bytes object."""

    def __bytes__(self):
        return self


@pytest.mark.parametrize(
    ("payload", "plain"),
    [
        (Text("é"), "é"),
        (Binary(b"ab"), b"ab"),
        (Array(b"ab"), b"ab"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (Cyclic(b"ab"), b"ab"),
    ],
    ids=["str", "bytes", "bytearray", "plain bytearray", "memoryview", "bytes with __bytes__"],
)
def test_a_payload_is_plain_str_or_bytes_whatever_it_was_made_of(payload, plain):
    for message in (Message(payload), as_message(payload), as_message({"payload": payload})):
        assert type(message.payload) in (str, bytes)
        assert message.payload == plain
        assert message.len == len(plain.encode() if isinstance(plain, str) else plain)
        assert repr(plain) in repr(message)


def test_a_payload_that_is_plain_already_is_not_copied():
    for payload in ("text" * 10, b"bytes" * 10):
        assert Message(payload).payload is payload
        assert as_message(payload).payload is payload


def test_a_message_does_not_follow_the_buffer_that_it_was_made_of():
    data = bytearray(b"before")
    messages = [Message(data), Message(memoryview(data)), as_message(data)]
    data[:] = b"later."
    assert [message.payload for message in messages] == [b"before"] * 3
    data.extend(b"and it can still grow: nothing holds it")


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(b"abcdef")[4:1:-1],
        memoryview(b"abcdef").cast("B", (2, 3)),
        memoryview(array("i", [1, -1])),
        memoryview(array("d", [0.5])),
        memoryview(b"")[::2],
        memoryview(bytearray(b"abc")).toreadonly(),
    ],
    ids=["gaps", "backwards", "a part backwards", "2-D", "ints", "doubles", "empty", "read-only"],
)
def test_any_memoryview_gives_its_bytes_in_its_order(view):
    assert as_message(view).payload == view.tobytes()
    assert Message(view).len == view.nbytes


def test_a_released_memoryview_is_refused():
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        Message(view)


# What is taken for a message


def test_str_is_text_and_bytes_like_is_binary():
    assert as_message("é") == Message("é", 1)
    assert as_message("") == Message("", 1)
    for value in (b"x", bytearray(b"x"), memoryview(b"x")):
        assert as_message(value) == Message(b"x", 2)


def test_a_message_is_taken_as_it_is():
    message = Message("x", 9, fin=False)
    assert as_message(message) is message


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
def test_a_mapping_has_the_fields_of_the_specification(kind):
    every = {
        "payload": "x",
        "opcode": 1,
        "fin": False,
        "rsv1": True,
        "rsv2": True,
        "rsv3": True,
        "mask": True,
        "len": 1,
    }
    expected = Message("x", 1, fin=False, rsv1=True, rsv2=True, rsv3=True, mask=True)
    assert as_message(kind(every)) == expected
    assert as_message(kind({"opcode": 2})) == Message()
    assert as_message(kind({"payload": "x"})) == Message("x", 2)
    assert as_message(kind({"opcode": 9})) == Message(b"", 9)


def test_the_len_of_a_mapping_is_what_the_payload_has():
    assert as_message({"payload": b"abc", "len": 99}).len == 3


def test_a_message_given_as_a_mapping_of_its_fields_is_itself_again():
    for message in VARIANTS:
        assert as_message(fields(message)) == message


@pytest.mark.parametrize("name", ["Payload", "text", "data", "", 1, None, ("fin",)], ids=repr)
def test_a_field_that_no_message_has_is_named(name):
    with pytest.raises(InvalidMessageType) as caught:
        as_message({"payload": b"x", name: 1})
    assert repr(name) in str(caught.value)
    assert "rsv1" in str(caught.value)  # what there is instead


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, True, ["a"], ("a",), {"a"}, iter("a"), object(), array("B"), str]
)
def test_nothing_else_is_taken_for_a_message(value):
    with pytest.raises(InvalidMessageType, match="a message is str") as caught:
        as_message(value)
    assert type(value).__name__ in str(caught.value)


# Fragments


def test_the_first_fragment_says_the_opcode_and_the_last_one_that_it_is_the_last():
    assert as_fragment("a", 0, False, False) == Message("a", 1, fin=False)
    assert as_fragment("b", 1, True, False) == Message("b", 0, fin=False)
    assert as_fragment("c", 1, True, True) == Message("c", 0)
    assert as_fragment(b"a", 0, False, False) == Message(b"a", 2, fin=False)
    assert as_fragment(bytearray(b"b"), 2, True, False) == Message(b"b", 0, fin=False)
    assert as_fragment(memoryview(b"cxc")[::2], 2, True, True) == Message(b"cc", 0)
    assert as_fragment("only", 0, False, True) == Message("only", 1)


@pytest.mark.parametrize(("value", "opcode"), [("a", 2), (b"a", 1), (bytearray(b"a"), 1)])
def test_fragments_of_both_kinds_make_no_message_rfc_6455_5_4(value, opcode):
    with pytest.raises(InvalidMessage, match=r"5\.4"):
        as_fragment(value, opcode, True, False)


@pytest.mark.parametrize("value", [None, 1, Message("a", 1), {"payload": "a"}, ["a"]], ids=repr)
def test_a_fragment_is_str_or_bytes_like(value):
    with pytest.raises(InvalidMessageType, match="a fragment is"):
        as_fragment(value, 0, False, False)


def test_a_fragment_must_have_utf_8_too():
    with pytest.raises(InvalidMessage, match="D800"):
        as_fragment("\ud800", 1, True, False)


async def numbers():
    yield "a"


def test_iterables_are_fragments_and_messages_are_not():
    agen = numbers()
    for value in ([], ["a"], ("a",), iter("a"), (x for x in "a"), {"a"}, agen, range(3)):
        assert is_fragments(value)
    for value in ("a", b"a", bytearray(b"a"), memoryview(b"a"), Message(), {}, None, 1, numbers):
        assert not is_fragments(value)
    for value in (Text("a"), Binary(b"a"), Array(b"a"), MappingProxyType({})):
        assert not is_fragments(value)
