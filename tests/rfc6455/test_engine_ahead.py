"""The engine looks ahead: control frames behind messages that nobody has asked for.

They are answered once, and nothing else changes. RFC 6455 sections 5.5.1 to 5.5.3.
"""

from __future__ import annotations

import random

import pytest
from tests.attacks.bounds import assert_linear
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    Received,
    answers_of,
    conversation,
    drain,
    encode,
    receive,
    split_at_random,
)

from coro_websocket import ConnectionClosedError, ProtocolError
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message
from coro_websocket.extensions import Extension

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

BYE = b"\x03\xe8"


def frame(client: bool, opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    return encode(Frame(opcode, payload, fin, rsv, None if client else KEY))


def received(client: bool, *frames: bytes) -> Engine:
    engine = Engine(client)
    engine.receive(b"".join(frames))
    return engine


def payloads(engine: Engine, **shape: bool) -> list[str | bytes]:
    return [message.payload for message in drain(engine, **shape)]


# Pings and Pongs


@both_roles
def test_a_ping_behind_a_message_is_answered_at_once_and_once(client):
    engine = received(client, frame(client, TEXT, b"a"), frame(client, PING, b"?"))
    for _ in range(3):
        engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"?")]
    engine.answer_ahead()
    assert payloads(engine) == ["a"]
    engine.answer_ahead()
    assert answers_of(engine) == []


@both_roles
def test_pings_behind_many_messages_are_answered_in_their_order(client):
    engine = Engine(client)
    for i in range(100):
        engine.receive(frame(client, BINARY, bytes(i)) + frame(client, PING, bytes([i])))
        if i % 3 == 0:
            engine.answer_ahead()
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, bytes([i])) for i in range(100)]
    assert payloads(engine) == [bytes(i) for i in range(100)]
    assert answers_of(engine) == []


@both_roles
def test_half_a_ping_is_not_answered(client):
    ping = frame(client, PING, b"????")
    engine = received(client, frame(client, TEXT, b"a"))
    for i in range(len(ping)):
        engine.answer_ahead()
        assert engine.data_to_send() == b""
        engine.receive(ping[i : i + 1])
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"????")]
    assert payloads(engine) == ["a"]


@both_roles
def test_nothing_behind_half_a_frame_is_looked_at_before_its_end(client):
    stream = frame(client, BINARY, PING.to_bytes() * 300)
    engine = received(client, stream[:50])
    engine.answer_ahead()
    assert engine.data_to_send() == b""
    engine.receive(stream[50:] + frame(client, PING, b"?"))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"?")]
    assert payloads(engine) == [PING.to_bytes() * 300]
    assert answers_of(engine) == []


@both_roles
@pytest.mark.parametrize("size", [40, 16_384, 50_000])
@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_ping_behind_a_frame_that_is_being_read_is_answered(client, size, taken):
    """What has come of the frame has moved into the message already."""
    stream = frame(client, BINARY, b"x" * size)
    start = len(stream) - size
    engine = received(client, stream[: start + taken])
    assert engine.next_message() is None
    engine.answer_ahead()
    engine.receive(stream[start + taken : start + 30])
    engine.answer_ahead()
    assert engine.data_to_send() == b""
    engine.receive(stream[start + max(taken, 30) :] + frame(client, PING, b"?"))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"?")]
    engine.answer_ahead()
    assert payloads(engine) == [b"x" * size]
    assert answers_of(engine) == []


@both_roles
def test_a_ping_between_fragments_is_answered(client):
    engine = received(client, frame(client, TEXT, b"a", False))
    assert engine.next_message() is None
    engine.receive(frame(client, CONT, b"b", False) + frame(client, PING, b"?"))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"?")]
    engine.receive(frame(client, CONT, b"c"))
    engine.answer_ahead()
    assert payloads(engine) == ["abc"]
    assert answers_of(engine) == []


@both_roles
def test_a_pong_behind_a_message_answers_its_ping_at_once_and_once(client):
    engine = Engine(client)
    for _ in range(2):
        engine.send_ping(b"?")
    engine.receive(frame(client, TEXT, b"a") + frame(client, PONG, b"?"))
    engine.answer_ahead()
    assert engine.pop_answered() == [b"?"]
    engine.answer_ahead()
    assert payloads(engine) == ["a"]
    assert engine.pop_answered() == []


