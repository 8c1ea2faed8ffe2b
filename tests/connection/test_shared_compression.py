"""A message compressed once for many connections: each peer, by Python's zlib, reads it and goes on.

RFC 7692 section 7.2: what a fresh compressor has made can be inflated with any context, and what
comes after it must not refer to what came before.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.raw_peer import BINARY, TEXT, Frame, parse, turns_of_the_loop, watchdog

from coro_websocket import Deflate, Message, Write, broadcast
from coro_websocket._connection.begin import begin_connection
from coro_websocket._options.options import Options
from coro_websocket._rfc6455.deflate import DeflateExtension
from coro_websocket._streams.memory import MemoryPipe, memory_pair
from coro_websocket.extensions import Extension

__all__ = ["watchdog"]

TAIL = b"\x00\x00\xff\xff"
WORDS = ["alpha ", "beta ", "gamma ", "{", "}", "12345 ", "世界 ", "\n"]


def words(seed: int, size: int) -> str:
    """Text of about so many bytes that compresses, and repeats what others of its kind have."""
    rng = random.Random(seed)
    return "".join(rng.choice(WORDS) for _ in range(size // 5))


# A connection and its peer


@dataclass
class Agreed:
    """What a connection has agreed on with its peer."""

    client: bool = False
    bits: int = 15
    takeover: bool = True
    deflate: Deflate | None = field(default_factory=lambda: Deflate(threshold=0))
    others: tuple[Extension, ...] = ()

    def extensions(self) -> list[Extension]:
        if self.deflate is None:
            return list(self.others)
        extension = DeflateExtension(
            self.deflate,
            send_bits=self.bits,
            receive_bits=15,
            send_takeover=self.takeover,
            receive_takeover=True,
        )
        return [extension, *self.others]


class Peer(asyncio.Protocol):
    """The other end in memory. It knows RFC 6455's frames, and inflates with one stream."""

    def __init__(self, agreed: Agreed, **options: Any) -> None:
        self.agreed = agreed
        self.received = bytearray()
        self.inflating: Any = None
        pipe, _ = memory_pair(asyncio.get_running_loop(), asyncio.Protocol(), self)
        self.connection, self.read, self.write = begin_connection(
            MemoryPipe(pipe),
            Options.for_wrap_io({"ping_interval": None, **options}),
            client=agreed.client,
            extensions=agreed.extensions(),
        )

    def data_received(self, data: bytes) -> None:
        self.received += data

    async def frames(self) -> list[Frame]:
        """The frames that have come since this was last asked."""
        await turns_of_the_loop(3)
        frames = []
        while (found := parse(self.received)) is not None:
            frames.append(found[0])
            del self.received[: found[1]]
        assert not self.received
        return frames

    async def messages(self) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        whole = True
        for frame in await self.frames():
            assert frame.masked is self.agreed.client
            payload = frame.payload
            if whole:
                compressed = frame.rsv == 4
                messages.append((frame.opcode, b""))
            if compressed:
                payload = self.inflated(payload, frame.fin)
            messages[-1] = (messages[-1][0], messages[-1][1] + payload)
            whole = frame.fin
        assert whole
        return messages

    def inflated(self, payload: bytes, fin: bool) -> bytes:
        if self.inflating is None:
            self.inflating = zlib.decompressobj(-self.agreed.bits)
        data = self.inflating.decompress(payload + (TAIL if fin else b""))
        if fin and not self.agreed.takeover:
            self.inflating = None
        return data

    def end(self) -> None:
        self.connection.stream.socket.shutdown()


def writes_of(peers: list[Peer]) -> list[Write]:
    return [peer.write for peer in peers]


def as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


# What peers read

