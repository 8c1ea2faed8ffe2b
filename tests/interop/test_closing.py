"""How connections with the peers end: what either side sees, whoever ends it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from coro_websocket import ConnectionClosedError, LimitError, Read, Request, Write, serve

from .peer_ws import NodeConnection
from .peers import BOUND, Pairing, Peer, Place, Terms, Theirs, our_client, our_server
from .test_messages import every_place, one_loop, payload, two_loops, waiting_in_the_system

# What the loop changes is shown with our own peers, on every loop.
pytestmark = pytest.mark.deep("transports", "uvloop")

REASON = "Grüße 👋"


# They close


@every_place
async def test_a_close_with_an_error_code_of_theirs_is_raised_to_the_reader(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        closing = asyncio.create_task(theirs.close(4000, REASON))
        with pytest.raises(ConnectionClosedError) as raised:
            await ours.read()
        assert (raised.value.code, raised.value.reason) == (4000, REASON)
        assert (ours.read.close_code, ours.read.close_reason) == (4000, REASON)
        with pytest.raises(ConnectionClosedError):
            await ours.write("too late")
        await ours.write.wait_closed()
        await closing
        assert (await theirs.ended())[0] in (4000, pairing.peer.answers_with)


@pytest.mark.parametrize("code", [1000, 1001])
@one_loop
async def test_an_ordinary_close_of_theirs_ends_the_loop(pairing: Pairing, code: int) -> None:
    async with pairing.connected() as (ours, theirs):
        await theirs.send("the last")
        closing = asyncio.create_task(theirs.close(code, REASON))
        assert [message.payload async for message in ours.read] == ["the last"]
        assert await ours.read() is None
        assert (ours.read.close_code, ours.read.close_reason) == (code, REASON)
        await closing
        assert (await theirs.ended())[0] in (code, pairing.peer.answers_with)


async def test_their_close_is_answered_although_no_task_reads(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        await theirs.close(4000, REASON)
        assert (await theirs.ended())[0] in (4000, pairing.peer.answers_with)
        await ours.write.wait_closed()
        with pytest.raises(ConnectionClosedError, match="4000"):
            await ours.read()


@pytest.mark.parametrize("peer", ["ws"], indirect=True)
@one_loop
async def test_a_close_without_a_code_is_1005_and_ends_the_loop(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        assert isinstance(theirs, NodeConnection)
        await theirs.command("close")
        assert await ours.read() is None
        assert (ours.read.close_code, ours.read.close_reason) == (1005, "")
        assert await theirs.ended() == (1005, "")


@pytest.mark.parametrize("peer", ["websockets"], indirect=True)
@two_loops
async def test_their_server_going_away_ends_the_loop(peer: Peer, place: Place) -> None:
    async with asyncio.timeout(BOUND), contextlib.AsyncExitStack() as stack:
        async with peer.serve(place, Terms()) as server:
            ours = await stack.enter_async_context(our_client(server.place))
            await server.accepted.get()
            reading = asyncio.create_task(ours.read())
        assert await reading is None
        assert ours.read.close_code == 1001


# We close


@every_place
async def test_they_see_the_code_and_the_reason_that_we_close_with(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        await ours.write.close(4000, REASON)
        assert await theirs.ended() == (4000, REASON)
        assert await ours.read() is None
        assert ours.read.close_code == (pairing.peer.answers_with or 4000)
        with pytest.raises(ConnectionClosedError):
            await ours.write("too late")


@pytest.mark.parametrize("reading", [False, True], ids=["nobody reads", "a task reads"])
@one_loop
async def test_writing_none_closes_with_1000(pairing: Pairing, reading: bool) -> None:
    async with pairing.connected() as (ours, theirs):
        task = asyncio.create_task(ours.read()) if reading else None
        await ours.write.ping()
        await ours.write(None)
        assert await theirs.ended() == (1000, "")
        assert (await task if task else await ours.read()) is None
        assert ours.read.close_code == 1000


@one_loop
async def test_we_may_close_without_a_code(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        await ours.write.close(None)
        code, reason = await theirs.ended()
        assert pairing.peer.no_code in (None, code)
        assert reason == ""
        assert await ours.read() is None


@one_loop
async def test_what_was_on_its_way_when_we_close_can_be_read(pairing: Pairing) -> None:
    texts = [str(number) for number in range(100)]
    async with pairing.connected() as (ours, theirs):
        for text in texts:
            await theirs.send(text)
        await theirs.ping(b"all sent")
        await ours.write.close(4000, REASON)
        assert [message.payload async for message in ours.read] == texts
        assert await theirs.ended() == (4000, REASON)


@every_place
@two_loops
async def test_we_can_close_while_they_flood_us_and_nobody_reads(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async def flood(theirs: Theirs) -> None:
        with contextlib.suppress(Exception):  # what closing does to it is theirs to say
            for _ in range(60):
                await theirs.send(bytes(50000))

    options = {"read_high_water": 65536}
    async with pairing.connected(Terms(compress=False), **options) as (ours, theirs):
        flooding = asyncio.create_task(flood(theirs))
        while waiting_in_the_system(ours) < 16384:
            await asyncio.sleep(0.001)
        await ours.write.close(4000, REASON)
        assert await theirs.ended() == (4000, REASON)
        await flooding


@two_loops
async def test_both_sides_may_close_at_once(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        await asyncio.gather(ours.write.close(4001, "ours"), theirs.close(4002, "theirs"))
        # ws runs in its own process; aiohttp may answer with a code of its own.
        said = (4002, 4001) if pairing.peer.name == "ws" else (4002, pairing.peer.answers_with)
        assert ours.read.close_code in said
        assert (await theirs.ended())[0] == 4001
        assert await ours.read() is None


# Nobody closes


@every_place
async def test_when_they_vanish_without_a_close_reading_raises_1006(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        await theirs.send("the last")
        assert await payload(ours) == "the last"
        reading = asyncio.create_task(ours.read())
        await asyncio.sleep(0)  # it waits
        await theirs.vanish()
        with pytest.raises(ConnectionClosedError) as raised:
            await reading
        assert (raised.value.code, raised.value.reason) == (1006, "")
        assert ours.read.close_code == 1006
        with pytest.raises(ConnectionClosedError):
            await ours.write("too late")
        with pytest.raises(ConnectionClosedError):
            await ours.write.ping()


@one_loop
async def test_when_they_vanish_nobody_who_waits_is_left_waiting(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        closed = asyncio.create_task(ours.write.wait_closed())
        ping = ours.write.ping()
        await asyncio.gather(theirs.vanish(), return_exceptions=True)
        await closed
        with contextlib.suppress(ConnectionClosedError):  # unless the Pong was quicker
            await ping
        with pytest.raises(ConnectionClosedError):
            await ours.read()


@every_place
async def test_when_we_vanish_they_see_1006_and_our_loop_just_ends(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        ours.head.socket.shutdown()
        assert await theirs.ended() == (1006, "")
        assert [message async for message in ours.read] == []


# Limits (RFC 6455 section 7.4.1, code 1009)


@two_loops
async def test_a_message_beyond_our_limit_is_refused_with_1009(pairing: Pairing) -> None:
    async with pairing.connected(max_message_size=1000) as (ours, theirs):
        await theirs.send("x" * 1000)
        assert await payload(ours) == "x" * 1000
        await theirs.send("x" * 1001)
        with pytest.raises(LimitError) as raised:
            await ours.read()
        assert (raised.value.limit, raised.value.value) == ("max_message_size", 1000)
        assert (await theirs.ended())[0] == 1009


@two_loops
async def test_a_message_beyond_their_limit_ends_with_their_1009(pairing: Pairing) -> None:
    async with pairing.connected(Terms(max_size=1000)) as (ours, theirs):
        await ours.write("x" * 999)  # up to 1000 for some of them, below it for others
        assert await theirs.receive() == "x" * 999
        await ours.write("x" * 1001)
        with pytest.raises(ConnectionClosedError) as raised:
            await ours.read()
        assert raised.value.code == 1009
        await theirs.ended()


# What our server does when a handler or the server ends


@one_loop
async def test_a_handler_that_returns_closes_with_1000(peer: Peer, place: Place) -> None:
    async def handler(_: Request, __: Read, write: Write) -> None:
        await write("the last")

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with peer.connect(replace(place, port=server.port), Terms()) as theirs:
            assert await theirs.receive() == "the last"
            assert await theirs.ended() == (1000, "")


@one_loop
async def test_a_handler_that_raises_closes_with_1011(
    peer: Peer, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_: Request, __: Read, ___: Write) -> None:
        raise RuntimeError("secret")

    async with asyncio.timeout(BOUND), serve(handler) as server:
        async with peer.connect(replace(place, port=server.port), Terms()) as theirs:
            code, reason = await theirs.ended()
            assert code == 1011
            assert "secret" not in reason
    assert "secret" in caplog.text


@every_place
@two_loops
async def test_closing_our_server_closes_every_connection_with_1001(
    peer: Peer, place: Place, no_tasks_left: None
) -> None:
    async with asyncio.timeout(BOUND), contextlib.AsyncExitStack() as stack:
        async with our_server(place) as server:
            many = await stack.enter_async_context(peer.connect_many(server.place, Terms(), 3))
            for _ in many:
                await server.accepted.get()
        for theirs in many:
            assert (await theirs.ended())[0] == 1001
