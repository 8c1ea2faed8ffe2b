"""What a connection asks of its event loop, and when what its tasks write is sent.

What a task writes while one of the library's callbacks runs is encoded into its connection's
buffer, and sent once for all of it when the callback ends.

The rule: a connection is touched only in the thread in which its loop runs.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint8_t

from .waiter cimport Waiter

import logging

cdef extern from "Python.h":
    int list_append "PyList_Append"(object into, object item) noexcept
    void PyErr_Clear() noexcept

logger = logging.getLogger("coro_websocket")

cdef double NESTING = 0.005  # seconds after which a callback that still runs is looked at


cdef class Runtime:
    """What the connections of one event loop share. What the loop is, a subclass says."""

    def __cinit__(self, *args):
        self.scratch = <uint8_t *>PyMem_RawMalloc(SCRATCH)
        if self.scratch == NULL:
            raise MemoryError
        self.unsent = []
        self.spare = []
        self.flush_callback = self.flush_in_turn
        self.nesting_callback = self.look_for_nesting

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)
        PyMem_RawFree(self.sealed)

    # What a loop provides: time

    cdef double time(self) except? -1:
        """Now, in seconds, by the loop's clock."""
        raise NotImplementedError

    cdef object call_at(self, double when, object callback):
        """Have the loop call back at that time; returns what `cancel()` ends."""
        raise NotImplementedError

    cdef int call_soon(self, object callback) except -1:
        """Have the loop call back in its next iteration."""
        raise NotImplementedError

    cdef int call_outside_tasks(self, object callback) except -1:
        """Call back where tasks may be resumed: soon, or at once if none ever is here and now."""
        return self.call_soon(callback)

    cdef int need_time(self, str what) except -1:
        """Raise NoEventLoopError if nobody will call back at a time; what: needs that."""
        return 0

    # Tasks

    cdef bint check_thread(self) except -1:
        """Whether the loop runs in this thread, as it has it."""
        raise NotImplementedError

    cdef object other_loop(self, str call):
        """The error of a call where the loop does not run, which says what to call instead."""
        raise NotImplementedError

    cdef object current_task(self):
        """The task that runs now, or None."""
        raise NotImplementedError

    cdef int check_can_wait(self, Driven stream, bint receiving) except -1:
        """Raise NoEventLoopError where what is about to be sent could not be waited for.

        Only where `pulls` is set. receiving: an answer will be waited for, too.
        """
        return 0

    cdef int watch_task(self, object task, object ended) except -1:
        """Have `ended(task)` called once the task is done, however it ends."""
        raise NotImplementedError

    cdef int unwatch_task(self, object task, object ended) except -1:
        raise NotImplementedError

    cdef Waiter new_waiter(self, Driven stream, bint receiving):
        """A waiter for what happens to a connection.

        stream: whose work may bring it about; None: another task's doing alone does.
        receiving: what is received may, too, and not only what is sent.
        """
        raise NotImplementedError

    cdef object new_checkpoint(self):
        """An awaitable that lets the other tasks run once."""
        raise NotImplementedError

    cdef object new_result(self):
        """An awaitable of what `set_result` or `set_exception` gives it; it has `done()`."""
        raise NotImplementedError

    cdef object run_in_worker(self, object function, tuple arguments, object done):
        """Call the function in another thread, then `done` here with what has its `result()`."""
        raise NotImplementedError

    cdef int report(self, str message, object error) except -1:
        """Tell of an error that nobody waits for."""
        logger.error(message, exc_info=error)
        return 0

    # Sockets

    cdef int watch(self, Driven stream) except -1:
        """Call `stream.receive()` when there is something; if `end_only`, the stream's end."""
        raise NotImplementedError

    cdef int unwatch(self, Driven stream) except -1:
        raise NotImplementedError

    cdef int watch_for_room(self, Driven stream) except -1:
        """Call `stream.writable()` when its socket takes more."""
        raise NotImplementedError

    cdef int unwatch_for_room(self, Driven stream) except -1:
        raise NotImplementedError

    # What all have in common

    cdef uint8_t *sealed_buffer(self, size_t size) except NULL:
        """Where a stream may receive what it decrypts at once."""
        if self.sealed == NULL:
            self.sealed = <uint8_t *>PyMem_RawMalloc(size)
            if self.sealed == NULL:
                raise MemoryError
        return self.sealed

    cdef int enter(self) except -1:
        """The loop has called us, and we may resume a task."""
        if self.resuming:
            self.nested()
        keep_thread(&self.thread, this_thread())
        self.resuming = not self.nests
        return 0

    cdef int leave(self) except -1:
        self.resuming = False
        self.burst = 0
        if self.unsent_count:
            self.flush()
        return 0

    cdef int nested(self) except -1:
        """A task that we have resumed runs the loop from within (as nest_asyncio lets it).

        Our callback may end much later: from now on nothing waits for that.
        """
        self.nests = True
        self.resuming = False
        if self.unsent_count:
            self.flush()
        return 0

    def look_for_nesting(self):
        self.nesting_looked_for = False
        if self.resuming:
            self.nested()

    @cython.boundscheck(False)
    @cython.wraparound(False)
    cdef bint add_unsent(self, Driven stream) noexcept:
        """Have the next flush send for it; False if there is no memory for that."""
        if self.unsent_count < PyList_GET_SIZE(self.unsent):
            self.unsent[self.unsent_count] = stream
        elif list_append(self.unsent, stream) < 0:
            PyErr_Clear()
            return False
        self.unsent_count += 1
        return True

    cdef int put_back(self, list unsent, Py_ssize_t first, Py_ssize_t end) except -1:
        """A flush was interrupted: these are still to send."""
        cdef Driven stream
        cdef Py_ssize_t i
        for i in range(first, end):
            stream = unsent[i]
            unsent[i] = None
            stream.queued = self.add_unsent(stream)
        try:
            self.schedule_flush()
        except MemoryError:  # when the loop calls us next
            pass
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    cdef int flush(self) except -1:
        cdef Driven stream
        cdef list unsent
        cdef Py_ssize_t count
        cdef Py_ssize_t i = 0
        failed = None
        if self.spare is None:  # a flush within a flush
            self.spare = []  # may collect garbage, and so run what writes
        unsent = self.unsent
        count = self.unsent_count
        self.unsent = self.spare
        self.unsent_count = 0
        self.spare = None
        try:
            while i < count:
                stream = unsent[i]
                unsent[i] = None
                i += 1
                stream.queued = False
                if not stream.blocked:
                    try:
                        stream.transmit()
                    except Exception as error:  # of this connection: the others go on
                        try:
                            stream.fail_sending(error)
                        except Exception as another:
                            failed = another
        finally:
            if i < count:
                self.put_back(unsent, i, count)
            self.spare = unsent
        if failed is not None:
            raise failed
        return 0

    cdef bint schedule_flush(self) except -1:
        """Have the loop flush what waits, or see to it that the callback that runs does.

        False: nobody will, so that everything has to be sent at once.
        """
        if self.resuming:
            if not self.nesting_looked_for:
                try:
                    self.call_at(self.time() + NESTING, self.nesting_callback)
                    self.nesting_looked_for = True
                except MemoryError:  # what is written next looks for it
                    pass
        elif not self.flush_scheduled:
            self.call_soon(self.flush_callback)
            self.flush_scheduled = True
            keep_thread(&self.thread, this_thread())
        return True

    def flush_in_turn(self):
        self.flush_scheduled = False
        self.burst = 0
        if self.resuming:
            self.nested()
        self.flush()

    def forget_parent(self):
        """In a forked child: the loop, its tasks and what they were sending are the parent's."""
        keep_thread(&self.thread, 0)
        self.unsent_count = 0
        self.unsent = []


