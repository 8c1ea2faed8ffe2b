"""A connection: the engine, reading and writing, the closing handshake, keepalive, the end."""

from libc.stdint cimport uint64_t

from .._rfc6455.engine cimport Engine
from .._rfc6455.messages cimport as_whole_message
from .._runtimes.waiter cimport Waiter, wake_all
from .keepalive cimport ASK, GONE, NEVER, Keepalive, Verdict, is_due
from .writing cimport or_new

import os
import time

from .._rfc6455.close_codes import ABNORMAL, INTERNAL_ERROR, TRY_AGAIN_LATER
from .._errors import ConnectionClosedError, PingTimeout
from .._rfc6455.frame_log import frame_tracer
from .stats import Stats

cdef enum:
    END_STEPS = 8  # of `end_step`


cdef class Connection(Reading):
    """Reading, writing, closing and keeping alive over a stream."""

    def __cinit__(self, *args):
        self.close_at = NEVER

    def __init__(self, engine, options, stream, leftover=b""):
        """leftover: the bytes that came in the same segment as the handshake."""
        self.stream.consumer = self
        self.stream.outbox = self.engine.outbox
        try:
            self.stream.begin()
            self.begin(leftover)
        except BaseException:  # there is no connection
            self.stream.lose(None)
            raise

    cdef int begin(self, leftover) except -1:
        options = self.options
        self.engine.trace = frame_tracer(self.engine.client)
        if leftover:
            self.engine.receive(leftover)
            self.bytes_in += len(leftover)
            self.unattended()
        if options.heartbeat is not None or options.ping_interval is not None:
            self.runtime.need_time("ping_interval" if options.heartbeat is None else "heartbeat")
            self.keepalive = Keepalive(
                self.runtime.time(),
                ping_interval=options.ping_interval,
                ping_timeout=options.ping_timeout,
                heartbeat=options.heartbeat,
            )
            self.arm_next()

    # What the stream tells

    cdef int sent(self, size_t n) except -1:
        return self.engine.sent(n)

    cdef int transmitted(self) except -1:
        """The stream has taken bytes: wake the writers that waited for that."""
        if self.drain_waiters and not self.must_wait(self.write_low_water):
            wake_all(self.drain_waiters)
        if self.latest is not None:
            self.send_latest()
        if self.engine.close_sent and not self.engine.outbox.unsent():
            self.advance_closing()
        return 0

    cdef int lose(self, object cause) except -1:
        """There is no stream any more: everybody who waits learns of it, whatever fails."""
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
                self.end_all(self.runtime.current_task() is None)
        return 0

    cdef int lose_again(self) except -1:
        return self.end_all(True)

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
        return self.stream.detach()

    cdef int end_step(self, int step, bint now) except -1:
        cdef Waiter waiter
        if step == 0:
            self.stream.release()
        elif step == 1:
            if self.alarm is not None:
                self.alarm.cancel()
                self.alarm = None
        elif step == 2:
            if self.reader is not None:
                waiter = self.waiter
                waiter.wake(now)
        elif step == 3:
            try:
                wake_all(self.drain_waiters, now)
            finally:
                wake_all(self.large_waiters, now)
        elif step == 4:
            wake_all(self.close_waiters, now)
        elif step == 5:
            self.end_turns(now)
            if self.turns is not None:
                self.turns.connection = None  # so that both are free at once
        elif step == 6:
            self.leave_all()
        else:
            self.fail_pings()
        return 0

    cdef int cannot_send(self, object cause) except -1:
        if self.cause is None:
            self.cause = cause
        self.engine.outbox.drop()
        return 0

    cdef int ending(self) except -1:
        return self.start_close_timer()

    cdef int fail_memory(self) except -1:
        """There was no memory to go on, or a part of what has come is gone: all ends here."""
        self.engine.over = True
        self.engine.forget()
        self.stream.broken = True
        self.engine.outbox.drop()
        self.out_of_memory = True
        try:
            self.known_cause()
        except MemoryError:  # it is made when it is asked for
            pass
        try:
            self.stream.abort()
        finally:
            self.stream.lose(None)
        return 0

    cdef bint has_ended(self) noexcept:
        """Whether who reads can be told that nothing more will come."""
        return self.stream.lost or (self.half_closed and not self.stream.ends_slowly)

    cdef object end_error(self):
        """How the connection ended: None if cleanly."""
        cdef bint ended_by_us = False
        error = self.engine.error
        if error is None and isinstance(self.known_cause(), ConnectionClosedError):
            error = self.cause
        elif error is None:
            ended_by_us = self.stream.ended_by_us() and not self.engine.close_received
            error = self.engine.end_error(
                self.cause, ended_by_us=ended_by_us, given_up=self.discarding or self.skipping
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
        if not self.stream.lost:
            try:
                self.engine.send_close(code, reason)
                self.begin_closing()
                if self.reader is None:
                    self.unattended()
            except MemoryError:
                self.fail_memory()
        return self.wait_closed()

    cdef int close_slow(self) except -1:
        error = ConnectionClosedError(
            f"the peer is too slow: more than {self.write_high_water} bytes wait for it "
            "(write_high_water), and slow says to close",
            TRY_AGAIN_LATER,
            "too slow",
        )
        try:
            self.engine.close_for(error)
            self.begin_closing()
            if self.reader is None:
                self.unattended()
        except MemoryError:
            self.fail_memory()
        return 0

    cdef int begin_closing(self) except -1:
        """A Close frame waits to be sent."""
        self.advance_closing()
        if self.engine.outbox.unsent():
            self.stream.queue()
        return 0

    async def wait_closed(self):
        while not self.stream.lost:
            self.close_waiters = or_new(self.close_waiters)
            await self.wait_in(self.close_waiters, True)

    cdef int advance_closing(self) except -1:
        """Take the closing handshake as far as it can go now (RFC 6455 section 7.1)."""
        cdef Engine engine = self.engine
        cdef Waiter waiter
        if self.stream.lost:
            return 0
        self.start_close_timer()
        if self.stream.lost:
            return 0
        self.end_turns(False)  # our Close was the last frame
        if self.stream.broken:
            return self.stream.abort()
        if self.stream.paused and (engine.over or engine.close_received or engine.initiated_close):
            self.stream.resume()
        if engine.outbox.unsent():
            return 0
        # The server ends the connection. It closes the socket once the peer has done so too:
        # a peer that sent anything meanwhile would lose what it has not received yet.
        if engine.error is not None or (engine.close_received and not engine.client):
            if not self.half_closed:
                self.half_closed = True
                try:
                    self.stream.half_close()
                except MemoryError:
                    self.fail_memory()
                if self.reader is not None and not self.stream.lost:
                    waiter = self.waiter
                    waiter.wake_soon()
                self.fail_pings()
        return 0

    cdef int start_close_timer(self) except -1:
        if self.close_at == NEVER and self.options.close_timeout is not None:
            try:
                self.close_at = self.runtime.time() + self.options.close_timeout
                self.arm(self.close_at)
            except MemoryError:  # it might never end
                self.fail_memory()
        return 0

    cdef int close_timed_out(self) except -1:
        self.close_at = NEVER
        if not self.engine.close_sent:
            # The peer's Close has waited long enough behind messages that nobody reads.
            try:
                self.engine.look_ahead(True)
                if self.engine.close_sent:
                    self.stream.queue()
                    return self.advance_closing()
            except MemoryError:
                self.fail_memory()
        return self.stream.abort()

    # Keeping alive

    cdef int keep_alive(self, double now) except -1:
        """Send what keeps the connection alive, and see whether the peer is gone."""
        cdef Keepalive keepalive = self.keepalive
        cdef Verdict verdict
        if self.engine.close_sent:  # close_timeout bounds the rest
            self.keepalive = None
            return 0
        if keepalive.heartbeat_due(now) and not self.stream.broken:
            self.send_heartbeat()
        if not is_due(keepalive.due, now) or self.stream.lost:
            return 0
        verdict = keepalive.look(
            now,
            received=self.bytes_in,
            sent=self.stream.bytes_out + self.stream.backlog(),
            taken=self.stream.taken(),
            paused=self.stream.paused,
            held_back=self.held_back,
            unanswered=self.stream.paused and self.stream.unanswered(),
        )
        self.held_back = self.stream.paused
        if verdict == GONE:
            self.keepalive = None
            return self.time_out()
        if verdict == ASK and not self.stream.broken:
            self.send_keepalive()
            if self.stream.queued and not self.stream.blocked:
                self.stream.transmit()  # at once: the deadline runs
        return 0

    cdef int time_out(self) except -1:
        """The peer is gone. What had come before can still be read."""
        if self.cause is None:
            self.cause = PingTimeout(
                f"nothing came from the peer for {self.options.ping_timeout:g} s after a Ping "
                "(ping_timeout)",
                ABNORMAL,
            )
        if not self.stream.paused:
            return self.stream.abort()
        self.start_close_timer()
        try:
            self.stream.shut_down()
        except OSError:  # it has ended already
            return self.stream.abort()
        return self.stream.drain()

    cdef int send_heartbeat(self) except -1:
        """An unsolicited Pong (RFC 6455 section 5.5.3)."""
        self.engine.send_pong(b"")
        return self.stream.queue()

    cdef int send_keepalive(self) except -1:
        """Send a Ping, or the message that this peer wants instead."""
        message = self.options.ping_message
        if message is None:
            # One at a time: a peer that never answers costs nothing.
            if self.keepalive_ping is not None and self.forget_ping(self.keepalive_ping):
                self.engine.forget_ping(self.keepalive_ping)
            self.keepalive_ping = os.urandom(4)
            self.pings = self.pings or {}
            self.pings[self.keepalive_ping] = (None, time.perf_counter())
            self.engine.send_ping(self.keepalive_ping)
            return self.stream.queue()
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
            self.stream.queue()
            self.advance_closing()
        return 0

    # Times

    cdef int arm(self, double at) except -1:
        """Have the alarm called at this time, or earlier."""
        if self.stream.lost or at == NEVER or (self.alarm is not None and self.alarm_at <= at):
            return 0
        alarm = self.runtime.call_at(at, self.on_alarm)
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = alarm
        self.alarm_at = at
        return 0

    cdef int arm_next(self) except -1:
        """Have it called for the first of all that is waited for."""
        cdef double at = min(self.close_at, self.look_at)
        if self.keepalive is not None:
            at = min(at, self.keepalive.next_at())
        return self.arm(at)

    def on_alarm(self):
        self.alarm = None
        try:
            try:
                self.do_what_is_due(self.runtime.time())
            finally:
                self.arm_next()
        except MemoryError:
            self.fail_memory()
        except Exception as error:  # it would come again, and at once
            self.stream.fail_sending(error)

    cdef int do_what_is_due(self, double now) except -1:
        """The alarm may have come too early: what it was for has been put off, or is over."""
        if not self.stream.lost and is_due(self.close_at, now):
            self.close_timed_out()
        if not self.stream.lost and is_due(self.look_at, now):
            self.look()
        if not self.stream.lost and self.keepalive is not None:
            self.keep_alive(now)
        return 0

    # Counting

    @property
    def stats(self):
        engine = self.engine
        unsent = min(engine.bytes_encoded, <uint64_t>self.stream.backlog())
        return Stats(
            messages_in=engine.messages_in,
            messages_out=engine.messages_out,
            frames_in=engine.frames_in,
            frames_out=engine.frames_out,
            bytes_in=self.bytes_in,
            bytes_out=engine.bytes_encoded - unsent,
            dropped=self.dropped,
            latency=None if self.latency < 0 else self.latency,
            compression_in=ratio(engine.coded_in, engine.decoded_in),
            compression_out=ratio(engine.coded_out, engine.decoded_out),
        )


cdef object ratio(uint64_t coded, uint64_t decoded):
    return coded / decoded if decoded else None
