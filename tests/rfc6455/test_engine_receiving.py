"""The engine receives: messages, fragments and control frames, however the bytes are split.

RFC 6455 sections 5.1 to 5.6. What it must refuse: `test_engine_violations`.
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
    PING,
    PONG,
    TEXT,
    Frame,
    Received,
    conversation,
    drain,
    encode,
    frames_of,
    header,
    mask,
    observe,
    receive,
    split,
    split_at_random,
)

from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message

thorough = settings(derandomize=True, deadline=None, max_examples=examples(150))

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


def frame(client: bool, opcode: int, payload: bytes | str = b"", fin: bool = True) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    data = payload.encode() if isinstance(payload, str) else payload
    return encode(Frame(opcode, data, fin, key=None if client else KEY))


# Any messages, split anywhere


@st.composite
def exchanges(draw):
    """What one side says: the frames, without their keys, and the messages they make up."""
    frames: list[Frame] = []
    messages: list[tuple[int, str | bytes]] = []
    control = st.lists(
        st.builds(Frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2
    )
    text = st.text(max_size=40) | st.sampled_from(["aé€😀" * 30, "aé€😀" * 3000])
    binary = st.binary(max_size=40) | st.sampled_from(
        [bytes(range(126)), b"x" * 65535, b"yz" * 32768]
    )
    for payload in draw(st.lists(text | binary, max_size=5)):
        data = payload.encode() if isinstance(payload, str) else payload
        opcode = TEXT if isinstance(payload, str) else BINARY
        messages.append((opcode, payload))
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
        for start, end in zip([0, *cuts], [*cuts, None], strict=True):
            frames.append(Frame(opcode, data[start:end], end is None))
            frames += draw(control)
            opcode = CONT
    return frames, messages


pieces = st.lists(st.integers(1, 30) | st.sampled_from([300, 16384, 70_000]), max_size=60)


@thorough
@given(exchanges(), pieces, st.booleans(), st.binary(min_size=4, max_size=4))
def test_any_messages_split_anywhere_come_as_they_were(exchange, sizes, client, key):
    frames, messages = exchange
    stream = b"".join(
        encode(Frame(f.opcode, f.payload, f.fin, key=None if client else key)) for f in frames
    )
    seen = observe(Engine(client), split(stream, sizes))
    assert seen.messages == [(opcode, payload, True) for opcode, payload in messages]
    assert seen.pongs == [f.payload for f in frames if f.opcode == PING]
    assert seen == receive(stream, client=client)


@thorough
@given(exchanges(), pieces, st.booleans(), st.booleans())
def test_any_frames_split_anywhere_come_one_by_one_if_asked_for(exchange, sizes, client, control):
    frames, messages = exchange
    stream = b"".join(frame(client, f.opcode, f.payload, f.fin) for f in frames)
    seen = observe(Engine(client), split(stream, sizes), fragments=True, control=control)
    assert seen == receive(stream, client=client, fragments=True, control=control)
    assert [(opcode, fin) for opcode, _, fin in seen.messages] == [
        (f.opcode, f.fin) for f in frames if f.opcode < 8 or control
    ]


@both_roles
@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_one_byte_at_a_time_is_as_good_as_all_at_once(seed, client, fragments):
    stream = b"".join(encode(f) for f in conversation(random.Random(seed), client=client))
    expected = receive(stream, client=client, fragments=fragments, control=True)
    shape = {"fragments": fragments, "control": True}
    assert observe(Engine(client), [stream], **shape) == expected
    assert observe(Engine(client), split(stream, [1] * len(stream)), **shape) == expected


@both_roles
@pytest.mark.parametrize("size", [16383, 16384, 16385, 16400, 40_000, 70_001, 1_500_000])
@pytest.mark.parametrize("first", [0, 1, 5])
def test_a_large_frame_comes_as_it_was_however_it_is_split(client, size, first):
    """Its bytes are received straight into the message: masking must keep its place."""
    payload = random.Random(size).randbytes(2000) * (size // 2000) + bytes(size % 2000)
    start = header(BINARY, size, key=None if client else KEY)
    # The reference takes a while for so many bytes: 2,000 is a multiple of the key's size.
    masked = mask(payload[:2000], KEY) * (size // 2000) + mask(bytes(size % 2000), KEY)
    stream = start + (payload if client else masked)
    for sizes in ([len(start) + first] + [17_001, 1, 3, 8191] * 400, [len(start)], []):
        engine = Engine(client)
        seen: list[Any] = []
        for piece in split(stream, sizes):
            engine.receive(piece)
            seen += drain(engine, at_most=1)
        assert len(seen) == 1
        assert seen[0].payload == payload
        assert seen[0].len == size


@both_roles
def test_every_place_to_split_a_frame_at_keeps_the_mask_rfc_6455_5_3(client):
    payload = bytes(range(1, 41))
    stream = frame(client, BINARY, payload)
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            engine = Engine(client)
            for piece in (stream[:first], stream[first:second], stream[second:]):
                engine.receive(piece)
                message = engine.next_message()
            assert message.payload == payload


# What a message has


@both_roles
def test_what_comes_has_the_fields_of_its_frame(client):
    engine = Engine(client)
    engine.receive(frame(client, TEXT, "é") + frame(client, BINARY, b"\xff"))
    assert engine.next_message() == Message("é", 1, mask=not client)
    assert engine.next_message() == Message(b"\xff", 2, mask=not client)
    assert engine.next_message() is None


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", [[b""], [b"", b""], [b"", b"", b""], [b"", b"a", b""]])
def test_frames_may_be_empty(client, opcode, pieces):
    stream = b"".join(
        frame(client, CONT if i else opcode, piece, i == len(pieces) - 1)
        for i, piece in enumerate(pieces)
    )
    whole = b"".join(pieces)
    expected = whole.decode() if opcode == TEXT else whole
    seen = observe(Engine(client), [stream])
    assert seen.messages == [(opcode, expected, True)]
    assert len(observe(Engine(client), [stream], fragments=True).messages) == len(pieces)


@both_roles
def test_nothing_comes_of_nothing(client):
    engine = Engine(client)
    assert engine.next_message() is None
    engine.receive(b"")
    assert engine.next_message() is None
    engine.answer_ahead(answer_close=True)
    assert engine.data_to_send() == b""
    assert not engine.finished


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_received_and_not_held(kind):
    engine = Engine(True)
    data = bytearray(b"\x82\x02hi\x82\x02yo")
    with memoryview(data) as view:
        engine.receive(view if kind is memoryview else kind(data))
    data[:] = b"and it can still change and grow"
    assert [m.payload for m in drain(engine)] == [b"hi", b"yo"]


@pytest.mark.parametrize("data", [None, "text", 5, [0x82, 0]])
def test_what_is_no_bytes_is_not_received(data):
    with pytest.raises(TypeError):
        Engine(True).receive(data)


def test_a_payload_does_not_change_with_what_comes_later():
    """Buffers are used again and again: a message has a copy of its own."""
    engine = Engine(False)
    seen: list[Any] = []
    for i in range(300):
        engine.receive(frame(False, BINARY, bytes([i % 256]) * (i * 7)))
        seen += drain(engine)
    assert [m.payload for m in seen] == [bytes([i % 256]) * (i * 7) for i in range(300)]


# Fragments (section 5.4)


@both_roles
def test_control_frames_come_between_fragments_rfc_6455_5_4(client):
    stream = (
        frame(client, TEXT, "one ", False)
        + frame(client, PING, "?")
        + frame(client, CONT, "two ", False)
        + frame(client, PONG, "!")
        + frame(client, CONT, "three")
    )
    seen = observe(Engine(client), [stream])
    assert seen.messages == [(TEXT, "one two three", True)]
    assert seen.answers == [(PONG, b"?")]
    seen = observe(Engine(client), [stream], fragments=True, control=True)
    assert seen.messages == [
        (TEXT, "one ", False),
        (PING, b"?", True),
        (CONT, "two ", False),
        (PONG, b"!", True),
        (CONT, "three", True),
    ]


@both_roles
def test_a_reader_may_change_between_messages_and_fragments_at_any_point(client):
    stream = b"".join(
        frame(client, opcode, payload, fin)  # type: ignore[arg-type]
        for opcode, payload, fin in [
            (TEXT, "a", False),
            (CONT, "b", False),
            (CONT, "c", False),
            (CONT, "d", True),
            (BINARY, b"x", False),
            (CONT, b"y", True),
        ]
    )
    engine = Engine(client)
    engine.receive(stream[: len(frame(client, TEXT, "a")) * 2])  # "a" and "b"
    assert engine.next_message() is None
    engine.receive(stream[len(frame(client, TEXT, "a")) * 2 :])
    got = engine.next_message(fragments=True)
    assert (got.opcode, got.payload, got.fin) == (TEXT, "abc", False)
    got = engine.next_message()
    assert (got.opcode, got.payload, got.fin) == (CONT, "d", True)
    got = engine.next_message(fragments=True)
    assert (got.opcode, got.payload, got.fin) == (BINARY, b"x", False)
    got = engine.next_message()
    assert (got.opcode, got.payload, got.fin) == (CONT, b"y", True)


@pytest.mark.parametrize("seed", range(60))
def test_changing_between_messages_and_fragments_loses_and_repeats_nothing(seed):
    source = random.Random(seed)
    client = source.random() < 0.5
    stream = b"".join(encode(f) for f in conversation(source, client=client))
    engine = Engine(client)
    seen: list[list] = []
    for piece in split_at_random(source, stream):
        engine.receive(piece)
        while (m := engine.next_message(fragments=source.random() < 0.5)) is not None:
            if m.opcode == CONT:
                assert not seen[-1][2]
                seen[-1][1] += m.payload
                seen[-1][2] = m.fin
            else:
                assert not seen or seen[-1][2]
                seen.append([m.opcode, m.payload, m.fin])
    whole = [tuple(message) for message in seen if message[2]]
    assert whole == receive(stream, client=client).messages


# Ping and Pong (sections 5.5.2 and 5.5.3)


@both_roles
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 124, 125])
def test_a_ping_is_answered_with_its_payload_rfc_6455_5_5_2(client, size):
    payload = bytes(range(size))
    engine = Engine(client)
    engine.receive(frame(client, PING, payload))
    assert engine.data_to_send() == b""
    assert engine.next_message() is None
    (answer,) = frames_of(engine.data_to_send())
    assert (answer.opcode, answer.payload, answer.fin) == (PONG, payload, True)
    assert (answer.key is None) is not client


@both_roles
def test_pings_are_answered_in_their_order_each_once(client):
    payloads = [bytes([i]) * (i % 126) for i in range(200)]
    seen = observe(Engine(client), [b"".join(frame(client, PING, p) for p in payloads)])
    assert seen == Received([], [(PONG, p) for p in payloads])


@both_roles
def test_a_ping_is_answered_while_we_are_closing_and_not_after_the_peers_close(client):
    engine = Engine(client)
    engine.send_close()
    engine.data_to_send()
    engine.receive(frame(client, PING, "1") + frame(client, CLOSE) + frame(client, PING, "2"))
    assert list(drain(engine)) == []
    assert [(f.opcode, f.payload) for f in frames_of(engine.data_to_send())] == [(PONG, b"1")]


@both_roles
def test_control_frames_are_shown_on_request_and_acted_on_all_the_same(client):
    stream = (
        frame(client, PING, "?") + frame(client, PONG, "!") + frame(client, CLOSE, b"\x03\xe8.")
    )
    engine = Engine(client)
    engine.receive(stream)
    shown = list(drain(engine, control=True))
    assert shown == [
        Message(b"?", 9, mask=not client),
        Message(b"!", 10, mask=not client),
        Message(b"\x03\xe8.", 8, mask=not client),
    ]
    assert [f.opcode for f in frames_of(engine.data_to_send())] == [PONG, CLOSE]


@both_roles
def test_a_pong_answers_its_ping_and_all_earlier_ones_rfc_6455_5_5_3(client):
    engine = Engine(client)
    for payload in (b"1", b"2", b"3", b"4"):
        engine.send_ping(payload)
    assert engine.pop_answered() == []
    engine.receive(frame(client, PONG, "3"))
    assert list(drain(engine)) == []
    assert engine.pop_answered() == [b"1", b"2", b"3"]
    assert engine.pop_answered() == []
    engine.receive(frame(client, PONG, "1") + frame(client, PONG, "3") + frame(client, PONG))
    assert list(drain(engine)) == []
    assert engine.pop_answered() == []
    engine.receive(frame(client, PONG, "4"))
    assert list(drain(engine)) == []
    assert engine.pop_answered() == [b"4"]


@both_roles
def test_a_pong_that_no_ping_asked_for_is_ignored_rfc_6455_5_5_3(client):
    engine = Engine(client)
    assert observe(engine, [frame(client, PONG, "x") * 10]) == Received()
    engine.send_ping(b"not this one", expected=False)
    engine.receive(frame(client, PONG, "not this one"))
    assert list(drain(engine)) == []
    assert engine.pop_answered() == []


@both_roles
def test_pings_with_the_same_payload_are_answered_one_by_one(client):
    engine = Engine(client)
    for payload in (b"", b"a", b"", b""):
        engine.send_ping(payload)
    answered = []
    for _ in range(4):
        engine.receive(frame(client, PONG))
        assert list(drain(engine)) == []
        answered.append(engine.pop_answered())
    assert answered == [[b""], [b"a", b""], [b""], []]


# Behind a backlog of bytes to send, only the newest Ping is answered (section 5.5.3)


def backlogged(client: bool) -> Engine:
    engine = Engine(client)
    engine.send_message(Message(bytes(20_000)))
    return engine


def sent_after_the_backlog(engine: Engine) -> list[tuple[int, bytes]]:
    data = engine.data_to_send()
    frames = frames_of(data)
    assert frames[0].payload == bytes(20_000)
    rest = frames[1:]
    while data := engine.data_to_send():
        rest += frames_of(data)
    return [(f.opcode, f.payload) for f in rest]


@both_roles
def test_behind_a_backlog_only_the_newest_ping_is_answered_rfc_6455_5_5_3(client):
    engine = backlogged(client)
    for i in range(1000):
        engine.receive(frame(client, PING, str(i)))
        assert list(drain(engine)) == []
    assert sent_after_the_backlog(engine) == [(PONG, b"999")]
    engine.receive(frame(client, PING, "next"))
    assert list(drain(engine)) == []
    assert [(f.opcode, f.payload) for f in frames_of(engine.data_to_send())] == [(PONG, b"next")]


@both_roles
@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_the_newest_ping_may_have_any_payload(client, payload):
    engine = backlogged(client)
    engine.receive(frame(client, PING, b"y" * 125) + frame(client, PING, payload))
    assert list(drain(engine)) == []
    assert sent_after_the_backlog(engine) == [(PONG, payload)]


@both_roles
def test_a_ping_flood_that_nobody_drains_takes_bounded_memory(client):
    engine = Engine(client)
    flood = frame(client, PING, b"x" * 125) * 500
    for _ in range(200):
        engine.receive(flood)
        assert list(drain(engine)) == []
    data = engine.data_to_send()
    assert len(data) < 17_000
    assert len(frames_of(data + engine.data_to_send())) < 140
    assert engine.data_to_send() == b""


@both_roles
def test_the_late_pong_goes_out_before_our_close(client):
    engine = backlogged(client)
    engine.receive(frame(client, PING, "?"))
    assert list(drain(engine)) == []
    engine.send_close(1000)
    assert sent_after_the_backlog(engine) == [(PONG, b"?"), (CLOSE, b"\x03\xe8")]


@both_roles
@pytest.mark.parametrize("bad", [False, True], ids=["the peer's", "a failure's"])
def test_no_pong_is_sent_after_the_answer_to_a_close_rfc_6455_5_5_2(client, bad):
    engine = backlogged(client)
    closing = b"\x83\x80" + KEY if bad else frame(client, CLOSE, b"\x03\xe8")
    engine.receive(frame(client, PING, "?") + closing)
    try:
        assert engine.next_message() is None
    except ConnectionError:
        assert bad
    assert [opcode for opcode, _ in sent_after_the_backlog(engine)] == [CLOSE]
