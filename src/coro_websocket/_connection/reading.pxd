from libc.stdint cimport uint64_t

from .._rfc6455.messages cimport Message
from .._rfc6455.receiving cimport Unit
from .._runtimes.waiter cimport Waiter
from .sharing cimport Sharing


cdef class Reading(Sharing):
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
    cdef bint held_back  # reading was paused, since the keepalive last looked

    # What the closing handshake and the alarm provide
    cdef int advance_closing(self) except -1
    cdef int start_close_timer(self) except -1
    cdef int arm(self, double at) except -1

    # Taking what has come
    cdef Message take(self, Unit unit, bint control)
    cdef Message take_ready(self)
    cdef Message drop_data(self, bint control)
    cdef Message parse(self, Unit unit, bint control)
    cdef int after_parsing(self) except -1

    # While no task reads
    cdef int unattended(self) except -1
    cdef int pause(self) except -1
    cdef int look_later(self) except -1
    cdef int look(self) except -1
    cdef int shed(self) except -1
