"""What a peer can make the engine hold: `max_message_size`, and memory in general.

RFC 6455 sections 7.4.1 (code 1009) and 10.4. Memory follows the bytes that are here,
never those that are announced; what is done with is given back.
"""

from __future__ import annotations

import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

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
    conversation,
    drain,
    encode,
    header,
    observe,
    split,
)

from coro_websocket import InvalidMessage, LimitError, ProtocolError
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message, as_message

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

KIB, MIB = 1024, 1024 * 1024
LARGEST = 2**63 - 1 - 1024  # what one object in memory may be


def frame(client: bool, opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    return encode(Frame(opcode, payload, fin, key=None if client else KEY))


def start(client: bool, opcode: int, length: int, fin: bool = True) -> bytes:
    """The header of such a frame; masking changes none of its bytes."""
    return header(opcode, length, fin=fin, key=None if client else bytes(4))


def limit_error(engine: Engine) -> LimitError:
    """The LimitError that ends a connection, after what came before it."""
    with pytest.raises(LimitError) as caught:
        list(drain(engine))
    assert engine.error is caught.value
    assert engine.next_message() is None
    assert answers_of(engine) == [(CLOSE, (1009).to_bytes(2, "big"))]
    return caught.value


# max_message_size


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 2, 10, 125, 126, 65535, 65536])
def test_a_message_may_be_as_large_as_the_limit_and_no_larger(client, opcode, limit):
    engine = Engine(client, max_message_size=limit)
    observe(engine, [start(client, opcode, 0)])
    engine.receive(start(client, opcode, limit) + bytes(limit))
    assert engine.next_message().len == limit
    engine.receive(start(client, opcode, limit + 1))  # the header alone shows it
    error = limit_error(engine)
    assert (error.limit, error.value, error.actual) == ("max_message_size", limit, limit + 1)
    assert error.code == 1009
    assert str(limit) in str(error)
    assert str(limit + 1) in str(error)
    assert isinstance(error, ProtocolError)


@both_roles
def test_the_limit_is_16_mib_unless_told_otherwise(client):
    engine = Engine(client)
    engine.receive(start(client, BINARY, 16 * MIB))
    assert engine.next_message() is None
    engine = Engine(client)
    engine.receive(start(client, BINARY, 16 * MIB + 1))
    assert limit_error(engine).value == 16 * MIB


@both_roles
def test_a_limit_of_0_lets_only_empty_messages_through(client):
    engine = Engine(client, max_message_size=0)
    seen = observe(
        engine, [frame(client, TEXT) + frame(client, BINARY) + frame(client, PING, b"?")]
    )
    assert [payload for _, payload, _ in seen.messages] == ["", b""]
    engine.receive(frame(client, TEXT, b"x"))
    assert limit_error(engine).actual == 1


@both_roles
@pytest.mark.parametrize("sizes", [[10, 1], [0, 10, 1], [5, 5, 1], [1] * 11, [5, 0, 100], [11, 0]])
def test_the_limit_is_for_all_fragments_together(client, sizes):
    engine = Engine(client, max_message_size=10)
    came = 0
    for i, size in enumerate(sizes):
        came += size
        engine.receive(start(client, CONT if i else BINARY, size, fin=False))
        if came > 10:
            assert limit_error(engine).actual == came
            break
        assert engine.next_message() is None
        engine.receive(bytes(size))
        assert engine.next_message() is None
    assert engine.finished


@both_roles
def test_the_limit_begins_anew_with_each_message(client):
    engine = Engine(client, max_message_size=10)
    stream = frame(client, BINARY, bytes(6), False) + frame(client, CONT, bytes(4))
    stream += frame(client, TEXT, b"a" * 4, False) + frame(client, CONT, b"a" * 6)
    stream += frame(client, TEXT, b"a" * 10)
    seen = observe(engine, [stream * 5])
    assert len(seen.messages) == 15
    assert seen.violation is None


@both_roles
def test_the_limit_is_for_each_fragment_if_fragments_are_asked_for(client):
    """None of them is kept."""
    engine = Engine(client, max_message_size=10)
    stream = frame(client, TEXT, b"a" * 10, False) + frame(client, CONT, b"a" * 10, False) * 10
    assert len(observe(engine, [stream], fragments=True).messages) == 11
    engine.receive(start(client, CONT, 11))
    assert limit_error(engine).value == 10


