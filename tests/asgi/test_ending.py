"""How a connection of an application ends, whoever ends it, and what is told of that."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
import websockets
from tests.helpers.raw_peer import BINARY, CLOSE, PONG, TEXT, close_payload, frame, until

from .serving import BOUND, Recorder, accepted, echo, lines_of, raw_client, serving

# The client ends it


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (close_payload(1000), 1000, ""),
        (close_payload(4000, "genug, ü"), 4000, "genug, ü"),
    ],
    ids=["no code", "1000", "4000"],
)
async def test_a_close_of_the_client_is_told_with_its_code_and_answered(payload, code, reason):
    recorder = Recorder()
    async with serving(recorder) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"before")
            client.send(CLOSE, payload)
            assert (await client.frame()).payload == payload[:2]
            assert await client.rest() == b""
        assert await recorder.all() == [
            {"type": "websocket.receive", "text": "before"},
            {"type": "websocket.disconnect", "code": code, "reason": reason},
        ]


@pytest.mark.parametrize("how", ["reset", "end of stream"])
async def test_a_client_that_goes_without_a_close_is_a_1005(how):
    recorder = Recorder()
    async with serving(recorder) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"before")
            await until(lambda: recorder.events)
            if how == "reset":
                client.vanish()
            else:
                client.writer.write_eof()
                assert await client.rest() == b""
            assert (await recorder.all())[-1] == {"type": "websocket.disconnect", "code": 1005}
        await until(lambda: not server.state.connections)


async def test_a_receive_after_the_end_gives_the_same_again():
    events = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        events.extend([await receive(), await receive()])

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.close(4001)
    assert events == [{"type": "websocket.disconnect", "code": 4001, "reason": ""}] * 2


@pytest.mark.parametrize("event", [{"text": "x"}, {"bytes": bytearray(b"x")}], ids=list)
async def test_what_is_sent_after_the_end_is_an_oserror(event):
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()
        with pytest.raises(OSError, match="cannot send"):
            await send({"type": "websocket.send", **event})
        await until(lambda: not server.state.connections)
        with pytest.raises(OSError, match="cannot send"):
            await send({"type": "websocket.send", **event})
        with pytest.raises(OSError, match="cannot send"):
            await send({"type": "websocket.close"})
        ended.set()

    async with serving(app) as server:
        async with websockets.connect(server.url):
            pass
        async with asyncio.timeout(BOUND):
            await ended.wait()


async def test_an_application_that_lets_out_that_its_client_is_gone_has_not_failed(caplog):
    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()
        await send({"type": "websocket.send", "text": "nobody hears"})

    async with serving(app) as server:
        async with websockets.connect(server.url):
            pass
        await until(lambda: not server.state.tasks)
    assert lines_of(caplog, logging.ERROR) == []


async def test_a_client_that_sends_too_much_hears_why_though_it_sends_on():
    too_much = frame(BINARY, bytes(200_000), masked=True)
    async with serving(echo, ws_max_size=1000) as server:
        async with raw_client(server) as client:
            for _ in range(100):
                client.writer.write(too_much)
                await client.writer.drain()
            assert (await client.frame()).close[0] == 1009
            assert await client.rest() == b""


# The application ends it


async def test_a_close_of_the_application_is_told_to_it_and_to_the_client():
    events = []

    async def app(scope, receive, send):
        await accepted(receive, send)
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "websocket.close", "code": 4002, "reason": "bye"})
        events.extend([await waiting, await receive()])

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (4002, "bye")
    assert events == [{"type": "websocket.disconnect", "code": 4002, "reason": "bye"}] * 2


async def test_a_close_that_may_not_be_sent_is_the_applications_error():
    async def app(scope, receive, send):
        await accepted(receive, send)
        with pytest.raises(ValueError, match=r"a close code that may be sent is .*, not 1006"):
            await send({"type": "websocket.close", "code": 1006})
        await send({"type": "websocket.close", "code": 1013, "reason": None})

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            await client.wait_closed()
            assert client.close_code == 1013


@pytest.mark.parametrize("fails", [True, False])
async def test_an_application_that_ends_leaves_nothing_unsent_and_hangs_up(fails, caplog):
    async def app(scope, receive, send):
        await accepted(receive, send)
        await send({"type": "websocket.send", "bytes": bytes(300_000)})
        if fails:
            raise LookupError("what went wrong")

    async with serving(app) as server:
        async with raw_client(server) as client:
            assert len((await client.frame()).payload) == 300_000
            assert await client.rest() == b""  # no Close frame: 1006 to the client
    assert ("what went wrong" in caplog.text) == fails
    assert bool(lines_of(caplog, logging.ERROR)) == fails


async def test_an_application_that_ends_answers_a_close_behind_what_it_has_not_received():
    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()
        await until(lambda: server.protocol._connection.engine.close_ahead)

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"received")
            client.send(TEXT, b"not received")
            client.send(CLOSE, close_payload(1000))
            assert (await client.frame()).close == (1000, "")
            assert await client.rest() == b""


async def test_an_application_whose_client_takes_nothing_is_not_waited_for_without_end():
    async def app(scope, receive, send):
        server.protocol.close_timeout = 0.05
        await accepted(receive, send)
        for _ in range(500):
            sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(65536)}))
            if not (await asyncio.wait([sending], timeout=0.1))[0]:
                sending.cancel()
                return

    async with serving(app) as server:
        async with raw_client(server) as client:
            client.writer.transport.pause_reading()
            await until(lambda: not server.state.connections)
            client.vanish()


async def test_an_application_that_is_cancelled_ends_its_connection(caplog):
    async def app(scope, receive, send):
        await accepted(receive, send)
        await receive()

    async with serving(app) as server:
        async with raw_client(server) as client:
            (task,) = server.state.tasks
            task.cancel()
            assert await client.rest() == b""
            assert task.cancelled()
    assert lines_of(caplog, logging.ERROR) == []


# The server ends it


async def test_shutdown_closes_with_1012_and_tells_the_application_last():
    recorder = Recorder()
    async with serving(recorder) as server:
        async with websockets.connect(server.url) as client:
            await client.send("before")
            await until(lambda: recorder.events)
            await server.shutdown()
            await client.wait_closed()
            assert client.close_code == 1012
    assert await recorder.all() == [
        {"type": "websocket.receive", "text": "before"},
        {"type": "websocket.disconnect", "code": 1012},
    ]


async def test_shutdown_before_the_application_has_answered_is_a_500():
    asked = asyncio.Event()
    events = []

    async def app(scope, receive, send):
        await receive()
        asked.set()
        events.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})

    async with serving(app) as server:
        async with raw_client(server, None) as client:
            client.ask()
            await asked.wait()
            await server.shutdown()
            assert b" 500 " in await client.head()
            assert await client.rest() == b"Internal Server Error"
    assert events == [{"type": "websocket.disconnect", "code": 1006}]


async def test_shutdown_does_not_wait_for_a_client_without_end():
    async def app(scope, receive, send):
        server.protocol.close_timeout = 0.05
        await accepted(receive, send)
        await receive()

    async with serving(app) as server:
        async with raw_client(server):  # which answers no Close
            await server.shutdown()
            assert not server.state.connections


@pytest.mark.deep
async def test_shutdown_closes_a_thousand_clients():
    recorders = []

    async def app(scope, receive, send):
        recorders.append(Recorder())
        await recorders[-1](scope, receive, send)

    async with serving(app) as server:
        clients = []
        for _ in range(20):
            opening = (websockets.connect(server.url, compression=None) for _ in range(50))
            clients += await asyncio.gather(*opening)
        assert len(server.state.connections) == 1000
        await server.shutdown()
        assert not server.state.connections
        assert not server.state.tasks
        await asyncio.gather(*(client.wait_closed() for client in clients))
        assert {client.close_code for client in clients} == {1012}
    told = [recorder.events for recorder in recorders]
    assert told == [[{"type": "websocket.disconnect", "code": 1012}]] * 1000


# Keepalive


async def test_a_client_that_answers_no_ping_is_told_and_given_up():
    recorder = Recorder()
    async with serving(recorder, ws_ping_interval=0.05, ws_ping_timeout=0.05) as server:
        async with raw_client(server) as client:
            while (frame := await client.frame()).opcode != CLOSE:
                pass
            assert frame.close == (1011, "keepalive ping timeout")
            assert await client.rest() == b""
        assert await recorder.all() == [
            {"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"}
        ]


async def test_a_client_that_answers_pings_stays():
    async with serving(echo, ws_ping_interval=0.02, ws_ping_timeout=0.5) as server:
        async with raw_client(server) as client:
            for _ in range(5):
                client.send(PONG, (await client.frame()).payload)
            assert server.protocol.ping_sent_at > 0
            client.send(TEXT, b"still here")
            while (frame := await client.frame()).opcode != TEXT:
                client.send(PONG, frame.payload)
            assert frame.payload == b"still here"


# What is left


async def test_nothing_is_left_of_a_connection(no_tasks_left):
    left: list[weakref.ref[Any]] = []

    async def app(scope, receive, send):
        connection = server.protocol
        await accepted(receive, send)
        left.extend([weakref.ref(connection), weakref.ref(connection._conversation)])
        while (await receive())["type"] == "websocket.receive":
            pass

    async with serving(app) as server:
        for path in ("/", "/"):
            async with raw_client(server, path) as client:
                client.send(TEXT, b"x")
                client.send(CLOSE)
                await client.rest()
            await until(lambda: not server.state.connections and not server.state.tasks)
    gc.collect()
    assert [each() for each in left] == [None] * 4


@pytest.mark.parametrize("closes", [True, False])
async def test_a_connection_is_freed_without_the_garbage_collector(closes):
    """Which has to look at the more, the more connections end."""
    left: list[weakref.ref[Any]] = []

    async def app(scope, receive, send):
        protocol = server.protocol
        await accepted(receive, send)
        left.extend([weakref.ref(protocol), weakref.ref(protocol._conversation)])
        while (await receive())["type"] == "websocket.receive":
            pass

    async with serving(app) as server:
        gc.collect()
        gc.disable()
        try:
            async with raw_client(server) as client:
                if closes:
                    client.send(CLOSE)
                    await client.rest()
            await until(lambda: not server.state.connections and not server.state.tasks)
            await until(lambda: [each() for each in left] == [None] * 2)
        finally:
            gc.enable()
