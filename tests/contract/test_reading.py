"""`read()` and iterating over `read`: whole messages, in order, to one task at a time."""

from __future__ import annotations

import pytest

from coro_websocket import ConcurrencyError, Message

from .behaviour import behaviour
from .ends import End
from .peers import binary, close, last, more, ping, pong, text


@behaviour()
async def test_text_is_given_as_str_with_the_fields_of_its_frame(end: End) -> None:
    await end.peer.send(text("h\u00e9llo"))
    message = await end.read()
    assert message == Message("h\u00e9llo", 1, mask=not end.client)
    assert message is not None
    assert (message.payload, message.opcode, message.fin) == ("h\u00e9llo", 1, True)
    assert (message.len, message.mask) == (6, not end.client)
    assert not (message.rsv1 or message.rsv2 or message.rsv3)
