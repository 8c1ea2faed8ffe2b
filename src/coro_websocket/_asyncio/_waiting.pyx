"""How a task waits for a connection, and how it is resumed without a detour.

A `Waiter` is what a waiting `read()` yields to its task: a future by asyncio's
documented duck type, whose callback the stream calls straight from the event
loop's readable callback, in place of `loop.call_soon`. The rule it keeps: a task
is resumed directly only where no task is running; cancelling always goes through
the loop.
"""

from cpython.object cimport PyObject

import asyncio

from .._errors import NoEventLoopError

cdef extern from "Python.h":
    void Py_INCREF(PyObject *) noexcept
    PyObject *Py_None

cdef extern from "context.h":
    int context_call(object context, object callback, object argument) noexcept


cdef inline int raise_if_negative(int status) except -1:
    """Raise the exception that a function in C has set."""
    return status


cdef class Waiter:
    """A future that a task waits on; it carries no result. It can be armed again once woken."""

    def __cinit__(self, loop):
        self.loop = loop
        self.state = IDLE

    cdef int arm(self) noexcept:
        self.state = WAITING
        self.blocking = True
        return 0

    cdef int wake_now(self) except -1:
        """Resume the task here and now. Only where no task is running."""
        cdef int called
        callback = self.callback
        if self.state != WAITING or callback is None:
            return self.wake_soon()
        context = self.context
        self.state = WOKEN
        self.callback = self.context = None
        # A loop that the task runs from within can call our callback, which has a context of its
        # own, only if nobody is in that.
        called = context_call(context, callback, self)
        return 0 if called > 0 else self.wake_instead(called, callback, context)

    cdef int wake_instead(self, int called, callback, context) except -1:
        """context_call has not returned 1: let the loop resume the task, if it has not gone on."""
        try:
            raise_if_negative(called)
        except BaseException as error:
            if self.state != WOKEN:  # it has gone on, and this is what became of it
                raise
            self.wait_again(callback, context)
            self.wake_soon()
            if not isinstance(error, Exception):
                raise
        else:
            self.wait_again(callback, context)
            self.wake_soon()
        return 0

    cdef int wait_again(self, callback, context) noexcept:
        self.state = WAITING
        self.callback = callback
        self.context = context
        return 0

    cdef int wake_soon(self) except -1:
        """Resume the task in the loop's next iteration. If that fails, it still waits."""
        if self.state == WAITING:
            self.schedule()
            self.state = WOKEN
        return 0

    cdef int wake(self, bint now) except -1:
        if self.state == WAITING:
            return self.wake_now() if now else self.wake_soon()
        return 0

    cdef int gone_on(self) noexcept:
        """The task that was woken runs."""
        if self.state == WOKEN:
            self.state = IDLE
        return 0

    cdef int schedule(self) except -1:
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
            self.callback = self.context = None
        return 0

    # The duck type behind asyncio.isfuture

    @property
    def _asyncio_future_blocking(self):
        return self.blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, bint value):
        self.blocking = value

    def get_loop(self):
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        self.callback = callback
        self.context = context
        if self.state != WAITING:
            try:
                self.schedule()
            except BaseException:  # it can still be woken
                self.state = WAITING
                raise

    def remove_done_callback(self, callback):
        if self.callback is not None and self.callback == callback:
            self.callback = self.context = None
            return 1
        return 0

    def cancel(self, msg=None):
        if self.state != WAITING:
            return False
        self.schedule()
        self.state = CANCELLED
        self.cancel_message = msg
        return True

    def cancelled(self):
        return self.state == CANCELLED

    def done(self):
        return self.state != WAITING

    def result(self):
        if self.state == CANCELLED:
            if self.cancel_message is None:
                raise asyncio.CancelledError
            raise asyncio.CancelledError(self.cancel_message)
        if self.state == WAITING:
            raise asyncio.InvalidStateError("nothing has come yet")

    def exception(self):
        self.result()

    def __await__(self):
        return iter((self,))


cdef int wake_all(list waiters, bint now=False) except -1:
    """Wake everybody, whatever happens with one; who could not be woken goes on waiting."""
    cdef Py_ssize_t kept = 0
    failed = None
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


cdef class Checkpoint:
    """An awaitable that lets the other tasks run once, and then is done."""

    cdef bint passed

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.passed:
            raise StopIteration
        self.passed = True

    def send(self, value):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self.passed = True
        raise_thrown(kind, value, traceback)

    def close(self):
        self.passed = True


cdef object new_checkpoint():
    return Checkpoint.__new__(Checkpoint)


cdef object raise_thrown(object kind, object value, object traceback):
    """What a coroutine's throw() does where it is not caught."""
    if isinstance(kind, BaseException):
        raise kind
    if value is None:
        value = kind()
    elif not isinstance(value, BaseException):
        value = kind(value)
    raise value.with_traceback(traceback)


def running_loop(what):
    """The running event loop; without one, an error that says what was called."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoopError(
            f"{what} was called outside a running event loop: call it from a coroutine "
            "that asyncio runs, such as main() in asyncio.run(main())"
        ) from None
