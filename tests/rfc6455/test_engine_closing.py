"""The engine closes: RFC 6455 sections 5.5.1 (Close), 7.1 (closing) and 7.4 (codes)."""

from __future__ import annotations

import pytest
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    TEXT,
    Frame,
    answers_of,
    close_code_may_be_sent,
    drain,
    encode,
    frames_of,
    observe,
)

from coro_websocket import ConnectionClosedError, InvalidMessage, ProtocolError
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

CLEAN_CODES = [1000, 1001]
OTHER_CODES = [1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
REFUSED_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 65535]


def frame(client: bool, opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    return encode(Frame(opcode, payload, fin, key=None if client else KEY))


def close_frame(client: bool, code: int | None, reason: bytes = b"") -> bytes:
    return frame(client, CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason)


def closed(client: bool, code: int | None, reason: bytes = b"") -> Engine:
    """An engine that a Close has come to."""
    engine = Engine(client)
    engine.receive(close_frame(client, code, reason))
    assert engine.next_message() is None
    return engine


def sent(engine: Engine) -> list[tuple[int, bytes]]:
    return [(f.opcode, f.payload) for f in frames_of(engine.data_to_send())]


# The peer closes


@both_roles
@pytest.mark.parametrize("reason", [b"", b"bye", "Schluß 😀".encode(), b"x" * 123])
@pytest.mark.parametrize("code", CLEAN_CODES + OTHER_CODES)
def test_a_close_is_answered_with_its_code_rfc_6455_5_5_1(client, code, reason):
    engine = closed(client, code, reason)
    assert sent(engine) == [(CLOSE, code.to_bytes(2, "big"))]
    assert (engine.close_code, engine.close_reason) == (code, reason.decode())
    assert engine.close_received
    assert engine.close_sent
    assert not engine.initiated_close
    assert engine.finished
    assert engine.error is None


@both_roles
def test_a_close_without_a_code_is_answered_without_one_and_counts_as_1005_rfc_6455_7_1_5(client):
    engine = closed(client, None)
    assert sent(engine) == [(CLOSE, b"")]
    assert (engine.close_code, engine.close_reason) == (1005, "")
    assert engine.end_error() is None


def test_each_code_is_taken_or_refused_as_rfc_6455_7_4_says():
    for code in (*range(6000), *range(6000, 65536, 97), 65535):
        engine = Engine(True)
        engine.receive(b"\x88\x02" + code.to_bytes(2, "big"))
        try:
            assert engine.next_message() is None
        except ProtocolError as error:
            assert error.code == 1002
            assert not close_code_may_be_sent(code)
        else:
            assert close_code_may_be_sent(code)
            assert engine.close_code == code


@both_roles
@pytest.mark.parametrize("code", REFUSED_CODES)
def test_a_code_that_may_not_be_sent_is_a_protocol_error_rfc_6455_7_4(client, code):
    engine = Engine(client)
    engine.receive(close_frame(client, code, b"reason"))
    with pytest.raises(ProtocolError, match=rf"code {code} .*7\.4"):
        engine.next_message()
    assert answers_of(engine) == [(CLOSE, b"\x03\xea")]
    assert not engine.close_received
    assert engine.end_error() is engine.error


@both_roles
@pytest.mark.parametrize("byte", [b"\0", b"\x03", b"\xff"])
def test_a_close_of_one_byte_is_a_protocol_error_rfc_6455_5_5_1(client, byte):
    engine = Engine(client)
    engine.receive(frame(client, CLOSE, byte))
    with pytest.raises(ProtocolError, match=r"one byte.*5\.5\.1") as caught:
        engine.next_message()
    assert caught.value.code == 1002
    assert answers_of(engine) == [(CLOSE, b"\x03\xea")]


@both_roles
@pytest.mark.parametrize(
    "reason", [b"\xff", b"ok\x80", b"\xc3", b"a" * 122 + b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"]
)
def test_a_reason_that_is_not_utf_8_is_1007_rfc_6455_8_1(client, reason):
    engine = Engine(client)
    engine.receive(close_frame(client, 1000, reason))
    with pytest.raises(ProtocolError, match=r"close reason that is not UTF-8.*8\.1") as caught:
        engine.next_message()
    assert caught.value.code == 1007
    assert answers_of(engine) == [(CLOSE, (1007).to_bytes(2, "big"))]


@both_roles
def test_a_bad_code_counts_more_than_a_bad_reason(client):
    engine = Engine(client)
    engine.receive(close_frame(client, 1005, b"\xff"))
    with pytest.raises(ProtocolError) as caught:
        engine.next_message()
    assert caught.value.code == 1002


@both_roles
@pytest.mark.parametrize("control", [False, True])
def test_what_comes_after_a_close_is_ignored_rfc_6455_5_5_1(client, control):
    rest = frame(client, TEXT, b"late") + frame(client, PING, b"late") + b"\xff\xff\xff\xff"
    rest += close_frame(client, 1011, b"late")
    for pieces in ([close_frame(client, 1001) + rest], [close_frame(client, 1001), rest]):
        engine = Engine(client)
        seen = observe(engine, pieces, control=control)
        assert seen.messages == ([(CLOSE, b"\x03\xe9", True)] if control else [])
        assert seen.answers == [(CLOSE, b"\x03\xe9")]
        assert seen.violation is None
        assert engine.close_code == 1001
        assert engine.end_error() is None


@both_roles
@pytest.mark.parametrize("size", [0, 2, 125])
def test_a_close_is_acted_on_only_when_it_is_all_there(client, size):
    stream = close_frame(client, 1000, b"x" * (size - 2)) if size else close_frame(client, None)
    engine = Engine(client)
    for i in range(len(stream)):
        assert engine.next_message() is None
        assert not engine.close_received
        assert engine.data_to_send() == b""
        engine.receive(stream[i : i + 1])
    assert engine.next_message() is None
    assert engine.close_received


@both_roles
@pytest.mark.parametrize("fragments", [False, True])
def test_a_close_may_come_inside_a_fragmented_message_which_then_never_ends(client, fragments):
    stream = frame(client, TEXT, b"half", False) + close_frame(client, 1000)
    seen = observe(Engine(client), [stream], fragments=fragments)
    assert seen.messages == ([(TEXT, "half", False)] if fragments else [])
    assert seen.answers == [(CLOSE, b"\x03\xe8")]
    assert seen.finished


# We close


@both_roles
def test_our_close_has_code_1000_unless_told_otherwise(client):
    engine = Engine(client)
    engine.send_close()
    assert sent(engine) == [(CLOSE, b"\x03\xe8")]
    assert engine.close_sent
    assert engine.initiated_close
    assert not engine.close_received
    assert not engine.finished
    assert engine.close_code is None


@both_roles
@pytest.mark.parametrize("reason", ["", "bye", "Schluß 😀", "é" * 61 + "x"])
@pytest.mark.parametrize("code", CLEAN_CODES + OTHER_CODES)
def test_our_close_has_the_code_and_the_reason_it_is_given(client, code, reason):
    engine = Engine(client)
    engine.send_close(code, reason)
    assert sent(engine) == [(CLOSE, code.to_bytes(2, "big") + reason.encode())]


def test_our_close_may_be_without_a_code():
    engine = Engine(True)
    engine.send_close(None)
    assert sent(engine) == [(CLOSE, b"")]


@both_roles
def test_we_close_once_whatever_happens_later(client):
    engine = Engine(client)
    engine.send_close(1001, "first")
    engine.send_close(1000, "second")
    engine.send_message(Message(b"\x03\xe8third", 8))
    engine.receive(close_frame(client, 1001) + close_frame(client, 1001))
    assert engine.next_message() is None
    engine.send_close(1000, "fourth")
    assert sent(engine) == [(CLOSE, b"\x03\xe9first")]


@both_roles
def test_after_the_peers_close_ours_is_its_answer(client):
    engine = closed(client, 1001)
    engine.send_close(1000, "mine")
    assert sent(engine) == [(CLOSE, b"\x03\xe9")]
    assert not engine.initiated_close


@pytest.mark.parametrize(
    "code", [*REFUSED_CODES, -1, 65536 + 1000, 2**70, 1000.0, "1000", True, b"\x03\xe8"]
)
def test_a_code_that_may_not_be_sent_is_not_sent_rfc_6455_7_4(code):
    engine = Engine(True)
    with pytest.raises(InvalidMessage, match=r"7\.4"):
        engine.send_close(code)
    assert not engine.close_sent
    assert engine.data_to_send() == b""
    engine.send_close(1000)
    with pytest.raises(InvalidMessage):  # it is wrong the second time, too
        engine.send_close(code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "x" * 124),
        (1000, "é" * 62),
        (1000, "😀" * 31),
        (1000, "\ud800"),
        (1000, b"bytes"),
        (1000, None),
        (1000, 5),
        (None, "a reason without a code"),
    ],
)
def test_a_reason_that_does_not_fit_is_not_sent_rfc_6455_5_5_1(code, reason):
    engine = Engine(True)
    with pytest.raises(InvalidMessage, match=r"RFC 6455 section 5\.5"):
        engine.send_close(code, reason)
    assert not engine.close_sent
    assert engine.data_to_send() == b""


