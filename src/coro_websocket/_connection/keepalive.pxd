from libc.stdint cimport uint64_t


cpdef enum Verdict:
    NOTHING  # is to be done
    ASK  # the peer for a sign of life: send a Ping
    GONE  # the peer is


cdef class Keepalive:
    cdef double ping_interval
    cdef double ping_timeout
    cdef double heartbeat
    cdef double ask_at  # when the next Ping is to be sent
    cdef double heartbeat_at  # when the next Pong that nobody asked for is
    cdef readonly double due  # when `look` is to be called
    cdef double asked_at  # when the deadline began to run; NEVER: it does not
    cdef uint64_t asked_behind  # bytes were sent before that Ping
    cdef bint excused  # the peer was given the time that the loop stood still
    cdef uint64_t seen_received
    cdef uint64_t seen_taken

    cpdef double next_at(self) noexcept
    cpdef bint heartbeat_due(self, double now) noexcept
    cpdef Verdict look(
        self,
        double now,
        uint64_t received,
        uint64_t sent,
        uint64_t taken,
        bint paused,
        bint held_back,
        bint unanswered,
    ) noexcept
    cdef int excuse(self, double late) noexcept


cdef double NEVER
cdef bint is_due(double at, double now) noexcept
