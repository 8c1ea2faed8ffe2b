"""Pings that notice a dead peer, Pongs that keep a path open. RFC 6455 5.5.2 and 5.5.3."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    BOUND,
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_and_peer,
    client_of_echo,
    close_payload,
    end_and_peer,
    turns_of_the_loop,
    until,
    watchdog,
)
from tests.helpers.scripted_server import scripted

from coro_websocket import ConnectionClosedError, PingTimeout, connect
from coro_websocket._connection.connection import Connection

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

PINGS = {"ping_interval": 0.05, "ping_timeout": 0.05}


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


async def test_a_silent_peer_is_noticed_within_interval_and_timeout(side):
    start = time.monotonic()
    async with end_and_peer(side, ping_interval=0.05, ping_timeout=0.1) as (end, peer):
        with pytest.raises(PingTimeout, match=r"0\.1 s.*ping_timeout") as caught:
            await end.read()
        assert 0.14 <= time.monotonic() - start < BOUND / 2
        assert caught.value.code == 1006
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, ConnectionClosedError)
        assert (await peer.read()).opcode == PING
        with pytest.raises(PingTimeout):
            await end.read()
        with pytest.raises(ConnectionClosedError):
            await end.write("x")
        await end.write.wait_closed()


async def test_a_silent_peer_is_noticed_though_nobody_reads(side):
    async with end_and_peer(side, **PINGS) as (end, _peer):
        await end.write.wait_closed()
        with pytest.raises(PingTimeout):
            await end.read()


async def test_a_silent_peer_ends_a_ping_and_a_write_that_wait():
    async with client_and_peer(ping_interval=0.05, ping_timeout=0.05, receive_buffer=4096) as (
        end,
        _peer,
    ):
        pinged = end.write.ping()
        writing = asyncio.create_task(end.write(b"x" * 8_000_000))
        with pytest.raises(PingTimeout):
            await end.read()
        for waiting in (pinged, writing):
            with pytest.raises(ConnectionClosedError):
                await waiting


async def test_a_peer_that_answers_pings_stays(side):
    async with end_and_peer(side, **PINGS) as (end, peer):
        reading = asyncio.create_task(end.read())
        for _ in range(4):
            received = await peer.read()
            assert received.opcode == PING
            await peer.write(PONG, received.payload)
        assert not reading.done()
        await peer.write(TEXT, "still here")
        assert (await reading).payload == "still here"


async def test_two_ends_of_ours_keep_each_other_alive():
    async with client_of_echo(server_options=PINGS, **PINGS) as end:
        await asyncio.sleep(0.2)
        await end.write("x")
        assert (await end.read()).payload == "x"


@pytest.mark.parametrize("what", ["message", "pong", "half a frame"])
async def test_any_data_counts_as_life(side, what):
    async with end_and_peer(side, ping_interval=0.05, ping_timeout=0.1) as (end, peer):
        reading = asyncio.create_task(end.read())
        stream = peer.frame(BINARY, bytes(20))
        for i in range(8):
            if what == "message":
                await peer.write(TEXT, "x")
                assert (await reading).payload == "x"
                reading = asyncio.create_task(end.read())
            elif what == "pong":
                await peer.write(PONG, "unsolicited")
            else:
                await peer.send(stream[i : i + 1])
            await asyncio.sleep(0.03)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])


async def test_ping_timeout_none_pings_and_never_gives_up(side):
    async with end_and_peer(side, ping_interval=0.02, ping_timeout=None) as (end, peer):
        for _ in range(5):
            assert (await peer.read()).opcode == PING
        await peer.write(TEXT, "alive after all")
        assert (await end.read()).payload == "alive after all"


async def test_ping_interval_none_sends_nothing(side):
    async with end_and_peer(side, ping_interval=None, ping_timeout=0.01) as (end, peer):
        await asyncio.sleep(0.05)
        await end.write("first")
        assert await peer.message() == (TEXT, b"first")


async def test_heartbeat_sends_pongs_and_waits_for_no_answer(side):
    async with end_and_peer(side, heartbeat=0.02) as (end, peer):
        for _ in range(4):
            received = await peer.read()
            assert (received.opcode, received.payload) == (PONG, b"")
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"


async def test_heartbeat_and_pings_end_with_the_close_rfc_6455_5_5_1(side):
    async with end_and_peer(side, heartbeat=0.01, ping_interval=0.01, close_timeout=0.1) as (
        end,
        peer,
    ):
        await end.write.close()
        await peer.close_received()
        await peer.ended()


async def test_a_program_that_does_not_read_is_not_mistaken_for_a_dead_peer(side):
    """The Pongs are behind what we ourselves leave in the socket."""
    options = {"ping_interval": 0.03, "ping_timeout": 0.03, "read_high_water": 10_000}
    async with end_and_peer(side, **options) as (end, peer):
        sending = asyncio.create_task(peer.send(peer.frame(BINARY, b"x" * 5000) * 2000))
        await asyncio.sleep(0.2)  # several intervals; the peer answers nothing
        assert not sending.done()

        async def answer():
            while True:
                received = await peer.read()
                if received.opcode == PING:
                    await sending
                    await peer.write(PONG, received.payload)

        answering = asyncio.create_task(answer())
        for _ in range(2000):
            assert (await end.read()).len == 5000
        answering.cancel()
        await asyncio.wait([answering])
        assert end.read.close_code is None


async def test_a_program_that_blocks_the_loop_is_not_mistaken_for_a_dead_peer(side):
    """The Pong is in the socket when the deadline has passed: it is to be seen first."""
    async with end_and_peer(side, ping_interval=0.05, ping_timeout=0.1) as (end, peer):
        received = await peer.read()
        assert received.opcode == PING
        timer = threading.Timer(0.02, peer.send_now, [peer.frame(PONG, received.payload)])
        timer.start()
        time.sleep(0.2)  # noqa: ASYNC251
        timer.join()
        await turns_of_the_loop(10)
        assert end.read.close_code is None
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"


@pytest.mark.deep("transports", "uvloop")
async def test_a_peer_has_the_time_again_that_our_loop_stood_still(side):
    """The loop stands still as soon as the peer was asked: nothing could have been heard."""
    loop = asyncio.get_running_loop()

    def ask_and_block():
        loop.call_soon(time.sleep, 0.4)
        return "ping"

    options = {"ping_interval": 0.05, "ping_timeout": 0.2, "ping_message": ask_and_block}
    async with end_and_peer(side, **options) as (end, peer):
        for _ in range(3):
            assert await peer.message() == (TEXT, b"ping")
            await peer.write(TEXT, "pong")
            assert (await end.read()).payload == "pong"


async def test_a_ping_goes_out_at_once_though_another_connection_has_just_written():
    """Its deadline runs, and nobody knows when the loop comes round again."""
    loop = asyncio.get_running_loop()
    came = threading.Event()
    seen = []

    def script(link):
        link.accept()
        link.read()
        came.set()
        link.wait_end()

    async with client_and_peer() as (other, _peer):

        def ask():
            loop.call_soon(lambda: seen.append(came.wait(BOUND / 2)))
            other.write("which has the loop's turn to send")  # type: ignore[unused-coroutine]
            return "ping"

        with scripted(script) as server:
            async with connect(server.url, ping_interval=0.05, ping_message=ask, close_timeout=0.1):
                await until(lambda: seen)
        assert seen[0]


async def test_a_peer_that_takes_what_we_write_slowly_is_alive():
    async with client_and_peer(receive_buffer=4096, ping_interval=0.05, ping_timeout=0.1) as (
        end,
        peer,
    ):
        writing = asyncio.create_task(end.write(b"x" * 3_000_000))
        for _ in range(10):
            await asyncio.sleep(0.02)
            before = len(peer.received)
            while len(peer.received) < before + 200_000:
                await peer.more()
        assert end.read.close_code is None
        assert len((await peer.read()).payload) == 3_000_000
        await writing


async def test_a_ping_of_the_peers_is_life_and_is_answered(side):
    async with end_and_peer(side, ping_interval=0.05, ping_timeout=0.1) as (end, peer):
        reading = asyncio.create_task(end.read())
        for i in range(6):
            await peer.write(PING, str(i))
            await asyncio.sleep(0.04)
        assert not reading.done()
        await peer.write(CLOSE, close_payload(1000))
        peer.half_close()
        assert await reading is None


async def test_a_silent_peer_is_noticed_where_no_ping_can_be_sent(side):
    """Our side of the socket was shut, so that nothing can be asked of the peer."""
    async with end_and_peer(side, **PINGS) as (end, _peer):
        end.socket.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(BOUND):
            assert await end.read() is None


async def test_a_peer_that_vanishes_after_a_pong_is_noticed_as_soon(side):
    """The next Ping is due ping_interval after the last, not after its deadline."""
    async with end_and_peer(side, ping_interval=0.05, ping_timeout=0.4) as (end, peer):
        reading = asyncio.create_task(end.read())
        first = await peer.read()
        await peer.write(PONG, first.payload)
        pings = [first.payload]
        with pytest.raises(AssertionError, match="the stream ended"):
            while True:
                pings.append((await peer.read()).payload)
        with pytest.raises(PingTimeout):
            await reading
        assert len(pings) >= 4  # one each ping_interval, while the deadline ran
        assert len(set(pings)) == len(pings)


@pytest.mark.deep("transports", "uvloop")
async def test_a_peer_that_empties_the_kernels_buffer_slowly_is_alive(side):
    """All has been handed to the system, and the Ping is behind it."""
    options = {"ping_interval": 0.1, "ping_timeout": 0.2, "receive_buffer": 4096}
    async with end_and_peer(side, **options) as (end, peer):
        payload = bytes(400_000)
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_000_000)
        await end.write(payload)
        assert end.write.stats.bytes_out >= len(payload)
        while len(peer.received) < len(payload):
            before = len(peer.received)
            while len(peer.received) < before + 30_000 and len(peer.received) < len(payload):
                peer.received += await peer.loop.sock_recv(peer.sock, 10_000)
            await asyncio.sleep(0.06)
        assert (await peer.read()).payload == payload
        ping = await peer.read()
        assert ping.opcode == PING
        await peer.write(PONG, ping.payload)
        await peer.write(TEXT, "still here")
        assert (await end.read()).payload == "still here"


async def test_a_peer_that_never_answers_and_only_sends_costs_nothing(side):
    """Its Pings are forgotten, one for the next."""
    async with end_and_peer(side, ping_interval=0.01, ping_timeout=BOUND) as (end, peer):
        for i in range(20):
            assert (await peer.read()).opcode == PING
            await peer.write(TEXT, str(i))
            assert (await end.read()).payload == str(i)
        end.write.ping(b"mine")
        while (await peer.read()).payload != b"mine":
            pass
        await peer.write(PONG, b"mine")
        await peer.write(TEXT, "x")
        assert (await end.read()).payload == "x"


async def test_ping_message_is_sent_in_place_of_pings(side):
    options = {"ping_interval": 0.02, "ping_timeout": 5}
    async with end_and_peer(side, ping_message='{"op":"ping"}', **options) as (end, peer):
        for _ in range(3):
            assert await peer.message() == (TEXT, b'{"op":"ping"}')
        await peer.write(TEXT, '{"op":"pong"}')
        assert (await end.read()).payload == '{"op":"pong"}'


async def test_ping_message_is_asked_for_each_time(side):
    answers = iter(["one", b"two", None, "three"])
    options = {"ping_interval": 0.02, "ping_timeout": None}
    async with end_and_peer(side, ping_message=lambda: next(answers, None), **options) as (
        _end,
        peer,
    ):
        assert await peer.message() == (TEXT, b"one")
        assert await peer.message() == (BINARY, b"two")
        assert await peer.message() == (TEXT, b"three")


async def test_silence_after_a_ping_message_is_noticed(side):
    options = {"ping_interval": 0.05, "ping_timeout": 0.1}
    async with end_and_peer(side, ping_message="ping", **options) as (end, _peer):
        with pytest.raises(PingTimeout):
            await end.read()


async def test_a_ping_message_waits_for_the_end_of_a_fragmented_message(side):
    options = {"ping_interval": 0.02, "ping_timeout": 5}
    async with end_and_peer(side, ping_message="ping", **options) as (end, peer):
        await end.write({"opcode": 1, "payload": "one ", "fin": False})
        await asyncio.sleep(0.05)
        await end.write({"opcode": 0, "payload": "two"})
        while (first := await peer.message()) == (TEXT, b"ping"):  # before we began
            pass
        assert first == (TEXT, b"one two")
        assert await peer.message() == (TEXT, b"ping")


async def test_ping_messages_that_wait_behind_a_fragmented_message_cost_bounded_memory(side):
    asked: list[Any] = []

    def ask():
        asked.append(None)
        return "p" * 500

    options = {"ping_interval": 0.01, "ping_timeout": None, "write_high_water": 1000}
    async with end_and_peer(side, ping_message=ask, **options) as (end, peer):
        begun = end.write({"opcode": 1, "payload": "one ", "fin": False})
        before = len(asked)
        await begun
        await until(lambda: len(asked) >= before + 10)
        ended = end.write({"opcode": 0, "payload": "two"})
        last = end.write("last")
        while await peer.message() != (TEXT, b"one two"):
            pass
        behind = 0
        while await peer.message() != (TEXT, b"last"):
            behind += 1
        assert behind == 2
        await ended
        await last


@pytest.mark.parametrize("bad", [lambda: 1 / 0, lambda: 7, lambda: {"opcode": 9}])
async def test_a_ping_message_that_fails_is_an_error_of_the_connection(side, bad):
    options = {"ping_interval": 0.02, "ping_message": bad, "close_timeout": 0.1}
    async with end_and_peer(side, **options) as (end, peer):
        assert await peer.close_received() == (1011, "keepalive failed")
        with pytest.raises(ConnectionClosedError, match="ping_message failed") as caught:
            await end.read()
        assert caught.value.__cause__ is not None
        with pytest.raises(ConnectionClosedError, match="ping_message failed"):
            await end.write("x")


class CountingLoop(asyncio.SelectorEventLoop):
    """Knows the timers that the library's connections wait for."""

    def __init__(self):
        super().__init__()
        self.timers = []

    def call_at(self, when, callback, *args, context=None):  # type: ignore[override]
        timer = super().call_at(when, callback, *args, context=context)
        if isinstance(getattr(callback, "__self__", None), Connection):
            self.timers.append((timer, callback.__self__))
        return timer

    def most_of_one(self):
        """How many timers the connection with the most of them waits for."""
        waiting = [
            connection
            for timer, connection in self.timers
            if not timer.cancelled() and timer.when() > self.time()
        ]
        return max(map(waiting.count, waiting), default=0)