@both_roles
@pytest.mark.parametrize(
    ("payload", "on_the_wire"),
    [
        (b"", b""),
        ("", b""),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x0f\xa0" + "é".encode(), b"\x0f\xa0\xc3\xa9"),
        (b"\x03\xe8" + b"x" * 123, b"\x03\xe8" + b"x" * 123),
        # "\x0f" and "!": 0x0f21, which is 3873; written as str it is the same.
        ("\x0f!why", b"\x0f!why"),
    ],
)
def test_a_close_can_be_sent_as_a_message(client, payload, on_the_wire):
    engine = Engine(client)
    engine.send_message(Message(payload, 8))
    assert sent(engine) == [(CLOSE, on_the_wire)]
    assert engine.initiated_close


@pytest.mark.parametrize(
    "payload", [b"\x03", b"\x03\xed", b"\x03\xe8\xff", b"\x03\xe8" + b"x" * 124, "a", "ab"]
)
def test_a_close_that_may_not_be_sent_is_not_sent_as_a_message(payload):
    engine = Engine(True)
    with pytest.raises(InvalidMessage):
        engine.send_message(Message(payload, 8))
    assert not engine.close_sent
    assert engine.data_to_send() == b""


@both_roles
def test_until_the_peers_close_messages_still_come(client):
    engine = Engine(client)
    engine.send_close()
    engine.receive(frame(client, TEXT, b"a") + frame(client, BINARY, b"b", False))
    assert [m.payload for m in drain(engine)] == ["a"]
    engine.receive(frame(client, CONT, b"c") + close_frame(client, 1000))
    assert [m.payload for m in drain(engine)] == [b"bc"]
    assert engine.finished


