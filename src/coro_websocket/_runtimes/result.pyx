"""What will be known later, and how a call went: asyncio's futures, for where there are none.

The rule: a result is settled once, and everybody who awaits it is told, however many they are.
"""

from .runtime cimport Runtime
from .waiter cimport Waiter, wake_all

import asyncio
import contextvars
import functools


cdef class Result:
    """What is awaited until it is set. A task that is cancelled meanwhile changes nothing of it.

    It has of a `Future` what makes sense here.
    """

    def __cinit__(self):
        self.waiters = []
        self.callbacks = []

    def done(self):
        return self.settled

    def result(self):
        """What was set. Raises InvalidStateError if nothing was yet."""
        if not self.settled:
            raise asyncio.InvalidStateError("nothing has come yet")
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.value

    def exception(self):
        """The error that was set, or None. Raises InvalidStateError if nothing was set yet."""
        if not self.settled:
            raise asyncio.InvalidStateError("nothing has come yet")
        return self.error

    def set_result(self, value):
        self.value = value
        self.settle()

    def set_exception(self, error):
        self.error = error
        self.settle()

    cdef int settle(self) except -1:
        if self.settled:
            raise asyncio.InvalidStateError("this has been set already")
        self.settled = True
        try:
            wake_all(self.waiters)
        except BaseException:  # they are told what is set next
            self.settled = False
            raise
        callbacks, self.callbacks = self.callbacks, []
        for callback, context in callbacks:
            self.call(callback, context)

    cdef int call(self, callback, context) except -1:
        return self.runtime.call_soon(functools.partial(context.run, callback, self))

    def add_done_callback(self, callback, *, context=None):
        """Have `callback(self)` called soon after this is set; soon if it is."""
        if context is None:
            context = contextvars.copy_context()
        if self.settled:
            self.call(callback, context)
        else:
            self.callbacks.append((callback, context))

    def remove_done_callback(self, callback):
        """Returns how many times it was to be called."""
        kept = [entry for entry in self.callbacks if entry[0] != callback]
        removed = len(self.callbacks) - len(kept)
        self.callbacks[:] = kept
        return removed

    def __await__(self):
        return self.wait().__await__()

    async def wait(self):
        cdef Waiter waiter
        while not self.settled:
            waiter = self.runtime.new_waiter(None, False)
            waiter.arm()
            entry = (waiter, None)
            self.waiters.append(entry)
            try:
                await waiter
            finally:
                waiter.gone_on()
                if entry in self.waiters:
                    self.waiters.remove(entry)
        return self.result()

    def __repr__(self):
        return f"<result {'set' if self.settled else 'pending'}>"


cdef class Outcome:
    """Calls a function, and has what it has returned or raised."""

    def __init__(self, function, *arguments):
        try:
            self.value = function(*arguments)
        except BaseException as error:
            self.error = error

    def result(self):
        if self.error is not None:
            raise self.error
        return self.value


cdef Result pending_result(Runtime runtime):
    cdef Result result = Result.__new__(Result)
    result.runtime = runtime
    return result
