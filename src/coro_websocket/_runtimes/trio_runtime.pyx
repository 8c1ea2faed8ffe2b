"""The runtime of a trio run. Nothing imports it before trio has been imported.

In trio everything runs in a task, so nobody is ever resumed here and now: a task that is woken is
rescheduled. What is written is sent at once. To have it sent at the end of the pass would take a
task that is rescheduled for it, which costs as much as it saves: an instrument that is called at
a pass's end is called too late to wake anybody.

The rule: nothing that is ours may raise in a system task or in an instrument, as that would end
the run.
"""

from .result cimport Outcome, pending_result
from .runtime cimport Driven, Runtime, keep_thread, this_thread
from .waiter cimport CANCELLED, DONE, WAITING, WOKEN, DelegatingWaiter, Waiter

import contextvars
import functools
import weakref

import trio
from trio.lowlevel import (
    Abort,
    RunVar,
    add_instrument,
    checkpoint,
    current_task as running_task,
    current_trio_token,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)

from .._errors import NoEventLoopError, OtherEventLoopError

cdef object ABORTED = Abort.SUCCEEDED


cdef class TrioRuntime(Runtime):
    cdef object token  # of the run
    cdef TaskEnds task_ends  # None: no task's end has been watched for yet

    def __cinit__(self, token):
        self.token = token
        self.loop = weakref.ref(token)

    # Time

    cdef double time(self) except? -1:
        return trio.current_time()

    cdef object call_at(self, double when, object callback):
        cdef Alarm alarm = Alarm.__new__(Alarm)
        alarm.runtime = self
        alarm.callback = callback
        alarm.scope = trio.CancelScope(deadline=when)
        spawn(alarm.ring, "an alarm of a WebSocket connection")
        return alarm

    cdef int call_soon(self, object callback) except -1:
        context = contextvars.copy_context()
        self.token.run_sync_soon(functools.partial(context.run, self.call, callback))
        return 0

    cdef int call_outside_tasks(self, object callback) except -1:
        callback()
        return 0

    def call(self, callback, *arguments):
        """Call back; an error is only told of."""
        try:
            callback(*arguments)
        except BaseException as error:
            self.report("a callback of a WebSocket connection failed", error)

    # Tasks

    cdef bint check_thread(self) except -1:
        try:
            if current_trio_token() is not self.token:
                return False
        except RuntimeError:  # trio does not run here
            return False
        keep_thread(&self.thread, this_thread())
        return True

    cdef object other_loop(self, str call):
        given = {
            "write()": "run(write, message)",
            "write.ping()": "run_sync(write.ping)",
            "broadcast()": "run_sync(broadcast, writes, message)",
            "group.add()": "run_sync(group.add, write)",
            "group.discard()": "run_sync(group.discard, write)",
            "group.broadcast()": "run_sync(group.broadcast, message)",
        }
        return OtherEventLoopError(
            f"{call} was called where the connection's trio run does not run: a connection "
            "belongs to the run in which it was opened. In a thread of trio.to_thread, use "
            f"trio.from_thread.{given.get(call, f'run({call[:-2]})')}"
        )

    cdef object current_task(self):
        try:
            return running_task()
        except RuntimeError:
            return None

    cdef int watch_task(self, object task, object ended) except -1:
        if self.task_ends is None:
            task_ends = TaskEnds.__new__(TaskEnds, self)
            add_instrument(task_ends)
            self.task_ends = task_ends
        self.task_ends.watched.setdefault(task, []).append(ended)
        return 0

    cdef int unwatch_task(self, object task, object ended) except -1:
        cdef dict watched = self.task_ends.watched
        callbacks = watched.get(task)
        if callbacks is not None and ended in callbacks:
            callbacks.remove(ended)
            if not callbacks:
                del watched[task]
        return 0

    cdef Waiter new_waiter(self, Driven stream, bint receiving):
        return TrioWaiter.__new__(TrioWaiter)

    cdef object new_checkpoint(self):
        return Checkpoint.__new__(Checkpoint)

    cdef object new_result(self):
        return pending_result(self)

    cdef object run_in_worker(self, object function, tuple arguments, object done):
        worker = functools.partial(work, self, function, arguments, done)
        spawn(worker, "a thread's work for a WebSocket connection")

    # Sending

    cdef bint schedule_flush(self) except -1:
        return self.resuming  # the callback that runs flushes


_runtime = RunVar("coro_websocket runtime")


def runtime_of_run():
    """The runtime that the connections of the trio run share which runs in this thread."""
    runtime = _runtime.get(None)
    if runtime is None:
        runtime = TrioRuntime.__new__(TrioRuntime, current_trio_token())
        _runtime.set(runtime)
    return runtime


cdef object spawn(work, name):
    # A nursery belongs to whoever opened it; what is ours may outlive that.
    spawn_system_task(work, name=name, context=contextvars.copy_context())


cdef class Alarm:
    """A system task that calls back when its cancel scope's deadline has come."""

    cdef TrioRuntime runtime
    cdef object callback  # None: it was cancelled
    cdef object scope

    def cancel(self):
        self.callback = None
        self.scope.cancel()

    async def ring(self):
        with self.scope:
            await trio.sleep_forever()
        callback, self.callback = self.callback, None
        if callback is not None:
            self.runtime.call(callback)


async def work(TrioRuntime runtime not None, function, tuple arguments, done):
    cdef Outcome outcome = Outcome.__new__(Outcome)
    try:
        outcome = await trio.to_thread.run_sync(Outcome, function, *arguments)
    except Exception as error:  # there are no more threads
        outcome.error = error
    except BaseException:
        outcome.error = NoEventLoopError("the trio run is about to end")
        raise
    finally:
        runtime.call(done, outcome)


cdef class TaskEnds:
    """An instrument of trio's that tells when tasks have ended."""

    cdef TrioRuntime runtime
    cdef dict watched  # what is to be called, by task

    def __cinit__(self, TrioRuntime runtime not None):
        self.runtime = runtime
        self.watched = {}

    def task_exited(self, task):
        for ended in self.watched.pop(task, ()):
            self.runtime.call(ended, task)


cdef class TrioWaiter(DelegatingWaiter):
    """A task that is parked until it is rescheduled."""

    cdef object task  # that is parked

    cdef object suspend(self):
        if self.state != WAITING:  # it has been woken already
            return DONE
        self.task = running_task()
        return wait_task_rescheduled(self.abort)

    def abort(self, raise_cancel):
        """The task is cancelled: nobody may reschedule it any more."""
        self.task = None
        self.state = CANCELLED
        return ABORTED

    cdef int wake_now(self) except -1:
        return self.wake_soon()

    cdef int wake_soon(self) except -1:
        if self.state == WAITING:
            if self.task is not None:
                reschedule(self.task)
                self.task = None
            self.state = WOKEN
        return 0


cdef class Checkpoint:
    """An awaitable that is trio's checkpoint. Who does not await it need not."""

    def __await__(self):
        return checkpoint().__await__()
