"""A connection whose bytes somebody else receives and sends, over the least that a transport has."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.helpers.bare_transport import BareTransport
from tests.helpers.raw_peer import close_payload, frame, turns_of_the_loop

from coro_websocket import ConnectionClosedError, PingTimeout
from coro_websocket._connection.begin import begin_connection
from coro_websocket._options.options import Options
from coro_websocket._runtimes.asyncio_runtime import runtime_of
from coro_websocket._streams.fed_stream import FedStream

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class FedEnd:
    """Our end, a server's, and the hand that feeds it."""

    def __init__(self, **options):
        self.transport = BareTransport()
        self.stream = FedStream(runtime_of(asyncio.get_running_loop()), None, self.transport)
        built = Options.for_wrap_io(options)
        _, self.read, self.write = begin_connection(self, built, client=False)  # type: ignore[arg-type]

    def become_stream(self, options):
        return self.stream

    def unread(self):
        return b""

    async def fed(self, data):
        """Feed as a transport does: in a callback of the loop."""
        asyncio.get_running_loop().call_soon(self.stream.feed, data)
        await turns_of_the_loop(2)

    async def frame(self, opcode, payload=b"", **bits):
        await self.fed(frame(opcode, payload, masked=True, **bits))

    async def end(self, error=None):
        asyncio.get_running_loop().call_soon(self.stream.end, error)
        await turns_of_the_loop(2)

    async def close(self):
        """The peer closes, and hangs up."""
        if not self.stream.lost:
            await self.frame(CLOSE, close_payload(1000))
            await self.end()


@pytest.fixture
async def fed():
    end = FedEnd(ping_interval=None)
    yield end
    await end.close()


async def test_what_is_fed_is_read(fed):
    reading = asyncio.create_task(fed.read())
    await turns_of_the_loop()
    await fed.frame(TEXT, "hello")
    assert (await reading).payload == "hello"
    await fed.frame(BINARY, b"\x00\x01")
    assert (await fed.read()).payload == b"\x00\x01"


async def test_what_is_fed_byte_by_byte_is_read(fed):
    data = frame(TEXT, "aä", masked=True, fin=False) + frame(0, "öz", masked=True)
    reading = asyncio.create_task(fed.read())
    for byte in data:
        await fed.fed(bytes([byte]))
    assert (await reading).payload == "aäöz"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_what_is_fed_stays_as_it_is(fed, kind):
    """It is unmasked in memory of the connection's own."""
    data = frame(BINARY, b"payload" * 100, masked=True)
    given = kind(bytearray(data) if kind is memoryview else data)
    await fed.fed(given)
    assert (await fed.read()).payload == b"payload" * 100
    assert bytes(given) == data


async def test_more_may_be_fed_at_once_than_a_loop_receives_at_once():
    end = FedEnd(ping_interval=None)
    payload = bytes(range(256)) * 4096
    await end.fed(frame(BINARY, payload, masked=True) + frame(TEXT, "behind", masked=True))
    assert (await end.read()).payload == payload
    assert (await end.read()).payload == "behind"
    await end.close()


async def test_what_cannot_be_looked_at_as_bytes_is_refused(fed):
    for wrong in ("text", None, memoryview(b"abcdef")[::2]):
        with pytest.raises((TypeError, ValueError, BufferError)):
            fed.stream.feed(wrong)
    await fed.frame(TEXT, "still here")
    assert (await fed.read()).payload == "still here"


async def test_what_is_written_goes_to_the_transport(fed):
    await fed.write("hello")
    await fed.write(b"\x00" * 100_000)
    await turns_of_the_loop()
    assert fed.transport.frames() == [(TEXT, b"hello"), (BINARY, b"\x00" * 100_000)]


