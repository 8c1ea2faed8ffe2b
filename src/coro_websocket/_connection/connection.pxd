from libc.stdint cimport uint8_t, uint64_t

from .._rfc6455.messages cimport Message
from .._rfc6455.receiving cimport Unit
from .._runtimes.waiter cimport Waiter
from .keepalive cimport Keepalive
from .writing cimport Writing


cdef class Connection(Writing):
    # Owned by the reading side
    cdef object reader  # the read that waits
    cdef Unit reader_unit
    cdef bint reader_control
    cdef Waiter waiter
    cdef Message ready  # parsed, not yet taken
    cdef uint64_t streams  # that were begun
    cdef uint64_t streaming  # the number of the one that is being read; 0: none
    cdef bint skipping  # the rest of a message is dropped as it comes
    cdef bint discarding  # whatever comes is dropped: we are closing, and too much waited
    cdef int overflow
    cdef uint64_t dropped  # messages
    cdef double look_at  # when to look behind what is unread; NEVER: not at all
    cdef size_t read_high_water
    cdef uint64_t bytes_in

    # Owned by the closing handshake
    cdef bint half_closed  # nothing more is sent, and nothing that comes is delivered
    cdef double close_at  # when closing has taken too long; NEVER: nothing is being closed
    cdef list close_waiters

    # Keeping alive
    cdef Keepalive keepalive  # None: nothing more is asked of the peer
    cdef bint held_back  # reading was paused, since the keepalive last looked
    cdef bytes keepalive_ping  # the payload of the last one

    # The one timer, for all that is waited for
    cdef object alarm
    cdef double alarm_at

    # The end
    cdef int end_all(self, bint now) except -1
    cdef int end_step(self, int step, bint now) except -1

    cdef int begin(self, object leftover) except -1

    # Reading
    cdef Message take(self, Unit unit, bint control)
    cdef Message take_ready(self)
    cdef Message drop_data(self, bint control)
    cdef Message parse(self, Unit unit, bint control)
    cdef int after_parsing(self) except -1
    cdef int unattended(self) except -1
    cdef int pause(self) except -1
    cdef int look_later(self) except -1
    cdef int look(self) except -1
    cdef int shed(self) except -1
    cdef bint has_ended(self) noexcept
    cdef object end_error(self)

    # Closing
    cdef int advance_closing(self) except -1
    cdef int time_out(self) except -1
    cdef int start_close_timer(self) except -1
    cdef int close_timed_out(self) except -1

    # Keeping alive
    cdef int keep_alive(self, double now) except -1
    cdef int send_heartbeat(self) except -1
    cdef int send_keepalive(self) except -1

    # Times
    cdef int arm(self, double at) except -1
    cdef int arm_next(self) except -1
    cdef int do_what_is_due(self, double now) except -1


cdef object out_of_memory()
