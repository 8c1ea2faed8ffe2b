"""The one connection where no event loop runs that it knows: whoever waits does the work."""

from __future__ import annotations

import collections
import threading
import types
from typing import Any

import pytest
from tests.helpers.bare_transport import BareTransport
from tests.helpers.raw_peer import close_payload, frame

from coro_websocket import ConcurrencyError, ConnectionClosedError, NoEventLoopError
from coro_websocket._connection.begin import begin_connection
from coro_websocket._options.options import Options
from coro_websocket._runtimes.bare_runtime import BareRuntime
from coro_websocket._runtimes.current import current_loop
from coro_websocket._streams.fed_stream import FedStream
from coro_websocket.extensions import Deflate

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@types.coroutine
def pause(what):
    """Suspend; what it is resumed with."""
    return (yield what)


class PulledTransport(BareTransport):
    """It receives and sends when it is asked to, and suspends in the middle of both."""

    def __init__(self):
        super().__init__()
        self.arriving: collections.deque[Any] = collections.deque()
        self.stream: Any = None
        self.unsent = bytearray()
        self.slow = False
        self.receiving = self.sending = False
        self.resumed_with = []
        self.error = None

    def write(self, data):
        if self.slow:
            self.unsent += data
            self.stream.pause_writing()
        else:
            super().write(data)

    def get_write_buffer_size(self):
        return len(self.unsent)

    def fetch(self, receiving):
        if self.unsent and not self.sending:
            return self.send()
        return self.receive() if receiving and not self.receiving else None

    def busy(self, receiving):
        return self.sending or (receiving and self.receiving)

    async def receive(self):
        self.receiving = True
        try:
            self.resumed_with.append(await pause("receiving"))
        finally:
            self.receiving = False
        if self.error is not None:
            self.stream.end(self.error)
        else:
            self.stream.feed(self.arriving.popleft())

    async def send(self):
        self.sending = True
        try:
            await pause("sending")
        finally:
            self.sending = False
        self.written += self.unsent
        self.unsent.clear()
        self.stream.resume_writing()


class PulledEnd:
    """Our end, a server's."""

    def __init__(self, **options):
        self.transport = PulledTransport()
        self.stream = self.transport.stream = FedStream(
            current_loop().runtime, None, self.transport
        )
        built = Options.for_wrap_io({"ping_interval": None, "write_high_water": 1, **options})
        _, self.read, self.write = begin_connection(self, built, client=False)

    def become_stream(self, options):
        return self.stream

    def unread(self):
        return b""

    def close(self):
        self.stream.end()

    def arrives(self, opcode, payload=b"", **bits):
        self.transport.arriving.append(frame(opcode, payload, masked=True, **bits))


@pytest.fixture
def end():
    return PulledEnd()


def drive(awaitable, *sent):
    """Run it to its end: what it returned, and what it yielded."""
    coroutine = as_coroutine(awaitable)
    yielded = []
    values = iter(sent)
    try:
        value = None
        while True:
            yielded.append(coroutine.send(value))
            value = next(values, None)
    except StopIteration as stop:
        return stop.value, yielded


async def as_coroutine(awaitable):
    return await awaitable


def result_of(awaitable):
    return drive(awaitable)[0]


def test_its_runtime_is_its_own():
    runtime = current_loop().runtime
    assert isinstance(runtime, BareRuntime)
    assert current_loop().runtime is not runtime


def test_a_read_receives(end):
    end.arrives(TEXT, "hello")
    message, yielded = drive(end.read(), 5)
    assert message.payload == "hello"
    assert yielded == ["receiving"]
    assert end.transport.resumed_with == [5]  # what the loop sends gets through


def test_a_read_driven_by_hand_gives_what_receiving_yields(end):
    end.arrives(TEXT, "hello")
    reading = end.read()
    assert reading.send(None) == "receiving"
    with pytest.raises(StopIteration) as stop:
        reading.send("x")
    assert stop.value.value.payload == "hello"
    assert end.transport.resumed_with == ["x"]
    with pytest.raises(RuntimeError, match="cannot reuse"):
        reading.send(None)


def test_what_is_here_is_read_without_receiving(end):
    data = frame(TEXT, "one", masked=True) + frame(TEXT, "two", masked=True)
    end.transport.arriving.append(data)
    assert result_of(end.read()).payload == "one"
    message, yielded = drive(end.read())
    assert message.payload == "two"
    assert yielded == []