async def test_what_a_task_writes_in_one_go_is_one_write(fed):
    writes: list[Any] = []
    fed.transport.write = writes.append

    async def echo():
        message = await fed.read()
        for _ in range(3):
            await fed.write(message.payload)

    answering = asyncio.create_task(echo())
    await turns_of_the_loop()
    await fed.frame(TEXT, "x")
    await answering
    assert len(writes) == 1


async def test_a_ping_is_answered_though_nobody_reads(fed):
    await fed.frame(PING, b"1")
    assert fed.transport.frames() == [(PONG, b"1")]


async def test_a_ping_of_ours_is_answered(fed):
    pinging = fed.write.ping(b"2")
    await turns_of_the_loop()
    assert fed.transport.frames() == [(PING, b"2")]
    await fed.frame(PONG, b"2")
    assert await pinging >= 0


async def test_what_nobody_reads_pauses_the_transport():
    end = FedEnd(ping_interval=None, read_high_water=1000)
    for _ in range(4):
        await end.frame(BINARY, bytes(300))
    assert not end.transport.reading
    for _ in range(4):
        assert (await end.read()).payload == bytes(300)
    assert end.transport.reading
    await end.close()


async def test_writers_wait_while_the_transport_takes_no_more():
    end = FedEnd(ping_interval=None, write_high_water=1000)
    end.stream.pause_writing()
    await end.write(bytes(100))
    writing = asyncio.create_task(end.write(bytes(5000)))
    await turns_of_the_loop()
    assert not writing.done()
    assert not end.transport.written
    asyncio.get_running_loop().call_soon(end.stream.resume_writing)
    await writing
    assert [len(payload) for _, payload in end.transport.frames()] == [100, 5000]
    await end.close()


async def test_our_close_is_a_handshake_that_closes_the_transport(fed):
    closing = asyncio.create_task(fed.write.close(4000, "bye"))
    await turns_of_the_loop()
    assert fed.transport.frames() == [(CLOSE, close_payload(4000, "bye"))]
    await fed.frame(CLOSE, close_payload(4000, "bye"))
    assert fed.transport.closed
    assert not closing.done()
    await fed.end()
    await closing
    assert await fed.read() is None
    assert fed.read.close_code == 4000


async def test_the_peers_close_is_answered_and_the_transport_closed(fed):
    await fed.frame(CLOSE, close_payload(1001, "away"))
    assert fed.transport.frames() == [(CLOSE, close_payload(1001))]
    assert fed.transport.closed
    assert await fed.read() is None
    await fed.end()
    assert fed.read.close_code == 1001


async def test_an_end_without_a_close_is_an_error(fed):
    await fed.frame(TEXT, "last")
    await fed.end()
    assert (await fed.read()).payload == "last"
    with pytest.raises(ConnectionClosedError) as caught:
        await fed.read()
    assert caught.value.code == 1006
    with pytest.raises(ConnectionClosedError):
        await fed.write("late")


async def test_what_ended_it_is_the_cause(fed):
    error = ConnectionResetError("reset")
    reading = asyncio.create_task(fed.read())
    await turns_of_the_loop()
    await fed.end(error)
    with pytest.raises(ConnectionClosedError) as caught:
        await reading
    assert caught.value.__cause__ is error


async def test_what_is_fed_after_the_end_is_dropped(fed):
    await fed.end()
    await fed.frame(TEXT, "late")
    asyncio.get_running_loop().call_soon(fed.stream.resume_writing)
    asyncio.get_running_loop().call_soon(fed.stream.feed_eof)
    await fed.end(OSError("twice"))
    with pytest.raises(ConnectionClosedError) as caught:
        await fed.read()
    assert caught.value.__cause__ is None


async def test_a_violation_closes_the_transport_with_the_code(fed):
    await fed.fed(frame(TEXT, "not masked", masked=False))
    with pytest.raises(ConnectionClosedError) as caught:
        await fed.read()
    assert caught.value.code == 1002
    [(opcode, payload)] = fed.transport.frames()
    assert opcode == CLOSE
    assert payload.startswith((1002).to_bytes(2, "big"))
    assert fed.transport.closed
    await fed.end()