@both_roles
def test_a_ping_flood_behind_a_message_is_answered_for_the_newest_only(client):
    engine = received(client, frame(client, TEXT, b"a"))
    engine.send_message(Message(bytes(20_000)))
    for i in range(500):
        engine.receive(frame(client, PING, str(i).encode()))
        engine.answer_ahead()
    engine.data_to_send()
    assert answers_of(engine) == [(PONG, b"499")]
    assert payloads(engine) == ["a"]
    assert answers_of(engine) == []


class Marking(Extension):
    """It changes nothing, and marks what has passed it."""

    rsv = 4

    def encode(self, payload, *, opcode, begins, ends):
        return payload

    def decode(self, payload, *, ends, limit):
        return payload


@both_roles
def test_a_ping_behind_a_message_of_an_extension_is_answered_too(client):
    engine = Engine(client, extensions=[Marking()])
    engine.receive(frame(client, TEXT, b"a", True, 4) + frame(client, PING, b"?"))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"?")]
    assert payloads(engine) == ["a"]


@both_roles
def test_a_close_behind_a_message_of_an_extension_is_known_of(client):
    engine = Engine(client, extensions=[Marking()])
    engine.receive(frame(client, TEXT, b"a", True, 4) + frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert engine.close_ahead
    engine.answer_ahead(answer_close=True)
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert payloads(engine) == ["a"]


# Close


@both_roles
def test_a_close_with_nothing_before_it_is_answered_at_once(client):
    engine = received(client, frame(client, CLOSE, BYE + b"bye"))
    engine.answer_ahead()
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert (engine.close_code, engine.close_reason) == (1000, "bye")
    assert engine.close_received
    assert engine.next_message() is None
    assert engine.finished
    assert answers_of(engine) == []


@both_roles
def test_a_close_behind_pings_alone_is_answered_at_once(client):
    engine = received(client, frame(client, PING, b"1"), frame(client, PING, b"2"))
    engine.answer_ahead()
    engine.receive(frame(client, PING, b"3") + frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"1"), (PONG, b"2"), (PONG, b"3"), (CLOSE, BYE)]
    assert engine.next_message() is None
    assert answers_of(engine) == []
    assert engine.finished


@both_roles
def test_a_close_behind_a_message_waits_for_it_to_be_read(client):
    """The message may still be answered."""
    engine = received(client, frame(client, TEXT, b"a"), frame(client, CLOSE, BYE))
    assert not engine.close_ahead
    for _ in range(3):
        engine.answer_ahead()
    assert engine.close_ahead
    assert not engine.close_received
    assert engine.data_to_send() == b""
    engine.send_message(Message("answer", 1))
    engine.data_to_send()
    assert payloads(engine) == ["a"]
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert engine.end_error() is None


@both_roles
def test_a_close_behind_a_message_is_answered_on_request_and_once(client):
    engine = received(client, frame(client, TEXT, b"a"), frame(client, BINARY, b"b"))
    engine.receive(frame(client, CLOSE, BYE) + frame(client, PING, b"late"))
    engine.answer_ahead()
    for _ in range(3):
        engine.answer_ahead(answer_close=True)
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert engine.close_received
    assert not engine.finished
    with pytest.raises(ConnectionClosedError):
        engine.send_message(Message("too late", 1))
    assert payloads(engine) == ["a", b"b"]
    assert engine.finished
    assert engine.data_to_send() == b""
    assert engine.end_error() is None


