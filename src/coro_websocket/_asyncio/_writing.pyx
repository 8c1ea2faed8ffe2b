"""The writing side of a connection on asyncio: messages, their turns, Pings.

The rules: frames of different messages never interleave; a write is in the buffer whole or
not at all; a message is taken when it is given, and what is awaited is only that there is room.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport SIZE_MAX, uint8_t

from .._frames cimport BINARY, CLOSE, FIN, TEXT
from .._messages cimport Message, as_fragment, as_message
from ._loop_state cimport LoopState
from ._waiting cimport DONE, WAITING, Waiter, new_checkpoint

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterable

from .._close import ABNORMAL, NORMAL, broken_off
from .._errors import ConcurrencyError, ConnectionClosedError
from .._messages import empty_end, is_fragments
from .._sending import control_payload

cdef extern from "Python.h":
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size) noexcept
    void PyErr_Clear() noexcept

cdef enum:
    FLUSH_AT = 65536  # bytes that are sent without waiting for the task to suspend
    UNCOPIED = 16384  # bytes of a message that is sent from where it is, if it can be
    OFFLOAD = 65536  # bytes of a message that extensions transform in another thread
    BURST = 1048576  # bytes a task may write before the other tasks get their turn
    WRITE = 256  # bytes that each write counts for besides its payload


cdef class Writing(Sender):
    """Writing over a stream that a subclass provides."""

    def __cinit__(self, loop, Engine engine not None, options, *args):
        self.engine = engine
        self.options = options
        self.write_high_water = high_water(options.write_high_water)
        self.write_low_water = self.write_high_water // 4
        self.drain_waiters = []
        self.turn_waiters = []
        self.pings = {}

    # What a stream and the closing handshake provide

    cdef int send_beside(self, const uint8_t *data, size_t n) except -1:
        """Send what the engine has to send, and these bytes behind it, where `uncopied` is set.

        They are copied only as far as the system does not take them.
        """
        raise NotImplementedError

    cdef size_t backlog(self) except? 1:
        """How many bytes wait to be handed to the system."""
        raise NotImplementedError

    def close(self, code, reason):
        raise NotImplementedError

    cdef int begin_close(self, object code, object reason) except -1:
        raise NotImplementedError

    cdef int fail_memory(self) except -1:
        """There was no memory to go on: the connection is lost."""
        raise NotImplementedError

    # Messages

    cdef object write(self, object message, bint transform):
        """Encode a message and hand it to the stream; an awaitable of there being room again."""
        cdef Py_ssize_t size
        cdef const char *data
        if self.turn_taken or self.broken or self.engine.rsv:
            return self.write_other(message, transform)
        if PyUnicode_CheckExact(message):
            data = utf8_of(message, &size)
            if data == NULL:
                PyErr_Clear()
                return self.write_other(message, transform)
            if size >= UNCOPIED and self.uncopied and not self.blocked:
                return self.write_uncopied(TEXT, data, size)
            self.engine.check_data(TEXT, True, <const uint8_t *>data, size, True)
            self.engine.send_data(TEXT, True, 0, <const uint8_t *>data, size)
        elif PyBytes_CheckExact(message):
            data = PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
            if size >= UNCOPIED and self.uncopied and not self.blocked:
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
        self.send_beside(<const uint8_t *>data, size)
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
        cdef uint8_t opcode = message.bits & 15
        if self.broken:
            raise self.closed_error()
        if opcode == CLOSE:
            self.engine.send_message(message)
            return self.close(NORMAL, "")
        if opcode < CLOSE and self.turn_taken:
            task = current_task(self.loop)
            if self.fragment_sent is not None and self.fragment_owner is task:
                return self.write_behind(task, message, transform)
            if self.turn_owner is not task:
                return self.write_in_turn(message, transform)
        return self.write_now(message, transform)

    cdef object write_now(self, Message message, bint transform):
        """Write a message or a frame whose turn it is."""
        cdef uint8_t opcode = message.bits & 15
        if self.broken:
            raise self.closed_error()
        if opcode < CLOSE and transform and self.engine.rsv and message.len >= OFFLOAD:
            return self.write_large(message)
        try:
            self.engine.send_message(message, transform=transform)
        except MemoryError:
            if opcode < CLOSE and self.engine.rsv:  # an extension may have seen what is not sent
                self.fail_memory()
            raise
        if opcode < CLOSE:
            if not message.bits & FIN:
                self.turn_taken = True
                if opcode:
                    self.turn_owner = current_task(self.loop)
                    self.watch_owner()
            elif self.turn_taken:
                self.pass_turn()
        return self.after_write(message.len)

    cdef bint write_shared(self, Message message, bytes frame) except -1:
        """Send a message that many are sent, as an unmasked frame; False if it was not sent.

        It is not, if the connection is closed or its peer is too far behind.
        """
        cdef Engine engine = self.engine
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(frame)
        cdef size_t size = PyBytes_GET_SIZE(frame)
        if self.broken or engine.close_sent or self.backlog() > self.write_high_water:
            return False
        if engine.client or self.turn_taken:
            if self.background_size > self.write_high_water:
                return False
            self.write_aside(message)
            return True
        if size >= UNCOPIED and self.uncopied and not self.blocked:
            self.send_beside(data, size)
        else:
            engine.outbox.append(data, size)
            self.hand_over()
        engine.count_shared(data, size)
        return True

    cdef int write_aside(self, Message message) except -1:
        """Send a message that no task waits for, untransformed; after a fragmented one's end."""
        if not self.turn_taken:
            self.engine.send_message(message, transform=False)
            return self.hand_over()
        task = self.loop.create_task(self.write_in_turn(message, False))
        if self.background is None:
            self.background = set()
        self.background.add(task)
        self.background_size += message.len + WRITE
        task.add_done_callback(functools.partial(self.background_done, message.len + WRITE))
        return 0

    def background_done(self, size_t size, task):
        self.background.discard(task)
        self.background_size -= size
        if not task.cancelled():
            task.exception()  # the connection has ended meanwhile

    cdef object write_large(self, Message message):
        """Let a thread transform a message that would keep the event loop waiting.

        The message has its turn until that is done, also if its writer is cancelled: what
        the extensions have seen must be sent.
        """
        self.engine.check_message(message)
        encoding = self.loop.run_in_executor(None, self.engine.encode, message, True)
        # Who has begun a fragmented message goes on with it, once this fragment is sent.
        owner = current_task(self.loop) if message.bits & 15 else self.turn_owner
        sent = self.loop.create_future()
        self.turn_taken = True
        self.turn_owner = sent
        if not message.bits & FIN:
            self.fragment_sent = sent
            self.fragment_owner = owner
        encoding.add_done_callback(functools.partial(self.large_encoded, message, owner, sent))
        return self.large_written(message, sent)

    def large_encoded(self, Message message not None, owner, sent, encoding):
        try:
            self.send_large(message, owner, sent, encoding)
        except MemoryError:
            self.fail_memory()

    cdef int send_large(self, Message message, owner, sent, encoding) except -1:
        try:
            if self.broken:
                raise self.closed_error()
            self.engine.send_encoded(message, *encoding.result())
            self.queue()
        except BaseException as error:
            if isinstance(error, MemoryError):  # the extensions have seen what is never sent
                self.fail_memory()
            sent.set_exception(error)
            sent.exception()  # it is for the writer, who may have been cancelled
        else:
            sent.set_result(None)
        if self.fragment_sent is sent:
            self.fragment_sent = self.fragment_owner = None
        if self.turn_owner is sent:
            self.turn_owner = owner
            if not self.engine.sending_fragments:
                self.pass_turn()
            elif message.bits & FIN:  # the last fragment could not be encoded
                self.break_off()
                self.pass_turn()
            else:
                self.watch_owner()
        return 0

    async def write_behind(self, owner, Message message not None, bint transform):
        """Go on with a fragmented message behind its fragment that a thread transforms."""
        while not self.broken and self.turn_taken:
            if self.turn_owner is owner:
                await self.write_now(message, transform)
                return
            if self.fragment_owner is not owner:
                break
            await asyncio.wait([self.fragment_sent])
        await self.write_message(message, transform)

    async def large_written(self, Message message not None, sent):
        await asyncio.wait([sent])
        sent.result()
        await self.after_write(message.len)

    cdef object after_write(self, size_t size):
        cdef LoopState state = self.state
        self.hand_over()
        if self.must_wait(self.write_high_water):
            return self.drained()
        state.burst += size + WRITE
        if state.burst >= BURST:
            state.burst = 0
            return new_checkpoint()
        return DONE

    cdef int hand_over(self) except -1:
        """See to it that what was encoded is sent, at once if it is much."""
        self.queue()
        if not self.blocked and self.engine.outbox.unsent() >= FLUSH_AT:
            self.transmit()
        return 0

    async def drained(self):
        """Wait until the peer has taken enough of what was written."""
        while self.must_wait(self.write_low_water):
            await self.wait_in(self.drain_waiters)
        if self.broken:
            raise self.closed_error()

    cdef bint must_wait(self, size_t most) except -1:
        """Whether the stream takes nothing now and more than this waits for it."""
        return self.blocked and not self.broken and self.backlog() > most

    # Fragmented messages, each in its turn

    async def write_in_turn(self, Message message not None, bint transform):
        """Wait for the fragmented message of another task to end, then write."""
        await self.take_turn()
        try:
            written = self.write_message(message, transform)
        except BaseException:
            if self.turn_owner is current_task(self.loop):
                self.pass_turn()
            raise
        await written

    async def take_turn(self):
        if self.turn_taken:
            task = current_task(self.loop)
            if self.turn_owner is task or (
                self.fragment_sent is not None and self.fragment_owner is task
            ):
                raise ConcurrencyError(
                    "this task is sending a fragmented message: its last fragment (fin=True) must "
                    "come before a new message (RFC 6455 section 5.4)"
                )
            try:
                if not self.engine.close_sent:
                    await self.wait_in(self.turn_waiters)
                if self.broken or self.engine.close_sent:
                    raise self.closed_error()
            except BaseException:
                # The turn may have been passed to us in the same moment.
                if self.turn_taken and self.turn_owner is current_task(self.loop):
                    self.pass_turn()
                raise
        self.turn_taken = True
        self.turn_owner = current_task(self.loop)

    cdef int pass_turn(self) except -1:
        """The fragmented message has ended: whoever has waited longest comes next."""
        if isinstance(self.turn_owner, asyncio.Task):
            self.turn_owner.remove_done_callback(self.owner_ended)
        self.turn_owner = None
        self.turn_taken = False
        while self.turn_waiters and not self.turn_taken:
            waiter, task = self.turn_waiters[0]
            if (<Waiter>waiter).state == WAITING:
                try:
                    (<Waiter>waiter).wake_soon()
                except MemoryError:  # nobody else would ever wake it
                    return self.fail_memory()
                self.turn_taken = True
                self.turn_owner = task
            del self.turn_waiters[0]
        return 0

    async def write_fragments(self, fragments, bint transform):
        """Send the items of an (async) iterable as the fragments of one message."""
        cdef bint begun = False
        cdef bint ended = False
        cdef int opcode = 0
        cdef Message message
        await self.take_turn()
        try:
            if isinstance(fragments, AsyncIterable):
                # Each as it comes; an empty last frame says that there are no more.
                async for fragment in fragments:
                    message = as_fragment(fragment, opcode, begun, False)
                    opcode = opcode or message.bits & 15
                    written = self.write_message(message, transform)
                    begun = True
                    await written
                last = empty_end(fragments, opcode)
            else:
                last = None
                for fragment in fragments:
                    message = as_fragment(fragment, opcode, begun, False)
                    opcode = opcode or message.bits & 15
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
            if self.turn_taken and not ended:
                if begun:
                    self.break_off()
                self.pass_turn()
            raise

    cdef int watch_owner(self) except -1:
        if self.turn_owner is not None:
            self.turn_owner.add_done_callback(self.owner_ended)
        return 0

    def owner_ended(self, task):
        """The task that has begun a fragmented message is done: has it ended it?"""
        if self.turn_taken and self.turn_owner is task:
            try:
                self.break_off()
                self.pass_turn()
            except MemoryError:
                self.fail_memory()

    cdef int break_off(self) except -1:
        """Close: a part of a message has been sent, and cannot be taken back."""
        if self.broken:
            return 0
        error = broken_off()
        if self.cause is None and not self.engine.close_sent:
            self.cause = error
        return self.begin_close(error.code, error.reason)

    cdef object closed_error(self):
        if self.engine.close_sent:
            return self.engine.refuse_to_send()
        how = "the connection is lost"
        if self.cause is not None:
            how += f" ({str(self.cause) or type(self.cause).__name__})"
        error = ConnectionClosedError(f"cannot send: {how}", ABNORMAL)
        error.__cause__ = self.cause
        error._engine = id(self.engine)
        return error

    # Pings

    def ping(self, payload=None):
        """Send a Ping: a future of the seconds until its Pong."""
        if self.broken:
            raise self.closed_error()
        payload = os.urandom(8) if payload is None else control_payload(payload)
        if payload in self.pings:
            raise ConcurrencyError(
                "a Ping with this payload still waits for its Pong: "
                "give it another payload, or none"
            )
        future = self.loop.create_future()
        self.pings[payload] = (future, time.perf_counter())
        try:
            self.engine.send_ping(payload)
        except BaseException:
            self.pings.pop(payload, None)
            raise
        self.queue()
        return future

    def pong(self, payload=b""):
        if self.broken:
            raise self.closed_error()
        self.engine.send_pong(payload)
        return self.after_write(len(payload))

    cdef int settle_pings(self) except -1:
        """Give the Pings that have been answered their round-trip times."""
        now = time.perf_counter()
        for payload in self.engine.pop_answered():
            future, sent_at = self.pings.get(payload, (None, None))
            if sent_at is not None:
                self.latency = now - sent_at
            if future is not None and not future.done():
                future.set_result(now - sent_at)
            self.pings.pop(payload, None)
        return 0

    cdef int fail_pings(self) except -1:
        """Tell those who wait for a Pong. Who could not be told is told the next time."""
        for payload, (future, _) in list(self.pings.items()):
            if future is not None and not future.done():
                future.set_exception(self.closed_error())
                future.exception()  # it is no fault not to await a ping
            self.pings.pop(payload, None)
        return 0

    # Waiting

    async def wait_in(self, waiters):
        """Wait to be woken from a list of waiters."""
        cdef Waiter waiter = Waiter.__new__(Waiter, self.loop)
        waiter.arm()
        entry = (waiter, current_task(self.loop))
        waiters.append(entry)
        try:
            await waiter
        finally:
            waiter.gone_on()
            if entry in waiters:
                waiters.remove(entry)


cdef size_t high_water(value):
    return SIZE_MAX if value is None else value


cdef int wake_all(list waiters, bint now=False) except -1:
    """Wake everybody, whatever happens with one; who could not be woken goes on waiting."""
    cdef Py_ssize_t kept = 0
    failed = None
    while kept < len(waiters):
        entry = waiters[kept]
        try:
            (<Waiter>entry[0]).wake(now)
        except Exception as error:
            failed = error
            kept += 1
        else:
            if kept < len(waiters) and waiters[kept] is entry:  # it has not gone on already
                del waiters[kept]
    if failed is not None:
        raise failed
    return 0


cdef object current_task(loop):
    return asyncio.current_task(loop)
