"""What the connections of one event loop share: a receive buffer, and when they send.

What a task writes while one of the library's callbacks runs is encoded into its connection's
buffer, and sent once for all of it when the callback ends.

The rule: a connection is touched only in the thread in which its loop runs.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint8_t

import os
import weakref
from asyncio import _get_running_loop

cdef extern from "Python.h":
    int list_append "PyList_Append"(object into, object item) noexcept
    void PyErr_Clear() noexcept

cdef double NESTING = 0.005  # seconds after which a callback that still runs is looked at


cdef class LoopState:
    """What the connections of one event loop share: a receive buffer and a flush."""

    def __cinit__(self, loop):
        # Those that run on libuv, and what is derived from them
        modules = {kind.__module__.partition(".")[0] for kind in type(loop).__mro__}
        self.tells_once = not modules.isdisjoint(("uvloop", "winloop"))
        self.scratch = <uint8_t *>PyMem_RawMalloc(SCRATCH)
        if self.scratch == NULL:
            raise MemoryError
        self.unsent = []
        self.spare = []
        self.watching = weakref.WeakSet()
        self.flush_callback = self.flush_in_turn
        self.nesting_callback = self.look_for_nesting

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)
        PyMem_RawFree(self.sealed)

    cdef uint8_t *sealed_buffer(self, size_t size) except NULL:
        """Where a stream may receive what it decrypts at once."""
        if self.sealed == NULL:
            self.sealed = <uint8_t *>PyMem_RawMalloc(size)
            if self.sealed == NULL:
                raise MemoryError
        return self.sealed

    cdef bint check_thread(self, object loop) except -1:
        """Whether the loop runs in this thread, as asyncio has it."""
        if _get_running_loop() is not loop:
            return False
        self.thread = this_thread()
        return True

    cdef int enter(self) except -1:
        """The loop has called us, and we may resume a task."""
        if self.resuming:
            self.nested()
        self.thread = this_thread()
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
    cdef bint add_unsent(self, Sender sender) noexcept:
        """Have the next flush send for it; False if there is no memory for that."""
        if self.unsent_count < PyList_GET_SIZE(self.unsent):
            self.unsent[self.unsent_count] = sender
        elif list_append(self.unsent, sender) < 0:
            PyErr_Clear()
            return False
        self.unsent_count += 1
        return True

    cdef int put_back(self, list unsent, Py_ssize_t first, Py_ssize_t end) except -1:
        """A flush was interrupted: these are still to send."""
        cdef Sender sender
        cdef Py_ssize_t i
        for i in range(first, end):
            sender = unsent[i]
            unsent[i] = None
            sender.queued = self.add_unsent(sender)
        try:
            self.schedule_flush(sender.loop)
        except MemoryError:  # when the loop calls us next
            pass
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    cdef int flush(self) except -1:
        cdef Sender sender
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
                sender = unsent[i]
                unsent[i] = None
                i += 1
                sender.queued = False
                if not sender.blocked:
                    try:
                        sender.transmit()
                    except Exception as error:  # of this connection: the others go on
                        try:
                            sender.fail_sending(error)
                        except Exception as another:
                            failed = another
        finally:
            if i < count:
                self.put_back(unsent, i, count)
            self.spare = unsent
        if failed is not None:
            raise failed
        return 0

    cdef int schedule_flush(self, object loop) except -1:
        """Have the loop flush what waits, or see to it that the callback that runs does."""
        if self.resuming:
            if not self.nesting_looked_for:
                try:
                    loop.call_later(NESTING, self.nesting_callback)
                    self.nesting_looked_for = True
                except MemoryError:  # what is written next looks for it
                    pass
        elif not self.flush_scheduled:
            loop.call_soon(self.flush_callback)
            self.flush_scheduled = True
            self.thread = this_thread()
        return 0

    def flush_in_turn(self):
        self.flush_scheduled = False
        self.burst = 0
        if self.resuming:
            self.nested()
        self.flush()

    def forget_parent(self):
        """In a forked child: the loop, its tasks and what they were sending are the parent's."""
        self.thread = 0
        self.unsent_count = 0
        self.unsent = []


_loop_states = weakref.WeakKeyDictionary()


cdef LoopState loop_state(loop):
    state = _loop_states.get(loop)
    if state is None:
        state = _loop_states[loop] = LoopState(loop)
    return state


def _forget_parents_loops():
    for state in list(_loop_states.values()):
        state.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_loops)


cdef class Sender:
    """What encodes bytes into a buffer of its own, and has them sent in its loop's time."""

    def __cinit__(self, loop, *args):
        self.loop = loop
        self.state = loop_state(loop)

    cdef int transmit(self) except -1:
        """Send what the engine has to send, as far as the stream takes it."""
        raise NotImplementedError

    cdef int fail_sending(self, object error) except -1:
        """The stream has failed where no writer could be told: the connection is lost."""
        raise NotImplementedError

    cdef int queue(self) except -1:
        """See to it that what was encoded is sent.

        While a callback of ours resumes a task: when that task suspends. Otherwise
        at once, if it is the first write of this iteration of the loop; what follows
        in the same iteration is sent together at its end.
        """
        cdef LoopState state = self.state
        if self.queued or self.blocked:
            return 0
        if not state.resuming and not state.flush_scheduled:
            try:
                state.schedule_flush(self.loop)
            except MemoryError:  # then what follows is sent at once, too
                pass
            self.transmit()
            return 0
        return self.flush_soon()

    cdef int flush_soon(self) except -1:
        cdef LoopState state = self.state
        if not (state.nesting_looked_for if state.resuming else state.flush_scheduled):
            try:
                state.schedule_flush(self.loop)
            except MemoryError:
                return self.send_now()
        self.queued = state.add_unsent(self)
        return 0 if self.queued else self.send_now()

    cdef int send_now(self) except -1:
        """Without a flush, as there is no memory for one."""
        self.queued = True  # what cannot be sent now must not come here again
        try:
            self.transmit()
        finally:
            self.queued = False
        return 0