messages = st.one_of(
    st.builds(words, st.integers(0, 20), st.sampled_from([0, 40, 300, 3000, 40_000])),
    st.builds(lambda size: random.Random(1).randbytes(size), st.integers(0, 2000)),
)
agreements = st.builds(
    Agreed,
    client=st.booleans(),
    bits=st.integers(9, 15),
    takeover=st.booleans(),
    deflate=st.sampled_from(
        [
            None,
            Deflate(threshold=0),
            Deflate(threshold=0, library="zlib-ng"),
            Deflate(threshold=0, level=1, memory_level=1),
            Deflate(),
        ]
    ),
)
actions = st.one_of(
    st.tuples(st.just("own"), messages, st.booleans()),
    st.tuples(st.just("fragments"), messages, st.booleans()),
    st.tuples(st.just("shared"), messages, st.booleans()),
    st.tuples(st.just("behind"), messages, st.booleans()),
)


async def run_actions(agreed: list[Agreed], done: list[tuple[str, str | bytes, bool]]) -> None:
    peers = [Peer(each, write_high_water=None) for each in agreed]
    expected = []
    for kind, message, compress in done:
        expected.append((TEXT if isinstance(message, str) else BINARY, as_bytes(message)))
        if kind == "own":
            for peer in peers:
                await peer.write(message, compress=compress)
        elif kind == "shared":
            assert broadcast(writes_of(peers), message, compress=compress) == []
        else:
            opcode = expected[-1][0]
            half = len(message) // 2
            for peer in peers:
                await peer.write(Message(message[:half], opcode, fin=False), compress=compress)
            if kind == "behind":  # it has to wait until the fragmented message has ended
                assert broadcast(writes_of(peers), "behind " * 50, compress=compress) == []
                expected.append((TEXT, b"behind " * 50))
            for peer in peers:
                await peer.write(Message(message[half:], 0), compress=compress)
    for peer in peers:
        assert await peer.messages() == expected
        stats = peer.write.stats
        assert stats.messages_out == len(expected)
        peer.end()
    await turns_of_the_loop(3)


@given(st.lists(agreements, min_size=1, max_size=4), st.lists(actions, max_size=10))
def test_every_peer_reads_what_it_is_sent_in_whatever_order(agreed, done):
    pytest.importorskip("zlib_ng")
    asyncio.run(run_actions(agreed, done))


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
async def test_a_message_of_every_size_around_a_window_fits_it(bits, takeover):
    """One larger than the window makes a compressor refer as far back as it may."""
    others = [Peer(Agreed(bits=each)) for each in range(9, 16)]
    peer = Peer(Agreed(bits=bits, takeover=takeover))
    window = 1 << bits
    unit = random.Random(bits).randbytes(window - 300)
    expected = []
    for size in (window - 1, window, window + 1, window + 300, 2 * window, 3 * window + 7):
        message = (unit * 5)[:size]
        assert broadcast(writes_of([*others, peer]), message) == []
        await peer.write(message)
        expected += 2 * [(BINARY, message)]
    assert await peer.messages() == expected
    for other in others:
        assert await other.messages() == expected[::2]
    for each in [*others, peer]:
        each.end()


