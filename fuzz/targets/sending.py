"""The engine's sending half in both roles, against a model of what may be sent when.

What it takes must come out as frames that the reference decoder accepts and finds to be the same
messages; what breaks a rule must be refused, with nothing put on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.helpers.reference_frames import (
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Terms,
    Violation,
    check_close,
    frames_of,
    receive,
)

from coro_websocket._errors import ConcurrencyError, ConnectionClosedError, InvalidMessage
from coro_websocket._rfc6455.deflate import Deflate, DeflateExtension
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import Message

from ..source import Source


@dataclass
class Model:
    """What a sender has to keep in mind, in plain words."""

    closed: bool = False
    open: int = CONT  # the opcode of the fragmented message that has begun
    text: bytes = b""  # of it, if it is text
    pings: list[bytes] = field(default_factory=list)
    sent: list[tuple[int, bytes]] = field(default_factory=list)  # whole messages and controls
    pieces: bytes = b""

    def refusal(self, message: Message) -> type[Exception] | None:
        """The error that a data message must be refused with."""
        payload = plain(message)
        if message.rsv1 or message.rsv2 or message.rsv3:
            return InvalidMessage
        if self.closed:
            return ConnectionClosedError
        if message.opcode and self.open:
            return ConcurrencyError
        if message.opcode > 2 or (message.opcode == CONT and not self.open):
            return InvalidMessage
        if (message.opcode or self.open) == TEXT:
            before = self.text if message.opcode == CONT else b""
            if not is_text(before + payload, message.fin):
                return InvalidMessage
        return None

    def control_refusal(self, message: Message) -> type[Exception] | None:
        payload = plain(message)
        if message.rsv1 or message.rsv2 or message.rsv3 or not message.fin or message.opcode > PONG:
            return InvalidMessage
        if message.opcode == CLOSE:
            try:
                check_close(payload)
            except Violation:
                return InvalidMessage
        if len(payload) > 125:
            return InvalidMessage
        return ConnectionClosedError if self.closed and message.opcode != CLOSE else None

    def take(self, message: Message) -> None:
        if message.opcode == PING:
            self.pings.append(plain(message))
        if message.opcode >= CLOSE:
            if not self.closed:
                self.sent.append((message.opcode, plain(message)))
            self.closed = self.closed or message.opcode == CLOSE
            return
        if message.opcode:
            self.open, self.pieces = message.opcode, b""
        self.pieces += plain(message)
        self.text = self.pieces
        if message.fin:
            self.sent.append((self.open, self.pieces))
            self.open = CONT


def plain(message: Message) -> bytes:
    payload = message.payload
    return payload.encode() if isinstance(payload, str) else payload


def is_text(data: bytes, ends: bool) -> bool:
    """Whether data is UTF-8, or may still become it."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not ends and error.reason == "unexpected end of data"
    return True


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    client = flags & 1 != 0
    window = source.pick((None, 15, 9, 12))
    takeover = flags & 2 != 0
    engine = Engine(client, extensions=extensions(window, takeover, flags >> 2 & 3))
    model = Model()
    wire = b""
    for _ in range(40):
        if not source.left:
            break
        message, transform = next_message(source, model)
        if message is None:
            continue
        expected = (model.control_refusal if message.opcode >= 8 else model.refusal)(message)
        waiting = engine.data_to_send() if source.flag() else b""
        wire += waiting
        error = send(engine, message, transform)
        assert error is expected, (message, error, expected)
        if error is None:
            model.take(message)
        elif waiting:
            assert engine.data_to_send() == b"", message
        assert engine.sending_fragments is (model.open != CONT)
        assert engine.close_sent is model.closed
    wire += engine.data_to_send()
    assert engine.data_to_send() == b""
    check_wire(wire, client, model, Terms(window, takeover) if window else None)
    check_pongs(engine, source, client, model)


def extensions(window: int | None, takeover: bool, how: int) -> list[DeflateExtension]:
    if window is None:
        return []
    settings = Deflate(threshold=(0, 20, 256, 0)[how], level=(6, 1, 9, 0)[how])
    return [
        DeflateExtension(
            settings,
            send_bits=window,
            receive_bits=15,
            send_takeover=takeover,
            receive_takeover=True,
        )
    ]


def next_message(source: Source, model: Model) -> tuple[Message | None, bool]:
    kind = source.byte()
    opcode = (1, 2, model.open, 0, 9, 10, 8, kind >> 4)[kind % 8]
    fin = source.byte() % 3 != 0
    bits = source.byte()
    rsv = bits % 8 if bits > 240 else 0
    how = bits >> 3 & 3
    payload: str | bytes
    if how == 0:
        payload = source.bytes(255)
    elif how == 1:
        payload = source.text(60)
    elif how == 2:
        payload = bytes([bits]) * source.pick((124, 125, 126, 127, 65535, 65536))
    else:
        payload = source.number(2).to_bytes(2, "big") + source.bytes(124)
    if opcode >= 8 and source.byte() < 240:
        fin = True
    try:
        message = Message(
            payload, opcode, fin=fin, rsv1=bool(rsv & 4), rsv2=bool(rsv & 2), rsv3=bool(rsv & 1)
        )
    except InvalidMessage:
        assert isinstance(payload, str)
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in payload)
        return None, False
    return message, bits & 128 == 0


def send(engine: Engine, message: Message, transform: bool) -> type[Exception] | None:
    try:
        engine.send_message(message, transform=transform)
    except (InvalidMessage, ConcurrencyError, ConnectionClosedError) as error:
        return type(error)
    return None


def check_wire(wire: bytes, client: bool, model: Model, terms: Terms | None) -> None:
    frames = frames_of(wire)
    assert all((frame.key is not None) is client for frame in frames)
    controls = [(frame.opcode, frame.payload) for frame in frames if frame.opcode >= 8]
    assert controls == [(opcode, payload) for opcode, payload in model.sent if opcode >= 8]
    seen = receive(wire, client=not client, deflate=terms)
    assert seen.violation is None, seen
    messages = [
        (opcode, payload.encode() if isinstance(payload, str) else payload)
        for opcode, payload, _ in seen.messages
    ]
    assert messages == [(opcode, payload) for opcode, payload in model.sent if opcode < 8]


def check_pongs(engine: Engine, source: Source, client: bool, model: Model) -> None:
    """A Pong answers the first Ping with its payload, and all before it."""
    pings = list(model.pings)
    for _ in range(3):
        payload = source.pick([*pings, b"?"])
        key = b"" if client else b"\0\0\0\0"
        second = len(payload) | (0 if client else 128)
        engine.receive(bytes([0x8A, second]) + key + payload)
        assert engine.next_message() is None
        answered = pings[: pings.index(payload) + 1] if payload in pings else []
        assert engine.pop_answered() == answered
        del pings[: len(answered)]
