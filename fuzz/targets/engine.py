"""The engine in both roles, fed with anything: it must neither crash nor hang, and end somehow.

With no reference beside it, this is the target for very many inputs.
"""

from __future__ import annotations

from coro_websocket._errors import ProtocolError
from coro_websocket._rfc6455.deflate import Deflate, DeflateExtension
from coro_websocket._rfc6455.engine import Engine

LIMIT = 65536


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    flags, cut = data[0], 2 + data[1]
    extensions = []
    if flags & 2:
        extensions.append(
            DeflateExtension(
                Deflate(), send_bits=9, receive_bits=9, send_takeover=True, receive_takeover=True
            )
        )
    engine = Engine(bool(flags & 1), max_message_size=LIMIT, extensions=extensions)
    fragments, control = bool(flags & 4), bool(flags & 8)
    pieces = bool(flags & 64)
    for piece in (data[2:cut], data[cut:]):
        engine.receive(piece)
        if flags & 16:
            engine.answer_ahead(answer_close=bool(flags & 32))
        try:
            while (
                engine.next_message(fragments=fragments, pieces=pieces, control=control) is not None
            ):
                if flags & 128:
                    pieces = not pieces
        except ProtocolError:
            assert engine.finished
        engine.data_to_send()
    assert engine.error is None or engine.end_error() is engine.error
