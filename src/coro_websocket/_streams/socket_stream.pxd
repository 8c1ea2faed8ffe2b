from .stream cimport Stream


cdef class SocketStream(Stream):
    cdef bint told_once  # the loop may not tell again that there is something to receive

    cdef ssize_t receive_some(self, size_t *room) except? -2
    cdef int send_all(self) except -1
    cdef int block(self) except -1
    cdef int unblock(self) except -1
    cdef int break_down(self, object cause) except -1


cdef object os_error(ssize_t status)