@both_roles
def test_text_is_measured_in_bytes(client):
    text = "😀" * 5
    engine = Engine(client, max_message_size=20)
    assert observe(engine, [frame(client, TEXT, text.encode())]).messages == [(TEXT, text, True)]
    engine.receive(frame(client, TEXT, text.encode() + b"a"))
    assert limit_error(engine).actual == 21


@both_roles
@pytest.mark.parametrize("limit", [None, 2**63, 2**64, 2**100])
def test_without_a_limit_only_what_cannot_be_one_object_is_refused(client, limit):
    engine = Engine(client, max_message_size=limit)
    engine.receive(start(client, BINARY, LARGEST) + b"abc")
    assert engine.next_message() is None
    assert engine.error is None
    for length in (LARGEST + 1, 2**63 - 1):
        engine = Engine(client, max_message_size=limit)
        engine.receive(start(client, BINARY, length) + b"abc")
        error = limit_error(engine)
        assert (error.value, error.actual) == (LARGEST, length)


@both_roles
def test_a_fragment_cannot_make_the_size_wrap_around(client):
    for first in (1, 2000, 5):
        engine = Engine(client, max_message_size=None)
        engine.receive(frame(client, BINARY, bytes(first), False))
        engine.receive(start(client, CONT, 2**63 - 1, fin=False) + b"abc")
        assert limit_error(engine).actual == first + 2**63 - 1


@both_roles
def test_a_control_frame_is_no_part_of_the_message_whose_size_is_limited(client):
    engine = Engine(client, max_message_size=10)
    stream = frame(client, BINARY, bytes(10), False) + frame(client, PING, bytes(125))
    seen = observe(engine, [stream + frame(client, CONT)])
    assert seen.messages == [(BINARY, bytes(10), True)]


@pytest.mark.parametrize("limit", [-1, -(2**70), "10"])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises((TypeError, OverflowError)):
        Engine(True, max_message_size=limit)


# Memory


@pytest.fixture
def traced():
    """How much memory Python's allocators gave out, and the most that it was."""
    gc.collect()
    tracemalloc.start()
    yield Memory()
    tracemalloc.stop()


