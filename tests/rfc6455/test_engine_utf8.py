"""The engine checks text as it arrives: RFC 6455 section 8.1, UTF-8 by RFC 3629 section 4.

What is right is what Python decodes, and what such a thing may begin with. (Python's own
incremental decoder is no measure: it waits for a third byte behind ED A0.)
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from tests.helpers.reference_frames import (
    BEGINNINGS,
    BINARY,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    Violation,
    answers_of,
    decode_text,
    drain,
    encode,
    header,
    mask,
    observe,
    receive,
)

from coro_websocket import ProtocolError
from coro_websocket._rfc6455.engine import Engine

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

# At the edges of what one, two, three and four bytes can say, and of the surrogates.
EDGES = "\0\x7f\x80\u07ff\u0800\u0fff\u1000\ucfff\ud000\ud7ff\ue000\ufdd0\ufeff\ufffe\uffff"
EDGES += "\U00010000\U0003ffff\U00040000\U000fffff\U00100000\U0010fffe\U0010ffff"

# Text that cannot be, and the index of its first impossible byte.
IMPOSSIBLE = [
    (b"\x80", 0),
    (b"\xbf", 0),
    (b"\xc0\x80", 0),  # overlong
    (b"\xc1\xbf", 0),
    (b"\xe0\x80\x80", 1),
    (b"\xe0\x9f\xbf", 1),
    (b"\xf0\x80\x80\x80", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xed\xa0\x80", 1),  # surrogates
    (b"\xed\xbf\xbf", 1),
    (b"\xf4\x90\x80\x80", 1),  # over U+10FFFF
    (b"\xf5\x80\x80\x80", 0),
    (b"\xf8\x88\x80\x80\x80", 0),
    (b"\xfc\x84\x80\x80\x80\x80", 0),
    (b"\xfe", 0),
    (b"\xff", 0),
    (b"\xc3\x28", 1),  # broken off
    (b"\xe2\x82\x28", 2),
    (b"\xe2\x28\xa1", 1),
    (b"\xf0\x9f\x98\x28", 3),
    (b"\xf0\x9f\x28\x80", 2),
    (b"\xc3\xc3\xa9", 1),
    (b"\xe2\x82\xe2\x82\xac", 2),
    (b"\xf0\x9f\x98\xf0\x9f\x98\x80", 3),
    (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 12),  # Autobahn's
    (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 12),
]

BEGUN = [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xed\x9f", b"\xf4"]


def possible(data: bytes) -> bool:
    """Whether data may be the beginning of UTF-8."""
    try:
        decode_text(data, ends=False)
    except Violation:
        return False
    return True


def text_frame(client: bool, data: bytes, *, opcode: int = TEXT, fin: bool = True) -> bytes:
    return encode(Frame(opcode, data, fin, key=None if client else KEY))


def refuses(client: bool, *pieces: bytes) -> bool:
    """Whether the engine fails the connection with 1007 for what these pieces begin."""
    engine = Engine(client)
    try:
        for piece in pieces:
            engine.receive(piece)
            engine.next_message()
    except ProtocolError as error:
        assert error.code == 1007
        return True
    return False


def refuses_beginning(data: bytes, *, client: bool = True) -> bool:
    """Whether it fails for the beginning of a longer text frame."""
    start = header(TEXT, len(data) + 5, key=None if client else KEY)
    return refuses(client, start + (data if client else mask(data, KEY)))


# Exhaustively


def test_the_beginnings_that_are_possible_are_those_of_all_characters():
    characters = [chr(n).encode() for n in range(0x110000) if not 0xD800 <= n <= 0xDFFF]
    beginnings = {c[:size] for c in characters if len(c) > 1 for size in range(1, len(c))}
    assert beginnings == BEGINNINGS


def test_every_beginning_of_one_and_two_bytes_is_judged_as_by_python_rfc_6455_8_1():
    for first in range(256):
        assert refuses_beginning(bytes([first])) is not possible(bytes([first]))
    for pair in itertools.product(range(256), repeat=2):
        data = bytes(pair)
        if refuses_beginning(data) is possible(data):
            pytest.fail(f"wrong about {data!r}")


def test_beginnings_of_three_and_four_bytes_are_judged_as_by_python_rfc_6455_8_1():
    edges = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    for lead in range(0xE0, 0xF8):
        for second in edges:
            if not possible(bytes([lead, second])):
                continue
            for third in range(256):
                data = bytes([lead, second, third])
                if refuses_beginning(data) is possible(data):
                    pytest.fail(f"wrong about {data!r}")
                if lead >= 0xF0 and third in edges and possible(data):
                    for fourth in range(256):
                        longer = data + bytes([fourth])
                        if refuses_beginning(longer) is possible(longer):
                            pytest.fail(f"wrong about {longer!r}")


def test_every_whole_text_of_two_bytes_is_judged_as_by_python():
    for pair in itertools.product(range(256), repeat=2):
        data = bytes(pair)
        engine = Engine(True)
        engine.receive(b"\x81\x02" + data)
        try:
            expected = data.decode()
        except UnicodeDecodeError:
            with pytest.raises(ProtocolError):
                engine.next_message()
        else:
            assert engine.next_message().payload == expected


@both_roles
@pytest.mark.parametrize("character", EDGES)
def test_every_edge_of_unicode_passes_whole_split_and_in_fragments(client, character):
    data = character.encode()
    assert not refuses(client, text_frame(client, data))
    for cut in range(len(data) + 1):
        whole = text_frame(client, data)
        at = len(whole) - len(data) + cut
        assert not refuses(client, whole[:at], whole[at:])
        stream = text_frame(client, data[:cut], fin=False)
        stream += text_frame(client, data[cut:], opcode=CONT)
        assert observe(Engine(client), [stream]).messages == [(TEXT, character, True)]


# On the first impossible byte


@both_roles
@pytest.mark.parametrize("before", [b"", b"a" * 7, b"a" * 40, "é😀".encode()], ids=len)
@pytest.mark.parametrize(("data", "at"), IMPOSSIBLE, ids=lambda value: repr(value))
def test_a_frame_fails_on_its_first_impossible_byte_rfc_6455_8_1(client, data, at, before):
    data = before + data
    at += len(before)
    stream = text_frame(client, data + b" and more")
    start = len(stream) - len(data) - 9
    engine = Engine(client)
    engine.receive(stream[: start + at])
    assert engine.next_message() is None
    assert engine.data_to_send() == b""
    engine.receive(stream[start + at : start + at + 1])
    with pytest.raises(ProtocolError, match=r"text message that is not UTF-8.*8\.1") as caught:
        engine.next_message()
    assert caught.value.code == 1007
    assert answers_of(engine) == [(8, (1007).to_bytes(2, "big"))]


@both_roles
@pytest.mark.parametrize(("data", "at"), IMPOSSIBLE, ids=lambda value: repr(value))
@pytest.mark.parametrize("fragments", [False, True])
def test_a_message_fails_on_its_first_impossible_byte_across_fragments(client, data, at, fragments):
    """Each byte is a fragment of its own, with a Ping and an empty fragment behind it."""
    engine = Engine(client)
    opcode = TEXT
    for i, byte in enumerate(data):
        stream = text_frame(client, bytes([byte]), opcode=opcode, fin=False)
        engine.receive(stream + text_frame(client, b"", opcode=CONT, fin=False))
        engine.receive(encode(Frame(PING, b"?", key=None if client else KEY)))
        opcode = CONT
        if i == at:
            with pytest.raises(ProtocolError):
                list(drain(engine, fragments=fragments))
            break
        assert "".join(m.payload for m in drain(engine, fragments=fragments)).isprintable()
    assert engine.finished
    assert answers_of(engine)[:-1] == [(PONG, b"?")] * at


@both_roles
@pytest.mark.parametrize(("data", "at"), IMPOSSIBLE, ids=lambda value: repr(value))
def test_impossible_text_fails_however_it_comes(client, data, at):
    whole = text_frame(client, data)
    cut = text_frame(client, data[: at + 1], fin=False)
    later = text_frame(client, b"", fin=False) + text_frame(client, data, opcode=CONT)
    for stream in (whole, cut, later):
        for fragments in (False, True):
            seen = observe(Engine(client), [stream], fragments=fragments)
            assert seen == receive(stream, client=client, fragments=fragments)
            assert seen.violation == 1007


@both_roles
@pytest.mark.parametrize("data", BEGUN, ids=repr)
@pytest.mark.parametrize("fragments", [False, True])
def test_a_text_cannot_end_inside_a_character_rfc_6455_8_1(client, data, fragments):
    for before in (b"", b"a", b"a" * 100, "é".encode()):
        whole = text_frame(client, before + data)
        last_empty = text_frame(client, before + data, fin=False)
        last_empty += text_frame(client, b"", opcode=CONT)
        in_two = text_frame(client, before, fin=False) + text_frame(client, data, opcode=CONT)
        for stream in (whole, last_empty, in_two):
            seen = observe(Engine(client), [stream[:5], stream[5:]], fragments=fragments)
            assert seen.violation == 1007
            assert all(not fin for _, _, fin in seen.messages)


@pytest.mark.parametrize("size", [*range(1, 36), 63, 64, 65])
def test_one_bad_byte_is_found_wherever_it_is(size):
    """ASCII is checked many bytes at a time."""
    for at in range(size):
        data = bytearray(b"a" * size)
        for bad in (0x80, 0xFF):
            data[at] = bad
            assert refuses(True, text_frame(True, bytes(data)))
            assert refuses_beginning(bytes(data))
            assert not refuses_beginning(bytes(data[:at]))


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_one_character_is_let_through_wherever_it_is(character):
    for size in range(36):
        for at in range(size):
            text = "a" * at + character + "a" * (size - at)
            assert not refuses(True, text_frame(True, text.encode()))
            assert not refuses_beginning(text.encode(), client=False)


@both_roles
@pytest.mark.parametrize("at", [0, 100, 16383, 16384, 20_000, 50_000, 99_999])
def test_a_large_text_fails_as_soon_as_its_bad_byte_is_there(client, at):
    """Its bytes are received straight into the message."""
    size = 100_000
    data = b"a" * at + b"\xff" + b"a" * (size - at - 1)
    key = bytes(4)  # masking changes nothing
    start = header(TEXT, size, key=None if client else key)
    engine = Engine(client)
    engine.receive(start)
    assert engine.next_message() is None
    for begin in range(0, at, 7000):
        engine.receive(data[begin : min(begin + 7000, at)])
        assert engine.next_message() is None
    engine.receive(data[at : at + 1])
    with pytest.raises(ProtocolError):
        engine.next_message()


# What came before it


@both_roles
def test_what_came_before_the_bad_text_is_delivered_and_answered_first(client):
    key = None if client else KEY
    good = encode(Frame(TEXT, b"first", key=key)) + encode(Frame(PING, b"?", key=key))
    good += encode(Frame(BINARY, b"second", key=key))
    seen = observe(Engine(client), [good + text_frame(client, b"bad\xff") + good])
    assert seen.messages == [(TEXT, "first", True), (BINARY, b"second", True)]
    assert seen.answers == [(PONG, b"?"), (8, (1007).to_bytes(2, "big"))]
    assert seen.violation == 1007


@both_roles
def test_fragments_before_the_bad_one_are_delivered_if_asked_for(client):
    stream = text_frame(client, b"a\xe2", fin=False) + text_frame(client, b"\x82", opcode=CONT)
    seen = observe(Engine(client), [stream], fragments=True)
    assert seen.messages == [(TEXT, "a", False)]
    assert seen.violation == 1007


@both_roles
def test_a_new_text_begins_with_a_clean_slate(client):
    stream = text_frame(client, "😀".encode()[:2], fin=False)
    stream += text_frame(client, "😀".encode()[2:], opcode=CONT)
    seen = observe(Engine(client), [(stream + text_frame(client, b"a")) * 3])
    assert [payload for _, payload, _ in seen.messages] == ["😀", "a"] * 3


@both_roles
def test_binary_is_not_checked(client):
    data = bytes(range(256))
    stream = encode(Frame(BINARY, data, key=None if client else KEY))
    stream += encode(Frame(BINARY, data, False, key=None if client else KEY))
    stream += encode(Frame(CONT, data, key=None if client else KEY))
    seen = observe(Engine(client), [stream[:100], stream[100:]])
    assert seen.messages == [(BINARY, data, True), (BINARY, data * 2, True)]


# Characters at the borders of fragments


@pytest.mark.parametrize("text", ["é", "€", "😀", "aé€😀z", "😀" * 5, "\U0010ffff\ud7ff\x7f"])
def test_a_character_comes_with_the_fragment_that_ends_it(text):
    data = text.encode()
    for cuts in itertools.combinations_with_replacement(range(len(data) + 1), 2):
        pieces = [data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]]
        stream = b"".join(
            text_frame(False, piece, opcode=CONT if i else TEXT, fin=i == 2)
            for i, piece in enumerate(pieces)
        )
        seen = observe(Engine(False), [stream], fragments=True)
        expected, begun = [], b""
        for piece in pieces:
            characters, begun = decode_text(begun + piece, ends=False)
            expected.append(characters)
        assert [payload for _, payload, _ in seen.messages] == expected
        assert "".join(expected) == text


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7])
def test_text_in_tiny_fragments_is_whole_again_when_joined(chunk):
    source = random.Random(chunk)
    text = "".join(source.choices("aé€😀" + EDGES, k=2000))
    data = text.encode()
    engine = Engine(True)
    got: list[Any] = []
    for at in range(0, len(data), chunk):
        fin = at + chunk >= len(data)
        opcode = CONT if at else TEXT
        engine.receive(text_frame(True, data[at : at + chunk], opcode=opcode, fin=fin))
        got += drain(engine, fragments=True)
    assert "".join(m.payload for m in got) == text
    assert sum(m.len for m in got) == len(data)
    assert [m.fin for m in got] == [False] * (len(got) - 1) + [True]
