from libc.stdint cimport uint64_t

from .._connection.connection cimport Connection


cdef class AppConnection(Connection):
    cdef readonly double ping_sent_at
    cdef bint leaving
    cdef double quiet_at  # when to see whether the client sends no more; NEVER: not at all
    cdef uint64_t seen  # bytes, when that was seen last

    cdef int receives(self) except -1
    cdef dict disconnect_event(self)
    cdef int hang_up(self) except -1
    cdef int wake_reader(self) except -1
    cdef int linger(self) except -1
