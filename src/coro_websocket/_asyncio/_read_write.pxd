from ._connection cimport Connection


cdef class Read:
    cdef Connection connection
    cdef bint _fragments
    cdef bint _control

    cdef object next(self, bint fragments, bint control, bint iterating)


cdef class Write:
    cdef Connection connection
