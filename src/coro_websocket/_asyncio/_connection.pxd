from libc.stdint cimport uint8_t, uint64_t

from .._messages cimport Message
from .._receiving cimport Unit
from .._runtimes._waiter cimport Waiter
from ._writing cimport Writing


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
    cdef bint deaf  # whatever comes is dropped: we are closing, and too much waited
    cdef int overflow
    cdef uint64_t dropped  # messages
    cdef object look_timer
    cdef size_t read_high_water
    cdef uint64_t bytes_in

    # Owned by the closing handshake
    cdef bint half_closed  # nothing more is sent, and nothing that comes is delivered
    cdef object close_timer
    cdef list close_waiters

    # Owned by the keepalive
    cdef object heartbeat_timer
    cdef object ping_timer
    cdef double ask_at  # when the next Ping is to be sent
    cdef double keep_alive_at  # when the timer is to call
    cdef bint excused  # the peer was given the time that our loop stood still
    cdef double asked_at  # when the deadline began to run; NEVER: it does not
    cdef uint64_t asked_behind  # bytes were sent before that Ping
    cdef uint64_t seen_in
    cdef uint64_t seen_taken
    cdef bint held_back
    cdef bytes keepalive_ping  # the payload of the last one

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
    cdef int shed(self) except -1
    cdef object end_error(self)

    # Closing
    cdef int advance_closing(self) except -1
    cdef int time_out(self) except -1
    cdef int start_close_timer(self) except -1

    # Keeping alive
    cdef int look_for_life(self) except -1


cdef object out_of_memory()
