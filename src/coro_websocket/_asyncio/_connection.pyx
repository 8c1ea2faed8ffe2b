"""A connection on asyncio: the engine, the task that reads, the tasks that write.

The hot path, from top to bottom: a stream's readable callback asks `receive_into`
where to put the bytes and tells `received` how many there are; that parses what the
waiting `read()` asked for and resumes its task then and there. What the task writes
meanwhile is encoded into one buffer and sent when the task suspends.

The rules: one task reads at a time; frames of different messages never interleave;
a read that is cancelled takes nothing; a write is in the buffer whole or not at all.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport SIZE_MAX, uint8_t

from .._frames cimport BINARY, CLOSE, FIN, TEXT
from .._messages cimport Message, as_fragment, as_message, new_message
from ._waiting cimport DONE, WAITING, new_checkpoint

import asyncio
import collections
import functools
import os
import time
import weakref
from collections.abc import AsyncIterable

from .._close import ABNORMAL, NORMAL
from .._sending import control_payload
from .._errors import ConcurrencyError, ConnectionClosedError, PingTimeout, ProtocolError
from .._messages import is_fragments

cdef extern from "Python.h":
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size) noexcept
    void PyErr_Clear() noexcept

cdef enum:
    SCRATCH = 262144 + 256  # one receive buffer a loop, shared by all its connections
    FLUSH_AT = 65536  # bytes that are sent without waiting for the task to suspend
    OFFLOAD = 1048576  # bytes of a message that extensions transform in another thread
    BURST = 1048576  # bytes a task may write before the other tasks get their turn
    WRITE = 256  # bytes that each write counts for besides its payload


# One per event loop

cdef class LoopState:
    """What the connections of one event loop share: a receive buffer and a flush."""

    def __cinit__(self):
        self.scratch = <uint8_t *>PyMem_RawMalloc(SCRATCH)
        if self.scratch == NULL:
            raise MemoryError
        self.unsent = []
        self.flush_callback = self.flush_in_turn

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)

    cdef int enter(self) noexcept:
        self.depth += 1
        return 0

    cdef int leave(self) except -1:
        self.depth -= 1
        if self.depth == 0:
            self.burst = 0
            if self.unsent:
                self.flush()
        return 0

    cdef int flush(self) except -1:
        cdef Connection connection
        unsent = self.unsent
        self.unsent = []
        for connection in unsent:
            connection.queued = False
            if not connection.blocked:
                connection.transmit()
        return 0

    def flush_in_turn(self):
        self.flush_scheduled = False
        self.burst = 0
        self.flush()


_loop_states = weakref.WeakKeyDictionary()


cdef LoopState loop_state(loop):
    state = _loop_states.get(loop)
    if state is None:
        state = _loop_states[loop] = LoopState()
    return state


# One per connection

cdef class Connection:
    """Reading, writing, closing and keeping alive over a stream that a subclass provides."""

    def __cinit__(self, loop, Engine engine not None, options, *args):
        self.loop = loop
        self.engine = engine
        self.options = options
        self.state = loop_state(loop)
        self.read_high_water = high_water(options.read_high_water)
        self.write_high_water = high_water(options.write_high_water)
        self.write_low_water = self.write_high_water // 4
        self.drain_waiters = []
        self.turn_waiters = collections.deque()
        self.close_waiters = []
        self.pings = {}

    def start(self, leftover):
        """Begin: with the bytes that came in the same segment as the handshake."""
        options = self.options
        if leftover:
            self.engine.receive(leftover)
            self.bytes_in += len(leftover)
            self.unattended()
        if options.heartbeat is not None:
            self.heartbeat_timer = self.loop.call_later(options.heartbeat, self.beat)
        if options.ping_interval is not None:
            self.ping_timer = self.loop.call_later(options.ping_interval, self.keep_alive)

    # What a stream provides

    cdef int transmit(self) except -1:
        """Send what the engine has to send, as far as the stream takes it."""
        raise NotImplementedError

    cdef int pause_reading(self) except -1:
        raise NotImplementedError

    cdef int resume_reading(self) except -1:
        raise NotImplementedError

    cdef int half_close(self) except -1:
        """Tell the peer that nothing more will be sent."""
        raise NotImplementedError

    cdef int disconnect(self) except -1:
        """Close the stream, everything having been handed to it; ends in `lose`."""
        raise NotImplementedError

    cdef int abort(self) except -1:
        """Close the stream at once; ends in `lose`."""
        raise NotImplementedError

    cdef size_t backlog(self) except? 1:
        """How many bytes wait for the peer to take them."""
        raise NotImplementedError

    # What a stream tells

    cdef int receive_into(self, uint8_t **to, size_t *room) except -1:
        cdef uint8_t *scratch = NULL if self.state.scratch_lent else self.state.scratch
        return self.engine.receive_into(scratch, SCRATCH, to, room)

    cdef int received(self, size_t n) except -1:
        """n bytes are where `receive_into` said: resume the reader if it has waited for them."""
        cdef Engine engine = self.engine
        cdef LoopState state = self.state
        cdef Message message
        cdef bint lent
        self.bytes_in += n
        engine.received(n)
        lent = engine.inbox.borrowed
        if lent:
            state.scratch_lent = True
        state.enter()
        try:
            if self.reader is not None and self.waiter.state == WAITING:
                message = self.take(self.reader_fragments, self.reader_control)
                if message is not None:
                    self.ready = message
                    self.waiter.wake_now()
        finally:
            try:
                engine.release()
                if self.reader is None:
                    self.unattended()
            finally:
                if lent:
                    state.scratch_lent = False
                state.leave()
        return 0

    cdef int transmitted(self) except -1:
        """The stream has taken bytes: wake the writers that waited for that."""
        if self.drain_waiters and (self.broken or self.backlog() <= self.write_low_water):
            wake_all(self.drain_waiters)
        if self.engine.close_sent and not self.engine.outbox.unsent():
            self.advance_closing()
        return 0

    cdef int lose(self, object cause) except -1:
        """There is no stream any more: everybody who waits learns of it."""
        if self.lost:
            return 0
        self.lost = True
        self.broken = True
        if self.cause is None:
            self.cause = cause
        self.engine.outbox.drop()
        for timer in (self.close_timer, self.heartbeat_timer, self.ping_timer):
            if timer is not None:
                timer.cancel()
        self.close_timer = self.heartbeat_timer = self.ping_timer = None
        if self.reader is not None:
            self.waiter.wake_soon()
        wake_all(self.drain_waiters)
        wake_all(self.close_waiters)
        self.turn_taken = False
        wake_all(self.turn_waiters)
        self.fail_pings()
        return 0

    # Reading

    cdef Message take(self, bint fragments, bint control):
        """The next message for a reader, or None if there is none yet, or none any more."""
        cdef Message message = self.ready
        cdef Message rest
        if message is None:
            return self.parse(fragments, control)
        self.ready = None
        if message.bits & 8 and not control:
            return self.parse(fragments, control)
        if message.bits & FIN or fragments:
            return message
        # A fragment that was parsed for a reader who then gave up.
        rest = self.parse(False, False)
        if rest is None:
            self.ready = message
            return None
        return new_message(
            (message.bits & 15) | (rest.bits & FIN),
            rest.masked,
            message.payload + rest.payload,
            message.length + rest.length,
        )

    cdef Message parse(self, bint fragments, bint control):
        cdef Engine engine = self.engine
        cdef Message message = None
        try:
            message = engine.next(fragments, control)
        except ProtocolError:
            pass  # engine.error has it: raised to the reader once the peer has been told
        except MemoryError:
            engine.over = True  # a part of the message is gone
            self.lose(out_of_memory())
        if engine.close_sent or engine.outbox.end or self.paused or engine.answered:
            self.after_parsing()
        return message

    cdef int after_parsing(self) except -1:
        """What parsing may have brought about besides a message."""
        cdef Engine engine = self.engine
        if engine.answered:
            self.settle_pings()
        if self.lost:
            return 0
        if engine.outbox.unsent() and not self.queued and not self.blocked:
            self.flush_soon()
        if self.paused and engine.inbox.unread() <= self.read_high_water // 4:
            self.paused = False
            self.resume_reading()
        if engine.close_sent:
            self.advance_closing()
        return 0

    cdef int unattended(self) except -1:
        """Bytes have come and no task reads: answer what must be answered, hold back the rest."""
        cdef Engine engine = self.engine
        if self.lost:
            return 0
        engine.look_ahead(engine.close_sent)
        if engine.inbox.unread() + engine.body.size >= self.read_high_water:
            engine.skip_control()
        if engine.inbox.unread() + engine.body.size >= self.read_high_water and not self.paused:
            if engine.initiated_close:
                # We are closing: what nobody reads must not keep the peer's Close from us.
                while self.parse(True, False) is not None:
                    pass
            else:
                self.paused = True
                self.held_back = True
                self.pause_reading()
        self.after_parsing()
        if engine.close_ahead and not engine.close_sent:
            self.start_close_timer()
        return 0

    cdef object end_error(self):
        """How the connection ended: None if cleanly."""
        if self.engine.error is None:
            if isinstance(self.cause, ConnectionClosedError):
                return self.cause
            if getattr(self.socket, "shut_down", False) and not self.engine.close_received:
                return None
        return self.engine.end_error(self.cause)

    # Writing

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
            self.engine.check_data(TEXT, True, <const uint8_t *>data, size, True)
            self.engine.send_data(TEXT, True, 0, <const uint8_t *>data, size)
        elif PyBytes_CheckExact(message):
            data = PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
            self.engine.check_data(BINARY, True, <const uint8_t *>data, size, True)
            self.engine.send_data(BINARY, True, 0, <const uint8_t *>data, size)
        else:
            return self.write_other(message, transform)
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
        cdef bint fin = message.bits & FIN != 0
        if self.broken:
            raise self.closed_error()
        if opcode == CLOSE:
            self.engine.send_message(message)
            return self.close(NORMAL, "")
        if opcode < CLOSE and self.turn_taken and self.turn_owner is not current_task(self.loop):
            return self.write_in_turn(message, transform)
        if opcode < CLOSE and transform and self.engine.rsv and message.length >= OFFLOAD:
            return self.write_large(message)
        self.engine.send_message(message, transform=transform)
        if opcode < CLOSE:
            if not fin:
                self.turn_taken = True
                self.turn_owner = current_task(self.loop)
            elif self.turn_taken:
                self.pass_turn()
        return self.after_write(message.length)

    cdef object write_large(self, Message message):
        """Let a thread transform a message that would keep the event loop waiting.

        The message has its turn until that is done, also if its writer is cancelled: what
        the extensions have seen must be sent.
        """
        self.engine.check_message(message)
        future = self.loop.run_in_executor(None, self.engine.encode, message, True)
        owner = current_task(self.loop) if not message.bits & FIN else None
        self.turn_taken = True
        self.turn_owner = future
        future.add_done_callback(functools.partial(self.large_encoded, message, owner))
        return self.large_written(message, future)

    def large_encoded(self, Message message not None, owner, future):
        self.turn_owner = owner
        try:
            if not self.broken and not self.engine.close_sent:
                self.engine.send_encoded(message, *future.result())
                self.queue()
        finally:
            if owner is None:
                self.pass_turn()

    async def large_written(self, Message message not None, future):
        await asyncio.shield(future)
        if self.broken:
            raise self.closed_error()
        await self.after_write(message.length)

    cdef object after_write(self, size_t size):
        cdef LoopState state = self.state
        self.queue()
        if not self.blocked and self.engine.outbox.unsent() >= FLUSH_AT:
            self.transmit()
        if self.blocked and self.backlog() > self.write_high_water:
            return self.drained()
        state.burst += size + WRITE
        if state.burst >= BURST:
            state.burst = 0
            return new_checkpoint()
        return DONE

    cdef int queue(self) except -1:
        """See to it that what was encoded is sent.

        While a callback of ours resumes a task: when that task suspends. Otherwise
        at once, if it is the first write of this iteration of the loop; what follows
        in the same iteration is sent together at its end.
        """
        cdef LoopState state = self.state
        if self.queued or self.blocked:
            return 0
        if state.depth == 0 and not state.flush_scheduled:
            self.loop.call_soon(state.flush_callback)
            state.flush_scheduled = True
            self.transmit()
            return 0
        return self.flush_soon()

    cdef int flush_soon(self) except -1:
        cdef LoopState state = self.state
        self.queued = True
        state.unsent.append(self)
        if state.depth == 0 and not state.flush_scheduled:
            self.loop.call_soon(state.flush_callback)
            state.flush_scheduled = True
        return 0

    async def drained(self):
        """Wait until the peer has taken enough of what was written."""
        while self.backlog() > self.write_low_water and not self.broken:
            await self.wait_in(self.drain_waiters)
        if self.broken:
            raise self.closed_error()

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
            if self.turn_owner is current_task(self.loop):
                raise ConcurrencyError(
                    "this task is sending a fragmented message: its last fragment (fin=True) must "
                    "come before a new message (RFC 6455 section 5.4)"
                )
            try:
                await self.wait_in(self.turn_waiters)
            except asyncio.CancelledError:
                # The turn may have been passed to us in the same moment.
                if self.turn_taken and self.turn_owner is current_task(self.loop):
                    self.pass_turn()
                raise
        self.turn_taken = True
        self.turn_owner = current_task(self.loop)

    cdef int pass_turn(self) except -1:
        """The fragmented message has ended: whoever has waited longest comes next."""
        self.turn_owner = None
        self.turn_taken = False
        while self.turn_waiters:
            waiter, task = self.turn_waiters.popleft()
            if not waiter.done():
                self.turn_taken = True
                self.turn_owner = task
                waiter.set_result(None)
                break
        return 0

    async def write_fragments(self, fragments, bint transform):
        """Send the items of an (async) iterable as the fragments of one message."""
        cdef bint begun = False
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
                last = "" if opcode == TEXT else b""
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
                last = b"" if last is None else last
            # The final fragment passes the turn on, like any other.
            await self.write_message(as_fragment(last, opcode, begun, True), transform)
        except BaseException:
            if self.turn_owner is current_task(self.loop) and self.turn_taken:
                if begun and not self.broken:
                    # Half a message has been sent and cannot be taken back.
                    self.engine.send_close(1011, "a fragmented message was broken off")
                    self.queue()
                    self.advance_closing()
                self.pass_turn()
            raise

    cdef object closed_error(self):
        if self.engine.close_sent:
            return self.engine.refuse_to_send()
        how = "the connection is lost" + (f" ({self.cause})" if self.cause else "")
        return ConnectionClosedError(f"cannot send: {how}", ABNORMAL)

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
        self.engine.send_ping(payload)
        future = self.loop.create_future()
        self.pings[payload] = (future, time.perf_counter())
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
            future, sent_at = self.pings.pop(payload, (None, 0))
            if future is not None and not future.done():
                future.set_result(now - sent_at)
        return 0

    cdef int fail_pings(self) except -1:
        pings, self.pings = self.pings, {}
        for future, _ in pings.values():
            if not future.done():
                future.set_exception(self.closed_error())
                future.exception()  # it is no fault not to await a ping
        return 0

    # Closing

    def close(self, code, reason):
        """Send a Close frame unless one was sent; an awaitable of the connection's end."""
        if not self.lost:
            self.engine.send_close(code, reason)
            self.advance_closing()
            if self.engine.outbox.unsent():
                self.queue()
            if self.reader is None:
                self.unattended()
        return self.wait_closed()

    async def wait_closed(self):
        while not self.lost:
            await self.wait_in(self.close_waiters)

    cdef int advance_closing(self) except -1:
        """Take the closing handshake as far as it can go now (RFC 6455 section 7.1)."""
        cdef Engine engine = self.engine
        if self.lost:
            return 0
        self.start_close_timer()
        if self.broken:
            return self.abort()
        if self.paused and (engine.over or engine.close_received or engine.initiated_close):
            self.paused = False
            self.resume_reading()
        if engine.outbox.unsent():
            return 0
        if engine.error is not None:
            if not self.half_closed:
                self.half_closed = True
                self.half_close()
        elif engine.close_received and not engine.client:
            self.disconnect()
        return 0

    cdef int start_close_timer(self) except -1:
        if self.close_timer is None and self.options.close_timeout is not None:
            self.close_timer = self.loop.call_later(
                self.options.close_timeout, self.close_timed_out
            )
        return 0

    def close_timed_out(self):
        self.close_timer = None
        if self.lost:
            return
        if not self.engine.close_sent:
            # The peer's Close has waited long enough behind messages that nobody reads.
            self.engine.look_ahead(True)
            if self.engine.close_sent:
                self.queue()
                self.advance_closing()
                return
        self.abort()

    # Keeping alive

    def beat(self):
        """An unsolicited Pong every `heartbeat` seconds (RFC 6455 section 5.5.3)."""
        if not self.broken and not self.engine.close_sent:
            self.engine.send_pong(b"")
            self.queue()
            self.heartbeat_timer = self.loop.call_later(self.options.heartbeat, self.beat)

    def keep_alive(self):
        """A Ping every `ping_interval`; with nothing from the peer in `ping_timeout`, it is gone.

        The deadline does not run while we ourselves hold the socket back.
        """
        options = self.options
        if self.broken or self.engine.close_sent:
            return
        alive = self.bytes_in != self.seen_in or self.bytes_out != self.seen_out
        held_back = self.held_back
        self.held_back = self.paused
        if self.ping_sent and not alive and not held_back:
            self.cause = PingTimeout(
                f"nothing came from the peer for {options.ping_timeout:g} s after a Ping "
                "(ping_timeout)",
                ABNORMAL,
            )
            self.abort()
            return
        if self.ping_sent and alive:
            self.ping_sent = False
            pause = options.ping_interval
        else:
            if not self.ping_sent:
                self.engine.send_ping(os.urandom(4), expected=False)
                self.queue()
                if self.broken:
                    return
            self.ping_sent = options.ping_timeout is not None
            pause = options.ping_timeout if self.ping_sent else options.ping_interval
        self.seen_in = self.bytes_in
        self.seen_out = self.bytes_out
        self.ping_timer = self.loop.call_later(pause, self.keep_alive)

    # Waiting

    async def wait_in(self, waiters):
        """Wait to be woken from a list of waiters."""
        waiter = self.loop.create_future()
        entry = (waiter, current_task(self.loop))
        waiters.append(entry)
        try:
            await waiter
        finally:
            if entry in waiters:
                waiters.remove(entry)


cdef size_t high_water(value):
    return SIZE_MAX if value is None else value


cdef object out_of_memory():
    return ConnectionClosedError("out of memory while receiving a message", ABNORMAL)


cdef int wake_all(waiters) except -1:
    for waiter, _ in list(waiters):
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
    return 0


cdef object current_task(loop):
    return asyncio.current_task(loop)
