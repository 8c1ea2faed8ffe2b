"""Compressed messages that are small on the wire and large, or slow, once inflated.

RFC 7692 section 8 and RFC 6455 section 10.4: the limit holds while inflating.
"""

from __future__ import annotations

import asyncio
import random
import struct
import subprocess
import sys
import time
import zlib

import pytest
from tests.helpers.raw_peer import turns_of_the_loop
from tests.helpers.reference_frames import BINARY, CONT, TEXT, Frame, drain, encode, header

from coro_websocket import Deflate, LimitError, ProtocolError
from coro_websocket._rfc6455.deflate import DeflateExtension
from coro_websocket._rfc6455.engine import Engine
from coro_websocket.testing import connected_pair

from .bounds import GIB, KIB, MIB, assert_linear, measured

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

LIMIT = 16 * MIB  # the default


def engine(client: bool, limit: int | None = LIMIT) -> Engine:
    deflate = DeflateExtension(
        Deflate(), send_bits=15, receive_bits=15, send_takeover=True, receive_takeover=True
    )
    return Engine(client, max_message_size=limit, extensions=[deflate])


def frame(client: bool, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """The bytes of a frame; a server's own key changes nothing, so that it is made quickly."""
    return encode(Frame(opcode, payload, fin, rsv)) if client else masked(opcode, payload, fin, rsv)


def masked(opcode: int, payload: bytes, fin: bool, rsv: int) -> bytes:
    return header(opcode, len(payload), fin=fin, rsv=rsv, key=bytes(4)) + payload


def bomb(size: int) -> bytes:
    """What inflates to `size` zeros, at the most that deflate can do: about 1 to 1,000."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    step = bytes(min(size, MIB))
    pieces = [deflate.compress(step) + deflate.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    if size <= MIB:
        return pieces[0].removesuffix(b"\x00\x00\xff\xff")
    # From the second on they are all the same: each refers to the one before.
    return (pieces[0] + pieces[1] * (size // MIB - 1)).removesuffix(b"\x00\x00\xff\xff")


def refused(receiving: Engine, data: bytes) -> LimitError:
    receiving.receive(data)
    with pytest.raises(LimitError) as caught:
        list(drain(receiving))
    assert caught.value.code == 1009
    return caught.value


def test_the_bomb_is_one():
    small = bomb(8 * MIB)
    assert len(small) < 9 * KIB
    assert zlib.decompressobj(-15).decompress(small + b"\x00\x00\xff\xff") == bytes(8 * MIB)


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_inflates_to_1_gib_costs_no_more_than_the_limit(client, opcode):
    data = frame(client, opcode, bomb(GIB), rsv=4)
    assert len(data) < 1.1 * MIB
    with measured() as cost:
        error = refused(engine(client), data)
    # What is inflated of it, one step that is put to the rest, and the compressed message.
    assert cost.memory < 1.25 * LIMIT + 5 * len(data)
    assert (error.limit, error.value) == ("max_message_size", LIMIT)
    # It is not inflated further than the limit.
    most = frame(client, opcode, bomb(LIMIT), rsv=4)
    with measured() as allowed:
        receiving = engine(client)
        receiving.receive(most)
        assert receiving.next_message().payload in (bytes(LIMIT), "\x00" * LIMIT)
    assert cost.seconds < 4 * allowed.seconds + 0.5


@both_roles
def test_a_frame_of_1_kib_that_inflates_to_1_mib_costs_no_more_than_a_limit_of_64_kib(client):
    data = frame(client, BINARY, bomb(MIB), rsv=4)
    assert len(data) < 1.1 * KIB
    with measured() as cost:
        refused(engine(client, 64 * KIB), data)
    assert cost.memory < 256 * KIB
    assert cost.seconds < 0.5


@both_roles
def test_fragments_that_inflate_to_1_gib_cost_no_more_than_the_limit(client):
    payload = bomb(GIB)
    cuts = range(0, len(payload), 500)
    receiving = engine(client)
    with measured() as cost:
        for at in cuts:
            receiving.receive(
                frame(
                    client,
                    CONT if at else BINARY,
                    payload[at : at + 500],
                    fin=at == cuts[-1],
                    rsv=0 if at else 4,
                )
            )
            try:
                assert receiving.next_message() is None
            except LimitError:
                break
        else:
            pytest.fail("the limit was not noticed")
    assert at < 0.05 * len(payload)  # it is noticed when it is crossed, not at the end
    assert cost.memory < 2 * LIMIT
    assert cost.seconds < 10


def final(data: bytes) -> bytes:
    """A final block with `data`, without compression."""
    return b"\x01" + struct.pack("<HH", len(data), 0xFFFF ^ len(data)) + data


def dynamic() -> bytes:
    """Four empty blocks with codes of their own, 90 bits each, which take zlib the longest."""
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)  # RFC 1951 3.2.7
    fields = [(0, 1), (2, 2), (0, 5), (0, 5), (14, 4)]
    fields += [(code in (1, 18), 3) for code in order]
    # 256 lengths of zero; one for the end of the block, one for a distance; and that end.
    fields += [(1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)]
    bits = size = 0
    for value, width in fields * 4:
        bits |= value << size
        size += width
    return bits.to_bytes(size // 8, "little")


DYNAMIC = dynamic()


@both_roles
@pytest.mark.parametrize("limit", [LIMIT, None])
@pytest.mark.parametrize("block", [b"\x03\x00", b"\x4b\x04\x00", b"\x01\x00\x00\xff\xff"])
def test_blocks_that_end_a_stream_each_are_refused_when_they_are_too_many(client, limit, block):
    data = frame(client, BINARY, block * (20 * MIB // len(block)) + b"\x00", rsv=4)
    receiving = engine(client, limit)
    receiving.receive(data)
    with measured() as cost, pytest.raises(ProtocolError, match="final blocks") as caught:
        receiving.next_message()
    assert caught.value.code == 1008
    assert cost.seconds < 0.5
    assert cost.memory < 2 * len(data) + MIB


@both_roles
def test_empty_blocks_of_the_costliest_kind_are_refused_when_they_are_too_many(client):
    data = frame(client, BINARY, DYNAMIC * (20 * MIB // len(DYNAMIC)) + b"\x00", rsv=4)
    receiving = engine(client)
    receiving.receive(data)
    with measured() as cost, pytest.raises(ProtocolError, match="next to nothing") as caught:
        receiving.next_message()
    assert caught.value.code == 1008
    assert cost.seconds < 1
    assert cost.memory < 2 * len(data) + MIB


@both_roles
@pytest.mark.parametrize("blocks", [b"\x03\x00" * 100, DYNAMIC * 90], ids=["final", "dynamic"])
def test_empty_blocks_in_many_messages_or_fragments_are_refused_too(client, blocks):
    for fin in (True, False):
        payload = blocks + b"\x00" if fin else blocks
        receiving = engine(client)
        with measured() as cost, pytest.raises(ProtocolError, match="next to nothing"):
            for n in range(1000):
                receiving.receive(
                    frame(client, CONT if n and not fin else BINARY, payload, fin=fin,
                          rsv=4 if fin or not n else 0)
                )  # fmt: skip
                receiving.next_message()
        assert cost.seconds < 0.5
        assert cost.memory < MIB


@both_roles
@pytest.mark.parametrize("limit", [LIMIT, None])
def test_a_message_of_the_limit_in_final_blocks_of_1_kib_is_taken(client, limit):
    data = frame(client, BINARY, final(b"a" * KIB) * (LIMIT // KIB) + b"\x00", rsv=4)
    receiving = engine(client, limit)
    receiving.receive(data)
    start = time.process_time()  # tracing memory would take most of it
    assert receiving.next_message().payload == b"a" * LIMIT
    assert time.process_time() - start < 5


@both_roles
def test_empty_messages_and_ones_with_a_final_block_each_are_never_too_many(client):
    receiving = engine(client)
    for payload in (b"\x00", b"\x03\x00\x00", final(b"a") + b"\x00", b"\x00\x00\x00\xff\xff\x00"):
        receiving.receive(frame(client, BINARY, payload, rsv=4) * 2000)
        assert len(list(drain(receiving))) == 2000


@both_roles
def test_a_message_that_is_flushed_after_every_byte_is_taken(client):
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = random.Random(1).randbytes(50_000)
    payload = b"".join(
        deflate.compress(data[i : i + 1]) + deflate.flush(zlib.Z_SYNC_FLUSH)
        for i in range(len(data))
    ).removesuffix(b"\x00\x00\xff\xff")
    receiving = engine(client)
    receiving.receive(frame(client, BINARY, payload, rsv=4))
    assert receiving.next_message().payload == data


@both_roles
def test_a_message_in_a_million_compressed_bytes_costs_linear_time(client):
    def attack(n: int) -> None:
        receiving = engine(client)
        data = bytes(range(256)) * (n // 256)
        deflate = zlib.compressobj(0, zlib.DEFLATED, -15)  # the most steps for what is inflated
        payload = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
        receiving.receive(frame(client, BINARY, payload, rsv=4))
        assert receiving.next_message().payload == data

    assert_linear(attack, MIB)
    with measured() as cost:
        attack(LIMIT)
    assert cost.memory < 8 * LIMIT  # what is sent, made here, included
    assert cost.seconds < 3


@both_roles
def test_compressed_fragments_of_one_byte_cost_linear_time(client):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = deflate.compress(b"a" * 100) + deflate.flush(zlib.Z_SYNC_FLUSH)
    start = frame(client, BINARY, piece[:1], fin=False, rsv=4)
    rest = b"".join(frame(client, CONT, piece[i : i + 1], fin=False) for i in range(1, len(piece)))
    again = b"".join(frame(client, CONT, piece[i : i + 1], fin=False) for i in range(len(piece)))

    def attack(n: int) -> None:
        receiving = engine(client)
        receiving.receive(start + rest + again * (n - 1))
        receiving.receive(frame(client, CONT, b"\x00"))
        assert receiving.next_message().payload == b"a" * 100 * n

    assert_linear(attack, 1_000)


@pytest.mark.parametrize("high_water", [256 * KIB, 3 * MIB, None])
async def test_a_batch_stops_with_the_message_that_makes_it_as_large_as_the_mark(high_water):
    size = MIB
    (_, read, _), (_, _, write) = connected_pair(read_high_water=high_water)
    for _ in range(8):  # some 10 KiB, compressed
        await write(bytes(size))
    await write("the last")
    got = []
    async with asyncio.timeout(8):
        while "the last" not in got:
            await turns_of_the_loop()
            batch = [message.payload for message in await read.batch()]
            if high_water is not None:
                assert sum(map(len, batch[:-1])) < high_water
            got += batch
    assert got == [bytes(size)] * 8 + ["the last"]
    await write.close()


SERVER = """
import asyncio, resource, socket, sys, zlib
from coro_websocket import LimitError, serve

async def main():
    errors = []
    done = asyncio.Event()

    async def handler(req, read, write):
        try:
            await read()
        except LimitError as error:
            errors.append(error)
        done.set()

    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    step = bytes(1 << 20)
    first, again = (deflate.compress(step) + deflate.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    payload = (first + again * 1023)[:-4]
    async with serve(handler) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET / HTTP/1.1\\r\\nHost: h\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\\r\\n\\r\\n"
        )
        assert b"permessage-deflate" in await reader.readuntil(b"\\r\\n\\r\\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer.write(b"\\xc2\\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload)
        close = await reader.readexactly(4)
        assert (close[0], int.from_bytes(close[2:], "big")) == (0x88, 1009), close
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(payload))
        writer.close()
        await writer.wait_closed()
        await done.wait()
    assert len(errors) == 1

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_a_server_that_receives_1_gib_in_1_mib_grows_by_no_more_than_the_limit():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVER], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    grown, size = map(int, done.stdout.split())
    assert grown * KIB < 1.3 * LIMIT + 4 * size + 4 * MIB


def test_a_mask_of_zeros_is_what_the_frames_above_are_masked_with():
    assert frame(False, BINARY, b"abc") == encode(Frame(BINARY, b"abc", key=bytes(4)))
    assert frame(False, BINARY, b"a" * 300) == encode(Frame(BINARY, b"a" * 300, key=bytes(4)))
    assert frame(False, BINARY, b"a" * 70000) == encode(Frame(BINARY, b"a" * 70000, key=bytes(4)))
