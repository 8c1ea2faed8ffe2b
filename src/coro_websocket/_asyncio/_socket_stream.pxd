from ._stream cimport Stream


cdef class SocketStream(Stream):
    cdef int fd
    cdef object on_readable
    cdef object poller  # through which the loop watches the socket, or None
    cdef object on_writable
    cdef bint end_only  # what it is watched for, while nothing is to be received
    cdef bint told_once  # the loop may not tell again that there is something to receive

    cdef int receive(self) except -1
    cdef ssize_t receive_some(self, size_t *room) except? -2
    cdef int send_all(self) except -1
    cdef int watch(self) except -1
    cdef int unwatch(self) except -1
    cdef int block(self) except -1
    cdef int unblock(self) except -1
    cdef int break_down(self, object cause) except -1


cdef object os_error(ssize_t status)