def test_a_read_receives_until_there_is_a_message(end):
    data = frame(TEXT, "hello", masked=True)
    end.transport.arriving.extend([data[:1], data[1:7], data[7:]])
    message, yielded = drive(end.read())
    assert message.payload == "hello"
    assert yielded == ["receiving"] * 3


@pytest.mark.parametrize("how", ["throw", "throw of a class", "close"])
def test_a_read_that_is_interrupted_loses_nothing(end, how):
    data = frame(TEXT, "hello", masked=True)
    end.transport.arriving.extend([data[:5], data[5:]])
    reading = as_coroutine(end.read())
    reading.send(None)
    reading.send(None)
    if how == "close":
        reading.close()
    else:
        with pytest.raises(KeyError):
            reading.throw(KeyError("mine") if how == "throw" else KeyError)
    assert not end.transport.receiving
    assert result_of(end.read()).payload == "hello"


def test_an_error_that_receiving_swallows_does_not_end_the_read(end):
    class Stubborn(PulledTransport):
        async def receive(self):
            try:
                await pause("receiving")
            except KeyError:
                await pause("again")
            self.stream.feed(self.arriving.popleft())

    end.transport.__class__ = Stubborn
    end.arrives(TEXT, "hello")
    reading = end.read()
    reading.send(None)
    assert reading.throw(KeyError("mine")) == "again"
    with pytest.raises(StopIteration) as stop:
        reading.send(None)
    assert stop.value.value.payload == "hello"
    end.arrives(TEXT, "next")
    reading = end.read()
    reading.send(None)

    class Swallowing(Stubborn):
        async def receive(self):
            try:
                await pause("receiving")
            except KeyError:
                self.stream.feed(self.arriving.popleft())

    reading.close()
    end.transport.__class__ = Swallowing
    reading = end.read()
    reading.send(None)
    with pytest.raises(StopIteration) as stop:
        reading.throw(KeyError("mine"))
    assert stop.value.value.payload == "next"


def test_a_read_that_is_woken_before_it_is_suspended_goes_on():
    end = PulledEnd(read_high_water=1000)
    data = frame(BINARY, bytes(4000), masked=True)
    end.stream.feed(data[:2000])
    assert not end.transport.reading
    end.transport.resume_reading = lambda: end.stream.feed(data[2000:])  # type: ignore[method-assign]
    message, yielded = drive(end.read())
    assert message.payload == bytes(4000)
    assert yielded == []


def test_a_stream_and_a_batch_are_read(end):
    async def main():
        chunks = [chunk async for chunk in await end.read.stream()]
        batch = await end.read.batch()
        return chunks, [message.payload for message in batch]

    end.arrives(TEXT, "a", fin=False)
    end.arrives(0, "b", fin=False)
    end.arrives(0, "c")
    end.transport.arriving.append(frame(TEXT, "d", masked=True) + frame(TEXT, "e", masked=True))
    assert result_of(main()) == (["a", "b", "c"], ["d", "e"])


def test_a_write_is_sent_at_once(end):
    result, yielded = drive(end.write("hello"))
    assert result is None
    assert yielded == []
    assert end.transport.frames() == [(TEXT, b"hello")]


def test_a_write_that_has_to_wait_sends(end):
    end.transport.slow = True
    result, yielded = drive(end.write("hello"))
    assert result is None
    assert yielded == ["sending"]
    assert end.transport.frames() == [(TEXT, b"hello")]


def test_fragments_are_sent(end):
    end.transport.slow = True

    async def main():
        await end.write(["a", "b"])
        await end.write({"opcode": TEXT, "payload": "c", "fin": False})
        with pytest.raises(ConcurrencyError):
            await end.write("whole")
        await end.write({"opcode": 0, "payload": "d"})

    result_of(main())
    assert [payload for _, payload in end.transport.frames()] == [b"a", b"b", b"c", b"d"]


def test_a_ping_is_answered_before_the_read_receives_again(end):
    end.transport.slow = True
    end.arrives(PING, b"1")
    end.arrives(TEXT, "hello")
    message, yielded = drive(end.read())
    assert message.payload == "hello"
    assert yielded == ["receiving", "sending", "receiving"]
    assert end.transport.frames() == [(PONG, b"1")]


