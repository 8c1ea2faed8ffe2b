"""Frames: encoding, decoding, masking and its keys. RFC 6455 sections 5.2, 5.3, 5.5, 10.3."""

from __future__ import annotations

import itertools
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import examples
from tests.helpers.reference_frames import (
    KEY,
    OPCODES,
    RESERVED_OPCODES,
    Frame,
    Violation,
    decode,
    encode,
    header,
    mask,
)

from coro_websocket import InvalidMessage, LimitError, ProtocolError
from coro_websocket._rfc6455.frames import _forget_masking_keys, decode_frame, encode_frame
from coro_websocket._rfc6455.messages import Message

BOUNDARIES = {
    0: "00",
    1: "01",
    125: "7d",
    126: "7e 007e",
    127: "7e 007f",
    255: "7e 00ff",
    256: "7e 0100",
    65535: "7e ffff",
    65536: "7f 0000000000010000",
    65537: "7f 0000000000010001",
}

thorough = settings(derandomize=True, deadline=None, max_examples=examples(200))


def payload_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def message_of(frame: Frame) -> Message:
    """The message that a frame of the reference is."""
    return Message(
        frame.payload,
        frame.opcode,
        fin=frame.fin,
        rsv1=bool(frame.rsv & 4),
        rsv2=bool(frame.rsv & 2),
        rsv3=bool(frame.rsv & 1),
        mask=frame.key is not None,
    )


def key_of(data: bytes) -> bytes:
    found = decode(data)
    assert found is not None
    assert found[0].key is not None
    return found[0].key


@st.composite
def frames(draw):
    opcode = draw(st.sampled_from(OPCODES))
    control = opcode >= 8
    sizes = (
        st.integers(0, 125) if control else st.integers(0, 300) | st.sampled_from([65535, 65536])
    )
    return Frame(
        opcode,
        payload_of(draw(sizes)),
        True if control else draw(st.booleans()),
        draw(st.integers(0, 7)),
        draw(st.none() | st.binary(min_size=4, max_size=4)),
    )


# Lengths (section 5.2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", BOUNDARIES)
def test_a_length_is_written_in_its_shortest_encoding_rfc_6455_5_2(size, masked):
    payload = payload_of(size)
    length = bytearray.fromhex(BOUNDARIES[size])
    length[0] |= 0x80 if masked else 0
    data = encode_frame(Message(payload, mask=masked))
    assert data[: 1 + len(length)] == b"\x82" + length
    assert len(data) == 1 + len(length) + (4 if masked else 0) + size
    assert decode(data) == (Frame(2, payload, key=key_of(data) if masked else None), len(data))


@pytest.mark.parametrize("key", [None, KEY, bytes(4), b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("size", BOUNDARIES)
def test_a_length_is_read_in_its_shortest_encoding_rfc_6455_5_2(size, key):
    frame = Frame(2, payload_of(size), key=key)
    data = encode(frame)
    assert decode_frame(data, 0, None) == (message_of(frame), len(data))


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(
    ("length", "length_size"),
    [(0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)],
)
def test_a_longer_encoding_than_the_shortest_is_refused_rfc_6455_5_2(length, length_size, key):
    data = header(2, length, length_size=length_size, key=key)
    with pytest.raises(ProtocolError, match=rf"shortest encoding: {length} .*5\.2") as caught:
        decode_frame(data + bytes(length), 0, None)
    assert caught.value.code == 1002
    with pytest.raises(ProtocolError):
        decode_frame(data[: 2 + length_size], 0, None)  # as soon as it shows


@pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**64 - 1])
@pytest.mark.parametrize("key", [None, KEY])
def test_a_length_with_the_most_significant_bit_is_refused_rfc_6455_5_2(length, key):
    with pytest.raises(ProtocolError, match=r"most significant bit.*5\.2") as caught:
        decode_frame(header(2, length, key=key), 0, None)
    assert caught.value.code == 1002
    with pytest.raises(ProtocolError):
        decode_frame(header(2, length, key=key), 0, 1000)


@pytest.mark.parametrize("length", [2**63 - 1, 2**63 - 14, 2**62, 2**32, 2**31])
@pytest.mark.parametrize("key", [None, KEY])
def test_the_largest_length_is_only_a_frame_that_is_not_here_yet(length, key):
    data = header(2, length, key=key) + b"abc"
    assert decode_frame(data, 0, None) is None
    assert decode_frame(b"x" + data, 1, None) is None


