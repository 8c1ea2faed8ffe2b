from libc.stdint cimport uint64_t

from .messages cimport Message
from .sending cimport Sending


cdef class SharedMessage:
    cdef readonly Message message
    cdef bint compress
    cdef int fitting_bits  # of the smallest window that all of the message fits into
    cdef bytes plain_frame  # None: nobody has been sent it
    cdef dict compressed  # frames, by the bits of the window that their peers have at least
    cdef int last_bits  # of `last_frame`; 0: there is none
    cdef bytes last_frame

    cdef uint64_t size(self) noexcept
    cdef bytes frame_for(self, Sending engine)
    cdef bytes plain(self)
    cdef bytes compressed_for(self, Sending engine, int bits)
    cdef bytes compress_with(self, object deflate, int bits)