@both_roles
def test_a_close_behind_the_rest_of_a_message_waits_too(client):
    stream = frame(client, BINARY, bytes(1000))
    engine = received(client, stream[:500])
    assert engine.next_message() is None
    engine.receive(stream[500:] + frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert engine.close_ahead
    assert engine.data_to_send() == b""
    assert payloads(engine) == [bytes(1000)]
    assert answers_of(engine) == [(CLOSE, BYE)]


@both_roles
def test_a_close_behind_half_a_frame_is_not_seen(client):
    stream = frame(client, BINARY, b"\x88\0" * 50)
    engine = received(client, stream[:-1])
    engine.answer_ahead(answer_close=True)
    assert engine.data_to_send() == b""
    assert not engine.close_ahead


@both_roles
def test_a_close_that_a_message_can_no_longer_come_before_is_answered_at_once(client):
    """The first fragment has been taken in: there is nothing left to read."""
    engine = received(client, frame(client, TEXT, b"a", False))
    assert engine.next_message() is None
    engine.receive(frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert engine.next_message() is None


@both_roles
def test_the_answer_to_our_own_close_is_taken_ahead_on_request(client):
    engine = received(client, frame(client, TEXT, b"a"), frame(client, CLOSE, b"\x03\xf3why"))
    engine.send_close(1001)
    assert answers_of(engine) == [(CLOSE, b"\x03\xe9")]
    engine.answer_ahead(answer_close=True)
    assert engine.close_received
    assert (engine.close_code, engine.close_reason) == (1011, "why")
    assert engine.data_to_send() == b""
    assert payloads(engine) == ["a"]
    assert engine.data_to_send() == b""
    assert engine.end_error() is None


# Violations are for the reader to reach


def bad_frames(client: bool) -> dict[str, bytes]:
    key = None if client else KEY
    return {
        "reserved opcode": encode(Frame(3, key=key)),
        "wrong mask": frame(not client, PING, b"x"),
        "reserved bit": frame(client, PING, b"x", True, 1),
        "fragmented Ping": frame(client, PING, b"x", False),
        "Close of one byte": frame(client, CLOSE, b"x"),
        "Close with a bad code": frame(client, CLOSE, b"\x03\xed"),
        "Close with a bad reason": frame(client, CLOSE, BYE + b"\xff"),
    }


@both_roles
@pytest.mark.parametrize("answer_close", [False, True])
@pytest.mark.parametrize("name", bad_frames(True))
def test_a_bad_frame_behind_a_message_is_left_to_the_reader(client, name, answer_close):
    bad = bad_frames(client)[name]
    engine = received(client, frame(client, TEXT, b"a"), frame(client, PING, b"?"), bad)
    engine.receive(frame(client, PING, b"late") + frame(client, CLOSE, BYE))
    for _ in range(3):
        engine.answer_ahead(answer_close=answer_close)
    assert answers_of(engine) == [(PONG, b"?")]
    assert not engine.finished
    assert engine.error is None
    assert engine.next_message().payload == "a"
    with pytest.raises(ProtocolError) as caught:
        engine.next_message()
    assert answers_of(engine) == [(CLOSE, caught.value.code.to_bytes(2, "big"))]
    engine.answer_ahead(answer_close=answer_close)
    assert engine.next_message() is None
    assert engine.data_to_send() == b""


@both_roles
@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80"])
def test_a_message_is_judged_when_it_is_read_even_if_the_close_behind_it_was_answered(client, bad):
    engine = received(
        client, frame(client, TEXT, b"a"), frame(client, TEXT, bad), frame(client, CLOSE, BYE)
    )
    engine.answer_ahead(answer_close=True)
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert engine.next_message().payload == "a"
    with pytest.raises(ProtocolError) as caught:
        engine.next_message()
    assert engine.end_error() is caught.value
    assert engine.data_to_send() == b""


@both_roles
def test_after_the_end_nothing_is_looked_at(client):
    engine = received(client, frame(client, CLOSE, BYE))
    assert engine.next_message() is None
    engine.data_to_send()
    engine.receive(frame(client, PING, b"?"))
    engine.answer_ahead(answer_close=True)
    assert engine.data_to_send() == b""


# Once, whatever comes


def close_ahead(client: bool, *, pings: int, before: bytes, behind: int) -> None:
    """Pings, a message that nobody reads and a Close; then bytes, one by one, that are looked at."""
    engine = received(client, frame(client, PING) * pings, before, frame(client, CLOSE, BYE))
    for _ in range(behind):
        engine.answer_ahead()
        engine.receive(b"x")
    assert engine.close_ahead


@both_roles
@pytest.mark.parametrize("fin", [True, False], ids=["message", "fragment"])
def test_bytes_behind_a_close_that_waits_take_linear_time(client, fin):
    unread = frame(client, TEXT, b"a", fin)
    assert_linear(lambda n: close_ahead(client, pings=n, before=unread, behind=n), 1000)


@both_roles
def test_a_close_behind_messages_of_which_all_were_read_is_answered_ahead(client):
    """What was looked at before is remembered as it is now."""
    engine = received(client, frame(client, TEXT, b"a"), frame(client, PING, b"1"))
    engine.receive(frame(client, TEXT, b"b") + frame(client, PING, b"2") + frame(client, PING))
    engine.answer_ahead()
    engine.receive(frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert engine.close_ahead
    engine.data_to_send()
    assert engine.next_message().payload == "a"
    engine.answer_ahead()
    assert engine.data_to_send() == b""
    assert engine.next_message().payload == "b"
    engine.answer_ahead()
    assert answers_of(engine) == [(CLOSE, BYE)]
    assert engine.next_message() is None


# In any order


def looked_at_random(source: random.Random, engine: Engine, data: bytes) -> Received:
    """What an engine makes of data that is read, looked ahead in and answered anyhow."""
    seen = Received()
    for piece in [*split_at_random(source, data), b""]:
        engine.receive(piece)
        for _ in range(source.choice((0, 1, 1, 3))):
            engine.answer_ahead(answer_close=source.random() < 0.3)
        for _ in range(source.choice((0, 0, 1, 2, 1000)) if piece else len(data) + 1):
            try:
                message = engine.next_message()
            except ProtocolError as error:
                assert seen.violation is None
                seen.violation = error.code
                continue
            if message is None:
                break
            seen.messages.append((message.opcode, message.payload, message.fin))
            if source.random() < 0.2:
                engine.answer_ahead()
        if source.random() < 0.5:
            seen.answers += answers_of(engine)
    seen.answers += answers_of(engine)
    seen.finished = engine.finished
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_looking_ahead_at_any_time_changes_nothing_of_what_is_read_and_answered(seed):
    source = random.Random(seed)
    for _ in range(100):
        client = source.random() < 0.5
        closes = source.random() < 0.5
        data = b"".join(encode(f) for f in conversation(source, client=client, closes=closes))
        if closes:
            data += source.randbytes(source.choice((0, 1, 30)))
        expected = receive(data, client=client)
        assert expected.finished is closes
        assert looked_at_random(source, Engine(client), data) == expected


@pytest.mark.parametrize("seed", range(6))
def test_looking_ahead_past_violations_delivers_what_came_before_them(seed):
    """It may answer more Pings than it had to, and the Close behind them: but in order, once."""
    source = random.Random(seed)
    for _ in range(150):
        client = source.random() < 0.5
        frames = conversation(source, client=client, closes=True)
        data = bytearray(b"".join(encode(f) for f in frames))
        for _ in range(source.choice((1, 1, 3))):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        expected = receive(bytes(data), client=client)
        seen = looked_at_random(source, Engine(client), bytes(data))
        assert seen.messages == expected.messages
        assert seen.violation == expected.violation
        assert seen.finished == expected.finished
        assert seen.pongs[: len(expected.pongs)] == expected.pongs
        closes = [opcode for opcode, _ in seen.answers if opcode == CLOSE]
        assert len(closes) <= 1
        assert len(closes) >= expected.finished
        assert CLOSE not in [opcode for opcode, _ in seen.answers[:-1]]


@both_roles
def test_control_frames_that_were_acted_on_ahead_are_still_shown(client):
    engine = received(client, frame(client, PING, b"1"), frame(client, CLOSE, BYE))
    engine.answer_ahead()
    assert answers_of(engine) == [(PONG, b"1"), (CLOSE, BYE)]
    shown = [message.opcode for message in drain(engine, control=True)]
    assert shown == [PING, CLOSE]
    assert answers_of(engine) == []
