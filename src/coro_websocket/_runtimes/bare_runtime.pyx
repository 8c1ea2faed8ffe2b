"""The runtime of one connection where no event loop runs that we know.

There is only the coroutine that calls us, which somebody drives: it can neither wait for another
task nor for a time. So whoever waits does the stream's work itself, until it is woken by that;
what nothing of its own can bring about is refused with NoEventLoopError.

The rule: nothing here runs by itself. What is to be called soon is called by whoever waits next.
"""

from .result cimport Outcome
from .runtime cimport Driven, Runtime, keep_thread, this_thread
from .waiter cimport DONE, WAITING, WOKEN, DelegatingWaiter, Waiter

import collections
import functools
from time import monotonic

from .._errors import NoEventLoopError


cdef class BareRuntime(Runtime):
    cdef object soon  # what is to be called

    def __cinit__(self):
        self.loop = no_loop
        self.pulls = True
        self.soon = collections.deque()

    # Time

    cdef double time(self) except? -1:
        return monotonic()

    cdef object call_at(self, double when, object callback):
        return NEVER

    cdef int call_soon(self, object callback) except -1:
        self.soon.append(callback)
        return 0

    cdef int call_outside_tasks(self, object callback) except -1:
        callback()
        return 0

    cdef int need_time(self, str what) except -1:
        raise NoEventLoopError(
            f"{what} needs an event loop, asyncio's or trio's: begin the connection in a "
            "coroutine that one of them runs"
        )

    cdef bint call_what_is_due(self) except -1:
        """Whether there was something to be called soon."""
        if not self.soon:
            return False
        self.soon.popleft()()
        return True

    # Tasks

    cdef bint check_thread(self) except -1:
        keep_thread(&self.thread, this_thread())  # wherever the caller is driven
        return True

    cdef object current_task(self):
        return self  # whoever it is

    cdef int check_can_wait(self, Driven stream, bint receiving) except -1:
        if stream.busy(receiving):
            raise nobody_to_wait_for()
        return 0

    cdef int watch_task(self, object task, object ended) except -1:
        return 0  # nobody could tell

    cdef int unwatch_task(self, object task, object ended) except -1:
        return 0

    cdef Waiter new_waiter(self, Driven stream, bint receiving):
        return BareWaiter.__new__(BareWaiter, self, stream, receiving)

    cdef object new_checkpoint(self):
        return DONE

    cdef object new_result(self):
        raise NoEventLoopError("write.ping() works only where asyncio or trio runs")

    cdef object run_in_worker(self, object function, tuple arguments, object done):
        self.soon.append(functools.partial(do_now, function, arguments, done))

    # Sending

    cdef bint schedule_flush(self) except -1:
        return self.resuming  # the callback that runs flushes


def no_loop():
    return None


def do_now(function, arguments, done):
    done(Outcome(function, *arguments))


cdef class NoAlarm:
    """What does not call back."""

    def cancel(self):
        pass


cdef NoAlarm NEVER = NoAlarm.__new__(NoAlarm)


cdef class BareWaiter(DelegatingWaiter):
    """A task that does its stream's work until it is woken by that."""

    cdef BareRuntime runtime
    cdef Driven stream  # None: there is nothing to do that could wake it
    cdef bint receiving

    def __cinit__(self, BareRuntime runtime not None, Driven stream, bint receiving):
        self.pulls = True
        self.runtime = runtime
        self.stream = stream
        self.receiving = receiving

    cdef object suspend(self):
        return pull(self)

    cdef object next_work(self):
        """What is to be awaited next; DONE if something was done, None if nothing can be."""
        if self.runtime.call_what_is_due():
            return DONE
        return None if self.stream is None else self.stream.fetch(self.receiving)

    cdef int wake_now(self) except -1:
        return self.wake_soon()

    cdef int wake_soon(self) except -1:
        if self.state == WAITING:
            self.state = WOKEN
        return 0


async def pull(BareWaiter waiter not None):
    while waiter.state == WAITING:
        work = waiter.next_work()
        if work is None:
            raise nobody_to_wait_for()
        await work


cdef object nobody_to_wait_for():
    return NoEventLoopError(
        "this has to wait for what another task does on the same connection, and that can be "
        "done only on asyncio and trio: call wrap_io() in a coroutine that one of them runs, or "
        "let one task at a time use its connection"
    )
