"""The engine sends: RFC 6455 sections 5.2 to 5.6. Close is in `test_engine_closing`."""

from __future__ import annotations

import os
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import examples
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RESERVED_OPCODES,
    TEXT,
    Frame,
    frames_of,
    observe,
    receive,
)

from coro_websocket import ConcurrencyError, InvalidMessage, InvalidMessageType
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message, as_fragment, as_message

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


def sent(engine: Engine) -> list[Frame]:
    """What an engine has to send, each frame masked as its role has it; without the keys."""
    frames = frames_of(engine.data_to_send())
    assert all((f.key is not None) is engine.client for f in frames)
    return [Frame(f.opcode, f.payload, f.fin, f.rsv) for f in frames]


def refused(engine: Engine, message: Message, section: str) -> None:
    """The message is refused, and nothing of it is sent."""
    with pytest.raises(InvalidMessage, match=rf"RFC 6455 section {section}"):
        engine.send_message(message)
    assert engine.data_to_send() == b""


# Whole messages


@both_roles
@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (Message("é", 1), Frame(TEXT, b"\xc3\xa9")),
        (Message("é"), Frame(BINARY, b"\xc3\xa9")),  # the original's default opcode
        (Message("é".encode(), 1), Frame(TEXT, b"\xc3\xa9")),
        (Message(b"\xff"), Frame(BINARY, b"\xff")),
        (Message("", 1), Frame(TEXT, b"")),
        (Message(), Frame(BINARY, b"")),
        (Message(b"x", 9), Frame(PING, b"x")),
        (Message("é", 9), Frame(PING, b"\xc3\xa9")),
        (Message("", 10), Frame(PONG, b"")),
    ],
    ids=repr,
)
def test_a_message_is_sent_as_one_frame(client, message, frame):
    engine = Engine(client)
    engine.send_message(message)
    assert sent(engine) == [frame]


@both_roles
@pytest.mark.parametrize("mask", [False, True])
def test_the_role_decides_on_the_mask_not_the_message_rfc_6455_5_1(client, mask):
    engine = Engine(client)
    engine.send_message(Message(b"x", mask=mask))
    engine.send_message(Message(b"x", 9, mask=mask))
    assert sent(engine) == [Frame(BINARY, b"x"), Frame(PING, b"x")]


@both_roles
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 65537])
def test_every_size_is_sent_as_it_is(client, size):
    payload = random.Random(size).randbytes(size)
    engine = Engine(client)
    engine.send_message(Message(payload))
    data = engine.data_to_send()
    header = 2 if size < 126 else 4 if size < 65536 else 10
    assert len(data) == header + (4 if client else 0) + size
    assert [f.payload for f in frames_of(data)] == [payload]


def test_every_frame_of_a_client_has_a_key_of_its_own_rfc_6455_10_3(monkeypatch):
    engine = Engine(True)
    for _ in range(100):
        engine.send_message(Message(b"same"))
        engine.send_ping(b"same", expected=False)
    keys = [f.key for f in frames_of(engine.data_to_send())]
    assert len(set(keys)) == len(keys) == 200
    monkeypatch.setattr(os, "urandom", lambda size: pytest.fail("a server needs no keys"))
    server = Engine(False)
    for _ in range(2000):
        server.send_message(Message(b"x"))


@both_roles
def test_bytes_to_send_are_given_out_once(client):
    engine = Engine(client)
    assert engine.data_to_send() == b""
    engine.send_message(Message(b"a"))
    engine.send_message(Message(b"b"))
    assert [f.payload for f in sent(engine)] == [b"a", b"b"]
    assert engine.data_to_send() == b""
    engine.send_message(Message(b"c" * 100_000))
    engine.send_message(Message(b"d"))
    assert [f.payload for f in sent(engine)] == [b"c" * 100_000, b"d"]
    assert type(engine.data_to_send()) is bytes


