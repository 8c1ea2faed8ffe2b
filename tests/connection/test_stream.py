"""read.stream(): a message piece by piece, as its bytes arrive."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
import zlib

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    both_ends,
    client_of_echo,
    close_payload,
    end_and_peer,
    head,
    watchdog,
)

from coro_websocket import (
    ConcurrencyError,
    ConnectionClosedError,
    LimitError,
    MessageStream,
    ProtocolError,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


async def chunks(stream: MessageStream) -> list:
    return [chunk async for chunk in stream]


async def test_a_message_comes_as_its_bytes_do_also_inside_one_frame(side):
    async with end_and_peer(side) as (end, peer):
        whole = peer.frame(BINARY, b"abcdefghij")
        start = len(whole) - 10
        await peer.send(whole[: start + 3])
        stream = await end.read.stream()
        assert stream.opcode == BINARY
        assert await anext(stream) == b"abc"
        await peer.send(whole[start + 3 : start + 8])
        assert await anext(stream) == b"defgh"
        await peer.send(whole[start + 8 :])
        assert await chunks(stream) == [b"ij"]
        assert await chunks(stream) == []
        await peer.write(TEXT, "next")
        assert (await end.read()).payload == "next"


async def test_fragments_control_frames_between_them_and_empty_ones(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "one ", fin=False)
        await peer.write(PING, "p")
        await peer.write(CONT, "", fin=False)
        await peer.write(CONT, "two", fin=False)
        stream = await end.read.stream()
        reading = asyncio.create_task(chunks(stream))
        assert (await peer.read()).opcode == PONG
        await peer.write(CONT)
        assert "".join(await reading) == "one two"
        assert stream.opcode == TEXT
        assert repr(stream) == "<text message, ended>"


async def test_text_is_split_between_characters(side):
    async with end_and_peer(side) as (end, peer):
        text = "€" * 3 + "🂡"
        whole = peer.frame(TEXT, text)
        stream = None
        received = []
        for i in range(len(whole)):
            await peer.send(whole[i : i + 1])
            await end.settle(3)
        stream = await end.read.stream()
        received = await chunks(stream)
        assert "".join(received) == text
        first = peer.frame(TEXT, "ab€")
        await peer.send(first[:-1])
        stream = await end.read.stream()
        assert await anext(stream) == "ab"
        await peer.send(first[-1:])
        assert await chunks(stream) == ["€"]


async def test_bad_utf8_fails_on_the_first_impossible_byte(side):
    async with end_and_peer(side, close_timeout=0.1) as (end, peer):
        await peer.send(peer.frame(TEXT, b"good" + b"\xff" + bytes(1000))[:-990])
        with pytest.raises(ProtocolError, match="UTF-8") as caught:
            await chunks(await end.read.stream())
        assert caught.value.code == 1007
        assert (await peer.close_received())[0] == 1007


async def test_a_whole_message_is_one_chunk_and_none_ends_the_loop(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(BINARY, b"x" * 1000)
        await peer.write(TEXT, "")
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        seen = []
        while (stream := await end.read.stream()) is not None:
            seen.append((stream.opcode, await chunks(stream)))
        assert seen == [(BINARY, [b"x" * 1000]), (TEXT, [])]
        assert await end.read() is None


LIMIT, SIZE = 1 << 20, 64 << 20


async def check_memory(read, sending):
    """64 MiB of zeros through a limit of 1 MiB."""
    tracemalloc.start()
    try:
        count = 0
        async for chunk in await read.stream():
            count += len(chunk)
            assert not any(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await sending
    assert count == SIZE
    assert peak < 16 * LIMIT


async def test_a_frame_larger_than_the_limit_costs_no_more_than_its_chunks(side):
    async with end_and_peer(side, max_message_size=LIMIT) as (end, peer):

        async def send():
            await peer.send(head(0x82, SIZE, peer.client) + bytes(4) * peer.client)
            for _ in range(SIZE // LIMIT):
                await peer.send(bytes(LIMIT))

        await check_memory(end.read, asyncio.create_task(send()))


async def test_a_compressed_message_larger_than_the_limit_costs_no_more_than_its_chunks():
    async def pieces():
        for _ in range(SIZE // LIMIT):
            yield bytes(LIMIT)

    options = {"max_message_size": LIMIT}
    async with both_ends(server_options=options, **options) as (client, server):
        await check_memory(server.read, asyncio.create_task(client.write(pieces())))


async def test_read_refuses_what_a_stream_would_take(side):
    async with end_and_peer(side, max_message_size=1000, close_timeout=0.1) as (end, peer):
        await peer.write(BINARY, bytes(5000))
        assert sum(map(len, await chunks(await end.read.stream()))) == 5000
        await peer.write(BINARY, bytes(5000))
        with pytest.raises(LimitError, match="max_message_size is 1000"):
            await end.read()


async def test_a_slow_reader_of_chunks_stops_the_peer(side):
    async with end_and_peer(side, read_high_water=10_000) as (end, peer):
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        sending = asyncio.create_task(peer.write(BINARY, bytes(12_000_000)))
        stream = await end.read.stream()
        await asyncio.sleep(0.05)
        assert not sending.done()
        assert sum(map(len, await chunks(stream))) == 12_000_000
        await sending


async def test_compressed_chunks_come_as_they_can_be_decompressed(side):
    document = json.dumps([{"n": n, "square": n * n} for n in range(50_000)])
    deflate = zlib.compressobj(wbits=-12)
    raw = (deflate.compress(document.encode()) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    async with both_ends() as (client, server):
        end, other = (client, server) if side == "client" else (server, client)
        writing = asyncio.create_task(other.write(document))
        received = await chunks(await end.read.stream())
        await writing
        assert "".join(received) == document
        assert len(received) > 10
        assert end.read.stats.compression_in < 0.5
        assert len(raw) < len(document)
        # The context is still that of both ends.
        await other.write(document[:1000])
        assert (await end.read()).payload == document[:1000]


@pytest.mark.parametrize("how", ["read", "batch", "for", "stream", "fragments"])
@pytest.mark.parametrize("compressed", [False, True])
async def test_whoever_reads_on_gives_the_message_up(how, compressed):
    options = {"compression": "deflate" if compressed else None, "max_message_size": 100_000}
    async with both_ends(server_options={"compression": options["compression"]}, **options) as (
        client,
        server,
    ):
        large = "".join(str(n) for n in range(300_000))
        sending = asyncio.create_task(server.write(large))
        stream = await client.read.stream()
        first = await anext(stream)
        assert large.startswith(first)  # type: ignore[arg-type]
        following = asyncio.create_task(server.write("the next"))
        if how == "read":
            given = (await client.read()).payload
        elif how == "batch":
            given = (await client.read.batch())[0].payload
        elif how == "for":
            given = (await anext(client.read)).payload
        elif how == "fragments":
            given = (await client.read.fragments()()).payload
        else:
            given = "".join(await chunks(await client.read.stream()))
        assert given == "the next"
        with pytest.raises(ConcurrencyError, match="given up"):
            await anext(stream)
        await sending
        await following
        await server.write("and one more")
        assert (await client.read()).payload == "and one more"


async def test_a_cancelled_chunk_is_not_lost(side):
    async with end_and_peer(side) as (end, peer):
        whole = peer.frame(BINARY, bytes(range(100)))
        start = len(whole) - 100
        await peer.send(whole[: start + 1])
        stream = await end.read.stream()
        received = [await anext(stream)]
        for i in range(1, 100):
            waiting = asyncio.ensure_future(anext(stream))
            await end.settle(2)
            if i % 3 == 0:
                waiting.cancel()
            await peer.send(whole[start + i : start + i + 1])
            if i % 3 == 1:
                await end.settle(1)
                waiting.cancel()
            try:
                received.append(await waiting)
            except asyncio.CancelledError:
                pass
        received += await chunks(stream)
        assert b"".join(received) == bytes(range(100))


async def test_cancelled_and_given_up_leaves_the_connection_usable(side):
    async with end_and_peer(side) as (end, peer):
        whole = peer.frame(TEXT, "x" * 100_000)
        await peer.send(whole[:50_000])
        begun = asyncio.Event()

        async def consume():
            async for _ in await end.read.stream():
                begun.set()

        consuming = asyncio.create_task(consume())
        await begun.wait()
        consuming.cancel()
        await asyncio.wait([consuming])
        await peer.send(whole[50_000:] + peer.frame(TEXT, "next"))
        assert (await end.read()).payload == "next"


async def test_a_sender_that_is_cancelled_between_fragments_goes_on(side):
    async with end_and_peer(side, write_high_water=1000, receive_buffer=4096) as (end, peer):
        writing = asyncio.create_task(peer.message())
        cancelled = 0

        async def send():
            nonlocal cancelled
            for i in range(20):
                try:
                    async with asyncio.timeout(0):
                        await end.write(
                            {"opcode": 0 if i else 2, "payload": bytes([i]) * 500_000, "fin": False}
                        )
                except TimeoutError:
                    cancelled += 1
            await end.write({"opcode": 0, "payload": b""})
            await end.write("next")

        await send()
        opcode, payload = await writing
        assert (opcode, payload) == (BINARY, b"".join(bytes([i]) * 500_000 for i in range(20)))
        assert cancelled
        assert await peer.message() == (TEXT, b"next")


@pytest.mark.parametrize("how", ["lost", "closed by the peer", "closed by us"])
async def test_a_message_that_was_cut_off_is_an_error(side, how):
    async with end_and_peer(side, close_timeout=0.2) as (end, peer):
        await peer.send(peer.frame(BINARY, bytes(100_000))[:50_000])
        stream = await end.read.stream()
        await anext(stream)
        closing = None
        if how == "lost":
            peer.hang_up()
        elif how == "closed by us":
            closing = asyncio.create_task(end.write.close())
        else:
            await peer.write(BINARY, bytes(50_000 - 14), fin=True)
            peer.half_close()
        with pytest.raises(ConnectionClosedError):
            await chunks(stream)
        if closing is not None:
            await closing


async def test_the_read_that_finds_nothing_waits_for_the_next_message(side):
    async with end_and_peer(side) as (end, peer):
        waiting = asyncio.create_task(end.read.stream())
        await end.settle()
        assert not waiting.done()
        with pytest.raises(ConcurrencyError, match="one task reads at a time"):
            await end.read()
        await peer.write(TEXT, "here")
        assert await chunks(await waiting) == ["here"]


async def test_a_fragment_reader_can_go_on_as_a_stream(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, "one", fin=False)
        frame = await end.read(fragments=True)
        assert (frame.payload, frame.fin) == ("one", False)
        await peer.write(CONT, "two")
        stream = await end.read.stream()
        assert stream.opcode == TEXT
        assert await chunks(stream) == ["two"]


async def test_streams_of_an_echo():
    async with client_of_echo() as end:
        for size in (0, 1, 70_000, 2_000_000):
            await end.write("y" * size)
            stream = await end.read.stream()
            assert "".join(await chunks(stream)) == "y" * size


async def test_a_control_frame_that_was_ready_is_not_given_to_who_wants_none(side):
    """It was parsed for a reader that was then cancelled, while the rest of a message is skipped."""
    async with end_and_peer(side) as (end, peer):
        await peer.write(BINARY, b"given", fin=False)
        await end.read.stream()
        reading = asyncio.create_task(end.read(control=True))
        await end.settle()
        await peer.write(PING, "p")
        reading.cancel()
        await asyncio.wait([reading])
        await peer.read()
        await peer.write(CONT, b"up")
        await peer.write(TEXT, "next")
        assert (await end.read()).payload == "next"


async def test_a_chunk_that_is_cancelled_before_its_first_step_is_not_lost(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, b"first ", fin=False)
        message = await end.read.stream()
        chunk = asyncio.ensure_future(anext(message))
        chunk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chunk
        await peer.write(CONT, b"second")
        assert [piece async for piece in message] == ["first ", "second"]


async def test_of_two_that_want_the_first_chunk_one_is_told_so(side):
    async with end_and_peer(side) as (end, peer):
        await peer.write(TEXT, b"first ", fin=False)
        message = await end.read.stream()
        one, other = anext(message), anext(message)
        assert await one == "first "
        with pytest.raises(ConcurrencyError, match="one task reads at a time"):
            await other
        await peer.write(CONT, b"second")
        assert [piece async for piece in message] == ["second"]
