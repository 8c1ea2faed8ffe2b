"""The engine's receiving half in both roles, against the reference decoder.

The same stream, in any pieces, with or without permessage-deflate, must give the same messages,
the same answers and the same violation at the same place. `answer_ahead` may answer earlier, and
answer what stands behind a violation; it may change nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.helpers.reference_frames import CLOSE, PING, PONG, Received, Terms, answers_of, receive

from coro_websocket._errors import ProtocolError
from coro_websocket._rfc6455.deflate import Deflate, DeflateExtension
from coro_websocket._rfc6455.engine import Engine

from ..frame_grammar import Peer
from ..source import Source

LARGEST = 2**63 - 1 - 1024  # what an engine takes at most: what one object in memory may be
LIMITS = (LARGEST, 2**24, 0, 1, 125, 126, 1000, 20000)
BACKLOG = 16384  # unsent bytes behind which only the newest Ping is answered


@dataclass
class Case:
    client: bool
    fragments: bool
    control: bool
    terms: Terms | None
    limit: int
    asked: int  # a bit for each of eight pieces: whether messages are asked for after it
    looks_ahead: bool
    closes_ahead: bool
    hoards: bool  # sends nothing before the end

    def engine(self) -> Engine:
        extensions = []
        if self.terms is not None:
            extensions.append(
                DeflateExtension(
                    Deflate(),
                    send_bits=15,
                    receive_bits=self.terms.window,
                    send_takeover=True,
                    receive_takeover=self.terms.takeover,
                )
            )
        return Engine(self.client, max_message_size=self.limit, extensions=extensions)

    def expected(self, data: bytes) -> Received:
        return receive(
            data,
            client=self.client,
            limit=self.limit,
            fragments=self.fragments,
            control=self.control,
            deflate=self.terms,
        )


def run(data: bytes) -> None:
    case, pieces = case_of(data)
    compare(case, pieces)


def case_of(data: bytes) -> tuple[Case, list[bytes]]:
    """What an input stands for: who receives what, and in which pieces."""
    source = Source(data)
    flags = source.byte()
    window = source.pick((0, 15, 9, 12, 8))
    terms = Terms(window, flags & 128 != 0) if window else None
    case = Case(
        client=flags & 1 != 0,
        fragments=flags & 2 != 0,
        control=flags & 4 != 0,
        terms=terms,
        limit=source.pick(LIMITS),
        asked=source.byte() if flags & 8 else 255,
        looks_ahead=flags & 16 != 0,
        closes_ahead=flags & 32 != 0,
        hoards=flags & 64 != 0,
    )
    cuts = Source(bytes([source.byte(), source.byte()]))
    stream = Peer(not case.client, window or None, flags & 128 != 0).stream(source)
    return case, list(cuts.pieces(stream))


def compare(case: Case, pieces: list[bytes]) -> None:
    engine = case.engine()
    seen = Received()
    received, failed_at, last = b"", 0, 0
    for i, piece in enumerate(pieces):
        engine.receive(piece)
        received += piece
        if case.looks_ahead:
            engine.answer_ahead(answer_close=case.closes_ahead)
        if case.asked >> (i % 8) & 1 or i == len(pieces) - 1:
            if seen.violation is None:
                ask(case, engine, seen)
                if seen.violation is not None:
                    failed_at = len(received)
                else:
                    last = len(received)
            else:
                assert engine.next_message() is None
        if not case.hoards:
            seen.answers += answers_of(engine)
    while answers := answers_of(engine):
        seen.answers += answers
    seen.finished = engine.finished

    whole = case.expected(received)
    compare_messages(case, seen, whole)
    assert seen.violation == whole.violation, (seen, whole)
    assert seen.finished == whole.finished, (seen, whole)
    if whole.violation is not None:
        assert case.expected(received[:failed_at]).violation == whole.violation, (seen, whole)
        assert case.expected(received[:last]).violation is None, (seen, whole)
    compare_answers(case, seen, whole)
    check_end(engine, whole)


def ask(case: Case, engine: Engine, seen: Received) -> None:
    """Take the messages that are here."""
    try:
        while True:
            message = engine.next_message(fragments=case.fragments, control=case.control)
            if message is None:
                return
            payload = message.payload
            assert type(payload) in (str, bytes)
            assert message.len == len(payload.encode() if isinstance(payload, str) else payload)
            assert message.mask is not case.client
            assert (message.rsv1, message.rsv2, message.rsv3) == (False, False, False)
            seen.messages.append((message.opcode, payload, message.fin))
    except ProtocolError as error:
        assert error is engine.error
        seen.violation = error.code


def compare_messages(case: Case, seen: Received, whole: Received) -> None:
    if not (case.looks_ahead and case.control):
        assert seen.messages == whole.messages, (seen, whole)
        return
    # `answer_ahead` drops the Pings and Pongs that it finds before a Close and before all messages.
    left = iter(whole.messages)
    for message in seen.messages:
        dropped = []
        while (expected := next(left)) != message:
            dropped.append(expected)
        assert all(opcode in (PING, PONG) for opcode, _, _ in dropped), (seen, whole)
    assert all(opcode in (PING, PONG) for opcode, _, _ in left), (seen, whole)


def compare_answers(case: Case, seen: Received, whole: Received) -> None:
    closes = [payload for opcode, payload in seen.answers if opcode == CLOSE]
    expected = [payload for opcode, payload in whole.answers if opcode == CLOSE]
    if sum(len(payload) + 6 for payload in whole.pongs) <= BACKLOG:
        if not case.looks_ahead:
            assert seen.answers == whole.answers, (seen, whole)
        # What stands behind a violation may have been answered before that was reached.
        assert seen.pongs[: len(whole.pongs)] == whole.pongs, (seen, whole)
        if whole.violation is None:
            assert len(seen.pongs) == len(whole.pongs), (seen, whole)
    if case.looks_ahead and whole.violation is not None:
        assert len(closes) == 1, (seen, whole)
    else:
        assert closes == expected, (seen, whole)


def check_end(engine: Engine, whole: Received) -> None:
    error = engine.end_error()
    if whole.violation is not None:
        assert error is engine.error
        assert engine.close_code == whole.violation
        assert engine.close_sent
    elif whole.finished:
        assert engine.close_received
        assert engine.close_sent
        clean = engine.close_code in (1000, 1001, 1005) and not whole.cut_off
        assert (error is None) == clean, (error, whole)
    else:
        assert error is not None
    assert engine.finished == (engine.error is not None or whole.finished)
