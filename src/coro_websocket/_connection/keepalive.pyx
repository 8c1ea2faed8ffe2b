"""Whether the peer is still there: a verdict from what is known of it, and when to look again.

The peer is sent a Ping every `ping_interval` (RFC 6455 section 5.5.2); with no sign of life
within `ping_timeout`, it is gone. The deadline runs from the first Ping that nothing followed.
Silence counts only where the peer could have spoken:

- What was sent before the Ping is still being taken: the peer cannot have seen the Ping. It
  has all of `ping_timeout` from then on.
- We ourselves hold the socket back: the answer may wait behind what is unread. It is enough
  that the peer's system acknowledges the Ping.
- The loop stood still: what came could not be seen. The peer has that time again, once.

There is no clock here, no timer and no I/O.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint64_t

cdef double NEVER = INFINITY
cdef double TIMER_SLACK = 0.001  # seconds by which a loop may call too early
cdef double STALL = 0.01  # seconds by which it calls too late if something has held it up
cdef double ACKNOWLEDGED_IN = 0.5  # seconds that an acknowledgement may take (RFC 1122 4.2.3.2)


cdef class Keepalive:
    """When to send Pings and heartbeats, and when to give the peer up.

    Args:
        now: the time, in seconds on the clock that `look` is told the time of.
        ping_interval: seconds between Pings; None for none.
        ping_timeout: seconds that the peer may be silent after a Ping; None for ever.
        heartbeat: seconds between Pongs that nobody asked for; None for none.
    """

    def __init__(self, double now, *, ping_interval, ping_timeout, heartbeat):
        self.ping_interval = seconds(ping_interval)
        self.ping_timeout = seconds(ping_timeout)
        self.heartbeat = seconds(heartbeat)
        self.ask_at = self.due = now + self.ping_interval
        self.heartbeat_at = now + self.heartbeat
        self.asked_at = NEVER

    cpdef double next_at(self) noexcept:
        """When there will be something to do, perhaps."""
        return min(self.due, self.heartbeat_at)

    cpdef bint heartbeat_due(self, double now) noexcept:
        """Whether to send a Pong now (section 5.5.3)."""
        if not is_due(self.heartbeat_at, now):
            return False
        self.heartbeat_at = now + self.heartbeat
        return True

    cpdef Verdict look(
        self,
        double now,
        uint64_t received,
        uint64_t sent,
        uint64_t taken,
        bint paused,
        bint held_back,
        bint unanswered,
    ) noexcept:
        """The verdict at a time when `look` was due.

        received: bytes, since the beginning.
        sent: bytes, with those that wait to be handed to the system.
        taken: how many of them have come to the peer's side, as far as can be known.
        paused: whether we hold the socket back.
        held_back: whether we have at some time since the last look.
        unanswered: while we do, whether the peer's system has left unanswered what was sent.
        """
        cdef double late = now - self.due
        cdef double timeout = self.ping_timeout + (ACKNOWLEDGED_IN if paused else 0)
        cdef Verdict verdict = NOTHING
        if received != self.seen_received:
            self.asked_at = NEVER
        elif held_back and not paused:  # what came meanwhile has only been looked at since
            self.asked_at = NEVER
        elif paused and (taken > self.asked_behind or not unanswered):
            self.asked_at = NEVER
        elif self.asked_at != NEVER and self.seen_taken < min(taken, self.asked_behind):
            self.asked_at = now
        self.excuse(late)
        self.seen_received = received
        self.seen_taken = taken
        if is_due(self.asked_at + timeout, now):
            return GONE
        if is_due(self.ask_at, now):
            self.ask_at = now + self.ping_interval
            if self.asked_at == NEVER:
                self.asked_at = now
                self.asked_behind = sent
            verdict = ASK
        self.due = min(self.ask_at, self.asked_at + timeout)
        return verdict

    cdef int excuse(self, double late) noexcept:
        """Give the peer the time again that the loop stood still while the deadline ran."""
        if self.asked_at == NEVER:
            self.excused = False
        elif late > STALL and not self.excused:
            self.excused = True
            self.asked_at += late + min(late, self.ping_timeout)
        return 0


cdef double seconds(value):
    return NEVER if value is None else value


cdef bint is_due(double at, double now) noexcept:
    return now + TIMER_SLACK >= at