cdef class Driven:
    """What a runtime drives: it has it receive, and has it send what is queued, in its time."""

    def __cinit__(self, Runtime runtime not None, *args):
        self.runtime = runtime
        self.loop = runtime.loop()
        self.fd = -1

    cdef int receive(self) except -1:
        """Take what has come."""
        raise NotImplementedError

    cdef object fetch(self, bint receiving):
        """The next work of a stream that whoever waits has to do: an awaitable.

        It sends what waits to be sent, or receives once. None: there is nothing to be done, as
        the loop or another task does it. receiving: false if only sending is wanted.
        """
        return None

    cdef bint busy(self, bint receiving) except -1:
        """Whether another task sends, or, if asked, receives what `fetch` has given it."""
        return False

    cdef int transmit(self) except -1:
        """Send what waits to be sent, as far as it is taken."""
        raise NotImplementedError

    cdef int fail_sending(self, object error) except -1:
        """`transmit` has failed where no writer could be told."""
        raise NotImplementedError

    cdef int fail_memory(self) except -1:
        """There was no memory to go on with it."""
        raise NotImplementedError

    cdef int queue(self) except -1:
        """See to it that what was encoded is sent.

        While a callback of ours resumes a task: when that task suspends. Otherwise
        at once, if it is the first write of this iteration of the loop; what follows
        in the same iteration is sent together at its end.
        """
        cdef Runtime runtime = self.runtime
        if self.queued or self.blocked:
            return 0
        if not runtime.resuming and not runtime.flush_scheduled:
            try:
                runtime.schedule_flush()
            except MemoryError:  # then what follows is sent at once, too
                pass
            self.transmit()
            return 0
        return self.flush_soon()

    cdef int flush_soon(self) except -1:
        cdef Runtime runtime = self.runtime
        cdef bint scheduled
        if not (runtime.nesting_looked_for if runtime.resuming else runtime.flush_scheduled):
            try:
                scheduled = runtime.schedule_flush()
            except MemoryError:
                scheduled = False
            if not scheduled:
                return self.send_now()
        self.queued = runtime.add_unsent(self)
        return 0 if self.queued else self.send_now()

    cdef int send_now(self) except -1:
        """Without a flush, as nobody does that, or there is no memory for one."""
        self.queued = True  # what cannot be sent now must not come here again
        try:
            self.transmit()
        finally:
            self.queued = False
        return 0
