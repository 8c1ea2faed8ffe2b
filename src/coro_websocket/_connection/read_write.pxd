from .._rfc6455.receiving cimport Unit
from .connection cimport Connection


cdef class Read:
    cdef Connection connection
    cdef Unit _unit
    cdef bint _control


cdef class Write:
    cdef Connection connection

    cdef object write_later(self, object message, bint compress)
