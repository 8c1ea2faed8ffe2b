"""The writing side of a connection: messages, Pings.

The rules: frames of different messages never interleave; a write is in the buffer whole or
not at all; a message is taken when it is given, and what is awaited is only that there is room.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport SIZE_MAX, uint8_t

from .._rfc6455.frames cimport BINARY, CLOSE, FIN, RSV, TEXT, opcode_of
from .._rfc6455.messages cimport Message, as_fragment, as_message
from .._rfc6455.shared cimport SharedMessage
from .._runtimes.runtime cimport Runtime
from .._runtimes.waiter cimport DONE, Waiter, wake_all
from .._streams.stream cimport Consumer, Stream
from .turns cimport Turns

import functools
import os
import time
from collections.abc import AsyncIterable

from .._rfc6455.close_codes import ABNORMAL, NORMAL, broken_off
from .._errors import ConcurrencyError, ConnectionClosedError
from .._rfc6455.messages import empty_end, is_fragments
from .._rfc6455.sending import control_payload

cdef extern from "Python.h":
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size) noexcept
    void PyErr_Clear() noexcept

cdef enum:
    FLUSH_AT = 65536  # bytes that are sent without waiting for the task to suspend
    UNCOPIED = 16384  # bytes of a message that is sent from where it is, if it can be
    OFFLOAD = 65536  # bytes of a message that extensions transform in another thread
    BURST = 1048576  # bytes a task may write before the other tasks get their turn
    WRITE = 256  # bytes that each write counts for besides its payload


cdef class LargeFrame:
    """A message, or a fragment, that extensions transform in another thread."""


cdef class Writing(Consumer):
    """Writing over a stream."""

    def __cinit__(self, Engine engine not None, options, Stream stream not None, *args):
        self.stream = stream
        self.runtime = stream.runtime
        self.engine = engine
        self.options = options
        self.uncopied = stream.uncopied and not engine.client
        self.write_high_water = high_water(options.write_high_water)
        self.write_low_water = self.write_high_water // 4
        self.latency = -1

    # What the closing handshake provides

    def close(self, code, reason):
        raise NotImplementedError

    cdef int begin_closing(self) except -1:
        raise NotImplementedError

    # Messages

    cdef object write(self, object message, bint transform):
        """Encode a message and hand it to the stream; an awaitable of there being room again."""
        cdef Py_ssize_t size
        cdef const char *data
        if is_taken(self.turns) or self.stream.broken or self.engine.rsv:
            return self.write_other(message, transform)
        if PyUnicode_CheckExact(message):
            data = utf8_of(message, &size)
            if data == NULL:
                PyErr_Clear()
                return self.write_other(message, transform)
            if size >= UNCOPIED and self.uncopied and not self.stream.blocked:
                return self.write_uncopied(TEXT, data, size)
            self.engine.check_data(TEXT, True, <const uint8_t *>data, size, True)
            self.engine.send_data(TEXT, True, 0, <const uint8_t *>data, size)
        elif PyBytes_CheckExact(message):
            data = PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
            if size >= UNCOPIED and self.uncopied and not self.stream.blocked:
                return self.write_uncopied(BINARY, data, size)
            self.engine.check_data(BINARY, True, <const uint8_t *>data, size, True)
            self.engine.send_data(BINARY, True, 0, <const uint8_t *>data, size)
        else:
            return self.write_other(message, transform)
        return self.after_write(size)

    cdef object write_uncopied(self, uint8_t opcode, const char *data, size_t size):
        """Send a large message that needs no mask from where it is."""
        cdef Engine engine = self.engine
        engine.check_data(opcode, True, <const uint8_t *>data, size, True)
        engine.begin_message(opcode, size)
        self.stream.send_with_payload(<const uint8_t *>data, size)
        if engine.trace is not None:
            engine.traced(True, FIN | opcode, size, <const uint8_t *>data, size)
        return self.after_write(size)

    cdef object write_other(self, object message, bint transform):
        """What is not simply a str or bytes on a connection that is simply open."""
        if message is None:
            return self.close(NORMAL, "")
        if is_fragments(message):
            return self.write_fragments(message, transform)
        return self.write_message(as_message(message), transform)

    cdef object write_message(self, Message message, bint transform):
        cdef uint8_t opcode = opcode_of(message.bits)
        if self.stream.broken:
            raise self.closed_error()
        if opcode == CLOSE:
            self.engine.send_message(message)
            return self.close(NORMAL, "")
        if opcode < CLOSE and is_taken(self.turns):
            if self.turns.is_mine_next():
                return self.write_behind(self.turns.owner, message, transform)
            if not self.turns.is_mine():
                return self.write_in_turn(message, transform)
        return self.write_now(message, transform)

    cdef object write_now(self, Message message, bint transform):
        """Write a message or a frame whose turn it is."""
        cdef uint8_t opcode = opcode_of(message.bits)
        if self.stream.broken:
            raise self.closed_error()
        if opcode < CLOSE and transform and self.engine.rsv and message.len >= OFFLOAD:
            return self.write_large(message)
        if opcode and not message.bits & FIN:
            self.have_turns()  # while nothing is sent
        try:
            self.engine.send_message(message, transform=transform)
        except MemoryError:
            if opcode < CLOSE and self.engine.rsv:  # an extension may have seen what is not sent
                self.fail_memory()
            raise
        if opcode < CLOSE:
            if not message.bits & FIN:
                if opcode:
                    self.turns.begin()
            elif is_taken(self.turns):
                self.turns.pass_on()
        return self.after_write(message.len)

    cdef int write_shared(self, SharedMessage shared) except -1:
        """Send a message that many are sent; after a fragmented one's end."""
        if is_taken(self.turns):
            return self.turns.add_background(shared, shared.message.len + WRITE)
        return self.send_shared(shared)

    cdef int send_shared(self, SharedMessage shared) except -1:
        """Send it now: no message is being sent."""
        cdef Engine engine = self.engine
        cdef bytes frame = shared.frame_for(engine)
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(frame)
        cdef size_t size = PyBytes_GET_SIZE(frame)
        if data[0] & RSV:
            engine.forget_context()
        if size >= UNCOPIED and self.uncopied and not self.stream.blocked:
            self.stream.send_with_payload(data, size)
            return engine.count_shared(data, size, shared.message.len)
        if engine.client:
            engine.mask_shared(data, size)
        else:
            engine.outbox.append(data, size)
        engine.count_shared(data, size, shared.message.len)
        return self.hand_over()

    cdef bint write_aside(self, Message message) except -1:
        """Send a message that no task waits for, untransformed; after a fragmented one's end.

        False if it was not sent, as too many wait for that already.
        """
        if not is_taken(self.turns):
            self.engine.send_message(message, transform=False)
            self.hand_over()
        elif self.turns.background_size > self.write_high_water:
            return False
        else:
            self.turns.add_background(message, message.len + WRITE)
        return True

    cdef object write_large(self, Message message):
        """Let a thread transform a message that would keep the event loop waiting.

        The message has its turn until that is done, also if its writer is cancelled: what
        the extensions have seen must be sent.
        """
        cdef LargeFrame frame
        self.engine.check_message(message)
        frame = LargeFrame.__new__(LargeFrame)
        frame.message = message
        self.have_turns()
        self.runtime.run_in_worker(
            self.engine.encode, (message, True), functools.partial(self.large_encoded, frame)
        )
        self.turns.transform(frame, opcode_of(message.bits) != 0, message.bits & FIN != 0)
        return self.large_written(frame)

    def large_encoded(self, LargeFrame frame not None, encoding):
        try:
            self.send_large(frame, encoding)
        except MemoryError:
            self.fail_memory()

    cdef int send_large(self, LargeFrame frame, encoding) except -1:
        try:
            if self.stream.broken:
                raise self.closed_error()
            self.engine.send_encoded(frame.message, *encoding.result())
            self.stream.queue()
        except BaseException as error:
            frame.error = error
            if isinstance(error, MemoryError):  # the extensions have seen what is never sent
                self.fail_memory()
        frame.done = True
        try:
            self.turns.transformed(frame, not self.engine.sending_fragments)
        finally:
            wake_all(self.large_waiters)
        return 0

    async def write_behind(self, owner, Message message not None, bint transform):
        """Go on with a fragmented message behind its fragment that a thread transforms."""
        while not self.stream.broken and self.turns.goes_on(owner):
            if self.turns.transforming is None:
                await self.write_now(message, transform)
                return
            self.large_waiters = or_new(self.large_waiters)
            await self.wait_in(self.large_waiters)
        await self.write_message(message, transform)

    async def large_written(self, LargeFrame frame not None):
        while not frame.done:
            if self.stream.lost:
                raise self.closed_error()
            self.large_waiters = or_new(self.large_waiters)
            await self.wait_in(self.large_waiters)
        if frame.error is not None:
            raise frame.error
        await self.after_write(frame.message.len)

    cdef object after_write(self, size_t size):
        cdef Runtime runtime = self.runtime
        self.hand_over()
        if self.must_wait(self.write_high_water):
            return self.drained()
        runtime.burst += size + WRITE
        if runtime.burst >= BURST:
            runtime.burst = 0
            return runtime.new_checkpoint()
        return DONE

    cdef int hand_over(self) except -1:
        """See to it that what was encoded is sent, at once if it is much."""
        self.stream.queue()
        if not self.stream.blocked and self.engine.outbox.unsent() >= FLUSH_AT:
            self.stream.transmit()
        return 0

    async def drained(self):
        """Wait until the peer has taken enough of what was written."""
        while self.must_wait(self.write_low_water):
            self.drain_waiters = or_new(self.drain_waiters)
            await self.wait_in(self.drain_waiters)
        if self.stream.broken:
            raise self.closed_error()

    cdef bint must_wait(self, size_t most) except -1:
        """Whether the stream takes nothing now and more than this waits for it."""
        return self.stream.blocked and not self.stream.broken and self.stream.backlog() > most

    # Fragmented messages, each in its turn

    cdef MessageTurns have_turns(self):
        """The turns, which most connections never need."""
        cdef MessageTurns turns = self.turns
        if turns is None:
            turns = MessageTurns.__new__(MessageTurns, self)
            if self.turns_ended:
                turns.end()
            if self.stream.lost:
                turns.connection = None
            self.turns = turns
        return turns

    cdef int end_turns(self, bint now) except -1:
        """No more messages are sent."""
        self.turns_ended = True
        return 0 if self.turns is None else self.turns.end(now)

    async def write_in_turn(self, Message message not None, bint transform):
        """Wait for the fragmented message of another task to end, then write."""
        await self.take_turn()
        try:
            written = self.write_message(message, transform)
        except BaseException:
            if self.turns.is_mine():
                self.turns.pass_on()
            raise
        await written

    async def take_turn(self):
        if not await self.have_turns().take():
            raise self.closed_error()

    async def write_fragments(self, fragments, bint transform):
        """Send the items of an (async) iterable as the fragments of one message."""
        cdef bint begun = False
        cdef bint ended = False
        cdef int opcode = 0
        cdef Message message
        iterator = None
        await self.take_turn()
        try:
            if isinstance(fragments, AsyncIterable):
                iterator = aiter(fragments)
                # Each as it comes; an empty last frame says that there are no more.
                async for fragment in iterator:
                    message = as_fragment(fragment, opcode, begun, False)
                    opcode = opcode or opcode_of(message.bits)
                    written = self.write_message(message, transform)
                    begun = True
                    await written
                last = empty_end(fragments, opcode)
            else:
                last = None
                for fragment in fragments:
                    message = as_fragment(fragment, opcode, begun, False)
                    opcode = opcode or opcode_of(message.bits)
                    if last is not None:
                        written = self.write_message(
                            as_fragment(last, opcode, begun, False), transform
                        )
                        begun = True
                        await written
                    last = fragment
                if last is None:
                    last = empty_end(fragments, opcode)
            # The final fragment passes the turn on, like any other.
            written = self.write_message(as_fragment(last, opcode, begun, True), transform)
            ended = True
            await written
        except BaseException:
            if begun and not ended:
                self.turns.give_up()
            elif not ended:
                self.turns.pass_on()
            if not ended and hasattr(iterator, "aclose"):  # an async generator
                await iterator.aclose()
            raise

    cdef int break_off(self) except -1:
        """Close: a part of a message has been sent, and cannot be taken back."""
        if self.stream.broken:
            return 0
        error = broken_off()
        if self.cause is None and not self.engine.close_sent:
            self.cause = error
        self.engine.close_for(error)
        return self.begin_closing()

    cdef object closed_error(self):
        if self.engine.close_sent:
            return self.engine.refuse_to_send()
        how = "the connection is lost"
        cause = self.known_cause()
        if cause is not None:
            how += f" ({str(cause) or type(cause).__name__})"
        error = ConnectionClosedError(f"cannot send: {how}", ABNORMAL)
        error.__cause__ = cause
        error._engine = id(self.engine)
        return error

    cdef object known_cause(self):
        """The cause of the connection's end, or None; made here if there was no memory for it."""
        if self.out_of_memory and self.cause is None:
            self.cause = ConnectionClosedError(
                "out of memory: the connection was given up", ABNORMAL
            )
        return self.cause

    # Pings

    def ping(self, payload=None):
        """Send a Ping: a future of the seconds until its Pong."""
        if self.stream.broken:
            raise self.closed_error()
        payload = os.urandom(8) if payload is None else control_payload(payload)
        if self.pings is not None and payload in self.pings:
            raise ConcurrencyError(
                "a Ping with this payload still waits for its Pong: "
                "give it another payload, or none"
            )
        future = self.runtime.new_result()
        self.pings = self.pings or {}
        self.pings[payload] = (future, time.perf_counter())
        try:
            self.engine.send_ping(payload)
        except BaseException:
            self.forget_ping(payload)
            raise
        self.stream.queue()
        return future

    def pong(self, payload=b""):
        if self.stream.broken:
            raise self.closed_error()
        self.engine.send_pong(payload)
        return self.after_write(len(payload))

    cdef int settle_pings(self) except -1:
        """Give the Pings that have been answered their round-trip times."""
        now = time.perf_counter()
        for payload in self.engine.pop_answered():
            future, sent_at = (self.pings or {}).get(payload, (None, None))
            if sent_at is not None:
                self.latency = now - sent_at
            if future is not None and not future.done():
                future.set_result(now - sent_at)
            self.forget_ping(payload)
        return 0

    cdef object forget_ping(self, object payload):
        """Whoever waits for its Pong, or None."""
        if self.pings is None:
            return None
        known = self.pings.pop(payload, None)
        if not self.pings:
            self.pings = None
        return known

    cdef int fail_pings(self) except -1:
        """Tell those who wait for a Pong. Those who could not be told are told the next time."""
        for payload, (future, _) in list((self.pings or {}).items()):
            if future is not None and not future.done():
                future.set_exception(self.closed_error())
                future.exception()  # a ping need not be awaited
            self.forget_ping(payload)
        return 0

    # Waiting

    async def wait_in(self, waiters, bint receiving=False):
        """Wait to be woken from a list of waiters; receiving: what is received may do that."""
        cdef Waiter waiter = self.runtime.new_waiter(self.stream, receiving)
        waiter.arm()
        entry = (waiter, None)
        waiters.append(entry)
        try:
            await waiter
        finally:
            waiter.gone_on()
            if entry in waiters:
                waiters.remove(entry)


