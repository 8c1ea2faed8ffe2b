"""A connection on asyncio: the engine, the task that reads, the closing handshake, keepalive.

The hot path, from top to bottom: a stream's readable callback asks `receive_into`
where to put the bytes and tells `received` how many there are; that parses what the
waiting `read()` asked for and resumes its task then and there. What the task writes
meanwhile is encoded into one buffer and sent when the task suspends.

The rules: one task reads at a time; a read that is cancelled takes nothing.
"""

from libc.stdint cimport uint8_t, uint64_t

from .._engine cimport Engine
from .._frames cimport FIN
from .._messages cimport Message, as_whole_message, new_message
from .._receiving cimport MESSAGE, PIECE, Unit
from ._loop_state cimport SCRATCH, LoopState
from ._waiting cimport WAITING
from ._writing cimport current_task, high_water, wake_all

import asyncio
import contextlib
import os
import time

from .._close import ABNORMAL, INTERNAL_ERROR, TRY_AGAIN_LATER
from .._errors import ConnectionClosedError, LimitError, PingTimeout
from .._frame_log import frame_tracer
from .._stats import Stats

cdef enum Overflow:  # what becomes of messages when too much waits for a reader
    WAIT
    DROP_OLDEST
    KEEP_LATEST
    CLOSE_CONNECTION

cdef dict OVERFLOW = {
    "wait": WAIT,
    "drop_oldest": DROP_OLDEST,
    "keep_latest": KEEP_LATEST,
    "close": CLOSE_CONNECTION,
}

cdef double NEVER = -1
cdef double TIMER_SLACK = 0.001  # seconds by which a loop may call too early
cdef double STALL = 0.01  # seconds by which it calls too late if something has held it up
cdef double LOOK_EVERY = 1  # seconds, while reading is paused
cdef double ACKNOWLEDGED_IN = 0.5  # seconds that an acknowledgement may take (RFC 1122 4.2.3.2)

cdef enum:
    LOOK_BEHIND = 131072  # bytes that may be received above read_high_water, to look behind it


cdef enum:
    END_STEPS = 8  # of `end_step`