# The first two bytes (sections 5.2, 5.4 and 5.5)


@pytest.mark.parametrize("opcode", RESERVED_OPCODES)
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("second", [0, 0x80, 125, 126, 127, 255])
def test_a_reserved_opcode_is_refused_by_two_bytes_rfc_6455_5_2(opcode, fin, second):
    data = bytes([fin << 7 | opcode, second])
    with pytest.raises(ProtocolError, match=rf"opcode {opcode:#x} .*5\.2") as caught:
        decode_frame(data, 0, None)
    assert caught.value.code == 1002


@pytest.mark.parametrize("opcode", [8, 9, 10])
@pytest.mark.parametrize("second", [0, 125, 0x80, 0xFD])
def test_a_control_frame_cannot_be_fragmented_rfc_6455_5_4(opcode, second):
    with pytest.raises(ProtocolError, match=r"5\.4") as caught:
        decode_frame(bytes([opcode, second]), 0, None)
    assert caught.value.code == 1002


@pytest.mark.parametrize("opcode", [8, 9, 10])
@pytest.mark.parametrize("second", [126, 127, 0xFE, 0xFF])
def test_a_control_frame_has_at_most_125_bytes_rfc_6455_5_5(opcode, second):
    with pytest.raises(ProtocolError, match=r"125 bytes.*5\.5") as caught:
        decode_frame(bytes([0x80 | opcode, second]), 0, None)
    assert caught.value.code == 1002


@pytest.mark.parametrize("opcode", [8, 9, 10])
@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_a_control_frame_may_have_125_bytes_rfc_6455_5_5(opcode, size):
    frame = Frame(opcode, payload_of(size), key=KEY)
    assert decode_frame(encode(frame), 0, None) == (message_of(frame), 6 + size)


def test_every_pair_of_first_bytes_is_judged_as_by_the_reference():
    for first, second in itertools.product(range(256), range(256)):
        data = bytes([first, second])
        try:
            expected = decode(data)
        except Violation as error:
            with pytest.raises(ProtocolError) as caught:
                decode_frame(data, 0, None)
            assert caught.value.code == error.code
        else:
            found = decode_frame(data, 0, None)
            assert (found is None) is (expected is None)


@pytest.mark.parametrize("rsv", range(8))
def test_reserved_bits_are_kept_for_those_who_know_what_they_mean(rsv):
    frame = Frame(1, b"x", rsv=rsv)
    data = encode(frame)
    assert decode_frame(data, 0, None) == (message_of(frame), 3)
    assert encode_frame(message_of(frame)) == data


# Round trips


@thorough
@given(frames(), st.binary(max_size=9), st.binary(max_size=9))
def test_what_the_reference_encodes_is_decoded_wherever_it_begins(frame, before, after):
    data = encode(frame)
    found = decode_frame(before + data + after, len(before), None)
    assert found == (message_of(frame), len(before) + len(data))
    message = found[0]
    assert type(message.payload) is bytes
    assert message.len == len(frame.payload)


@thorough
@given(frames())
def test_what_is_encoded_is_decoded_by_the_reference_and_by_decode(frame):
    message = message_of(frame)
    data = encode_frame(message)
    found = decode(data)
    assert found is not None
    theirs, size = found
    assert size == len(data)
    assert (theirs.opcode, theirs.payload) == (frame.opcode, frame.payload)
    assert (theirs.fin, theirs.rsv) == (frame.fin, frame.rsv)
    assert (theirs.key is None) is (frame.key is None)
    assert decode_frame(data, 0, None) == (message, len(data))


@pytest.mark.parametrize("text", ["", "é", "€" * 42, "😀" * 20_000])
def test_text_is_encoded_as_utf_8_rfc_6455_5_6(text):
    for message in (Message(text, 1), Message(text, 2), Message(text, 1, mask=True)):
        found = decode(encode_frame(message))
        assert found is not None
        assert found[0].payload == text.encode()


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("size", [0, 5, 125, 126, 1000, 65535, 65536])
def test_a_truncated_frame_is_none_wherever_it_is_cut(size, key):
    data = encode(Frame(2, payload_of(size), key=key))
    cuts = {*range(min(len(data), 150)), *range(max(len(data) - 20, 0), len(data))}
    for end in cuts | set(range(0, len(data), 997)):
        assert decode_frame(data[:end], 0, None) is None
        assert decode_frame(b"before" + data[:end], 6, None) is None
    assert decode_frame(data, 0, None) is not None


