from .runtime cimport Runtime


cdef class Result:
    cdef Runtime runtime
    cdef bint settled
    cdef object value
    cdef object error
    cdef list waiters
    cdef list callbacks

    cdef int settle(self) except -1
    cdef int call(self, object callback, object context) except -1


cdef class Outcome:
    cdef object value
    cdef object error


cdef Result pending_result(Runtime runtime)
