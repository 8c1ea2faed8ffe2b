from .keepalive cimport Keepalive
from .reading cimport Reading


cdef class Connection(Reading):
    # Owned by the closing handshake
    cdef bint half_closed  # nothing more is sent, and nothing that comes is delivered
    cdef double close_at  # when closing has taken too long; NEVER: nothing is being closed
    cdef list close_waiters  # None: nobody has waited

    # Keeping alive
    cdef Keepalive keepalive  # None: nothing more is asked of the peer
    cdef bytes keepalive_ping  # the payload of the last one

    # The one timer, for all that is waited for
    cdef object alarm
    cdef double alarm_at

    # The end
    cdef int end_all(self, bint now) except -1
    cdef int end_step(self, int step, bint now) except -1
    cdef bint has_ended(self) noexcept
    cdef object end_error(self)

    cdef int begin(self, object leftover) except -1

    # Closing
    cdef int time_out(self) except -1
    cdef int close_timed_out(self) except -1

    # Keeping alive
    cdef int keep_alive(self, double now) except -1
    cdef int send_heartbeat(self) except -1
    cdef int send_keepalive(self) except -1

    # Times
    cdef int arm_next(self) except -1
    cdef int do_what_is_due(self, double now) except -1
