from libc.stdint cimport uint8_t, uintptr_t

cdef enum:
    SCRATCH = 262144 + 256  # bytes of the receive buffer that a loop's connections share


cdef class Sender


cdef class LoopState:
    cdef uint8_t *scratch
    cdef uint8_t *sealed  # NULL until a stream asks for it
    cdef bint sealed_lent
    cdef bint scratch_lent
    cdef object transport_room  # what a transport receives into; None: one does, or none has
    # Weak, as this is reached by way of the loop, which is to die with its connections
    cdef object watching  # the socket streams that the loop itself watches
    cdef bint tells_once  # of a socket's error, even where there is more to receive before it
    cdef object poller  # what watches them where there are many, or None
    cdef bint resuming  # a callback of the library's runs, and flushes when it ends
    cdef bint nests  # the loop has been run from within such a callback
    cdef bint flush_scheduled
    cdef bint nesting_looked_for  # by a timer
    cdef uintptr_t thread  # in which the loop was seen to run; 0: none
    cdef size_t burst  # bytes written since the loop last had its turn
    cdef list unsent  # its first `unsent_count`: who has bytes that wait for the callback's end
    cdef Py_ssize_t unsent_count
    cdef list spare  # takes the place of `unsent` while that is flushed; None: it is in use
    cdef object flush_callback
    cdef object nesting_callback

    cdef uint8_t *sealed_buffer(self, size_t size) except NULL
    cdef bint check_thread(self, object loop) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int nested(self) except -1
    cdef bint add_unsent(self, Sender sender) noexcept
    cdef int put_back(self, list unsent, Py_ssize_t first, Py_ssize_t end) except -1
    cdef int flush(self) except -1
    cdef int schedule_flush(self, object loop) except -1


cdef class Sender:
    cdef readonly object loop
    cdef object __weakref__
    cdef LoopState state
    cdef bint queued  # is in state.unsent, or sends just now
    cdef bint blocked  # the socket takes no more for now

    cdef int transmit(self) except -1
    cdef int fail_sending(self, object error) except -1
    cdef int queue(self) except -1
    cdef int flush_soon(self) except -1
    cdef int send_now(self) except -1


cdef extern from "this_thread.h":
    uintptr_t this_thread() noexcept


cdef inline bint runs_here(LoopState state, object loop) except -1:
    """Whether the loop runs in this thread: only there may its connections be touched.

    While the loop runs one of our callbacks, or is about to, the thread tells.
    """
    if this_thread() == state.thread:
        if state.resuming or state.flush_scheduled:
            return True
    return state.check_thread(loop)


cdef LoopState loop_state(loop)