@pytest.mark.parametrize("message", [None, "text", b"bytes", {"payload": b"x"}, 5])
def test_only_a_message_is_sent(message):
    engine = Engine(True)
    for method in (engine.send_message, engine.check_message, engine.send_control):
        with pytest.raises(TypeError):
            method(message)
    assert engine.data_to_send() == b""


def test_a_message_that_init_never_saw_is_refused_or_empty():
    """`__new__` alone must not read memory that is not the message's."""
    engine = Engine(True)
    with pytest.raises(InvalidMessage):
        engine.send_message(Message.__new__(Message))
    engine.send_message(Message(b"x", fin=False))
    engine.send_message(Message.__new__(Message))
    assert sent(engine) == [Frame(BINARY, b"x", False), Frame(CONT, b"", False)]


# There and back


@settings(derandomize=True, deadline=None, max_examples=examples(150))
@given(
    st.lists(st.text(max_size=30) | st.binary(max_size=30), max_size=6),
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.booleans(),
)
def test_what_one_engine_sends_another_receives(payloads, sizes, client):
    engine = Engine(client)
    for payload in payloads:
        pieces = [payload[i : i + sizes[0]] for i in range(0, len(payload), sizes[0])] or [payload]
        for i, piece in enumerate(pieces):
            opcode = 0 if i == 0 else TEXT if isinstance(payload, str) else BINARY
            engine.send_message(as_fragment(piece, opcode, i > 0, i == len(pieces) - 1))
            engine.send_pong(bytes([i]))
        engine.send_message(as_message(payload))
        engine.send_ping(b"?")
    data = engine.data_to_send()
    expected = [(TEXT if isinstance(p, str) else BINARY, p, True) for p in payloads for _ in "12"]
    assert receive(data, client=not client).messages == expected
    other = Engine(not client)
    assert observe(other, [data[i : i + sizes[-1]] for i in range(0, len(data), sizes[-1])]) == (
        receive(data, client=not client)
    )


# Fragments (section 5.4)


@both_roles
def test_fragments_are_sent_as_their_fields_say_rfc_6455_5_4(client):
    engine = Engine(client)
    assert not engine.sending_fragments
    engine.send_message(Message("a", 1, fin=False))
    assert engine.sending_fragments
    engine.send_message(Message("b", 0, fin=False))
    engine.send_message(Message(b"c", 0, fin=False))
    assert engine.sending_fragments
    engine.send_message(Message("", 0))
    assert not engine.sending_fragments
    assert sent(engine) == [
        Frame(TEXT, b"a", False),
        Frame(CONT, b"b", False),
        Frame(CONT, b"c", False),
        Frame(CONT, b""),
    ]


@both_roles
def test_control_frames_may_be_sent_between_fragments_rfc_6455_5_4(client):
    engine = Engine(client)
    engine.send_message(Message(b"a", fin=False))
    engine.send_ping(b"?")
    engine.send_pong(b"!")
    engine.send_message(Message(b"?", 9))
    engine.send_message(Message(b"b", 0))
    assert [f.opcode for f in sent(engine)] == [BINARY, PING, PONG, PING, CONT]


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_a_new_message_must_wait_for_the_last_fragment_rfc_6455_5_4(client, opcode, fin):
    engine = Engine(client)
    engine.send_message(Message("a", 1, fin=False))
    engine.data_to_send()
    for attempt in (engine.send_message, engine.check_message):
        with pytest.raises(ConcurrencyError, match=r"5\.4"):
            attempt(Message("b", opcode, fin=fin))
    assert engine.data_to_send() == b""
    engine.send_message(Message("c", 0))
    engine.send_message(Message("d", opcode, fin=fin))
    assert [f.payload for f in sent(engine)] == [b"c", b"d"]


@both_roles
@pytest.mark.parametrize("fin", [True, False])
def test_a_continuation_needs_something_to_continue_rfc_6455_5_4(client, fin):
    engine = Engine(client)
    refused(engine, Message("a", 0, fin=fin), r"5\.4")
    engine.send_message(Message("a", 1))
    engine.data_to_send()
    refused(engine, Message("a", 0, fin=fin), r"5\.4")
    engine.send_message(Message("a", 1, fin=False))
    engine.send_message(Message("b", 0))
    engine.data_to_send()
    refused(engine, Message("c", 0, fin=fin), r"5\.4")
    assert not engine.sending_fragments