cdef class MessageTurns(Turns):
    """The turns of a connection's messages, as its runtime has tasks.

    What they call may be the connection's end, which takes it from here: each keeps it till then.
    """

    def __cinit__(self, Writing connection not None):
        self.connection = connection
        self.runtime = connection.runtime

    cpdef object current_task(self):
        return self.runtime.current_task()

    cpdef int watch(self, task) except -1:
        return self.runtime.watch_task(task, self.owner_ended)

    cpdef int unwatch(self, task) except -1:
        return self.runtime.unwatch_task(task, self.owner_ended)

    cpdef Waiter new_waiter(self):
        return self.runtime.new_waiter(None, False)

    cpdef int send(self, message) except -1:
        """Send a Message of ours alone, or a SharedMessage."""
        cdef Writing connection = self.connection
        if connection is None or connection.stream.broken or connection.engine.close_sent:
            return 0
        if isinstance(message, SharedMessage):
            return connection.send_shared(message)
        connection.engine.send_message(message, transform=False)
        return connection.hand_over()

    cpdef int break_off(self) except -1:
        cdef Writing connection = self.connection
        return 0 if connection is None else connection.break_off()

    cpdef int fail_memory(self) except -1:
        cdef Writing connection = self.connection
        return 0 if connection is None else connection.fail_memory()


cdef list or_new(list waiters):
    return [] if waiters is None else waiters


cdef size_t high_water(value):
    return SIZE_MAX if value is None else value
