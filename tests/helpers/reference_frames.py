"""RFC 6455's frames and messages, RFC 7692's compression: slow, short, and right to the eye.

The native rooms are compared with it. It knows nothing of them: only `observe`, at the
end, looks at an engine, to put down what it did in the same words.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

OPCODES = (CONT, TEXT, BINARY, CLOSE, PING, PONG)
RESERVED_OPCODES = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
KEY = bytes.fromhex("37fa213d")  # of the examples in section 5.7


class Violation(Exception):
    """The peer broke the protocol; the connection is to be failed with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# Frames (section 5.2)


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    key: bytes | None = None  # None: it is not masked


@dataclass(frozen=True)
class Header:
    opcode: int
    length: int
    fin: bool
    rsv: int
    key: bytes | None
    size: int  # of the header itself


def mask(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    """Section 5.3; offset is the position of payload[0] in its frame."""
    return bytes(byte ^ key[(offset + i) % 4] for i, byte in enumerate(payload))


def header(
    opcode: int,
    length: int,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = None,
    length_size: int | None = None,
) -> bytes:
    """A header; length_size (0, 2 or 8) says how the length is written, if not shortest."""
    if length_size is None:
        length_size = 0 if length <= 125 else 2 if length <= 65535 else 8
    length7 = {0: length, 2: 126, 8: 127}[length_size]
    first = (128 if fin else 0) + rsv * 16 + opcode
    second = (128 if key is not None else 0) + length7
    return bytes([first, second]) + length.to_bytes(8, "big")[8 - length_size :] + (key or b"")


def encode(frame: Frame) -> bytes:
    start = header(frame.opcode, len(frame.payload), fin=frame.fin, rsv=frame.rsv, key=frame.key)
    if frame.key is None:
        return start + frame.payload
    return start + mask(frame.payload, frame.key)


def decode_header(data: bytes) -> Header | None:
    """The header at the beginning of data; None if it is not all there, and not yet wrong."""
    if len(data) < 2:
        return None
    fin, rsv, opcode = data[0] >= 128, data[0] // 16 % 8, data[0] % 16
    masked, length, size = data[1] >= 128, data[1] % 128, 2
    if opcode not in OPCODES:
        raise Violation(1002)
    if opcode >= 8 and (not fin or length > 125):
        raise Violation(1002)
    if length >= 126:
        length_size, least = (2, 126) if length == 126 else (8, 65536)
        size += length_size
        if len(data) < size:
            return None
        length = int.from_bytes(data[2:size], "big")
        if length < least or length >= 2**63:
            raise Violation(1002)
    key = None
    if masked:
        key = data[size : size + 4]
        size += 4
        if len(data) < size:
            return None
    return Header(opcode, length, fin, rsv, key, size)


def decode(data: bytes) -> tuple[Frame, int] | None:
    """The frame at the beginning of data and its size; None if it is not all there."""
    found = decode_header(data)
    if found is None or len(data) < found.size + found.length:
        return None
    end = found.size + found.length
    payload = data[found.size : end]
    if found.key is not None:
        payload = mask(payload, found.key)
    return Frame(found.opcode, payload, found.fin, found.rsv, found.key), end


def frames_of(data: bytes) -> list[Frame]:
    """All frames of a stream that ends with one."""
    frames = []
    while data:
        found = decode(data)
        assert found is not None, data
        frames.append(found[0])
        data = data[found[1] :]
    return frames


# Text (section 8.1)

# What a character may begin with: of 64 neighbours only the last byte differs.
BEGINNINGS = {
    chr(n).encode()[:size]
    for n in range(0x80, 0x110000, 64)
    if not 0xD800 <= n <= 0xDFFF
    for size in range(1, len(chr(n).encode()))
}


def decode_text(data: bytes, *, ends: bool) -> tuple[str, bytes]:
    """The characters in data, and the beginning of the one that it ends inside of."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        at = error.start
    if ends or data[at:] not in BEGINNINGS:
        raise Violation(1007)
    return data[:at].decode(), data[at:]


# Compressed messages (RFC 7692 section 7.2.2)

TAIL = b"\x00\x00\xff\xff"
MOST = 2**31  # bytes that zlib is asked for at once


@dataclass(frozen=True)
class Terms:
    """What the opening handshake agreed on for the side that receives."""

    window: int = 15
    takeover: bool = True


class Inflater:
    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.stream: zlib._Decompress | None = None
        self.message = b""  # as it came

    def inflate(self, payload: bytes, *, fin: bool, room: int) -> bytes:
        """One frame's payload; Violation 1009 if it makes more than room."""
        self.message += payload
        out = self.inflated(payload, room)
        if fin:
            # It ends with the header of an empty block without compression: three bits, the last
            # two of them 0, and more to the end of the byte. The tail makes it whole.
            if self.stream is None or not self.message or self.message[-1] >= 0x40:
                raise Violation(1007)
            if self.inflated(TAIL, MOST):
                raise Violation(1007)
            self.message = b""
            if not self.terms.takeover:
                self.stream = None
        return out

    def inflated(self, data: bytes, room: int) -> bytes:
        out = b""
        while data:
            if self.stream is None:
                self.stream = zlib.decompressobj(-self.terms.window)
            try:
                out += self.stream.decompress(data, min(room - len(out), MOST) + 1)
            except zlib.error:
                raise Violation(1007) from None
            if len(out) > room:
                raise Violation(1009)
            data = self.stream.unconsumed_tail
            if self.stream.eof:  # the next block begins a new stream (section 7.2.3.5)
                data = self.stream.unused_data
                self.stream = None
        return out


# Messages (sections 5.4 to 5.6 and 7.1.7)


@dataclass
class Received:
    """What an endpoint makes of what it receives."""

    messages: list[tuple[int, str | bytes, bool]] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)  # a Close's without its reason
    violation: int | None = None
    finished: bool = False
    cut_off: bool = field(default=False, compare=False)  # a message, by a Close

    @property
    def pongs(self) -> list[bytes]:
        return [payload for opcode, payload in self.answers if opcode == PONG]