async def test_a_transport_that_closes_takes_no_more(fed):
    fed.transport.close()
    await fed.write("lost")  # taken before it is known
    await turns_of_the_loop()
    with pytest.raises(ConnectionClosedError):
        await fed.write("more")
    assert not fed.transport.written
    await fed.end()


async def test_a_transport_that_fails_to_write_loses_the_connection(fed):
    error = fed.transport.failure = OSError("broken")
    with pytest.raises((OSError, ConnectionClosedError)):
        await fed.write("x")
        await fed.write("y")
    assert fed.transport.closed
    with pytest.raises(ConnectionClosedError) as caught:
        await fed.read()
    assert caught.value.__cause__ is error


async def test_a_silent_peer_is_given_up_without_waiting_for_the_transport():
    """It has no `abort`, and its `close` might wait for the peer to take what is written."""
    end = FedEnd(ping_interval=0.02, ping_timeout=0.02)
    with pytest.raises(PingTimeout):
        await asyncio.wait_for(end.read(), 8)
    assert end.transport.closed
    await asyncio.wait_for(end.write.wait_closed(), 8)


async def test_a_peer_that_only_sends_no_more_does_not_keep_the_end_waiting():
    end = FedEnd(ping_interval=None, close_timeout=0.02)
    asyncio.get_running_loop().call_soon(end.stream.feed_eof)
    with pytest.raises(ConnectionClosedError):
        await asyncio.wait_for(end.read(), 8)
    assert end.transport.closed


async def test_a_connection_that_cannot_begin_closes_the_transport(monkeypatch):
    loop = asyncio.get_running_loop()
    end = FedEnd(ping_interval=None)
    await end.end()
    transport = end.transport = BareTransport()
    stream = end.stream = FedStream(runtime_of(loop), None, transport)
    end.close = transport.close  # type: ignore[method-assign]
    options = Options.for_wrap_io({"ping_interval": 5})

    class NoTimers(Exception):
        pass

    def refuse(*args, **more):
        raise NoTimers

    try:
        monkeypatch.setattr(loop, "call_at", refuse)
    except AttributeError:
        pytest.skip("this loop's methods cannot be replaced")
    with pytest.raises(NoTimers):
        begin_connection(end, options, client=False)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert transport.closed
    assert stream.lost


async def test_what_is_opened_is_closed_where_the_engine_cannot_be_made():
    end = FedEnd(ping_interval=None)
    await end.end()
    transport = BareTransport()
    end.stream = FedStream(runtime_of(asyncio.get_running_loop()), None, transport)
    end.close = transport.close  # type: ignore[method-assign]
    with pytest.raises(AttributeError, match="rsv"):
        begin_connection(
            end,  # type: ignore[arg-type]
            Options.for_wrap_io({}),
            client=False,
            extensions=("not an extension",),  # type: ignore[arg-type]
        )
    assert transport.closed


async def test_a_transport_that_fails_to_tell_what_waits_in_it_loses_the_connection():
    """The keepalive asks it: once, and not again and again."""

    class Failing(BareTransport):
        def get_write_buffer_size(self):
            raise self.failure

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    end = FedEnd(ping_interval=None)
    await end.end()
    end.transport = Failing()
    end.transport.failure = RuntimeError("it cannot tell")
    end.stream = FedStream(runtime_of(asyncio.get_running_loop()), None, end.transport)
    options = Options.for_wrap_io({"ping_interval": 0.02})
    _, read, _ = begin_connection(end, options, client=False)  # type: ignore[arg-type]
    with pytest.raises(ConnectionClosedError) as caught:
        await asyncio.wait_for(read(), 8)
    assert caught.value.__cause__ is end.transport.failure
    assert end.transport.closed
    assert [context["exception"] for context in reported] == [end.transport.failure]
