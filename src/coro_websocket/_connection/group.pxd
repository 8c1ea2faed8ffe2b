from .._rfc6455.shared cimport SharedMessage
from .._runtimes.runtime cimport Runtime
from .connection cimport Connection
from .read_write cimport Write
from .sharing cimport Counts, Gathering, Slow


cdef class Group(Gathering):
    cdef object _name
    cdef dict members  # each connection's `write`
    cdef Counts counts
    cdef Runtime runtime  # of its members, or of those it has had last; None: it has had none
    cdef object __weakref__

    cdef bint is_here(self) except -1
    cdef bint put(self, Write write) except -1
    cdef int forget(self, Connection connection) except -1
    cdef object send(self, SharedMessage shared, Slow slow, set excluded)


cdef class Membership:
    cdef Group group
    cdef Write write
    cdef bint entered  # by this block