# How often it is compressed, and for whom


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The window bits of each compression for many."""
    bits_used: list[int] = []
    compress = DeflateExtension.compress_alone

    def compress_alone(self: DeflateExtension, payload: bytes, bits: int) -> bytes:
        bits_used.append(bits)
        return compress(self, payload, bits)

    monkeypatch.setattr(DeflateExtension, "compress_alone", compress_alone)
    return bits_used


async def test_a_message_that_fits_every_window_is_compressed_once(compressions):
    peers = [Peer(Agreed(bits=bits)) for bits in range(9, 16)]
    assert broadcast(writes_of(peers), words(1, 500)) == []
    assert len(compressions) == 1
    frames = [(await peer.frames())[0] for peer in peers]
    assert {frame.payload for frame in frames} == {frames[0].payload}
    assert frames[0].rsv == 4
    assert len(frames[0].payload) < 300
    for peer in peers:
        peer.end()


async def test_a_larger_one_is_compressed_once_for_each_window(compressions):
    peers = [Peer(Agreed(bits=bits)) for bits in (9, 12, 15, 12, 9)]
    assert broadcast(writes_of(peers), words(1, 3000)) == []
    assert compressions == [9, 13]  # of which the second is for all that it fits into
    del compressions[:]
    assert broadcast(writes_of(peers), words(1, 100_000)) == []
    assert compressions == [9, 12, 15]
    for peer in peers:
        assert [len(payload) for _, payload in await peer.messages()] == [
            len(words(1, 3000).encode()),
            len(words(1, 100_000).encode()),
        ]
        peer.end()


async def test_it_is_as_small_as_if_the_connection_had_compressed_it():
    message = words(3, 2000)
    peer = Peer(Agreed(bits=12))
    assert broadcast([peer.write], message) == []
    await peer.write(message)
    shared, own = await peer.frames()
    assert len(shared.payload) <= len(own.payload) + 8
    peer.end()


async def test_it_comes_plain_where_it_may_not_be_compressed(compressions):
    class Own(DeflateExtension):
        """One that somebody has derived: it may do something else."""

    class Marking(Extension):
        rsv = 2

        def encode(self, payload, *, opcode, begins, ends):
            return payload[::-1]

        def decode(self, payload, *, ends, limit):
            return payload[::-1]

    derived = Own(
        Deflate(), send_bits=15, receive_bits=15, send_takeover=True, receive_takeover=True
    )
    peers = [
        Peer(Agreed(deflate=None)),
        Peer(Agreed(deflate=None, others=(Marking(),))),
        Peer(Agreed(others=(Marking(),))),
        Peer(Agreed(deflate=None, others=(derived,))),
        Peer(Agreed(deflate=Deflate(threshold=10_000))),
    ]
    message = words(1, 3000)
    assert broadcast(writes_of(peers), message) == []
    for peer in peers:
        assert await peer.frames() == [Frame(TEXT, message.encode())]
        peer.end()
    assert compressions == []


async def test_it_comes_plain_if_that_is_asked_for_or_smaller():
    peer = Peer(Agreed())
    assert broadcast([peer.write], words(1, 3000), compress=False) == []
    assert broadcast([peer.write], random.Random(1).randbytes(3000)) == []
    assert broadcast([peer.write], "") == []
    assert [frame.rsv for frame in await peer.frames()] == [0, 0, 0]
    peer.end()


async def test_a_plain_one_leaves_the_connection_its_context():
    peer = Peer(Agreed())
    message = random.Random(1).randbytes(2000)
    await peer.write(message)
    assert broadcast([peer.write], words(1, 3000), compress=False) == []
    await peer.write(message)
    *_, last = await peer.frames()
    assert len(last.payload) < 100
    peer.end()


async def test_it_is_counted_as_it_was_sent():
    for client in (False, True):
        peer = Peer(Agreed(client=client))
        message = words(1, 3000).encode()
        assert broadcast([peer.write], message) == []
        assert broadcast([peer.write], "plain", compress=False) == []
        compressed, plain = await peer.frames()
        stats = peer.write.stats
        assert (stats.messages_out, stats.frames_out) == (2, 2)
        assert stats.compression_out == len(compressed.payload) / len(message)
        assert stats.bytes_out == len(compressed.payload) + 4 + 7 + 8 * client
        peer.end()


async def test_without_memory_to_compress_it_comes_plain(monkeypatch):
    def fail(*_: object) -> bytes:
        raise MemoryError

    peer = Peer(Agreed())
    monkeypatch.setattr(DeflateExtension, "compress_alone", fail)
    assert broadcast([peer.write], words(1, 3000)) == []
    assert [frame.rsv for frame in await peer.frames()] == [0]
    peer.end()


async def test_behind_a_message_that_a_thread_compresses_it_keeps_its_place():
    peer = Peer(Agreed(), write_high_water=None)
    large = words(1, 200_000)
    writing = asyncio.ensure_future(peer.write(large))
    await asyncio.sleep(0)
    assert broadcast([peer.write], words(2, 3000)) == []
    await writing
    await peer.write(words(3, 3000))
    assert await peer.messages() == [
        (TEXT, large.encode()),
        (TEXT, words(2, 3000).encode()),
        (TEXT, words(3, 3000).encode()),
    ]
    peer.end()