def test_what_an_extension_makes_of_a_large_message_is_made_by_who_waits(end):
    transport = PulledTransport()
    transport.stream = end.stream = FedStream(current_loop().runtime, None, transport)
    options = Options.for_wrap_io({"ping_interval": None})
    _, deflate = Deflate().agree(())
    _, _, write = begin_connection(end, options, client=False, extensions=(deflate,))
    writing = as_coroutine(write("x" * 100_000))
    assert not transport.written
    result_of(writing)
    result_of(write("y"))
    [(opcode, large), _] = transport.frames()
    assert opcode == TEXT
    assert len(large) < 1000


def test_our_close_is_a_handshake(end):
    end.arrives(TEXT, "on its way")
    end.arrives(CLOSE, close_payload(1000))
    closing = as_coroutine(end.write.close())
    assert closing.send(None) == "receiving"
    assert closing.send(None) == "receiving"
    assert end.transport.frames() == [(CLOSE, close_payload(1000))]
    assert closing.send(None) == "receiving"
    assert end.transport.closed
    end.transport.error = EOFError()
    with pytest.raises(StopIteration):
        closing.send(None)
    assert result_of(end.read()).payload == "on its way"
    assert result_of(end.read()) is None


def test_the_peers_close_is_answered_by_the_read(end):
    end.transport.slow = True
    end.arrives(CLOSE, close_payload(1000))
    end.arrives(TEXT, "hello")
    end.transport.arriving.rotate()
    assert result_of(end.read()).payload == "hello"
    message, yielded = drive(end.read())
    assert message is None
    assert yielded == ["receiving"]
    assert end.transport.closed
    end.transport.error = EOFError()
    _, yielded = drive(end.write.wait_closed())
    assert yielded == ["sending", "receiving"]
    assert end.transport.frames() == [(CLOSE, close_payload(1000))]


def test_an_error_of_receiving_ends_the_connection(end):
    error = end.transport.error = OSError("gone")
    with pytest.raises(ConnectionClosedError) as caught:
        result_of(end.read())
    assert caught.value.__cause__ is error
    result_of(end.write.close())
    result_of(end.write.wait_closed())


def test_what_would_have_to_wait_for_another_task_is_refused(end):
    """Before anything is sent."""
    end.transport.slow = True
    first = as_coroutine(end.write("1"))
    first.send(None)
    for call in (lambda: end.write("2"), end.write.pong, end.write.close, lambda: end.write(None)):
        with pytest.raises(NoEventLoopError, match="asyncio and trio"):
            result_of(call())
    with pytest.raises(StopIteration):
        first.send(None)
    assert end.transport.frames() == [(TEXT, b"1")]

    reading = as_coroutine(end.read())
    reading.send(None)
    with pytest.raises(NoEventLoopError, match="asyncio and trio"):
        result_of(end.write.close())
    with pytest.raises(NoEventLoopError, match="asyncio and trio"):
        result_of(end.write.wait_closed())
    with pytest.raises(ConcurrencyError):
        result_of(end.read())
    result_of(end.write("2"))
    assert end.transport.frames() == [(TEXT, b"2")]
    end.arrives(TEXT, "hello")
    with pytest.raises(StopIteration) as stop:
        reading.send(None)
    assert stop.value.value.payload == "hello"


def test_one_task_may_read_while_another_writes(end):
    end.transport.slow = True
    writing = as_coroutine(end.write("1"))
    writing.send(None)
    end.arrives(TEXT, "hello")
    assert result_of(end.read()).payload == "hello"
    with pytest.raises(StopIteration):
        writing.send(None)


def test_a_read_that_nothing_can_end_is_refused_and_may_be_tried_again(end):
    end.transport.receiving = True  # somebody else does
    with pytest.raises(NoEventLoopError):
        result_of(end.read())
    end.transport.receiving = False
    end.arrives(TEXT, "hello")
    assert result_of(end.read()).payload == "hello"


def test_what_needs_time_is_refused(end):
    for name in ("heartbeat", "ping_interval"):
        with pytest.raises(NoEventLoopError, match=name):
            PulledEnd(**{name: 5})
    with pytest.raises(NoEventLoopError, match="ping"):
        end.write.ping()
    assert not end.transport.written


def test_another_thread_may_drive_it(end):
    got = []
    end.arrives(TEXT, "hello")
    thread = threading.Thread(target=lambda: got.append(result_of(end.read())))
    thread.start()
    thread.join()
    assert got[0].payload == "hello"
    end.arrives(TEXT, "again")
    assert result_of(end.read()).payload == "again"