# Text is UTF-8 (section 5.6)

NO_TEXT = [b"\xff", b"a\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]
BEGUN = [b"\xc3", b"a\xe2\x82", b"\xf0\x9f\x98", b"\xed", b"\xf4\x8f"]


@both_roles
@pytest.mark.parametrize("payload", NO_TEXT + BEGUN, ids=repr)
def test_bytes_are_sent_as_text_only_if_they_are_rfc_6455_5_6(client, payload):
    engine = Engine(client)
    refused(engine, Message(payload, 1), r"5\.6")
    engine.send_message(Message(payload, 2))
    engine.data_to_send()
    engine.send_message(Message("a", 1, fin=False))
    engine.data_to_send()
    refused(engine, Message(payload, 0), r"5\.6")


@both_roles
@pytest.mark.parametrize("payload", NO_TEXT, ids=repr)
def test_a_fragment_that_no_text_can_have_is_refused_and_can_be_replaced(client, payload):
    engine = Engine(client)
    refused(engine, Message(payload, 1, fin=False), r"5\.6")
    assert not engine.sending_fragments
    engine.send_message(Message("a", 1, fin=False))
    engine.data_to_send()
    for fin in (False, True):
        refused(engine, Message(payload, 0, fin=fin), r"5\.6")
    engine.send_message(Message("é".encode(), 0))
    assert sent(engine) == [Frame(CONT, b"\xc3\xa9")]


@both_roles
def test_a_character_may_be_cut_by_the_border_of_fragments(client):
    data = "😀".encode()
    engine = Engine(client)
    engine.send_message(Message(data[:1], 1, fin=False))
    engine.send_message(Message(b"", 0, fin=False))
    engine.send_message(Message(data[1:3], 0, fin=False))
    engine.data_to_send()
    for wrong in (Message("é", 0), Message(b"a", 0), Message(b"", 0), Message("a", 0, fin=False)):
        refused(engine, wrong, r"5\.6")  # the character has not ended
    engine.send_message(Message("", 0, fin=False))
    engine.send_message(Message(data[3:], 0, fin=False))
    engine.send_message(Message("é", 0))
    assert [f.payload for f in sent(engine)] == [b"", data[3:], "é".encode()]


@both_roles
def test_the_next_text_begins_with_a_clean_slate(client):
    engine = Engine(client)
    engine.send_message(Message(b"\xe2", 1, fin=False))
    engine.send_message(Message(b"\x82\xac", 0))
    engine.send_message(Message(b"\xff", 2, fin=False))
    engine.send_message(Message(b"\xff", 0, fin=False))
    engine.send_message(Message("é", 0))
    engine.send_message(Message("é".encode(), 1))
    assert len(sent(engine)) == 6


# What is refused


@both_roles
@pytest.mark.parametrize("bits", ["rsv1", "rsv2", "rsv3"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONT, CLOSE, PING, PONG])
def test_a_reserved_bit_is_for_extensions_to_set_rfc_6455_5_2(client, bits, opcode):
    engine = Engine(client)
    if opcode == CONT:
        engine.send_message(Message(b"a", fin=False))
        engine.data_to_send()
    refused(engine, Message(b"", opcode, **{bits: True}), r"5\.2")
    assert not engine.close_sent


@both_roles
@pytest.mark.parametrize("opcode", RESERVED_OPCODES)
@pytest.mark.parametrize("begun", [False, True])
def test_a_reserved_opcode_is_not_sent_rfc_6455_5_2(client, opcode, begun):
    engine = Engine(client)
    if begun and opcode >= 8:
        engine.send_message(Message(b"a", fin=False))
        engine.data_to_send()
    refused(engine, Message(b"", opcode), r"5\.2")


@both_roles
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_is_never_a_fragment_rfc_6455_5_4(client, opcode):
    refused(Engine(client), Message(b"", opcode, fin=False), r"5\.4")


@both_roles
@pytest.mark.parametrize("payload", [b"x" * 126, "é" * 63, b"x" * 100_000])
def test_a_control_frame_has_at_most_125_bytes_rfc_6455_5_5(client, payload):
    engine = Engine(client)
    for opcode in (PING, PONG):
        refused(engine, Message(payload, opcode), r"5\.5")
    for method in (engine.send_ping, engine.send_pong):
        with pytest.raises(InvalidMessage, match=r"5\.5"):
            method(payload)
    assert engine.data_to_send() == b""
    assert engine.pop_answered() == []


@both_roles
@pytest.mark.parametrize(
    "payload", [b"x" * 125, "é" * 62, bytearray(b"x"), memoryview(b"xyz")[::2], b"", ""]
)
def test_a_ping_or_pong_takes_any_payload_of_125_bytes(client, payload):
    plain = payload.encode() if isinstance(payload, str) else bytes(payload)
    engine = Engine(client)
    engine.send_ping(payload)
    engine.send_pong(payload)
    assert sent(engine) == [Frame(PING, plain), Frame(PONG, plain)]
    other = Engine(not client)
    other.send_pong(payload)
    observe(engine, [other.data_to_send()])
    assert engine.pop_answered() == [plain]


@pytest.mark.parametrize("payload", [None, 5, ["x"]])
def test_a_ping_of_another_type_is_refused(payload):
    engine = Engine(True)
    for method in (engine.send_ping, engine.send_pong):
        with pytest.raises(InvalidMessageType):
            method(payload)


def test_a_ping_without_utf_8_is_refused():
    engine = Engine(True)
    for method in (engine.send_ping, engine.send_pong):
        with pytest.raises(InvalidMessage, match="surrogate"):
            method("\ud800")
    assert engine.data_to_send() == b""


@both_roles
def test_checking_a_message_sends_nothing_and_raises_what_sending_would(client):
    engine = Engine(client)
    engine.check_message(Message("a", 1))
    engine.check_message(Message("a", 1, fin=False))
    assert not engine.sending_fragments
    with pytest.raises(InvalidMessage):
        engine.check_message(Message(b"\xff", 1))
    with pytest.raises(InvalidMessage):
        engine.check_message(Message(b"a", 0))
    with pytest.raises(InvalidMessage):
        engine.check_message(Message(b"a", rsv1=True))
    assert engine.data_to_send() == b""


def test_a_payload_that_has_been_sent_is_let_go():
    payloads = ["é" * 5000, b"x" * 5000, "a" * 5000]
    before = [sys.getrefcount(p) for p in payloads]
    for client in (True, False):
        engine = Engine(client)
        for payload in payloads:
            for _ in range(10):
                engine.send_message(as_message(payload))  # type: ignore[arg-type]
                engine.send_message(Message(payload, 2))  # type: ignore[arg-type]
        for _ in range(10):
            with pytest.raises(InvalidMessage):
                engine.send_message(Message(payloads[1], 9))  # type: ignore[arg-type]
            with pytest.raises(InvalidMessage):
                engine.send_message(Message(payloads[1], 2, rsv1=True))  # type: ignore[arg-type]
    del payload
    assert [sys.getrefcount(p) for p in payloads] == before


class Payload(bytes):
    pass


@pytest.mark.parametrize("payload", [12345, bytearray(b"abc"), memoryview(b"abc"), [], Payload()])
def test_what_extensions_have_made_is_str_or_bytes_or_refused(payload):
    engine = Engine(False)
    with pytest.raises(TypeError, match="str or bytes"):
        engine.send_encoded(Message(b"abc"), 0, payload)
    assert engine.data_to_send() == b""
    engine.send_encoded(Message(b"abc"), 0, b"abc")
    assert sent(engine) == [Frame(BINARY, b"abc")]