# Nothing is sent behind our Close


def attempts(engine: Engine) -> list:
    return [
        lambda: engine.send_message(Message("x", 1)),
        lambda: engine.send_message(Message(b"x", 2)),
        lambda: engine.send_message(Message(b"x", 2, fin=False)),
        lambda: engine.send_message(Message(b"x", 0)),
        lambda: engine.send_message(Message(b"x", 9)),
        lambda: engine.send_message(Message(b"x", 10)),
        lambda: engine.check_message(Message("x", 1)),
        lambda: engine.send_ping(b"x"),
        lambda: engine.send_ping(b"x", expected=False),
        lambda: engine.send_pong(),
    ]


@both_roles
def test_after_our_close_nothing_can_be_sent_rfc_6455_5_5_1(client):
    engine = Engine(client)
    engine.send_close(1001, "mine")
    engine.data_to_send()
    for attempt in attempts(engine):
        with pytest.raises(ConnectionClosedError, match="being closed") as caught:
            attempt()
        assert (caught.value.code, caught.value.reason) == (1006, "")
        assert not isinstance(caught.value, ProtocolError)
    assert engine.data_to_send() == b""
    assert engine.pop_answered() == []


@both_roles
def test_after_the_peers_close_nothing_can_be_sent_and_its_code_is_told(client):
    engine = closed(client, 4000, b"enough")
    engine.data_to_send()
    for attempt in attempts(engine):
        with pytest.raises(ConnectionClosedError, match=r"closed with 4000 .*enough") as caught:
            attempt()
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
    assert engine.data_to_send() == b""