def close_code_may_be_sent(code: int) -> bool:
    """Section 7.4, and 1012 to 1014 from IANA's registry."""
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000))


def receive(
    data: bytes,
    *,
    client: bool,
    limit: int = 2**63,
    fragments: bool = False,
    control: bool = False,
    deflate: Terms | None = None,
) -> Received:
    """What a client or a server makes of data, which is all that it receives.

    deflate: the terms of permessage-deflate, if it is in use.
    """
    seen = Received()
    try:
        _receive(seen, data, client, limit, fragments, control, deflate)
    except Violation as error:
        seen.violation = error.code
        seen.finished = True
        seen.answers.append((CLOSE, error.code.to_bytes(2, "big")))
    return seen


def _receive(
    seen: Received,
    data: bytes,
    client: bool,
    limit: int,
    fragments: bool,
    control: bool,
    deflate: Terms | None,
) -> None:
    kind = CONT  # of the message that has begun
    compressed = False  # as its first frame says
    inflater = None if deflate is None else Inflater(deflate)
    pieces: list[Any] = []
    size = 0  # of what has come of the message and was not given out
    begun = b""  # of a character
    while (head := decode_header(data)) is not None:
        if head.rsv and (inflater is None or head.rsv != 4 or head.opcode not in (TEXT, BINARY)):
            raise Violation(1002)
        if (head.key is None) is not client:
            raise Violation(1002)
        if head.opcode < 8:
            if (head.opcode == CONT) is (kind == CONT):
                raise Violation(1002)
            room = limit - size
            if head.rsv or (head.opcode == CONT and compressed):
                room += room // 4 + 64  # it may be larger than what it inflates to
            if head.length > room:
                raise Violation(1009)
        payload = data[head.size : head.size + head.length]
        complete = len(payload) == head.length
        data = data[head.size + head.length :]
        if head.key is not None:
            payload = mask(payload, head.key)

        if head.opcode >= 8:
            if not complete:
                return
            if head.opcode == PING:
                seen.answers.append((PONG, payload))
            elif head.opcode == CLOSE:
                check_close(payload)
                seen.answers.append((CLOSE, payload[:2]))
            if control:
                seen.messages.append((head.opcode, payload, True))
            if head.opcode == CLOSE:
                seen.finished = True
                seen.cut_off = kind != CONT
                return
            continue

        if head.opcode:
            kind, compressed = head.opcode, head.rsv != 0
        if compressed:
            if not complete:
                return
            assert inflater is not None
            payload = inflater.inflate(payload, fin=head.fin, room=limit - size)
        piece: str | bytes = payload
        if kind == TEXT:
            piece, begun = decode_text(begun + payload, ends=complete and head.fin)
        if not complete:
            return
        pieces.append(piece)
        size += len(payload)
        if head.fin or fragments:
            whole = ("" if kind == TEXT else b"").join(pieces)
            first = head.opcode if fragments else kind
            seen.messages.append((first, whole, head.fin))
            pieces = []
            size = len(begun)
        if head.fin:
            kind = CONT