class Memory:
    def __init__(self) -> None:
        self.base = tracemalloc.get_traced_memory()[0]

    @property
    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self.base

    @property
    def most(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self.base


@both_roles
@pytest.mark.parametrize("length", [16 * MIB, 2**40, LARGEST])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_announced_is_not_allocated(client, traced, length, opcode):
    engine = Engine(client, max_message_size=None)
    engine.receive(start(client, opcode, length))
    assert engine.next_message() is None
    for _ in range(10):
        engine.receive(b"\0" * 10)
        assert engine.next_message() is None
    assert traced.most < 2 * MIB


@both_roles
def test_what_is_announced_in_fragments_is_not_allocated_either(client, traced):
    engine = Engine(client, max_message_size=None)
    engine.receive(frame(client, BINARY, bytes(100), False) + start(client, CONT, 2**62))
    assert engine.next_message() is None
    engine.receive(bytes(100_000))
    assert engine.next_message() is None
    assert traced.most < 2 * MIB


@both_roles
def test_a_large_message_takes_little_more_memory_than_itself(client, traced):
    size = 8 * MIB
    piece = bytes(64 * KIB)
    engine = Engine(client)
    engine.receive(start(client, BINARY, size))
    assert engine.next_message() is None
    for _ in range(size // len(piece) - 1):
        engine.receive(piece)
        assert engine.next_message() is None
    engine.receive(piece)
    message = engine.next_message()
    assert message.len == size
    assert traced.most < 2.2 * size  # the body doubles, and may be moved
    assert traced.now < size + 256 * KIB
    del message
    assert traced.now < 256 * KIB


@both_roles
@pytest.mark.parametrize("fragments", [False, True])
def test_100_000_fragments_of_one_byte_take_the_memory_of_their_bytes(client, traced, fragments):
    engine = Engine(client)
    piece = frame(client, CONT, b"x", False) * 1000
    engine.receive(frame(client, TEXT, b"x", False))
    count = 0
    for _ in range(100):
        engine.receive(piece)
        for message in drain(engine, fragments=fragments):
            count += message.len
    assert traced.most < 1 * MIB
    engine.receive(frame(client, CONT, b"x"))
    last = engine.next_message()
    assert last.fin
    assert count + last.len == 100_002


@both_roles
def test_empty_fragments_take_no_memory(client, traced):
    engine = Engine(client)
    piece = frame(client, CONT, b"", False) * 1000
    engine.receive(frame(client, BINARY, b"", False))
    for _ in range(100):
        engine.receive(piece)
        assert engine.next_message() is None
    assert traced.most < 256 * KIB


def test_time_is_linear_in_the_number_of_fragments():
    def seconds(count: int) -> float:
        stream = frame(True, BINARY, b"x", False) + frame(True, CONT, b"x", False) * count
        best = 1e9
        for _ in range(3):
            engine = Engine(True)
            engine.receive(stream)
            began = time.process_time()
            assert engine.next_message() is None
            best = min(best, time.process_time() - began)
        return best

    # Ten times as many: a hundred times as long, if each were to move all before it.
    assert seconds(2_000_000) < 40 * max(seconds(200_000), 0.001)


@both_roles
def test_after_the_end_no_more_is_kept(client, traced):
    for ending in (frame(client, CLOSE), frame(client, 3)):
        engine = Engine(client)
        engine.receive(ending)
        for _ in range(100):
            engine.receive(bytes(64 * KIB))
            try:
                assert engine.next_message() is None
            except ProtocolError:
                pass
        assert traced.most < 1 * MIB


# Nothing leaks


def broken_streams() -> dict[str, list[bytes]]:
    """For a server: what it is to receive, in pieces, until it fails or is forgotten."""

    def f(*args) -> bytes:
        return frame(False, *args)

    return {
        "reserved opcode": [f(3)],
        "violation behind messages": [f(TEXT, b"a") + f(BINARY, b"b") + f(3)],
        "violation inside a message": [f(TEXT, b"a" * 200, False), f(TEXT, b"b")],
        "bad text at once": [f(TEXT, b"a" * 200 + b"\xff")],
        "bad text in pieces": [*split(f(TEXT, b"a" * 200 + b"\xff"), [20] * 20)],
        "bad text in fragments": [f(TEXT, b"a" * 200, False), f(CONT, b"\xff")],
        "text that ends inside a character": [f(TEXT, b"a" * 200, False), f(CONT, b"\xe2")],
        "over the limit": [start(False, BINARY, 17 * MIB)],
        "over the limit in fragments": [f(BINARY, bytes(999), False), start(False, CONT, 16 * MIB)],
        "bad close code": [f(CLOSE, b"\x03\xed")],
        "bad close reason": [f(CLOSE, b"\x03\xe8\xff")],
        "a good close": [f(CLOSE, b"\x03\xf3" + b"x" * 100)],
        "freed inside a header": [start(False, BINARY, 70_000)[:7]],
        "freed inside a frame": [start(False, BINARY, 70_000), bytes(60_000)],
        "freed inside a text": [start(False, TEXT, 300), b"\x37\xfa"],
        "freed inside a message": [f(TEXT, b"a" * 5000, False), f(CONT, b"b", False)],
        "freed with messages unread": [(f(TEXT, b"a" * 100) + f(PING, b"?")) * 5],
        "freed inside a large frame": [start(False, BINARY, 2**40), bytes(40_000), bytes(40_000)],
    }


def growth(action: Callable[[], object], times: int = 300) -> int:
    """How many bytes more are in use after doing something so many times more."""
    for _ in range(50):
        action()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(times):
        action()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("name", broken_streams())
@pytest.mark.usefixtures("traced")
def test_an_engine_that_failed_or_was_given_up_leaves_nothing_behind(name, look):
    pieces = broken_streams()[name]

    def action() -> None:
        engine = Engine(False)
        engine.send_ping(b"x" * 50)
        engine.send_message(Message(b"unsent" * 50))
        for piece in pieces:
            engine.receive(piece)
            if look:
                engine.answer_ahead(answer_close=True)
            if not name.startswith("freed with"):
                try:
                    engine.next_message()
                except ProtocolError:
                    pass
        engine.end_error()

    assert growth(action) < 4 * KIB  # one object a time would be more


@pytest.mark.usefixtures("traced")
def test_a_long_conversation_leaves_nothing_behind():
    source = random.Random(1)
    frames = [conversation(source, client=client, closes=False) for client in (True, False) * 10]
    streams = [b"".join(encode(f) for f in each) for each in frames]
    engines = [Engine(True), Engine(False)]

    def action() -> None:
        for i, stream in enumerate(streams):
            engine = engines[i % 2]
            observe(engine, split(stream, [50] * 1000), fragments=i % 3 == 0)
            engine.send_message(as_message("é" * 100))
            engine.send_ping(b"?")
            engine.send_pong(b"!")
            engine.receive(frame(engine.client, 10, b"?"))
            assert engine.next_message() is None
            engine.pop_answered()
            engine.data_to_send()

    assert growth(action, 20) < 4 * KIB


@pytest.mark.usefixtures("traced")
def test_what_is_refused_leaves_nothing_behind():
    engine = Engine(True)
    engine.send_message(Message("a", 1, fin=False))
    engine.data_to_send()
    refused = [
        Message(b"\xff" * 1000, 0),
        Message(b"a" * 1000, 0, rsv1=True),
        Message(b"a" * 1000, 9),
        Message(b"\x03\xe8\xff" * 1000, 8),
        Message(b"a" * 1000, 3 + 8),
    ]
    wrong = [None, 5, "\ud800" * 1000, {"payload": None}, {"opcode": 99}, {"x" * 1000: 1}, ["a"]]

    def action() -> None:
        for message in refused:
            with pytest.raises(InvalidMessage):
                engine.send_message(message)
        for value in wrong:
            with pytest.raises(InvalidMessage):
                as_message(value)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessage):
            engine.send_ping("\ud800")
        with pytest.raises(InvalidMessage):
            engine.send_close(1005)

    assert growth(action, 100) < 4 * KIB
    assert engine.data_to_send() == b""


@both_roles
def test_a_message_holds_the_only_reference_to_its_payload(client):
    stream = b"".join(
        [
            frame(client, TEXT, b"whole"),
            frame(client, BINARY, b"whole"),
            frame(client, TEXT, b"in ", False) + frame(client, CONT, b"two"),
            frame(client, BINARY, b"in ", False) + frame(client, CONT, b"two"),
            frame(client, PING, b"control"),
        ]
    )
    for fragments in (False, True):
        for size in (1000, 4):
            engine = Engine(client)
            messages: list[Any] = []
            for piece in split(stream, [size] * len(stream)):
                engine.receive(piece)
                messages += drain(engine, fragments=fragments, control=True)
            expected = 7 if fragments else 5
            assert len(messages) == expected
            # The message's, and the argument's
            counts = [sys.getrefcount(message.payload) for message in messages]
            assert counts == [2] * expected
            # The list's, the variable's, and the argument's
            counts = [sys.getrefcount(message) for message in messages]
            assert counts == [3] * expected


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="these objects are not counted any more")
def test_what_everybody_shares_is_counted_right():
    """A reference to None too few, each time, would crash in the end; one too many is a leak."""
    shared = [None, True, False, b"", ""]
    streams = [b"".join(pieces) for pieces in broken_streams().values()]

    def action() -> None:
        for stream in streams:
            engine = Engine(False)
            engine.receive(stream)
            engine.answer_ahead()
            for _ in range(20):
                try:
                    engine.next_message()
                except ProtocolError:
                    pass
            engine.data_to_send()
            repr(Message(b"")), hash(Message("")), as_message(""), as_message(b"")
            for opcode in (TEXT, BINARY):
                engine = Engine(True)
                engine.receive(frame(True, opcode))
                engine.receive(frame(True, opcode, b"", False) + frame(True, CONT))
                list(drain(engine, fragments=True))

    action()
    gc.collect()
    before = [sys.getrefcount(each) for each in shared]
    for _ in range(100):
        action()
    gc.collect()
    after = [sys.getrefcount(each) for each in shared]
    for each, old, new in zip(shared, before, after, strict=True):
        assert abs(new - old) < 100, each


@both_roles
def test_a_failed_connection_does_not_keep_the_message_that_never_ended(client, traced):
    engine = Engine(client)
    engine.receive(frame(client, BINARY, bytes(MIB), fin=False))
    assert engine.next_message() is None
    assert traced.now > MIB
    engine.receive(frame(client, 3))
    with pytest.raises(ProtocolError):
        engine.next_message()
    assert traced.now < 16 * KIB


@pytest.mark.deep("server")
@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_idle_engine_holds_nothing(client, opcode, traced):
    engine = Engine(client)
    for fin in (True, False):
        engine.receive(frame(client, opcode, bytes(MIB), fin))
        assert (engine.next_message() is not None) is fin
    engine.receive(frame(client, CONT))
    assert engine.next_message().len == MIB
    engine.send_message(as_message(bytes(MIB)))
    engine.data_to_send()
    assert traced.now < 16 * KIB


@both_roles
def test_an_idle_engine_keeps_little_more_than_it_has_sent(client, traced):
    engine = Engine(client)
    unused = traced.now
    for _ in range(3):
        engine.send_message(as_message(bytes(256)))
        engine.data_to_send()
    assert traced.now - unused < 400