cdef class Connection(Writing):
    """Reading, writing, closing and keeping alive over a stream that a subclass provides."""

    def __cinit__(self, loop, Engine engine not None, options, *args):
        self.read_high_water = high_water(options.read_high_water)
        self.overflow = OVERFLOW[options.overflow]
        self.close_waiters = []

    def start(self, leftover):
        """Begin: with the bytes that came in the same segment as the handshake."""
        options = self.options
        self.engine.trace = frame_tracer(self.engine.client)
        if leftover:
            self.engine.receive(leftover)
            self.bytes_in += len(leftover)
            self.unattended()
        if options.heartbeat is not None:
            self.heartbeat_timer = self.loop.call_later(options.heartbeat, self.beat)
        if options.ping_interval is not None:
            self.ask_at = self.keep_alive_at = self.loop.time() + options.ping_interval
            self.asked_at = NEVER
            self.ping_timer = self.loop.call_at(self.ask_at, self.keep_alive)

    # What a stream provides

    cdef int pause_reading(self) except -1:
        raise NotImplementedError

    cdef int resume_reading(self) except -1:
        raise NotImplementedError

    cdef int half_close(self) except -1:
        """Tell the peer that nothing more will be sent."""
        raise NotImplementedError

    cdef int abort(self) except -1:
        """Close the stream at once; ends in `lose`."""
        raise NotImplementedError

    cdef uint64_t taken(self) except? 1:
        """How many of the bytes sent have come to the peer's side, as far as can be known."""
        raise NotImplementedError

    cdef int release(self) except -1:
        """Have the loop call the stream no more, and close its socket."""
        return 0

    cdef bint peer_ended(self) except -1:
        """Whether the end of the stream waits to be received, as far as can be known."""
        raise NotImplementedError

    cdef bint unanswered(self) except -1:
        """Whether the peer's system has left unanswered what was sent, as far as can be known."""
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
        cdef Waiter waiter
        cdef bint lent
        self.bytes_in += n
        engine.received(n)
        lent = engine.inbox.borrowed
        if lent:
            state.scratch_lent = True
        try:
            state.enter()
            if self.reader is not None and self.waiter.state == WAITING:
                message = self.take(self.reader_unit, self.reader_control)
                if message is not None:
                    self.ready = message
                    waiter = self.waiter  # kept: the task may put another in its place
                    waiter.wake_now()
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
        if self.drain_waiters and not self.must_wait(self.write_low_water):
            wake_all(self.drain_waiters)
        if self.engine.close_sent and not self.engine.outbox.unsent():
            self.advance_closing()
        return 0

    cdef int lose(self, object cause) except -1:
        """There is no stream any more: everybody who waits learns of it, whatever fails."""
        if self.lost:
            return 0
        self.lost = True
        self.broken = True
        if self.cause is None:
            self.cause = cause
        self.engine.cut_off()
        try:
            self.engine.look_ahead(True)  # a Close that nobody has read yet says how it ended
        except MemoryError:  # it has ended all the same
            pass
        finally:
            self.engine.outbox.drop()
            try:
                self.end_all(False)
            except Exception:
                # Once more, with the memory that is free now. To resume a task here takes none.
                self.end_all(current_task(self.loop) is None)
        return 0

    cdef int end_all(self, bint now) except -1:
        """Take each step of the end that has not been taken; raise what the first raised.

        now: resume those who wait here and now, as no task is running.
        """
        cdef int step
        failed = None
        for step in range(END_STEPS):
            try:
                self.end_step(step, now)
            except BaseException as error:
                failed = error if failed is None else failed
        if failed is not None:
            raise failed
        return 0

    cdef int end_step(self, int step, bint now) except -1:
        cdef Waiter waiter
        if step == 0:
            self.release()
        elif step == 1:
            for timer in (
                self.close_timer, self.heartbeat_timer, self.ping_timer, self.look_timer
            ):
                if timer is not None:
                    timer.cancel()
            self.close_timer = self.heartbeat_timer = self.ping_timer = self.look_timer = None
        elif step == 2:
            if self.reader is not None:
                waiter = self.waiter
                waiter.wake(now)
        elif step == 3:
            wake_all(self.drain_waiters, now)
        elif step == 4:
            wake_all(self.close_waiters, now)
        elif step == 5:
            self.turn_taken = False
            owner, self.turn_owner = self.turn_owner, None
            if isinstance(owner, asyncio.Task):
                owner.remove_done_callback(self.owner_ended)
        elif step == 6:
            wake_all(self.turn_waiters, now)
        else:
            self.fail_pings()
        return 0

    cdef int fail_sending(self, object error) except -1:
        """The stream has failed where no writer could be told: the connection is lost."""
        if self.cause is None:
            self.cause = error
        self.broken = True
        self.engine.outbox.drop()
        try:
            self.loop.call_exception_handler(
                {"message": "a WebSocket connection was lost: sending failed", "exception": error}
            )
        finally:
            self.abort()
        return 0

    cdef int fail_memory(self) except -1:
        """There was no memory to go on, or a part of what has come is gone: all ends here."""
        self.engine.over = True
        self.engine.forget()
        self.broken = True
        self.engine.outbox.drop()
        try:
            if self.cause is None:
                self.cause = OUT_OF_MEMORY
                self.cause = out_of_memory()
        except MemoryError:
            pass
        try:
            self.abort()
        finally:
            self.lose(None)
        return 0

    # Reading

    cdef Message take(self, Unit unit, bint control):
        """The next message for a reader, or None if there is none yet, or none any more."""
        cdef Message message
        cdef Message rest
        if self.deaf and self.ready is None:
            return self.drop_data(control)
        while self.skipping:
            message = self.take_ready()
            if message is None or (message.bits & 8 and not control):
                message = self.parse(PIECE, control)
            if message is None or message.bits & 8:
                return message
            self.skipping = not message.bits & FIN
        message = self.take_ready()
        if message is None or (message.bits & 8 and not control):
            return self.parse(unit, control)
        if message.bits & FIN or unit != MESSAGE:
            return message
        if self.deaf:
            return self.drop_data(control)
        # A fragment that was parsed for a reader who then gave up.
        rest = self.parse(MESSAGE, False)
        if rest is None:
            self.ready = message
            return None
        try:
            return new_message(
                (message.bits & 15) | (rest.bits & FIN),
                rest.mask,
                message.payload + rest.payload,
                message.len + rest.len,
            )
        except MemoryError:
            self.fail_memory()
            return None

    cdef Message drop_data(self, bint control):
        """Drop what is here, up to a control frame if these are wanted."""
        cdef Message message = self.parse(PIECE, control)
        while message is not None and not message.bits & 8:
            self.dropped += message.bits & FIN != 0
            message = self.parse(PIECE, control)
        return message

    cdef Message take_ready(self):
        cdef Message message = self.ready
        self.ready = None
        return message

    cdef Message parse(self, Unit unit, bint control):
        cdef Engine engine = self.engine
        cdef Message message = None
        try:
            message = engine.next(unit, control)
        except ConnectionClosedError:
            pass  # engine.error has it: raised to the reader once the peer has been told
        except MemoryError:
            self.fail_memory()
        if (
            engine.inbox.cur == engine.inbox.end
            and not engine.inbox.borrowed
            and not engine.parsing
        ):
            engine.inbox.drop()
        if (
            engine.close_sent
            or (engine.outbox.end and not self.queued)
            or self.paused
            or engine.answered
        ):
            try:
                self.after_parsing()
            except MemoryError:
                self.fail_memory()
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
        if self.paused and engine.held() <= self.read_high_water // 4:
            self.resume()
        if engine.close_sent:
            self.advance_closing()
        return 0

    cdef int unattended(self) except -1:
        """Bytes have come and no task reads: answer what must be answered, hold back the rest."""
        cdef Engine engine = self.engine
        if self.lost:
            return 0
        engine.look_ahead(engine.close_sent)
        if engine.held() >= self.read_high_water:
            engine.skip_control()
            if self.overflow != WAIT and engine.held() >= self.read_high_water:
                self.shed()
        if engine.held() >= self.read_high_water and not self.paused and not self.lost:
            if engine.initiated_close:
                # We are closing: what nobody reads must not keep the peer's Close from us.
                self.deaf = True
                self.drop_data(False)
            elif not self.draining:
                self.pause()
        self.after_parsing()
        if engine.close_ahead and not engine.close_sent:
            self.start_close_timer()
        return 0

    cdef int pause(self) except -1:
        self.paused = True
        self.held_back = True
        self.pause_reading()
        if self.look_timer is None:
            self.look_timer = self.loop.call_later(LOOK_EVERY, self.look)
        return 0

    cdef int resume(self) except -1:
        self.paused = False
        return self.resume_reading()

    def look(self):
        """Reading is paused: is it the end, a Close or a Pong that waits behind what is unread?"""
        self.look_timer = None
        if self.lost or not self.paused:
            return
        try:
            if self.peer_ended():
                self.drain()
                return
            self.look_timer = self.loop.call_later(LOOK_EVERY, self.look)
            if self.engine.held() - min(self.engine.held(), self.read_high_water) < LOOK_BEHIND:
                self.resume()  # what comes next pauses it again
        except MemoryError:
            self.fail_memory()

    cdef int drain(self) except -1:
        """The end waits behind what is unread: take all of it, so that everybody is told.

        That is what the system has received, and no more can come.
        """
        if getattr(self.socket, "shut_down", False):  # perhaps only our side: the other may send
            with contextlib.suppress(OSError):
                self.socket.end()
        self.draining = True
        return self.resume()

    cdef int shed(self) except -1:
        """More waits for a reader than may: do what the option `overflow` says."""
        cdef Engine engine = self.engine
        cdef Message message
        if self.overflow == CLOSE_CONNECTION:
            if not engine.close_sent:
                self.cause = too_slow(self.read_high_water, engine.held())
                self.begin_close(self.cause.code, self.cause.reason)
            return 0
        if engine.close_sent or (engine.message_opcode and engine.message_begun):
            return 0  # the message that is being read in parts has to go on
        while self.overflow == KEEP_LATEST or engine.held() > self.read_high_water // 2:
            if engine.larger_is_next():
                break  # only `read.stream()` can take it: it waits for that
            message = self.parse(MESSAGE, False)
            if message is None:
                break
            self.dropped += self.ready is not None
            self.ready = message
        return 0

    cdef object end_error(self):
        """How the connection ended: None if cleanly."""
        cdef bint ended_by_us = False
        error = self.engine.error
        if error is None and isinstance(self.cause, ConnectionClosedError):
            error = self.cause
        elif error is None:
            ended_by_us = (
                getattr(self.socket, "shut_down", False) and not self.engine.close_received
            )
            error = self.engine.end_error(
                self.cause, ended_by_us=ended_by_us, given_up=self.deaf or self.skipping
            )
        if error is not None:
            error._engine = id(self.engine)
        return error

    @property
    def ended_with(self):
        """The error that says how the connection ended; None if cleanly."""
        return self.end_error()

    # Closing

    def close(self, code, reason):
        """Send a Close frame unless one was sent; an awaitable of the connection's end."""
        if not self.lost:
            try:
                self.begin_close(code, reason)
                if self.reader is None:
                    self.unattended()
            except MemoryError:
                self.fail_memory()
        return self.wait_closed()

    cdef int begin_close(self, object code, object reason) except -1:
        self.engine.send_close(code, reason)
        self.advance_closing()
        if self.engine.outbox.unsent():
            self.queue()
        return 0

    async def wait_closed(self):
        while not self.lost:
            await self.wait_in(self.close_waiters)

    cdef int advance_closing(self) except -1:
        """Take the closing handshake as far as it can go now (RFC 6455 section 7.1)."""
        cdef Engine engine = self.engine
        cdef Waiter waiter
        if self.lost:
            return 0
        self.start_close_timer()
        if self.lost:
            return 0
        wake_all(self.turn_waiters)  # our Close was the last frame
        if self.broken:
            return self.abort()
        if self.paused and (engine.over or engine.close_received or engine.initiated_close):
            self.resume()
        if engine.outbox.unsent():
            return 0
        # The server ends the connection. It closes the socket once the peer has done so too:
        # a peer that sent anything meanwhile would lose what it has not received yet.
        if engine.error is not None or (engine.close_received and not engine.client):
            if not self.half_closed:
                self.half_closed = True
                try:
                    self.half_close()
                except MemoryError:
                    self.fail_memory()
                if self.reader is not None and not self.lost:
                    waiter = self.waiter
                    waiter.wake_soon()
                self.fail_pings()
        return 0

    cdef int start_close_timer(self) except -1:
        if self.close_timer is None and self.options.close_timeout is not None:
            try:
                self.close_timer = self.loop.call_later(
                    self.options.close_timeout, self.close_timed_out
                )
            except MemoryError:  # it might never end
                self.fail_memory()
        return 0

    def close_timed_out(self):
        self.close_timer = None
        if self.lost:
            return
        if not self.engine.close_sent:
            # The peer's Close has waited long enough behind messages that nobody reads.
            try:
                self.engine.look_ahead(True)
                if self.engine.close_sent:
                    self.queue()
                    self.advance_closing()
                    return
            except MemoryError:
                self.fail_memory()
        self.abort()

    # Keeping alive

    def beat(self):
        """An unsolicited Pong every `heartbeat` seconds (RFC 6455 section 5.5.3)."""
        if not self.broken and not self.engine.close_sent:
            try:
                self.heartbeat_timer = self.loop.call_later(self.options.heartbeat, self.beat)
                self.engine.send_pong(b"")
                self.queue()
            except MemoryError:
                self.fail_memory()

    def keep_alive(self):
        try:
            self.look_for_life()
        except MemoryError:
            self.fail_memory()

    cdef int look_for_life(self) except -1:
        """A Ping every `ping_interval`; with no sign of life in `ping_timeout`, the peer is gone.

        The deadline runs from the first Ping that nothing followed. While we ourselves hold the
        socket back, it is enough that the peer's system acknowledges that Ping. While what was
        sent before the Ping is still being taken, the peer cannot have seen it: it has the whole
        of `ping_timeout` from then on. And where the loop itself stood still, it has that time
        again, once.
        """
        cdef uint64_t taken
        cdef double now
        cdef double late
        cdef double due
        cdef double most = 0  # seconds until the deadline
        options = self.options
        if self.lost or self.engine.close_sent:
            return 0
        now = self.loop.time()
        taken = self.taken()
        if self.bytes_in != self.seen_in or (self.held_back and not self.paused):
            self.asked_at = NEVER
        elif self.paused and (taken > self.asked_behind or not self.unanswered()):
            self.asked_at = NEVER
        elif self.asked_at != NEVER and self.seen_taken < min(taken, self.asked_behind):
            self.asked_at = now
        late = now - self.keep_alive_at
        if self.asked_at == NEVER:
            self.excused = False
        elif late > STALL and not self.excused and options.ping_timeout is not None:
            self.excused = True
            self.asked_at += late + min(late, <double>options.ping_timeout)
        self.held_back = self.paused
        self.seen_in = self.bytes_in
        self.seen_taken = taken
        if options.ping_timeout is not None:
            most = options.ping_timeout + (ACKNOWLEDGED_IN if self.paused else 0)
            if self.asked_at != NEVER and now + TIMER_SLACK >= self.asked_at + most:
                if self.cause is None:
                    self.cause = PingTimeout(
                        f"nothing came from the peer for {options.ping_timeout:g} s after a Ping "
                        "(ping_timeout)",
                        ABNORMAL,
                    )
                self.time_out()
                return 0
        if now + TIMER_SLACK >= self.ask_at:
            self.ask_at = now + options.ping_interval
            if self.asked_at == NEVER:
                self.asked_at = now
                self.asked_behind = self.bytes_out + self.backlog()
            if not self.broken:
                self.ask()
                if self.queued and not self.blocked:
                    self.transmit()  # at once: the deadline runs
            if self.lost or self.engine.close_sent:
                return 0
        due = self.ask_at
        if options.ping_timeout is not None and self.asked_at != NEVER:
            due = min(due, self.asked_at + most)
        self.keep_alive_at = due
        self.ping_timer = self.loop.call_at(due, self.keep_alive)
        return 0

    cdef int time_out(self) except -1:
        """The peer is gone. What had come before can still be read."""
        if not self.paused:
            return self.abort()
        self.start_close_timer()
        try:
            self.socket.end()
        except OSError:  # it has ended already
            return self.abort()
        return self.drain()

    def ask(self):
        """Send a Ping, or the message that this peer wants instead."""
        message = self.options.ping_message
        if message is None:
            # One at a time: a peer that never answers costs nothing.
            if self.keepalive_ping is not None and self.pings.pop(self.keepalive_ping, None):
                self.engine.forget_ping(self.keepalive_ping)
            self.keepalive_ping = os.urandom(4)
            self.pings[self.keepalive_ping] = (None, time.perf_counter())
            self.engine.send_ping(self.keepalive_ping)
            self.queue()
            return
        try:
            if callable(message):
                message = message()
            if message is not None:
                self.write_aside(as_whole_message(message))
        except MemoryError:
            raise
        except Exception as error:
            failed = ConnectionClosedError(
                f"the connection was failed: ping_message failed: {error!r}",
                INTERNAL_ERROR,
                "keepalive failed",
            )
            failed.__cause__ = error
            self.engine.fail_connection(failed)
            self.queue()
            self.advance_closing()

    # Counting

    @property
    def stats(self):
        engine = self.engine
        return Stats(
            messages_in=engine.messages_in,
            messages_out=engine.messages_out,
            frames_in=engine.frames_in,
            frames_out=engine.frames_out,
            bytes_in=self.bytes_in,
            bytes_out=engine.bytes_encoded - min(engine.bytes_encoded, <uint64_t>self.backlog()),
            dropped=self.dropped,
            latency=self.latency,
            compression_in=ratio(engine.coded_in, engine.decoded_in),
            compression_out=ratio(engine.coded_out, engine.decoded_out),
        )


cdef object ratio(uint64_t coded, uint64_t decoded):
    return coded / decoded if decoded else None


cdef object too_slow(size_t limit, size_t held):
    return LimitError(
        f"{held} bytes wait to be read; read_high_water is {limit}, and overflow says to close "
        f"(close code {TRY_AGAIN_LATER})",
        TRY_AGAIN_LATER,
        "the receiver cannot keep up",
        limit="read_high_water",
        value=limit,
        actual=held,
    )


cdef object out_of_memory():
    return ConnectionClosedError("out of memory: the connection was given up", ABNORMAL)


cdef object OUT_OF_MEMORY = out_of_memory()  # for where there is none for that either
