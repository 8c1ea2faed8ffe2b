from .._runtimes.waiter cimport Waiter


cdef class Turns:
    cdef readonly bint taken  # by a message that has not ended
    cdef readonly bint ended  # no more messages are sent
    cdef bint more  # fragments come behind the frame that a thread transforms
    cdef bint watched  # `owner_ended` will be called
    cdef bint owner_gone  # it was, while a thread transformed a fragment
    cdef readonly object owner  # whose message it is: a task, or a message of the background
    cdef readonly object transforming  # what the writer calls the frame that a thread transforms
    cdef list waiting  # in the order of asking; None: nobody has waited yet
    cdef readonly size_t background_size  # bytes of the background that wait

    # What the connection provides
    cpdef object current_task(self)
    cpdef int watch(self, task) except -1
    cpdef int unwatch(self, task) except -1
    cpdef Waiter new_waiter(self)
    cpdef int send(self, message) except -1
    cpdef int break_off(self) except -1
    cpdef int fail_memory(self) except -1

    # Whose turn it is
    cpdef bint is_mine(self) except -1
    cpdef bint is_mine_next(self) except -1
    cdef bint goes_on(self, task) noexcept

    # What becomes of a message
    cpdef int begin(self) except -1
    cpdef int pass_on(self) except -1
    cpdef int give_up(self) except -1
    cpdef int transform(self, frame, bint begins, bint ends) except -1
    cpdef int transformed(self, frame, bint ended) except -1
    cpdef int end(self, bint now=*) except -1
    cdef int release(self) except -1

    # Waiting
    cpdef int add_background(self, message, size_t size) except -1
    cdef int give_to_first(self) except -1
