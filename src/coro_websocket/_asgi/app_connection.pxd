from .._connection.connection cimport Connection


cdef class AppConnection(Connection):
    cdef readonly double ping_sent_at
    cdef bint leaving

    cdef int receives(self) except -1
    cdef dict disconnect_event(self)
    cdef int hang_up(self) except -1
    cdef int wake_reader(self) except -1
