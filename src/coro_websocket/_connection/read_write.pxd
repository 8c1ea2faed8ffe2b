from .._rfc6455.receiving cimport Unit
from .._runtimes.runtime cimport Runtime
from .connection cimport Connection


cdef class Read:
    cdef Connection connection
    cdef Unit _unit
    cdef bint _control


cdef class Write:
    cdef Connection connection

    cdef object write_later(self, object message, bint compress)


cdef object in_its_loop(Runtime runtime, str name, call)
