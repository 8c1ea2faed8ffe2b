"""How a task waits for a connection, and is woken; and awaitables that wait for nothing.

The rule: a task is resumed here and now only where no task is running.
"""

from cpython.object cimport PyObject

cdef extern from "Python.h":
    void Py_INCREF(PyObject *) noexcept
    PyObject *Py_None


cdef class Waiter:
    """What a task awaits until it is woken; it carries no result. It can be armed again then.

    How its task is suspended and resumed, a runtime's own waiter says.
    """

    cdef object suspend(self):
        """A coroutine for the waiting task to run: it returns once the waiter is woken."""
        raise NotImplementedError

    cdef int arm(self) noexcept:
        self.state = WAITING
        return 0

    cdef int wake_now(self) except -1:
        """Resume the task here and now. Only where no task is running."""
        raise NotImplementedError

    cdef int wake_soon(self) except -1:
        """Resume the task when the loop has its turn. If that fails, it still waits."""
        raise NotImplementedError

    cdef int wake(self, bint now) except -1:
        if self.state == WAITING:
            return self.wake_now() if now else self.wake_soon()
        return 0

    cdef int gone_on(self) noexcept:
        """The task that was woken runs."""
        if self.state == WOKEN:
            self.state = IDLE
        return 0


cdef class DelegatingWaiter(Waiter):
    """A waiter that the loop knows nothing of."""

    def __cinit__(self, *args):
        self.delegates = True

    def __await__(self):
        return self.suspend().__await__()


cdef int wake_all(list waiters, bint now=False) except -1:
    """Wake everybody, whatever happens with one; who could not be woken goes on waiting."""
    cdef Py_ssize_t kept = 0
    failed = None
    if waiters is None:
        return 0
    while kept < len(waiters):
        entry = waiters[kept]
        try:
            (<Waiter>entry[0]).wake(now)
        except Exception as error:
            failed = error
            kept += 1
        else:
            if kept < len(waiters) and waiters[kept] is entry:  # it has not gone on already
                del waiters[kept]
    if failed is not None:
        raise failed
    return 0


cdef class Completed:
    """An awaitable that has nothing to wait for. It may be awaited any number of times."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        raise_thrown(kind, value, traceback)

    def close(self):
        pass


cdef PyObject *completed_next(PyObject *self) noexcept:
    return NULL


cdef int completed_send(PyObject *self, PyObject *value, PyObject **result) noexcept:
    Py_INCREF(Py_None)
    result[0] = Py_None
    return awaitable_send(0)


awaitable_install(Completed, <void *>completed_next, <void *>completed_send)
DONE = Completed.__new__(Completed)


cdef object raise_thrown(object kind, object value, object traceback):
    """What a coroutine's throw() does where it is not caught."""
    raise as_exception(kind, value, traceback)


cdef object as_exception(object kind, object value, object traceback):
    """What is thrown by a throw() with these arguments."""
    if isinstance(kind, BaseException):
        return kind
    if value is None:
        value = kind()
    elif not isinstance(value, BaseException):
        value = kind(value)
    return value.with_traceback(traceback)
