"""What runs between the lines of a transport, and of tasks that receive at the same time.

A transport is Python code: garbage is collected there, and finalizers and signal handlers run.
"""

from __future__ import annotations

import asyncio
import sys
from socket import SO_SNDBUF, SOL_SOCKET

import pytest
from tests.helpers.raw_peer import CLOSE, TEXT, close_payload, turns_of_the_loop, until

from .serving import BOUND, Event, accepted, raw_client, serving

LARGE = 20_000  # bytes of a message that is sent from where it is


async def in_between_app(receive, send, server, called):
    """Send with each size while `called` runs wherever the transport is asked how much it has."""
    await accepted(receive, send)
    transport = server().protocol.transport
    size = transport.get_write_buffer_size

    def get_write_buffer_size():
        found = size()
        called(send)
        return found

    transport.get_write_buffer_size = get_write_buffer_size


@pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop's transports have no room for others
@pytest.mark.parametrize("outer", [10, LARGE])
@pytest.mark.parametrize("inner", [10, LARGE])
async def test_what_is_sent_while_the_transport_is_asked_stays_whole(inner, outer):
    to_send: list[str] = []

    def called(send):
        if to_send:
            send({"type": "websocket.send", "text": to_send.pop()})

    async def app(scope, receive, send):
        await in_between_app(receive, send, lambda: server, called)
        socket = server.protocol.transport.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
        for number in range(5):
            # More than the socket takes: the transport has some of it, and is asked again.
            await send({"type": "websocket.send", "text": "f" * 1_000_000})
            to_send.append("i" * inner)
            await send({"type": "websocket.send", "text": "o" * outer})
            await send({"type": "websocket.send", "text": str(number)})
        to_send.clear()
        await receive()

    async with serving(app, ws_per_message_deflate=False) as server:
        async with raw_client(server) as client:
            came: list[bytes] = []
            while len(came) < 10 + 5 + 5:
                frame = await client.frame()
                assert frame.opcode == TEXT
                came.append(frame.payload)
                if frame.payload == b"4":
                    break
    assert [each for each in came if each[:1] == b"o"] == [b"o" * outer] * 5
    sent_within = [each for each in came if each[:1] == b"i"]
    assert sent_within
    assert set(sent_within) == {b"i" * inner}


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_an_event_may_be_changed_while_it_is_sent(caplog):
    """Which frees what is being sent, but for us."""
    caplog.set_level("DEBUG", "coro_websocket")
    sent = {"type": "websocket.send", "text": ""}

    async def app(scope, receive, send):
        await in_between_app(receive, send, lambda: server, lambda send: sent.clear())
        sent["text"] = "a" + "b" * 1024 * 1024
        await send(sent)
        await receive()

    async with serving(app, ws_per_message_deflate=False) as server:
        async with raw_client(server) as client:
            assert (await client.frame()).payload == b"a" + b"b" * 1024 * 1024
    assert sent == {}


# Tasks that receive at the same time


async def test_a_task_waits_behind_one_that_receives_on_however_many_events_that_has():
    async def app(scope, receive, send):
        await accepted(receive, send)

        async def echoes():
            while (event := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": event["text"]})

        first = asyncio.create_task(echoes())
        await turns_of_the_loop(2)
        second = asyncio.create_task(receive())
        await first
        ends.append(await second)

    ends: list[Event] = []
    async with serving(app) as server:
        async with raw_client(server) as client:
            for number in range(sys.getrecursionlimit() + 1):
                client.send(TEXT, str(number))
                assert (await client.frame()).payload == str(number).encode()
            client.send(CLOSE, close_payload(1000))
            await client.rest()
        await until(lambda: not server.state.tasks)
    assert [end["code"] for end in ends] == [1000]


async def test_a_task_that_is_closed_while_it_waits_behind_another_one_does_not_take_its_turn():
    received = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        first = asyncio.create_task(receive())
        await turns_of_the_loop(2)
        second = receive()
        second.send(None)
        third = asyncio.create_task(receive())
        await turns_of_the_loop(2)
        second.close()
        await send({"type": "websocket.send", "text": "all wait"})
        async with asyncio.timeout(BOUND):
            received.extend([await first, await third])

    async with serving(app) as server:
        async with raw_client(server) as client:
            await client.frame()
            client.send(TEXT, b"1")
            client.send(TEXT, b"2")
            assert await client.rest() == b""
    assert [event["text"] for event in received] == ["1", "2"]
