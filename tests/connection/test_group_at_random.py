"""Groups at random: whatever peers and programs do, the counts add up and nobody is sent nonsense."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.raw_peer import CLOSE, CONT, TEXT, parse, turns_of_the_loop, watchdog

from coro_websocket import BroadcastStats, Group, Message, Write
from coro_websocket._connection.begin import begin_connection
from coro_websocket._options.options import Options
from coro_websocket._streams.memory import MemoryPipe, memory_pair

__all__ = ["watchdog"]

HIGH_WATER = 2000
LARGEST = 1500
COUNTED = [each.name for each in fields(BroadcastStats)]


class Member(asyncio.Protocol):
    """A connection in memory, and a peer that reads when it is told to."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.texts: list[str] = []
        self.closed: int | None = None
        self.fragmented = False
        pipe, self.transport = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), self)
        self.connection, _, self.write = begin_connection(
            MemoryPipe(pipe),
            Options.for_wrap_io({"ping_interval": None, "write_high_water": HIGH_WATER}),
            client=False,
        )

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (found := parse(self.received)) is not None:
            frame, size = found
            del self.received[:size]
            if frame.opcode == CLOSE:
                self.closed = frame.close[0]
            elif frame.opcode == TEXT:
                self.texts.append(frame.payload.decode())
            else:
                assert frame.opcode == CONT
                self.texts[-1] += frame.payload.decode()

    def unsent(self) -> int:
        """Bytes that wait for the peer to take them."""
        return self.connection.engine.bytes_encoded - self.write.stats.bytes_out


@dataclass
class Model:
    group: Group = field(default_factory=Group)
    members: list[Member] = field(default_factory=list)
    numbers: int = 0  # of messages to the group
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def text(self, size: int) -> str:
        self.numbers += 1
        return f"{self.numbers}:".ljust(size, ".")

    def broadcast(self, size: int, slow: Any, excluded: int) -> None:
        exclude: list[Write] = [
            each.write for each in self.members[:excluded] if each.write in self.group
        ]
        there = len(self.group) - len(exclude)
        made = self.group.broadcast(self.text(size), slow=slow, exclude=exclude, compress=False)
        # All are open, or have left: it has one fate with each.
        assert made.sent + made.waiting + made.dropped + made.closed == there
        assert made.replaced <= made.waiting
        # As much as may wait behind a fragmented message, and as much before it.
        most = 2 * (HIGH_WATER + LARGEST + 300)
        assert all(member.unsent() <= most for member in self.members)
        stats = self.group.stats
        for name in ("sent", "dropped", "closed", "replaced"):
            self.counted[name] += getattr(made, name)
            assert getattr(stats, name) >= self.counted[name]


sizes = st.integers(8, LARGEST)
which = st.integers(0, 3)
actions = st.one_of(
    st.tuples(st.just("broadcast"), sizes, st.sampled_from(["drop", "latest", "close"]), which),
    st.tuples(st.just("broadcast"), sizes, st.just("latest"), st.just(0)),
    st.tuples(st.just("pause"), which),
    st.tuples(st.just("resume"), which),
    st.tuples(st.just("join"), which),
    st.tuples(st.just("leave"), which),
    st.tuples(st.just("begin"), which),
    st.tuples(st.just("finish"), which),
    st.tuples(st.just("turn")),
)


async def run(done: list[tuple[Any, ...]]) -> None:
    model = Model()
    model.members = [Member() for _ in range(4)]
    for member in model.members:
        model.group.add(member.write)
    for kind, *arguments in done:
        if kind == "broadcast":
            model.broadcast(*arguments)
        elif kind == "turn":
            await turns_of_the_loop(1)
        else:
            await act(model, kind, model.members[arguments[0]])
    for member in model.members:
        if member.closed is None and member.fragmented:
            await act(model, "finish", member)
        member.transport.resume_reading()
    await turns_of_the_loop(10)
    check_end(model)
    for member in model.members:
        member.connection.stream.socket.shutdown()
    await turns_of_the_loop(3)
    assert len(model.group) == 0


async def act(model: Model, kind: str, member: Member) -> None:
    open_ = not member.connection.engine.close_sent
    if kind == "pause":
        member.transport.pause_reading()
    elif kind == "resume":
        member.transport.resume_reading()
    elif kind == "join":
        model.group.add(member.write)
    elif kind == "leave":
        model.group.discard(member.write)
    elif kind == "begin" and open_ and not member.fragmented:
        member.fragmented = True
        member.write(Message("own ", TEXT, fin=False)).close()
    elif kind == "finish" and open_ and member.fragmented:
        member.fragmented = False
        member.write(Message("own", CONT)).close()  # it is not waited for


def check_end(model: Model) -> None:
    """Everybody has read everything."""
    stats = model.group.stats
    assert stats.waiting == 0
    read = 0
    for member in model.members:
        shared = [text for text in member.texts if text != "own own" and ":" in text]
        numbers = [int(text.partition(":")[0]) for text in shared]
        assert numbers == sorted(set(numbers))  # each once, and in their order
        read += len(numbers)
        if member.connection.engine.close_sent:
            assert member.closed == 1013
    if not stats.closed:  # behind a Close nothing is sent, what waited for a turn neither
        assert read == stats.sent


@given(st.lists(actions, max_size=60))
def test_counts_add_up_and_messages_keep_their_order(done):
    asyncio.run(run(done))
