"""The engine read piece by piece, against the reference decoder: put together, the same messages.

No limit applies, as none does to the pieces of a message.
"""

from __future__ import annotations

from dataclasses import replace

from coro_websocket._errors import ProtocolError
from coro_websocket._rfc6455.engine import Engine

from .receiving import Case, case_of

CONTROL = 8
UNLIMITED = 2**64  # more than what has come and one more frame


def run(data: bytes) -> None:
    case, parts = case_of(data)
    case = replace(case, limit=UNLIMITED, fragments=False)
    engine = case.engine()
    reader = Reader()
    received = b""
    for i, part in enumerate(parts):
        engine.receive(part)
        received += part
        if case.asked >> (i % 8) & 1 or i == len(parts) - 1:
            reader.ask(case, engine)
    whole = case.expected(received)
    if reader.violation is not None and whole.violation is None:
        # What cannot be inflated is seen before its frame has ended.
        assert case.terms is not None
        assert reader.messages == whole.messages
        return
    assert reader.messages == whole.messages, (reader.messages, whole)
    assert reader.violation == whole.violation, (reader.violation, whole)


class Reader:
    """Puts pieces together."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, str | bytes, bool]] = []
        self.violation: int | None = None
        self.opcode = 0
        self.begun: str | bytes = b""

    def ask(self, case: Case, engine: Engine) -> None:
        try:
            while self.violation is None:
                piece = engine.next_message(pieces=True, control=case.control)
                if piece is None:
                    return
                if piece.opcode & CONTROL:
                    self.messages.append((piece.opcode, piece.payload, True))
                    continue
                assert piece.payload or piece.fin
                assert (piece.opcode == 0) == (self.opcode != 0)
                if piece.opcode:
                    self.opcode, self.begun = piece.opcode, piece.payload[:0]
                self.begun += piece.payload
                if piece.fin:
                    self.messages.append((self.opcode, self.begun, True))
                    self.opcode = 0
        except ProtocolError as error:
            assert error is engine.error
            self.violation = error.code
