"""The closing handshake, from either side and gone wrong. RFC 6455 sections 5.5.1 and 7."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    both_ends,
    client_and_peer,
    close_payload,
    echo,
    end_and_peer,
    server_and_peer,
    turns_of_the_loop,
    watchdog,
)

from coro_websocket import (
    ConnectionClosedError,
    ProtocolError,
    connect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

SHORT = 0.15  # a close_timeout that is the subject


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


class Took:
    """How long a block took."""

    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.start


# Both sides well


@pytest.mark.parametrize("begins", ["client", "server"])
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "moving"), (None, "")])
async def test_either_side_may_begin_and_both_learn_the_code_rfc_6455_7_1_2(begins, code, reason):
    async with both_ends() as (client, server):
        one, other = (client, server) if begins == "client" else (server, client)
        closing = asyncio.create_task(one.write.close(code, reason))
        assert await other.read() is None
        await closing
        assert await one.read() is None
        expected = 1005 if code is None else code
        assert (other.read.close_code, other.read.close_reason) == (expected, reason)
        assert one.read.close_code == expected
        assert "closed" in repr(one.write)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1011, 1014, 3000, 4999])
async def test_the_peer_of_a_close_with_an_error_code_gets_an_error(code):
    async with both_ends() as (client, server):
        closing = asyncio.create_task(client.write.close(code, "reason ✓"))
        with pytest.raises(ConnectionClosedError) as caught:
            await server.read()
        assert (caught.value.code, caught.value.reason) == (code, "reason ✓")
        await closing
        assert await client.read() is None  # we closed: it is as we wanted


async def test_both_sides_may_close_at_once_rfc_6455_7_1_2():
    async with both_ends() as (client, server):
        await asyncio.gather(client.write.close(4000, "c"), server.write.close(4001, "s"))
        assert await client.read() is None
        assert await server.read() is None
        assert client.read.close_code == 4001
        assert server.read.close_code == 4000


async def test_a_close_that_crosses_ours_is_not_answered_again(side):
    async with end_and_peer(side) as (end, peer):
        closing = asyncio.create_task(end.write.close())
        await peer.write(CLOSE, close_payload(4000))
        assert (await peer.read()).close == (1000, "")
        peer.half_close()
        await peer.ended()
        await closing


async def test_a_client_waits_for_the_server_to_hang_up_first_rfc_6455_7_1_1():
    async with client_and_peer() as (end, peer):
        closing = asyncio.create_task(end.write.close())
        await peer.read()
        await peer.write(CLOSE, close_payload(1000))
        await asyncio.sleep(0.05)
        assert not closing.done()
        assert end.socket.fileno() >= 0
        peer.hang_up()
        await closing
        assert end.socket.fileno() == -1


async def test_a_client_that_answers_a_close_waits_for_the_server_too_rfc_6455_7_1_1():
    async with client_and_peer() as (end, peer):
        reading = asyncio.create_task(end.read())
        await peer.write(CLOSE, close_payload(1000))
        assert (await peer.read()).close == (1000, "")
        await asyncio.sleep(0.05)
        assert not reading.done()
        peer.hang_up()
        assert await reading is None


@pytest.mark.parametrize("begins", ["client", "server"])
async def test_a_server_hangs_up_at_once_rfc_6455_7_1_1(begins):
    async with server_and_peer() as (end, peer):
        reading = asyncio.create_task(end.read())
        if begins == "server":
            closing = asyncio.create_task(end.write.close())
            assert (await peer.read()).close == (1000, "")
            await peer.write(CLOSE, close_payload(1000))
            await peer.ended()
            peer.hang_up()
            await closing
        else:
            await peer.write(CLOSE, close_payload(1000))
            assert (await peer.read()).close == (1000, "")
            await peer.ended()
            assert await reading is None  # whether or not the peer hangs up
            peer.hang_up()
            await end.write.wait_closed()
        assert await reading is None


async def test_what_a_server_has_sent_arrives_though_the_peer_sends_behind_its_close():
    """A socket that was closed would answer a late Pong with a reset (RFC 6455 section 7.1.1)."""
    async with server_and_peer(receive_buffer=4096, write_high_water=None) as (end, peer):
        await end.write(b"x" * 1_000_000)
        await peer.write(CLOSE, close_payload(1000))
        for _ in range(10):
            await turns_of_the_loop()
            await peer.write(PONG, "late")
        assert await peer.read() == Frame(BINARY, b"x" * 1_000_000)
        assert (await peer.read()).close == (1000, "")
        assert not await peer.more()
        await peer.write(PONG, "later")
        assert end.socket.fileno() >= 0
        peer.hang_up()
        await end.write.wait_closed()
        assert end.socket.fileno() == -1


async def test_a_flood_behind_a_close_is_not_kept_though_a_message_waits_before_it(side):
    async with end_and_peer(side, read_high_water=65536, compression=None) as (end, peer):
        await peer.write(TEXT, "unread")
        await end.settle()
        flood = peer.frame(BINARY, bytes(200_000))
        tracemalloc.start()
        try:
            closing = asyncio.create_task(end.write.close())
            assert (await peer.read()).close == (1000, "")
            await peer.write(CLOSE, close_payload(1000))
            for _ in range(100):
                await peer.send(flood)
            await end.settle()
            assert tracemalloc.get_traced_memory()[0] < 5_000_000
        finally:
            tracemalloc.stop()
        peer.hang_up()
        await closing
        assert (await end.read()).payload == "unread"
        assert await end.read() is None


async def test_a_flood_behind_the_peers_close_is_not_kept_though_nobody_reads(side):
    async with end_and_peer(side, read_high_water=65536, compression=None) as (end, peer):
        flood = peer.frame(BINARY, bytes(200_000))
        tracemalloc.start()
        try:
            await peer.write(CLOSE, close_payload(1000))
            for _ in range(100):
                await peer.send(flood)
            await end.settle()
            assert tracemalloc.get_traced_memory()[0] < 5_000_000
        finally:
            tracemalloc.stop()
        peer.hang_up()
        assert await end.read() is None


async def test_a_ping_fails_once_the_closing_handshake_is_through():
    async with server_and_peer() as (end, peer):
        ping = end.write.ping()
        await peer.write(CLOSE, close_payload(1000))
        with pytest.raises(ConnectionClosedError):
            await ping
        peer.hang_up()


async def test_a_peer_that_does_not_hang_up_after_the_server_is_left_after_close_timeout():
    async with server_and_peer(close_timeout=SHORT) as (end, peer):
        await peer.write(CLOSE, close_payload(1000))
        assert (await peer.read()).close == (1000, "")
        with Took() as took:
            await end.write.wait_closed()
        assert took.seconds < BOUND / 2
        assert end.read.close_code == 1000


async def test_everything_written_before_close_arrives(side):
    async with end_and_peer(side, receive_buffer=4096) as (end, peer):
        writes = [asyncio.create_task(end.write(bytes([i]) * 500_000)) for i in range(10)]
        await turns_of_the_loop()
        closing = asyncio.create_task(end.write.close())
        for i in range(10):
            assert await peer.read() == Frame(BINARY, bytes([i]) * 500_000)
        assert (await peer.read()).close == (1000, "")
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        await closing
        await asyncio.gather(*writes, return_exceptions=True)


async def test_tls_connections_close_cleanly(certificates):
    async with asyncio.timeout(10):
        async with serve(echo, tls=certificates.server) as server:
            async with connect(server.url, tls=certificates.client) as (_, read, write):
                await write("x")
                assert (await read()).payload == "x"
            assert await read() is None
            assert read.close_code == 1000
            _res, read, write = await connect(server.url, tls=certificates.client)
            await server.close(4000, "enough")
            with pytest.raises(ConnectionClosedError) as caught:
                await read()
            assert caught.value.code == 4000
            await write.wait_closed()


# A peer that does not do its part


async def test_a_peer_that_never_answers_is_left_after_close_timeout(side):
    async with end_and_peer(side, close_timeout=SHORT) as (end, peer):
        with Took() as took:
            await end.write.close()
        assert SHORT * 0.9 <= took.seconds < BOUND / 2
        assert await end.read() is None
        assert end.read.close_code == 1006
        assert await peer.close_received() == (1000, "")
        await peer.ended()


async def test_a_peer_that_talks_on_and_never_answers_is_left_after_close_timeout(side):
    async with end_and_peer(side, close_timeout=SHORT) as (end, peer):

        async def chatter():
            while True:
                await peer.write(TEXT, "x" * 1000)
                await peer.write(PING, "y")
                await asyncio.sleep(0)

        talking = asyncio.create_task(chatter())
        with Took() as took:
            await end.write.close()
        assert took.seconds < BOUND / 2
        talking.cancel()
        await asyncio.wait([talking])
        if not talking.cancelled():
            talking.exception()


async def test_a_server_that_answers_but_does_not_hang_up_is_left_after_close_timeout():
    async with client_and_peer(close_timeout=1) as (end, peer):
        closing = asyncio.create_task(end.write.close())
        await peer.read()
        await peer.write(CLOSE, close_payload(1000))
        await closing
        assert await end.read() is None
        assert end.read.close_code == 1000
        await peer.ended()


async def test_a_server_that_closes_but_does_not_hang_up_is_left_after_close_timeout():
    async with client_and_peer(close_timeout=SHORT) as (end, peer):
        await peer.write(CLOSE, close_payload(1000))
        assert await end.read() is None
        assert (await peer.read()).close == (1000, "")
        await peer.ended()


async def test_a_peer_that_does_not_take_our_close_is_left_after_close_timeout(side):
    async with end_and_peer(side, receive_buffer=4096, close_timeout=SHORT) as (end, _peer):
        writing = asyncio.create_task(end.write(b"x" * 8_000_000))
        await turns_of_the_loop(20)
        with Took() as took:
            await end.write.close()
        assert took.seconds < BOUND / 2
        with pytest.raises(ConnectionClosedError):
            await writing


async def test_close_timeout_none_waits_for_the_peer():
    async with client_and_peer(close_timeout=None) as (end, peer):
        closing = asyncio.create_task(end.write.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        peer.hang_up()
        await closing


async def test_pings_are_answered_until_the_peers_close_comes_rfc_6455_5_5_2(side):
    """After our own Close no more may be sent: a Ping is then not answered."""
    async with end_and_peer(side) as (end, peer):
        await peer.write(PING, "1")
        assert await peer.read() == Frame(PONG, b"1")
        closing = asyncio.create_task(end.write.close())
        assert (await peer.read()).opcode == CLOSE
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        await closing


# A Close that nobody reads


async def test_a_close_behind_pings_alone_is_answered_though_nobody_reads(side):
    """A program that only writes has been pinged; then the peer closes."""
    async with end_and_peer(side) as (_end, peer):
        await peer.write(PING, "1")
        assert (await peer.read()).payload == b"1"
        await peer.write(PONG, "unsolicited")
        await peer.write(CLOSE, close_payload(1001))
        async with asyncio.timeout(BOUND):
            assert (await peer.read()).close == (1001, "")


async def test_a_close_behind_unread_messages_is_answered_after_close_timeout(side):
    async with end_and_peer(side, close_timeout=SHORT) as (end, peer):
        await peer.write(TEXT, "unread")
        with Took() as took:
            await peer.write(CLOSE, close_payload(1001))
            assert (await peer.read()).close == (1001, "")
        assert took.seconds >= SHORT * 0.9
        peer.half_close()
        await end.write.wait_closed()
        assert (await end.read()).payload == "unread"
        assert await end.read() is None


@pytest.mark.parametrize("message", ["short", "compressible " * 100])
async def test_a_close_behind_an_unread_message_of_ours_ends_within_close_timeout(message):
    async with both_ends(close_timeout=SHORT) as (client, server):
        await server.write(message)
        closing = asyncio.create_task(server.write.close())
        with Took() as took:
            await client.write.wait_closed()
            await closing
        assert took.seconds < BOUND / 2
        assert (await client.read()).payload == message
        assert await client.read() is None


async def test_closing_with_more_unread_than_read_high_water_ends(side):
    async with end_and_peer(side, read_high_water=10_000) as (end, peer):
        sending = asyncio.create_task(peer.send(peer.frame(BINARY, b"x" * 5000) * 1000))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(end.write.close())
        assert await peer.close_received() == (1000, "")
        await sending
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        with Took() as took:
            await closing
        assert took.seconds < BOUND / 2
        assert end.read.close_code == 1000


# Failing the connection


async def test_a_failed_connection_half_closes_so_that_the_peer_gets_our_close_rfc_6455_7_1_7(side):
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read())
        await peer.write(3)
        # More comes all the while: a plain close() would answer it with a reset.
        await peer.send(b"x" * 300_000)
        assert (await peer.read()).close[0] == 1002
        assert not await peer.more()
        peer.hang_up()
        with pytest.raises(ProtocolError):
            await reading


async def test_a_failed_connection_is_left_after_close_timeout(side):
    async with end_and_peer(side, close_timeout=SHORT) as (end, peer):
        await peer.write(3)
        with Took() as took, pytest.raises(ProtocolError):
            await end.read()
        assert took.seconds < BOUND / 2
        assert (await peer.read()).close[0] == 1002


async def test_a_violation_after_our_close_is_not_answered_with_a_second_close(side):
    async with end_and_peer(side) as (end, peer):
        closing = asyncio.create_task(end.write.close())
        assert (await peer.read()).close == (1000, "")
        reading = asyncio.create_task(end.read())
        await peer.write(3)
        await peer.ended()
        peer.hang_up()
        await closing
        with pytest.raises(ProtocolError):
            await reading


# Who else is there


async def test_closing_while_another_task_reads(side):
    async with end_and_peer(side) as (end, peer):
        reading = asyncio.create_task(end.read())
        await turns_of_the_loop()
        closing = asyncio.create_task(end.write.close())
        await peer.read()
        await peer.write(TEXT, "on its way")
        assert (await reading).payload == "on its way"
        reading = asyncio.create_task(end.read())
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        await closing
        assert await reading is None


async def test_closing_twice_and_at_once_sends_one_close(side):
    async with end_and_peer(side) as (end, peer):
        closings = [
            asyncio.create_task(closing)
            for closing in (end.write.close(4000, "first"), end.write(None), end.write.close(4001))
        ]
        waiting = asyncio.create_task(end.write.wait_closed())
        assert (await peer.read()).close == (4000, "first")
        await peer.write(CLOSE, close_payload(4000))
        peer.half_close()
        await peer.ended()
        await asyncio.gather(*closings, waiting)
        await end.write.close()
        await end.write.wait_closed()


async def test_a_close_that_is_not_awaited_is_sent():
    async with client_and_peer() as (end, peer):
        closing = end.write.close()
        assert (await peer.read()).close == (1000, "")
        peer.hang_up()
        await closing


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 1000), (ValueError, 1011), (asyncio.CancelledError, 1011), ("cancelled", 1001)],
)
async def test_async_with_closes_with_the_code_of_the_exit(error, code):
    codes: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(req, read, write):
        try:
            await read()
        finally:
            codes.put_nowait(read.close_code)

    async with asyncio.timeout(BOUND), serve(handler) as server:

        async def use():
            async with connect(server.url) as _:
                if error == "cancelled":
                    asyncio.current_task().cancel()
                    await asyncio.sleep(0)
                elif error is not None:
                    raise error

        task = asyncio.create_task(use())
        await asyncio.wait([task])
        assert task.cancelled() or type(task.exception()) is (error or type(None))
        assert await codes.get() == code


@pytest.mark.parametrize(
    ("error", "code"), [(None, 1000), (ValueError, 1011), (ConnectionClosedError("x"), 1011)]
)
async def test_a_handler_that_returns_closes_with_the_code_of_its_end(error, code, caplog):
    async def handler(req, read, write):
        await write("hi")
        if error is not None:
            raise error

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with connect(server.url) as (_, read, _):
            assert (await read()).payload == "hi"
            if code == 1000:
                assert await read() is None
            else:
                with pytest.raises(ConnectionClosedError) as caught:
                    await read()
                assert caught.value.code == code


async def test_a_connection_lost_while_handing_over_leaves_nothing():
    for _ in range(20):
        async with client_and_peer() as (_, peer):
            peer.reset()


async def test_what_is_dropped_while_we_close_leaves_no_hole(side):
    """More than read_high_water comes while nobody reads: nothing behind it is given either."""
    async with end_and_peer(side, read_high_water=10_000) as (end, peer):
        frames = [peer.frame(BINARY, n.to_bytes(2, "big") + bytes(998)) for n in range(300)]
        await peer.send(b"".join(frames[:5]))
        closing = asyncio.create_task(end.write.close())
        await peer.close_received()
        got = [int.from_bytes((await end.read()).payload[:2], "big")]
        for at in range(5, 300, 25):  # much, then a little, which would have room
            for part in (frames[at : at + 20], frames[at + 20 : at + 25]):
                await peer.send(b"".join(part))
                await end.settle(20)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    got.append(int.from_bytes((await end.read()).payload[:2], "big"))
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        async for message in end.read:
            got.append(int.from_bytes(message.payload[:2], "big"))
        await closing
        assert got == list(range(len(got)))
        assert end.read.stats.dropped + len(got) == 300