def check_close(payload: bytes) -> None:
    """Sections 5.5.1 and 7.4."""
    if not payload:
        return
    if len(payload) == 1 or not close_code_may_be_sent(int.from_bytes(payload[:2], "big")):
        raise Violation(1002)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(1007) from None


# Streams to receive


def conversation(source: random.Random, *, client: bool, closes: bool | None = None) -> list[Frame]:
    """Frames that a client, or a server, may receive: all is as it should be.

    closes: whether they end with a Close; None: perhaps.
    """

    def key() -> bytes | None:
        return None if client else source.choice((source.randbytes(4), bytes(4), KEY))

    def control() -> list[Frame]:
        opcodes = source.choices((PING, PONG), k=source.choice((0, 0, 0, 1, 1, 2)))
        return [
            Frame(o, source.randbytes(source.choice((0, 1, 4, 125))), key=key()) for o in opcodes
        ]

    frames = control()
    for _ in range(source.randrange(6)):
        if source.random() < 0.5:
            opcode, payload = TEXT, "".join(source.choices("aaaé€😀", k=_size(source))).encode()
        else:
            opcode, payload = BINARY, source.randbytes(_size(source))
        cuts = sorted(
            source.randrange(len(payload) + 1) for _ in range(source.choice((0, 0, 1, 4)))
        )
        pieces = [payload[i:j] for i, j in pairwise((0, *cuts, len(payload)))]
        for i, piece in enumerate(pieces, 1):
            frames += [Frame(opcode, piece, i == len(pieces), key=key()), *control()]
            opcode = CONT
    if closes or (closes is None and source.random() < 0.5):
        code = source.choice((None, 1000, 1001, 1011, 3000, 4999))
        payload = b"" if code is None else code.to_bytes(2, "big") + "Schluß".encode()
        frames.append(Frame(CLOSE, payload, key=key()))
    return frames


def _size(source: random.Random) -> int:
    return source.choice((0, 1, 2, 3, 7, 8, 9, 40, 125, 126, 200))


def split_at_random(source: random.Random, data: bytes) -> Iterator[bytes]:
    """data in pieces: all at once, byte by byte, or anyhow."""
    largest = source.choice((1, 3, 20, 200, len(data) or 1))
    return split(data, iter(lambda: source.randint(1, largest), None))


# What an engine makes of it


def drain(engine: Any, *, at_most: int = 10**9, **shape: bool) -> Iterator[Any]:
    """The messages that are here; more than at_most would be an engine that never ends."""
    while (message := engine.next_message(**shape)) is not None:
        at_most -= 1
        assert at_most >= 0
        yield message


def answers_of(engine: Any) -> list[tuple[int, bytes]]:
    """The control frames that an engine has to send, a Close without its reason."""
    answers = []
    for frame in frames_of(engine.data_to_send()):
        assert (frame.key is not None) is engine.client  # section 5.1
        assert frame.fin
        assert frame.rsv == 0
        assert frame.opcode >= 8
        if frame.opcode == CLOSE:
            check_close(frame.payload)
            answers.append((CLOSE, frame.payload[:2]))
        else:
            answers.append((frame.opcode, frame.payload))
    return answers


def observe(engine: Any, pieces: Iterable[bytes], **shape: bool) -> Received:
    """Let an engine receive pieces of a stream; what it made of them."""
    seen = Received()
    received = 0
    for piece in pieces:
        received += len(piece)
        engine.receive(piece)
        _next_messages(seen, engine, received // 2 - len(seen.messages), shape)
    seen.answers = answers_of(engine)
    seen.finished = engine.finished
    return seen


def _next_messages(seen: Received, engine: Any, at_most: int, shape: dict[str, bool]) -> None:
    try:
        for message in drain(engine, at_most=at_most, **shape):
            payload = message.payload
            assert type(payload) in (str, bytes)
            assert message.len == len(payload.encode() if isinstance(payload, str) else payload)
            assert message.mask is not engine.client
            assert (message.rsv1, message.rsv2, message.rsv3) == (False, False, False)
            seen.messages.append((message.opcode, payload, message.fin))
    except ConnectionError as error:
        assert error is engine.error
        assert engine.finished
        assert seen.violation is None  # it is raised once
        seen.violation = error.code


def split(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """data in pieces of these sizes, and the rest."""
    at = 0
    for size in sizes:
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
    yield data[at:]
