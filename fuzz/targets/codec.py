"""The codec against the reference decoder: one frame, a stream of frames, and back again."""

from __future__ import annotations

from tests.helpers import reference_frames as reference

from coro_websocket import codec
from coro_websocket._errors import InvalidMessage, LimitError, ProtocolError
from coro_websocket._rfc6455.messages import Message

from ..frame_grammar import Peer
from ..source import Source

LIMITS = (2**63, None, 0, 1, 125, 126, 1000)


def run(data: bytes) -> None:
    source = Source(data)
    kind = source.byte()
    limit = source.pick(LIMITS)
    if kind % 4 == 0:
        encode(source)
        return
    masks = kind & 4 != 0
    cuts = Source(bytes([source.byte(), source.byte()]))
    stream = source.rest() if kind % 4 == 1 else Peer(masks, None, False).stream(source, 20)
    expected, violation = frames(stream, limit)
    at, found, failed = 0, [], False
    try:
        while (decoded := codec.decode(stream, at, max_size=limit)) is not None:
            message, at = decoded
            found.append(message)
    except (ProtocolError, LimitError) as error:
        assert error.code == violation, (error, violation)
        failed = True
    assert failed is (violation is not None)
    compare(found, expected)
    pieces = iter([piece for piece in cuts.pieces(stream) if piece])
    compare(decoded_by_adapter(pieces, limit), expected)


def frames(stream: bytes, limit: int | None) -> tuple[list[reference.Frame], int | None]:
    """The frames of stream, and the code of the violation that ends them."""
    found: list[reference.Frame] = []
    try:
        while True:
            head = reference.decode_header(stream)
            if head is not None and limit is not None and head.length > limit:
                return found, 1009
            decoded = reference.decode(stream)
            if decoded is None:
                return found, None
            found.append(decoded[0])
            stream = stream[decoded[1] :]
    except reference.Violation as error:
        return found, error.code


def compare(found: list[Message], expected: list[reference.Frame]) -> None:
    assert len(found) == len(expected)
    for message, frame in zip(found, expected, strict=True):
        assert type(message.payload) is bytes
        assert message.payload == frame.payload
        assert message.len == len(frame.payload)
        assert (message.opcode, message.fin) == (frame.opcode, frame.fin)
        assert message.rsv1 * 4 + message.rsv2 * 2 + message.rsv3 == frame.rsv
        assert message.mask is (frame.key is not None)
        again = codec.decode(codec.encode(message), max_size=None)
        assert again is not None
        assert again[0] == message


def decoded_by_adapter(pieces: object, limit: int | None) -> list[Message]:
    async def read() -> bytes:
        return next(pieces, b"")  # type: ignore[call-overload, no-any-return]

    read_frame = codec.decoder(read, max_size=limit)
    found: list[Message] = []
    try:
        while (message := wait_for(read_frame())) is not None:
            found.append(message)
    except (ProtocolError, LimitError):
        pass
    return found


def wait_for(coroutine: object) -> Message | None:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def encode(source: Source) -> None:
    bits = source.byte()
    fields = {
        "opcode": source.byte() % 18 - 1,
        "fin": bits & 1 == 0,
        "rsv1": bits & 2 != 0,
        "rsv2": bits & 4 != 0,
        "rsv3": bits & 8 != 0,
        "mask": bits & 16 != 0,
        "payload": source.text(200) if bits & 32 else source.bytes(200),
    }
    payload, opcode = fields["payload"], fields["opcode"]
    try:
        raw = payload.encode() if isinstance(payload, str) else payload
    except UnicodeEncodeError:
        raw = None
    valid = raw is not None and (
        opcode in (0, 1, 2) or (opcode in (8, 9, 10) and fields["fin"] and len(raw) <= 125)
    )
    try:
        data = codec.encode(fields)
    except InvalidMessage:
        assert not valid, fields
        return
    assert valid, fields
    decoded = reference.decode(data)
    assert decoded is not None
    frame, size = decoded
    assert size == len(data)
    assert (frame.opcode, frame.payload, frame.fin) == (opcode, raw, fields["fin"])
    assert frame.rsv == fields["rsv1"] * 4 + fields["rsv2"] * 2 + fields["rsv3"]
    assert (frame.key is not None) == fields["mask"]
