from cpython.object cimport PyObject


cdef extern from "awaitable.h":
    PyObject *awaitable_next(int status, PyObject *result, bint small) noexcept
    int awaitable_send(int status) noexcept
    void awaitable_install(object type, void *next, void *send) noexcept
    void forbid_construction(object type) noexcept


cdef enum WaiterState:
    IDLE
    WAITING
    WOKEN
    CANCELLED


cdef class Waiter:
    cdef WaiterState state
    cdef bint delegates  # a task waits with what `suspend` gives, and not with the waiter itself
    cdef bint pulls  # whoever waits does the work meanwhile: it goes on before it is woken, too
    cdef object delegate  # of the read that waits, from `suspend`

    cdef object suspend(self)
    cdef int arm(self) noexcept
    cdef int wake_now(self) except -1
    cdef int wake_soon(self) except -1
    cdef int wake(self, bint now) except -1
    cdef int gone_on(self) noexcept


cdef class DelegatingWaiter(Waiter):
    pass


cdef object DONE  # an awaitable that has returned None already
cdef object as_exception(object kind, object value, object traceback)
cdef object raise_thrown(object kind, object value, object traceback)
cdef int wake_all(list waiters, bint now=*) except -1
