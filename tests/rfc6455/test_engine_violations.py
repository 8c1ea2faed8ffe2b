"""The engine fails the connection when the peer breaks the protocol: RFC 6455 sections 5, 7.1.7.

Each rule, in each role; what came before the violation is delivered first, and nothing
after it. Text is in `test_engine_utf8`, Close in `test_engine_closing`.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import examples
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    OPCODES,
    PING,
    PONG,
    RESERVED_OPCODES,
    TEXT,
    Frame,
    conversation,
    drain,
    encode,
    frames_of,
    header,
    observe,
    receive,
    split_at_random,
)

from coro_websocket import (
    ConnectionClosedError,
    Message,
    ProtocolError,
    WebSocketError,
)
from coro_websocket._rfc6455.engine import Engine
from coro_websocket.extensions import Extension

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


def frame(client: bool, opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0) -> bytes:
    """The bytes of a frame that a client, or a server, receives, masked as it should be."""
    return encode(Frame(opcode, payload, fin, rsv, None if client else KEY))


def violations(client: bool) -> dict[str, tuple[bytes, str]]:
    """Streams that break one rule, and the section that has it."""
    key = None if client else KEY

    def f(*args: Any) -> bytes:
        return frame(client, *args)

    return {
        "a mask for a client, none for a server": (frame(not client, TEXT, b"x"), "5.1"),
        "the same of a control frame": (frame(not client, PING, b"x"), "5.1"),
        "the same of an empty frame": (frame(not client, BINARY), "5.1"),
        **{f"rsv {rsv}": (f(TEXT, b"x", True, rsv), "5.2") for rsv in range(1, 8)},
        **{f"rsv {rsv} of a Ping": (f(PING, b"x", True, rsv), "5.2") for rsv in range(1, 8)},
        "rsv of a continuation": (f(TEXT, b"x", False) + f(CONT, b"x", True, 4), "5.2"),
        "rsv of a Close": (f(CLOSE, b"", True, 1), "5.2"),
        **{f"opcode {n}": (header(n, 1, key=key) + b"x", "5.2") for n in RESERVED_OPCODES},
        "opcode 3 between fragments": (f(TEXT, b"x", False) + header(3, 1, key=key), "5.2"),
        "a continuation of nothing": (f(CONT, b"x"), "5.4"),
        "an unfinished continuation of nothing": (f(CONT, b"x", False), "5.4"),
        "a continuation after a whole message": (f(TEXT, b"x") + f(CONT, b"x"), "5.4"),
        "a continuation after the last fragment": (
            f(TEXT, b"x", False) + f(CONT) + f(CONT, b"x"),
            "5.4",
        ),
        "text inside a text": (f(TEXT, b"x", False) + f(TEXT, b"x"), "5.4"),
        "text inside binary": (f(BINARY, b"x", False) + f(TEXT, b"x"), "5.4"),
        "a first fragment inside a text": (f(TEXT, b"x", False) + f(BINARY, b"x", False), "5.4"),
        **{f"fragmented opcode {n}": (f(n, b"", False), "5.4") for n in (8, 9, 10)},
        **{f"126 bytes in opcode {n}": (f(n, bytes(126)), "5.5") for n in (8, 9, 10)},
        "64 KiB in a Ping": (f(PING, bytes(65536)), "5.5"),
        "125 in 16 bits": (header(TEXT, 125, key=key, length_size=2), "5.2"),
        "65535 in 64 bits": (header(TEXT, 65535, key=key, length_size=8), "5.2"),
        "2**63": (header(BINARY, 2**63, key=key), "5.2"),
        "2**64 - 1": (header(BINARY, 2**64 - 1, key=key), "5.2"),
    }


NAMES = list(violations(True))


@both_roles
@pytest.mark.parametrize("name", NAMES)
def test_a_violation_fails_the_connection_with_1002_rfc_6455_7_1_7(client, name):
    stream, section = violations(client)[name]
    engine = Engine(client)
    engine.receive(stream)
    with pytest.raises(ProtocolError, match=rf"RFC 6455 section {section}\)$") as caught:
        list(drain(engine))
    error = caught.value
    assert error.code == 1002
    assert error.reason
    assert error.reason in str(error)
    assert isinstance(error, ConnectionClosedError)
    assert isinstance(error, ConnectionError)
    assert isinstance(error, WebSocketError)
    assert engine.error is error
    assert (engine.close_code, engine.close_reason) == (1002, error.reason)
    (close,) = frames_of(engine.data_to_send())
    assert close.opcode == CLOSE
    assert close.payload == (1002).to_bytes(2, "big") + error.reason.encode()
    assert engine.close_sent
    assert not engine.close_received
    assert not engine.initiated_close


@both_roles
@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_came_before_a_violation_is_delivered_and_nothing_after_it(client, name, fragments):
    good = frame(client, TEXT, b"one") + frame(client, PING, b"?") + frame(client, BINARY, b"2")
    stream = good + violations(client)[name][0]
    pieces = [[stream + good], [stream, good], [stream[i : i + 1] for i in range(len(stream))]]
    for each in pieces:
        seen = observe(Engine(client), each, fragments=fragments)
        assert seen == receive(b"".join(each), client=client, fragments=fragments)
        assert seen.messages[:2] == [(TEXT, "one", True), (BINARY, b"2", True)]
        assert seen.answers == [(PONG, b"?"), (CLOSE, b"\x03\xea")]


@both_roles
def test_after_a_violation_the_engine_is_deaf_and_dumb(client):
    engine = Engine(client)
    engine.receive(frame(client, 3))
    with pytest.raises(ProtocolError):
        engine.next_message()
    engine.data_to_send()
    rest = frame(client, PING) + frame(client, TEXT, b"x") + frame(client, CLOSE) + frame(client, 3)
    for _ in range(3):
        engine.receive(rest)
        engine.answer_ahead(answer_close=True)
        assert engine.next_message() is None
        assert engine.next_message(fragments=True, control=True) is None
        engine.send_close()
        for refused in (engine.send_ping, engine.send_pong, engine.send_message):
            with pytest.raises(ConnectionClosedError, match="connection was failed"):
                refused(Message(b"x") if refused == engine.send_message else b"x")  # type: ignore[arg-type]
    assert engine.data_to_send() == b""
    assert engine.finished
    assert engine.close_code == 1002
    assert not engine.close_received


@both_roles
def test_a_violation_after_our_own_close_is_not_told_twice(client):
    engine = Engine(client)
    engine.send_close(1000)
    engine.data_to_send()
    engine.receive(frame(client, 3))
    with pytest.raises(ProtocolError):
        engine.next_message()
    assert engine.data_to_send() == b""
    assert engine.end_error() is engine.error


@both_roles
def test_a_violation_found_outside_the_engine_fails_the_connection_too(client):
    engine = Engine(client)
    error = ProtocolError("it was wrong", 1007, "wrong")
    engine.fail_connection(error)
    engine.fail_connection(ProtocolError("again", 1002, "again"))
    assert engine.error is error
    assert engine.end_error() is error
    assert engine.finished
    (close,) = frames_of(engine.data_to_send())
    assert close.payload == (1007).to_bytes(2, "big") + b"wrong"
    assert engine.data_to_send() == b""


@both_roles
@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2999, 5000, None, True, "1002"])
def test_an_error_with_a_code_that_may_not_be_sent_is_told_as_1011(client, code):
    engine = Engine(client)
    engine.fail_connection(ProtocolError("odd", code, "odd"))
    (close,) = frames_of(engine.data_to_send())
    assert close.payload == (1011).to_bytes(2, "big") + b"odd"
    assert engine.close_code == 1011


@both_roles
@pytest.mark.parametrize(
    ("reason", "told"),
    [("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("\ud800!", "?!"), ("y" * 123, "y" * 123)],
)
def test_a_reason_that_no_frame_can_carry_is_shortened(client, reason, told):
    engine = Engine(client)
    engine.fail_connection(ProtocolError("long", 1002, reason))
    (close,) = frames_of(engine.data_to_send())
    assert close.payload[2:].decode() == told == engine.close_reason


@both_roles
def test_a_connection_that_has_ended_is_not_failed(client):
    engine = Engine(client)
    observe(engine, [frame(client, CLOSE, b"\x03\xe8")])
    engine.fail_connection(ProtocolError("too late", 1002, "late"))
    assert engine.error is None
    assert engine.end_error() is None
    assert engine.data_to_send() == b""


def test_a_header_is_refused_as_soon_as_two_bytes_show_it():
    for first, second in [(0x83, 0), (0x09, 0), (0x89, 126), (0x8F, 255), (0x08, 0x80)]:
        engine = Engine(True)
        engine.receive(bytes([first]))
        assert engine.next_message() is None
        engine.receive(bytes([second]))
        with pytest.raises(ProtocolError):
            engine.next_message()


# An extension's own violations (section 9)


class Refusing(Extension):
    """It raises this error for whatever comes."""

    rsv = 4

    def __init__(self, error: Exception) -> None:
        self.error = error

    def encode(self, payload, *, opcode, begins, ends):
        return payload

    def decode(self, payload, *, ends, limit):
        raise self.error


# Anything at all


def judged_as_by_the_reference(data: bytes, source: random.Random) -> int | None:
    client = source.random() < 0.5
    shape: dict[str, Any] = {"fragments": source.random() < 0.5, "control": source.random() < 0.5}
    limit = source.choice((None, None, 100, 10, 0))
    expected = receive(data, client=client, limit=2**63 - 1025 if limit is None else limit, **shape)
    engine = Engine(client, max_message_size=limit)
    seen = observe(engine, split_at_random(source, data), **shape)
    assert seen == expected, (data, client, shape, limit)
    assert (engine.end_error() is engine.error) or engine.error is None
    return seen.violation


@settings(derandomize=True, deadline=None, max_examples=examples(300))
@given(st.binary(max_size=80), st.integers(0, 1000))
def test_random_bytes_are_messages_or_a_violation_and_nothing_else(data, seed):
    judged_as_by_the_reference(data, random.Random(seed))


def test_random_frames_are_messages_or_a_violation_and_nothing_else():
    """Frames that are right by themselves, in any order, some with something wrong."""
    source = random.Random(6455)
    outcomes = set()
    for _ in range(4000):
        data = b""
        for _ in range(source.randrange(8)):
            opcode = source.choice(OPCODES)
            size = source.choice((0, 1, 2, 5, 125, 126))
            payload = source.choice((source.randbytes(size), "aé€😀".encode()[:size]))
            if opcode == CLOSE and source.random() < 0.8:
                payload = source.choice((b"", b"\x03\xe8", b"\x0b\xb8ok"))
            fin = source.random() < 0.7 or opcode >= 8
            rsv = source.choice((0,) * 20 + (1, 2, 4))
            key = source.choice((None, source.randbytes(4)))
            data += encode(Frame(opcode, payload, fin, rsv, key))
        outcomes.add(judged_as_by_the_reference(data, source))
    assert outcomes == {None, 1002, 1007, 1009}


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_with_bytes_changed_is_messages_or_a_violation_and_nothing_else(seed):
    source = random.Random(seed)
    outcomes = set()
    for _ in range(1200):
        frames = conversation(source, client=source.random() < 0.5)
        data = bytearray(b"".join(encode(f) for f in frames))
        for _ in range(source.choice((1, 1, 1, 2, 5))):
            at = source.randrange(len(data) + 1)
            end = at + source.choice((1, 1, 2, 10))
            change = source.randrange(6)
            if change == 0:
                data[at:end] = b""
            elif change == 1:
                data[at:at] = source.randbytes(end - at)
            elif change == 2:
                data[at:at] = data[at:end] * 2
            elif change == 3:
                del data[at:]
            elif at < len(data):
                data[at] = data[at] ^ 1 << source.randrange(8) if change == 4 else end % 256
        outcomes.add(judged_as_by_the_reference(bytes(data), source))
    assert outcomes == {None, 1002, 1007, 1009}