def test_behind_the_end_there_is_no_frame():
    for index in (2, 3, 1000, 2**63 - 1):
        assert decode_frame(b"\x82\x00", index, None) is None
    assert decode_frame(b"", 0, None) is None


def test_random_bytes_are_judged_as_by_the_reference():
    source = random.Random(6455)
    for _ in range(20_000):
        data = source.randbytes(source.randrange(40))
        if data and source.random() < 0.8:  # most first bytes are wrong: say more right ones
            first = source.choice(OPCODES) | source.choice((0, 0x80, 0x80, 0xC0))
            data = bytes([first]) + data[1:]
        try:
            expected = decode(data)
        except Violation as error:
            with pytest.raises(ProtocolError) as caught:
                decode_frame(data, 0, None)
            assert caught.value.code == error.code
            continue
        found = decode_frame(data, 0, None)
        assert found == (expected and (message_of(expected[0]), expected[1]))


# Masking (section 5.3)


def test_the_examples_of_rfc_6455_5_7():
    masked = bytes.fromhex("8185 37fa213d 7f9f4d5158")
    assert decode_frame(masked, 0, None) == (Message(b"Hello", 1, mask=True), 11)
    assert mask(b"Hello", KEY) == masked[6:]
    assert encode_frame(Message("Hello", 1)) == b"\x81\x05Hello"


@pytest.mark.parametrize("size", [*range(36), 63, 64, 65, 127, 128, 129])
def test_masking_is_right_at_every_size_and_alignment_rfc_6455_5_3(size):
    payload = payload_of(size)
    data = encode(Frame(2, payload, key=KEY))
    for index in range(9):
        found = decode_frame(bytes(index) + data, index, None)
        assert found is not None
        assert found[0].payload == payload
    again = encode_frame(Message(payload, mask=True))
    assert again[len(again) - size :] == mask(payload, key_of(again))


@pytest.mark.parametrize("mask_bit", [False, True])
def test_a_frame_is_masked_if_the_message_says_so(mask_bit):
    data = encode_frame(Message(b"abc", mask=mask_bit))
    assert (data[1] & 0x80 != 0) is mask_bit
    assert len(data) == (9 if mask_bit else 5)


# Masking keys (section 10.3)