@both_roles
def test_after_a_violation_nothing_can_be_sent_and_it_is_told(client):
    engine = Engine(client)
    engine.receive(frame(client, CONT))
    with pytest.raises(ProtocolError):
        engine.next_message()
    engine.data_to_send()
    for attempt in attempts(engine):
        with pytest.raises(ConnectionClosedError, match="continuation frame") as caught:
            attempt()
        assert caught.value.code == 1002
    assert engine.data_to_send() == b""


@both_roles
def test_a_message_that_was_begun_before_our_close_is_not_continued(client):
    engine = Engine(client)
    engine.send_message(Message("x", 1, fin=False))
    engine.send_close()
    with pytest.raises(ConnectionClosedError):
        engine.send_message(Message("y", 0))
    assert sent(engine) == [(TEXT, b"x"), (CLOSE, b"\x03\xe8")]


# How it ended


@both_roles
@pytest.mark.parametrize("code", [None, *CLEAN_CODES])
def test_the_peers_close_with_1000_1001_or_no_code_is_a_clean_end(client, code):
    engine = closed(client, code, b"" if code is None else b"bye")
    assert engine.end_error() is None
    assert engine.end_error(OSError("reset")) is None


@both_roles
@pytest.mark.parametrize("code", OTHER_CODES)
def test_the_peers_close_with_another_code_is_an_error_that_tells_it_rfc_6455_7_1_5(client, code):
    error = closed(client, code, b"because").end_error()
    assert type(error) is ConnectionClosedError
    assert (error.code, error.reason) == (code, "because")
    assert f"{code} (" in str(error)
    assert str(error).endswith(": because")


@both_roles
def test_an_end_without_a_close_is_1006_rfc_6455_7_1_5(client):
    error = Engine(client).end_error()
    assert type(error) is ConnectionClosedError
    assert (error.code, error.reason) == (1006, "")
    assert "without a Close frame" in str(error)


@both_roles
def test_a_lost_connection_tells_why(client):
    engine = Engine(client)
    engine.receive(frame(client, TEXT, b"x") + close_frame(client, 1000)[:-1])
    assert [m.payload for m in drain(engine)] == ["x"]
    error = engine.end_error(OSError("reset by a goat"))
    assert error.code == 1006
    assert "reset by a goat" in str(error)


@both_roles
@pytest.mark.parametrize("answer", [None, 1000, 1011])
def test_an_end_that_we_began_is_clean_whatever_the_peer_says(client, answer):
    engine = Engine(client)
    engine.send_close(1001, "mine")
    assert engine.end_error() is None
    assert engine.end_error(OSError("reset")) is None
    engine.receive(close_frame(client, answer))
    assert engine.next_message() is None
    assert engine.end_error() is None
    assert sent(engine) == [(CLOSE, b"\x03\xe9mine")]


@both_roles
def test_a_violation_is_how_it_ended_even_if_we_were_closing(client):
    engine = Engine(client)
    engine.send_close()
    engine.receive(frame(client, CONT))
    with pytest.raises(ProtocolError) as caught:
        engine.next_message()
    assert engine.end_error() is caught.value
    assert engine.end_error(OSError("reset")) is caught.value
