"""The runtime of asyncio's event loops, uvloop's among them.

The hot path: the loop's readable callback receives, parses what the waiting `read()` asked for,
and resumes its task then and there, in place of `loop.call_soon`. Cancelling always goes through
the loop. Where there are many connections the loop watches one epoll descriptor for all of them,
so that its own Python code runs once for all that are ready.

A runtime is reached by way of its loop, and is to die with it: it refers to it weakly.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF

from .runtime cimport Driven, Runtime, keep_thread, this_thread
from .waiter cimport CANCELLED, WAITING, WOKEN, Waiter, raise_thrown

import asyncio
import errno
import os
import weakref
from asyncio import _get_running_loop

from .._errors import OtherEventLoopError

cdef extern from "context.h":
    int context_call(object context, object callback, object argument) noexcept

cdef extern from "poller.h" nogil:
    int POLL_AVAILABLE
    ctypedef struct poll_event:
        pass
    void *poll_owner(const poll_event *event)
    int poll_open()
    void poll_close(int fd)
    int poll_add(int poll, int fd, void *owner, bint end_only)
    void poll_remove(int poll, int fd)
    int poll_events(int poll, poll_event *events, int most)

cdef enum:
    POLLER_FROM = 4  # connections of a loop; with fewer one more system call does not pay
    EVENTS = 64  # handled in one iteration of the loop


cdef inline int raise_if_negative(int status) except -1:
    """Raise the exception that a function in C has set."""
    return status


cdef class AsyncioRuntime(Runtime):
    # Weak, as this is reached by way of the loop
    cdef dict watching  # weak references to the streams that the loop itself watches, by descriptor
    cdef object poller  # what watches them where there are many, or None

    def __cinit__(self, loop):
        self.loop = weakref.ref(loop)
        # Those that run on libuv, and what is derived from them
        modules = {kind.__module__.partition(".")[0] for kind in type(loop).__mro__}
        self.tells_once = not modules.isdisjoint(("uvloop", "winloop"))
        self.polls = POLL_AVAILABLE
        self.watching = {}

    # Time

    cdef double time(self) except? -1:
        return self.loop().time()

    cdef object call_at(self, double when, object callback):
        return self.loop().call_at(when, callback)

    cdef int call_soon(self, object callback) except -1:
        self.loop().call_soon(callback)
        return 0

    # Tasks

    cdef bint check_thread(self) except -1:
        if _get_running_loop() is not self.loop():
            return False
        keep_thread(&self.thread, this_thread())
        return True

    cdef object other_loop(self, str call):
        given = {
            "write()": "write(message)",
            "broadcast()": "broadcast(writes, message)",
            "group.broadcast()": "group.broadcast(message)",
        }
        instead = f"asyncio.run_coroutine_threadsafe({given.get(call, call)}, loop)"
        if call in ("group.add()", "group.discard()"):
            instead = f"loop.call_soon_threadsafe({call[:-2]}, write)"
        return OtherEventLoopError(
            f"{call} was called where the connection's event loop does not run: a connection "
            f"belongs to the loop in which it was opened. In another thread, use {instead}"
        )

    cdef object current_task(self):
        loop = self.loop()
        return None if loop is None else asyncio.current_task(loop)

    cdef int watch_task(self, object task, object ended) except -1:
        task.add_done_callback(ended)
        return 0

    cdef int unwatch_task(self, object task, object ended) except -1:
        task.remove_done_callback(ended)
        return 0

    cdef Waiter new_waiter(self, Driven stream, bint receiving):
        return AsyncioWaiter.__new__(AsyncioWaiter, self.loop())

    cdef object new_checkpoint(self):
        return Checkpoint.__new__(Checkpoint)

    cdef object new_result(self):
        return self.loop().create_future()

    cdef object run_in_worker(self, object function, tuple arguments, object done):
        self.loop().run_in_executor(None, function, *arguments).add_done_callback(done)

    cdef int report(self, str message, object error) except -1:
        self.loop().call_exception_handler({"message": message, "exception": error})
        return 0

    # Sockets

    cdef int watch(self, Driven stream) except -1:
        cdef Poller poller
        cdef bint many
        cdef Driven other
        if stream.watcher is not None:
            return 0
        poller = self.poller() if self.poller is not None else None
        many = len(self.watching) >= POLLER_FROM
        if poller is None and POLL_AVAILABLE and (many or stream.end_only or stream.polled):
            poller = Poller.__new__(Poller, self.loop)
            self.poller = weakref.ref(poller)
            for reference in list(self.watching.values()) if many else ():
                other = reference()
                if other is None:
                    continue
                try:
                    self.unwatch(other)
                    self.watch(other)
                except MemoryError:  # nobody would watch it any more
                    other.fail_memory()
        if poller is not None and poller.watch(stream):
            stream.watcher = poller
            self.unkeep(stream)
            return 0
        if stream.polled:
            raise OSError(errno.ENOSPC, "epoll cannot watch another socket")
        if stream.end_only:  # the loop cannot watch for the end alone
            self.unkeep(stream)
            return 0
        self.watching[stream.fd] = weakref.ref(stream)
        stream.watcher = self
        try:
            self.loop().add_reader(stream.fd, stream.readable)
            stream.kept = False  # whose place this has taken
        except BaseException:
            self.watching.pop(stream.fd, None)
            stream.watcher = None
            raise
        return 0

    cdef int unkeep(self, Driven stream) except -1:
        """Have the loop not watch it for whoever has opened it."""
        if stream.kept:
            stream.kept = False
            self.loop().remove_reader(stream.fd)
        return 0

    cdef int unwatch(self, Driven stream) except -1:
        self.unkeep(stream)
        watcher = stream.watcher
        if watcher is self:
            self.loop().remove_reader(stream.fd)
            self.watching.pop(stream.fd, None)
        elif watcher is not None:
            (<Poller>watcher).unwatch(stream)
        stream.watcher = None
        return 0

    cdef int watch_for_room(self, Driven stream) except -1:
        self.loop().add_writer(stream.fd, stream.writable)
        return 0

    cdef int unwatch_for_room(self, Driven stream) except -1:
        self.loop().remove_writer(stream.fd)
        return 0


# Shared by all threads. Each asks for its own loop's runtime only, in single steps of the dict's.
_runtimes = weakref.WeakKeyDictionary()


def runtime_of(loop):
    """The runtime that the connections of an event loop share."""
    runtime = _runtimes.get(loop)
    if runtime is None:
        runtime = _runtimes[loop] = AsyncioRuntime.__new__(AsyncioRuntime, loop)
    return runtime


def _forget_parents_loops():
    for runtime in list(_runtimes.values()):
        (<Runtime>runtime).forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_loops)


cdef class Poller:
    """The epoll descriptor of a loop's connections. Only the loop, which watches it, keeps it."""

    cdef object loop  # a weak reference
    cdef int fd
    cdef set streams
    cdef object __weakref__

    def __cinit__(self, loop):
        self.loop = loop
        self.fd = poll_open()
        self.streams = set()

    def __dealloc__(self):
        if self.fd >= 0:
            poll_close(self.fd)

    cdef bint watch(self, Driven stream) except -1:
        """Watch the stream, perhaps only for its end; False if that cannot be done here."""
        cdef bint first = not self.streams
        if self.fd < 0:
            return False
        self.streams.add(stream)  # what epoll names must be kept
        try:
            if first:
                self.loop().add_reader(self.fd, self.ready)
        except BaseException:
            self.streams.discard(stream)
            raise
        if poll_add(self.fd, stream.fd, <void *>stream, stream.end_only) < 0:
            self.forget(stream)
            return False
        return True

    cdef int unwatch(self, Driven stream) except -1:
        poll_remove(self.fd, stream.fd)
        return self.forget(stream)

    cdef int forget(self, Driven stream) except -1:
        if stream in self.streams and len(self.streams) == 1:
            self.loop().remove_reader(self.fd)
        self.streams.discard(stream)
        return 0

    def ready(self):
        cdef poll_event events[EVENTS]
        cdef Driven stream
        cdef int i
        cdef int n = poll_events(self.fd, events, EVENTS)
        for i in range(n):  # a task that is resumed may end any of them
            Py_INCREF(<object>poll_owner(&events[i]))
        try:
            for i in range(n):
                stream = <Driven>poll_owner(&events[i])
                if stream.watcher is self:
                    stream.receive()
        finally:
            for i in range(n):
                Py_DECREF(<object>poll_owner(&events[i]))


cdef class AsyncioWaiter(Waiter):
    """A future by asyncio's documented duck type, whose callback is called straight away."""

    cdef object loop
    cdef object callback
    cdef object context
    cdef object cancel_message
    cdef bint blocking

    def __cinit__(self, loop):
        self.loop = loop

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
