from libc.stdint cimport uint64_t

from .._rfc6455.shared cimport SharedMessage
from .writing cimport Writing


cdef enum Slow:  # what becomes of a message for a connection that is slow
    DROP
    LATEST
    CLOSE_SLOW


cdef enum Fate:  # what has become of it
    SENT
    WAITS
    REPLACES  # it waits, in the place of an older one
    DROPPED
    CLOSES  # the connection is closed for being slow
    GONE  # the connection was closed, or being closed, already


cdef class Counts:
    cdef uint64_t sent
    cdef uint64_t waiting
    cdef uint64_t replaced
    cdef uint64_t dropped
    cdef uint64_t closed

    cdef int add(self, Fate fate) noexcept


cdef class Gathering:
    cdef int left(self, Sharing connection) except -1


cdef class Sharing(Writing):
    cdef dict latest  # by whose they are, each one's newest message that waits; None: none does
    cdef set gatherings  # that it is in; None: it has been in none

    # What the closing handshake provides
    cdef int close_slow(self) except -1

    cdef Fate share(self, SharedMessage shared, Slow slow, Counts counts) except? GONE
    cdef bint is_slow(self, Counts counts) except -1
    cdef Fate keep_latest(self, SharedMessage shared, Counts counts) except? GONE
    cdef int send_latest(self) except -1
    cdef int drop_latest(self, Counts counts) except -1
    cdef int drop_all_latest(self) except -1
    cdef int leave_all(self) except -1
