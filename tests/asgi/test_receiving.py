"""What an application that receives, or does not, makes of what comes."""

from __future__ import annotations

import asyncio

import pytest
import websockets
from tests.helpers.raw_peer import BINARY, CLOSE, PING, PONG, TEXT, until

from .serving import BOUND, accepted, echo, raw_client, serving

MUCH = 64 * 1024 * 1024  # bytes that no buffer of the system's takes


async def test_the_transport_is_not_paused_for_each_message():
    async with serving(echo) as server:
        async with websockets.connect(server.url) as client:
            await client.send("first")
            await client.recv()
            transport = server.protocol.transport
            paused = []
            for number in range(100):
                await client.send(str(number))
                assert await client.recv() == str(number)
                paused.append(transport.is_reading())
            assert len(set(paused)) == 1
            assert server.unread == 0


async def test_an_application_that_does_not_receive_holds_little():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()
        await go_on.wait()
        await send({"type": "websocket.close"})

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"first")
            flood = asyncio.create_task(_flood(client))
            await until(lambda: server.unread > 0)
            await asyncio.sleep(0.1)
            assert server.unread < 1024 * 1024
            assert not flood.done()
            flood.cancel()
            go_on.set()
            assert (await client.frame()).opcode == CLOSE


async def _flood(client):
    for _ in range(MUCH // 65536):
        client.send(BINARY, bytes(65536))
        await client.writer.drain()


async def test_an_application_that_has_not_asked_holds_one_message_or_what_came_with_it():
    go_on = asyncio.Event()
    events = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        await go_on.wait()
        events.extend([await receive() for _ in range(3)])

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"1")
            await until(lambda: server.unread > 0)
            client.send(TEXT, b"2" * 1000)
            client.send(TEXT, b"3")
            await asyncio.sleep(0.05)
            assert server.unread < 20
            go_on.set()
            await client.rest()
    assert [event["text"][0] for event in events] == ["1", "2", "3"]


async def test_a_client_that_goes_is_noticed_by_an_application_that_does_not_receive(monkeypatch):
    monkeypatch.setattr("coro_websocket._connection.reading.LOOK_EVERY", 0.01)
    failed = asyncio.Event()

    async def app(scope, receive, send):
        await accepted(receive, send)
        with pytest.raises(OSError):
            while True:
                await send({"type": "websocket.send", "text": "news"})
                await asyncio.sleep(0.005)
        failed.set()

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"unread")
            await client.frame()
            client.vanish()
            async with asyncio.timeout(BOUND):
                await failed.wait()


async def test_a_ping_behind_what_nobody_receives_is_answered():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()
        await go_on.wait()

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"received")
            client.send(TEXT, b"unread")
            client.send(PING, b"still there?")
            frame = await client.frame()
            assert (frame.opcode, frame.payload) == (PONG, b"still there?")
            go_on.set()


async def test_a_receive_that_is_cancelled_has_taken_nothing():
    async def app(scope, receive, send):
        await accepted(receive, send)
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await send({"type": "websocket.send", "text": "cancelled"})
        event = await receive()
        await send({"type": "websocket.send", "text": event["text"]})
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.send("not lost")
            assert [await client.recv(), await client.recv()] == ["cancelled", "not lost"]


async def test_a_receive_right_after_a_cancelled_one_waits_for_that_to_end():
    async def app(scope, receive, send):
        await accepted(receive, send)
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        task.cancel()
        event = await receive()
        await send({"type": "websocket.send", "text": event["text"]})
        assert task.cancelled()
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.send("received")
            assert await client.recv() == "received"


async def test_tasks_that_receive_at_once_each_get_an_event():
    events = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        tasks = [asyncio.create_task(receive()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks.pop(1).cancel()
        await send({"type": "websocket.send", "text": "ready"})
        events.extend(await asyncio.gather(*tasks))

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            assert await client.recv() == "ready"
            await client.send("1")
            await client.send("2")
            await client.close(4000, "enough")
    events.sort(key=str)
    assert events == [
        {"type": "websocket.disconnect", "code": 4000, "reason": "enough"},
        {"type": "websocket.receive", "text": "1"},
        {"type": "websocket.receive", "text": "2"},
    ]


async def test_a_slow_client_makes_send_wait():
    blocked = asyncio.Event()

    async def app(scope, receive, send):
        await accepted(receive, send)
        for _ in range(1000):
            sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(65536)}))
            done, _pending = await asyncio.wait([sending], timeout=0.2)
            if not done:
                blocked.set()
                await sending
                return

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.writer.transport.pause_reading()
            async with asyncio.timeout(BOUND):
                await blocked.wait()
            assert server.protocol.transport.get_write_buffer_size() < 1024 * 1024
            client.writer.transport.resume_reading()
            await client.rest()
