from libc.stdint cimport uint8_t

from .stream cimport Stream


cdef class FedStream(Stream):
    cdef readonly object transport
    cdef bint counts  # the transport tells how many bytes wait in it
    cdef size_t at_once  # bytes that it is given in one call
    cdef bint pulled  # whoever waits does the transport's work, which it gives
    cdef bint sending
    cdef bint resuming

    cdef int take(self, const uint8_t *data, size_t n) except -1
    cdef int descriptor(self) except? -2