@pytest.fixture
def random_source(monkeypatch):
    """The operating system's random source, made to count; what it has been asked for."""
    asked = []

    def counting(size):
        asked.append(size)
        start = len(asked) << 20
        return b"".join((start + n).to_bytes(4, "big") for n in range(size // 4))

    _forget_masking_keys()
    monkeypatch.setattr(os, "urandom", counting)
    yield asked
    monkeypatch.undo()
    _forget_masking_keys()


def test_every_key_is_four_fresh_bytes_of_the_operating_system_rfc_6455_10_3(random_source):
    keys = [key_of(encode_frame(Message(b"x", mask=True))) for _ in range(5000)]
    assert len(set(keys)) == len(keys)
    assert {int.from_bytes(key, "big") >> 20 for key in keys} == set(
        range(1, len(random_source) + 1)
    )
    assert sum(random_source) >= 4 * len(keys)


def test_the_random_source_is_read_in_blocks(random_source):
    for _ in range(5000):
        encode_frame(Message(b"x", mask=True))
    assert len(random_source) <= 5000 / 500


def test_frames_without_a_mask_use_up_no_keys(random_source):
    for _ in range(2000):
        encode_frame(Message(b"x"))
    assert random_source == []


def test_a_random_source_that_fails_lets_no_frame_out(random_source, monkeypatch):
    def fail(size):
        raise OSError("no entropy")

    monkeypatch.setattr(os, "urandom", fail)
    for _ in range(3):
        with pytest.raises(OSError, match="no entropy"):
            encode_frame(Message(b"x", mask=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_other_keys_than_its_parent_rfc_6455_10_3():
    def keys() -> set[bytes]:
        return {key_of(encode_frame(Message(b"x", mask=True))) for _ in range(16)}

    keys()  # there is a pool, and it is not used up
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writable, b"".join(keys()))
        finally:
            os._exit(0)
    os.close(writable)
    of_parent = keys()
    with open(readable, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    of_child = {data[i : i + 4] for i in range(0, len(data), 4)}
    assert len(of_child) == len(of_parent) == 16
    assert not of_child & of_parent


# What is refused


@pytest.mark.parametrize("key", [None, KEY])
def test_a_frame_over_max_size_is_refused_by_its_header(key):
    data = encode(Frame(2, bytes(1001), key=key))
    start = len(data) - 1001
    with pytest.raises(LimitError, match="1001 bytes; max_size is 1000") as caught:
        decode_frame(data[:start], 0, 1000)
    error = caught.value
    assert (error.code, error.limit, error.value, error.actual) == (1009, "max_size", 1000, 1001)
    assert decode_frame(data, 0, 1001) is not None
    assert decode_frame(data, 0, None) is not None
    assert decode_frame(data[: start - 1], 0, 1000) is None


def test_a_max_size_may_be_0_or_larger_than_any_length():
    assert decode_frame(b"\x82\x00", 0, 0) is not None
    with pytest.raises(LimitError):
        decode_frame(b"\x82\x01", 0, 0)
    assert decode_frame(header(2, 2**63 - 1), 0, 2**100) is None
    with pytest.raises(LimitError):
        decode_frame(header(2, 2**63 - 1), 0, 2**63 - 2)


def test_an_announced_size_is_not_allocated():
    for length in (2**20, 2**40, 2**63 - 1):
        assert decode_frame(header(2, length, key=KEY) + b"x", 0, None) is None


@pytest.mark.parametrize(
    "message",
    [
        *(Message(b"", opcode) for opcode in RESERVED_OPCODES),
        *(Message(b"", opcode, fin=False) for opcode in (8, 9, 10)),
        *(Message(bytes(126), opcode) for opcode in (8, 9, 10)),
        Message(bytes(65536), 9),
        Message("é" * 63, 9),
        Message(bytes(126), 8, mask=True),
    ],
    ids=repr,
)
def test_what_no_peer_would_take_is_not_encoded(message):
    with pytest.raises(InvalidMessage, match="not a frame"):
        encode_frame(message)


def test_the_check_can_be_left_out_to_test_a_peer():
    assert encode_frame(Message(b"x", 3, fin=False), check=False) == b"\x03\x01x"
    assert encode_frame(Message(bytes(126), 9), check=False) == b"\x89\x7e\x00\x7e" + bytes(126)


@pytest.mark.parametrize("message", [None, "x", b"x", {"payload": b"x"}])
def test_only_messages_are_encoded(message):
    with pytest.raises(TypeError):
        encode_frame(message)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_decoded_and_not_held(kind):
    data = kind(b"\x81\x02hi")
    assert decode_frame(data, 0, None) == (Message(b"hi", 1), 4)
    bad = bytearray(b"\x83\x00")
    with pytest.raises(ProtocolError):
        decode_frame(bad, 0, None)
    bad[:] = b"\x82\x02hi"
    with pytest.raises(LimitError):
        decode_frame(bad, 0, 1)
    bad.extend(b"it can still grow")


def test_a_payload_does_not_follow_the_buffer_that_it_came_in():
    data = bytearray(b"\x81\x02hi")
    found = decode_frame(data, 0, None)
    data[2:] = b"no"
    assert found == (Message(b"hi", 1), 4)


@pytest.mark.parametrize(
    "data",
    [None, "text", 5, [0x82, 0], memoryview(b"\x82\x00\x00\x00")[::2]],
    ids=["None", "str", "int", "list", "view with gaps"],
)
def test_what_is_no_plain_run_of_bytes_is_refused(data):
    with pytest.raises((TypeError, ValueError, BufferError)):
        decode_frame(data, 0, None)


@pytest.mark.parametrize("index", [-1, -(2**63), 2**64])
def test_an_index_that_is_none_is_refused(index):
    with pytest.raises(OverflowError):
        decode_frame(b"\x82\x00", index, None)