def test_a_connection_waits_for_one_timer_whatever_it_waits_for():
    async def use():
        loop: Any = asyncio.get_running_loop()
        options: dict[str, Any] = {"ping_interval": 30, "heartbeat": 20, "read_high_water": 10_000}
        async with end_and_peer("client", close_timeout=10, **options) as (end, peer):
            assert loop.most_of_one() == 1
            sending = asyncio.create_task(peer.send(peer.frame(BINARY, bytes(5000)) * 2000))
            await turns_of_the_loop(50)
            assert not sending.done()  # reading is paused, and looked at each second
            assert loop.most_of_one() == 1
            closing = asyncio.create_task(end.write.close())
            await sending
            assert loop.most_of_one() == 1
            await peer.write(CLOSE, close_payload(1000))
            peer.hang_up()
            await closing
            assert loop.most_of_one() == 0
        assert len(loop.timers) <= 4  # a later deadline makes no new one

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(use())


@pytest.mark.deep("transports", "uvloop")
async def test_a_slow_program_gets_every_message(side):
    """Each takes longer than there is between Pings, and much waits in the socket."""
    options = {"ping_interval": 0.01, "ping_timeout": 0.01, "read_high_water": 20_000}
    async with end_and_peer(side, **options) as (end, peer):
        count = 600

        async def flood():
            for n in range(count):
                await peer.write(BINARY, n.to_bytes(4, "big") + bytes(20_000))

        sending = asyncio.create_task(flood())
        for n in range(count):
            message = await end.read()
            assert int.from_bytes(message.payload[:4], "big") == n
            if n % 10 == 0:
                await asyncio.sleep(0.03)
        await sending
        assert end.read.close_code is None
