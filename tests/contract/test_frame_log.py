"""Frames in the log, a line for each, at DEBUG."""

from __future__ import annotations

import logging
import re

import pytest

from .behaviour import behaviour
from .ends import End
from .peers import binary, last, ping, text

FRAMES = "coro_websocket.frames"


@pytest.fixture
def frame_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, FRAMES)
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """What the log says, without whose frame it was."""
    messages = [record.getMessage() for record in log.records if record.name == FRAMES]
    return [re.sub(r"^(client|server) \d+ ", "", message) for message in messages]


@behaviour()
async def test_frames_that_come_are_logged(end: End, frame_log: pytest.LogCaptureFixture) -> None:
    await end.peer.send(text("h\u00e9llo"), text("a", fin=False), ping("p"), last())
    await end.peer.send(binary(bytes(range(40))))
    for _ in range(3):
        await end.read()
    assert [line for line in lines(frame_log) if line.startswith("received")] == [
        "received text, 6 bytes: 'h\u00e9llo'",
        "received text (not fin), 1 bytes: 'a'",
        "received ping, 1 bytes: 70",
        "received continuation, 0 bytes",
        f"received binary, 40 bytes: {bytes(range(32)).hex(' ')}...",
    ]


@behaviour()
async def test_frames_that_are_sent_are_logged(
    end: End, frame_log: pytest.LogCaptureFixture
) -> None:
    await end.write("one")
    await end.write([b"\x01", b"\x02"])
    await end.write.pong()
    closing = end.spawn(end.write.close, 1000, "bye")
    await end.peer.messages(2)
    await end.peer.receive()
    await end.peer.answer_close()
    await closing.result()
    assert await end.read() is None
    assert lines(frame_log) == [
        "sent text, 3 bytes: 'one'",
        "sent binary (not fin), 1 bytes: 01",
        "sent continuation, 1 bytes: 02",
        "sent pong, 0 bytes",
        "sent close, 5 bytes: 1000 'bye'",
        "received close, 5 bytes: 1000 'bye'",
    ]


@behaviour()
async def test_each_line_says_whose_frame_it_was(
    end: End, frame_log: pytest.LogCaptureFixture
) -> None:
    await end.write("x")
    said = [record.getMessage() for record in frame_log.records if record.name == FRAMES]
    assert len(said) == 1
    assert re.match(f"{'client' if end.client else 'server'} [0-9]+ sent text", said[0])
