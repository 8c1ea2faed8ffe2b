"""Messages through an application under uvicorn, with clients that we did not write."""

from __future__ import annotations

import os
import re
import zlib

import pytest
import websockets
from tests.helpers.raw_peer import BINARY, CONT, TEXT

from coro_websocket import connect

from .serving import BOUND, Recorder, accepted, echo, raw_client, serving

# One for each stream: past the transport, and by way of it.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "transports"])


@pytest.mark.parametrize("message", ["grün", b"\0\xff", "", b"", "x" * 70_000], ids=len)
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_text_stays_text_and_bytes_stay_bytes(message, compression):
    async with serving(echo) as server:
        async with websockets.connect(server.url, compression=compression) as client:
            await client.send(message)
            assert await client.recv() == message


async def test_our_own_client_is_served():
    async with serving(echo) as server:
        async with connect(server.url) as (res, read, write):
            assert res.extensions
            await write("one")
            await write(b"two")
            assert [(await read()).payload, (await read()).payload] == ["one", b"two"]


async def test_a_large_message_goes_both_ways_whole():
    message = os.urandom(5 * 1024 * 1024)
    async with serving(echo) as server:
        async with websockets.connect(server.url, compression=None, max_size=None) as client:
            await client.send(message)
            assert await client.recv() == message


async def test_a_fragmented_message_is_one_event():
    recorder = Recorder()
    async with serving(recorder) as server:
        async with raw_client(server) as client:
            client.send(TEXT, "grü".encode()[:3], fin=False)
            client.send(CONT, "grü".encode()[3:], fin=False)
            client.send(CONT, b"n")
            client.send(BINARY, b"a", fin=False)
            client.send(CONT, b"b")
        assert (await recorder.all())[:2] == [
            {"type": "websocket.receive", "text": "grün"},
            {"type": "websocket.receive", "bytes": b"ab"},
        ]


async def test_messages_that_come_together_keep_their_order():
    async with serving(echo) as server:
        async with websockets.connect(server.url) as client:
            for number in range(500):
                await client.send(str(number))
            assert [await client.recv() for _ in range(500)] == [str(n) for n in range(500)]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_bytes_may_be_given_as_whatever_has_bytes(kind):
    async def app(scope, receive, send):
        await accepted(receive, send)
        await send({"type": "websocket.send", "bytes": kind(b"data"), "text": None})
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url) as client:
            assert await client.recv() == b"data"


async def test_what_is_compressed_is_so_on_the_wire():
    async def app(scope, receive, send):
        await accepted(receive, send)
        await send({"type": "websocket.send", "text": "x" * 1000})
        await receive()

    extensions = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with serving(app) as server:
        async with raw_client(server, **extensions) as client:
            assert b"permessage-deflate" in client.response
            frame = await client.frame()
            assert frame.rsv == 4
            assert len(frame.payload) < 100


async def test_deflate_can_be_turned_off():
    extensions = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with serving(echo, ws_per_message_deflate=False) as server:
        async with raw_client(server, **extensions) as client:
            assert b"permessage-deflate" not in client.response


async def test_the_limit_counts_what_a_message_inflates_to():
    recorder = Recorder()
    deflated = zlib.compressobj(wbits=-12)
    payload = deflated.compress(b"\0" * 20_000) + deflated.flush(zlib.Z_SYNC_FLUSH)
    assert len(payload) < 1000
    extensions = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with serving(recorder, ws_max_size=1000) as server:
        async with raw_client(server, **extensions) as client:
            client.send(BINARY, payload[:-4], rsv=4)
            assert (await client.frame()).close[0] == 1009
        (event,) = await recorder.all()
    assert (event["type"], event["code"]) == ("websocket.disconnect", 1009)


async def test_a_violation_is_told_to_both():
    recorder = Recorder()
    async with serving(recorder) as server:
        async with raw_client(server) as client:
            client.send(TEXT, b"\xff")
            code, reason = (await client.frame()).close
            assert code == 1007
            assert await client.rest() == b""
        assert await recorder.all() == [
            {"type": "websocket.disconnect", "code": 1007, "reason": reason}
        ]


@pytest.mark.parametrize(
    ("event", "error", "words"),
    [
        ({}, RuntimeError, "Expected 'text' (str) or 'bytes' in ASGI message 'websocket.send'"),
        ({"text": b"x"}, RuntimeError, "'text' of type bytes"),
        ({"bytes": "x"}, TypeError, "'bytes' of 'websocket.send' must be bytes, not str"),
        ({"text": "\ud800"}, ValueError, "lone surrogate"),
    ],
)
async def test_what_cannot_be_sent_is_told_to_the_application_alone(event, error, words):
    async def app(scope, receive, send):
        await accepted(receive, send)
        with pytest.raises(error, match=re.escape(words)):
            await send({"type": "websocket.send", **event})
        await send({"type": "websocket.send", "text": "goes on"})
        await receive()

    async with serving(app) as server:
        async with websockets.connect(server.url, open_timeout=BOUND) as client:
            assert await client.recv() == "goes on"
