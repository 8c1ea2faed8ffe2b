"""Frames that announce more than they bring, and messages in a great many pieces.

RFC 6455 sections 5.2, 5.4 and 10.4: memory follows what has come, never what is announced.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.helpers.raw_peer import BINARY, CONT, TEXT, end_and_peer, frame, until, watchdog
from tests.helpers.reference_frames import KEY, header

from coro_websocket import Deflate, LimitError
from coro_websocket._rfc6455.engine import Engine
from coro_websocket.codec import decode

from .bounds import KIB, MIB, assert_linear, growth, measured

__all__ = ["watchdog"]

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
HUGE = 2**63 - 1


def announced(client: bool, length: int, opcode: int = BINARY, *, fin: bool = True) -> bytes:
    """The header of a frame that a client, or a server, may receive."""
    return header(opcode, length, fin=fin, key=None if client else KEY)


@both_roles
@pytest.mark.parametrize("length", [HUGE, 2**62, 2**40, 2**32, 16 * MIB + 1])
@pytest.mark.parametrize("begun", [b"", b"\x00" * 1000])
def test_a_length_above_the_limit_is_refused_by_its_header(client, length, begun):
    engine = Engine(client)
    with measured() as cost:
        if begun:  # a fragment before it
            engine.receive(announced(client, len(begun), fin=False) + begun)
            assert engine.next_message() is None
        engine.receive(announced(client, length, CONT if begun else BINARY))
        with pytest.raises(LimitError):
            engine.next_message()
    assert engine.error.code == 1009
    assert cost.memory < 256 * KIB
    assert cost.seconds < 0.5


@both_roles
@pytest.mark.parametrize("length", [HUGE - 1024, 2**40, 16 * MIB])
def test_a_length_that_is_allowed_takes_no_memory_before_its_bytes_come(client, length):
    engine = Engine(client, max_message_size=None if length > 16 * MIB else 16 * MIB)
    with measured() as cost:
        engine.receive(announced(client, length))
        for _ in range(64):
            assert engine.next_message() is None
            engine.receive(bytes(4 * KIB))
    assert cost.memory < 2.5 * MIB  # eight times what has come, and that itself
    assert cost.seconds < 0.5


@both_roles
def test_a_length_with_the_sign_bit_is_a_violation(client):
    engine = Engine(client, max_message_size=None)
    engine.receive(b"\x82" + (b"\x7f" if client else b"\xff") + b"\x80" + bytes(11))
    with pytest.raises(ConnectionError):
        engine.next_message()
    assert engine.error.code == 1002


def test_the_codec_refuses_a_length_above_its_limit_and_waits_without_one():
    with measured() as cost:
        with pytest.raises(LimitError):
            decode(announced(True, HUGE))
        assert decode(announced(True, HUGE), max_size=None) is None
    assert cost.memory < 64 * KIB


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("limit", [16 * MIB, None])
async def test_a_connection_that_is_announced_2_to_the_63_bytes_stays_small(side, limit):
    async with end_and_peer(side, max_message_size=limit) as (end, peer):
        with measured() as cost:
            start = header(BINARY, HUGE, key=KEY if peer.client else None)
            reading = asyncio.ensure_future(end.read())
            await peer.send(start + bytes(64 * KIB))
            if limit is None:  # it is waited for, and the peer's end then ends that
                await end.settle(20)
                peer.hang_up()
            else:
                assert (await peer.close_received())[0] == 1009
                peer.hang_up()
            with pytest.raises(ConnectionError) as caught:
                await reading
        # 2**63 - 1 bytes are more than an object can be, whatever the limit.
        assert caught.value.code == 1009  # type: ignore[attr-defined]
        assert cost.memory < 2 * MIB
        assert cost.seconds < 2


@both_roles
@pytest.mark.parametrize("rsv", [0, 4], ids=["plain", "compressed"])
def test_a_message_that_is_announced_takes_memory_as_its_bytes_come(client, rsv):
    engine = Engine(client, extensions=[Deflate().agree(())[1]])
    came = 0
    with growth() as grown:
        engine.receive(header(BINARY, 16 * MIB, rsv=rsv, key=None if client else KEY))
        for size in (1, 1, 1000, 30 * KIB, 30 * KIB, 500 * KIB):
            came += size
            engine.receive(bytes(size))
            assert engine.next_message() is None
            assert grown() < 8 * came + 16 * KIB


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("reads", [True, False], ids=["application reads", "application idle"])
async def test_a_connection_that_is_announced_16_mib_takes_memory_as_its_bytes_come(side, reads):
    async with end_and_peer(side, compression=None) as (end, peer):
        await peer.write(BINARY, b"warm")  # what is allocated once, with the first message
        await end.read()
        reading = asyncio.ensure_future(end.read()) if reads else None
        await end.settle()
        start = header(BINARY, 16 * MIB, key=KEY if peer.client else None)
        came = end.read.stats.bytes_in
        with growth() as grown:
            for data in (start, b"x", b"x", bytes(20 * KIB), bytes(20 * KIB), bytes(20 * KIB)):
                came += len(data)
                await peer.send(data)
                await until(lambda: end.read.stats.bytes_in == came)  # noqa: B023
                assert grown() < 8 * came + 128 * KIB  # that of the test itself is 64 KiB
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_connection_with_a_little_unread_takes_little_memory(side):
    async with end_and_peer(side, compression=None) as (end, peer):
        await peer.write(BINARY, b"warm")  # what is allocated once, with the first message
        await end.read()
        came = end.read.stats.bytes_in
        with growth() as grown:
            whole = peer.frame(BINARY, bytes(300))
            for data in (whole, whole[:1], whole[1:3]):  # each in a segment of its own
                came += len(data)
                await peer.send(data)
                await until(lambda: end.read.stats.bytes_in == came)  # noqa: B023
            assert grown() < 16 * KIB
        assert (await end.read()).payload == bytes(300)


# A great many fragments


def fragments(client: bool, opcode: int, pieces: list[bytes]) -> bytes:
    last = len(pieces) - 1
    key = not client
    few = {
        (o, fin, piece): frame(o, piece, masked=key, fin=fin)
        for o in {opcode, CONT}
        for fin in (True, False)
        for piece in set(pieces)
    }
    return b"".join(few[CONT if i else opcode, i == last, piece] for i, piece in enumerate(pieces))


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_million_fragments_of_a_byte_cost_what_their_message_costs(client, opcode):
    data = fragments(client, opcode, [b"x"] * 1_000_000)
    engine = Engine(client)
    with measured() as cost:
        for at in range(0, len(data), 64 * KIB):  # as a socket gives them
            engine.receive(data[at : at + 64 * KIB])
            message = engine.next_message()
        assert message.len == 1_000_000
    assert cost.memory < 3.5 * MIB  # the body as it grows, and as str once more
    assert cost.seconds < 10


@both_roles
def test_a_million_empty_fragments_cost_no_memory(client):
    data = fragments(client, TEXT, [b""] * 100_000 + [b"x"])
    engine = Engine(client)
    start, rest, last = data[: 2 if client else 6], data[2 if client else 6 :], b""
    last, rest = rest[-(3 if client else 7) :], rest[: -(3 if client else 7)]
    with measured() as cost:
        engine.receive(start)
        for _ in range(10):
            engine.receive(rest)
            assert engine.next_message() is None
        engine.receive(last)
        assert engine.next_message().payload == "x"
    assert cost.memory < 2 * len(rest)  # what was received at once
    assert cost.seconds < 10


@both_roles
@pytest.mark.parametrize("piece", [b"", b"x", b"\xc3", b"0123456789"])
def test_fragments_cost_linear_time(client, piece):
    made: dict[Any, Any] = {}

    def attack(n: int) -> None:
        pieces = [piece] * n if piece != b"\xc3" else [b"\xc3", b"\xa9"] * (n // 2)
        data = made.setdefault(n, fragments(client, TEXT, pieces))
        engine = Engine(client)
        for at in range(0, len(data), 64 * KIB):
            engine.receive(data[at : at + 64 * KIB])
            message = engine.next_message()
        assert message.len == len(b"".join(pieces))

    attack(20_000)
    attack(160_000)
    assert_linear(attack, 20_000)


@both_roles
def test_one_byte_received_at_a_time_costs_linear_time(client):
    data = frame(BINARY, bytes(200_000), masked=not client)

    def attack(n: int) -> None:
        engine = Engine(client)
        for i in range(n):
            engine.receive(data[i : i + 1])
            assert engine.next_message() is None

    assert_linear(attack, 20_000)


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_hundred_thousand_fragments_are_one_message_of_a_connection(side):
    data = fragments(side == "client", BINARY, [b"x"] * 100_000)
    async with end_and_peer(side) as (end, peer):
        with measured() as cost:
            sending = asyncio.ensure_future(peer.send(data))
            assert (await end.read()).payload == b"x" * 100_000
            await sending
        assert cost.memory < 2 * MIB
        assert cost.seconds < 4
