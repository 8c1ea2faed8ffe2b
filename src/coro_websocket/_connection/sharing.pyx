"""What many connections are sent, as one of them: what becomes of it here, if its peer is slow.

A connection is slow once more than its `write_high_water` bytes wait for its peer to take them,
and where a message waits for that already. What waits is the newest message of each group that
the connection is in, and one of `broadcast`: older ones are replaced.

The rule: nobody waits for a slow connection, and it holds no more than that.
"""

from .._rfc6455.shared cimport SharedMessage
from .writing cimport is_taken


cdef class Counts:
    """How many messages have had which fate, of those of one group."""

    cdef int add(self, Fate fate) noexcept:
        """A message has had its fate with one more connection."""
        if fate == SENT:
            self.sent += 1
        elif fate == WAITS:
            self.waiting += 1
        elif fate == REPLACES:
            self.replaced += 1  # what waits is as much as before
        elif fate == DROPPED:
            self.dropped += 1
        elif fate == CLOSES:
            self.closed += 1
        return 0


cdef int settle(Counts counts, bint sent) noexcept:
    """What has waited was sent, or will never be."""
    if counts is not None:
        counts.waiting -= 1
        if sent:
            counts.sent += 1
        else:
            counts.dropped += 1
    return 0


cdef class Gathering:
    """What connections are in until they end."""

    cdef int left(self, Sharing connection) except -1:
        """The connection has ended: it is in here no more."""
        raise NotImplementedError


cdef class Sharing(Writing):
    """Writing what others are sent too."""

    # What the closing handshake provides

    cdef int close_slow(self) except -1:
        """Close, as the peer is too slow."""
        raise NotImplementedError

    # Sending

    cdef Fate share(self, SharedMessage shared, Slow slow, Counts counts) except? GONE:
        """Send a message that many are sent, and say what has become of it.

        counts: of the group whose message it is; None: it is none's.
        """
        if self.stream.broken or self.engine.close_sent:
            return GONE
        if not self.is_slow(counts):
            self.write_shared(shared)
            return SENT
        if slow == LATEST:
            return self.keep_latest(shared, counts)
        if slow == CLOSE_SLOW:
            self.close_slow()
            return CLOSES
        return DROPPED

    cdef bint is_slow(self, Counts counts) except -1:
        if self.latest is not None and counts in self.latest:
            return True  # nothing may overtake that
        if is_taken(self.turns) and self.turns.background_size > self.write_high_water:
            return True
        return self.stream.backlog() > self.write_high_water

    # The newest ones, which wait

    cdef Fate keep_latest(self, SharedMessage shared, Counts counts) except? GONE:
        cdef bint replaces
        if self.latest is None:
            self.latest = {}
        replaces = counts in self.latest
        self.latest[counts] = shared
        return REPLACES if replaces else WAITS

    cdef int send_latest(self) except -1:
        """Send what waits, as far as the peer has taken enough of what it was sent before."""
        cdef Counts counts
        cdef SharedMessage shared
        while self.latest:
            if self.stream.broken or self.engine.close_sent:
                return self.drop_all_latest()
            if self.must_wait(self.write_low_water) or (
                is_taken(self.turns) and self.turns.background_size > self.write_low_water
            ):
                return 0
            counts = next(iter(self.latest))
            shared = self.latest.pop(counts)
            try:
                self.write_shared(shared)
            except BaseException as error:
                settle(counts, False)
                if not isinstance(error, MemoryError):
                    raise
            else:
                settle(counts, True)
        self.latest = None
        return 0

    cdef int drop_latest(self, Counts counts) except -1:
        if self.latest is not None and self.latest.pop(counts, None) is not None:
            settle(counts, False)
        return 0

    cdef int drop_all_latest(self) except -1:
        latest, self.latest = self.latest, None
        if latest is not None:
            for counts in latest:
                settle(counts, False)
        return 0

    # The end

    cdef int leave_all(self) except -1:
        """The connection has ended: nothing waits for it, and it is in no group any more."""
        self.drop_all_latest()
        gatherings, self.gatherings = self.gatherings, None
        if gatherings is not None:
            for gathering in gatherings:
                (<Gathering>gathering).left(self)
        return 0
