from libc.stdint cimport uint8_t, uintptr_t

from .waiter cimport Waiter

cdef enum:
    SCRATCH = 262144 + 256  # bytes of the receive buffer that a loop's connections share


cdef class Driven


cdef class Runtime:
    cdef object loop  # gives the event loop: a weak reference, as the loop leads here
    cdef object __weakref__

    # Memory that its connections share
    cdef uint8_t *scratch
    cdef uint8_t *sealed  # NULL until a stream asks for it
    cdef bint sealed_lent
    cdef bint scratch_lent
    cdef object room  # what a transport receives into; None: one does, or none has

    # When they send
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

    # What a loop provides: time
    cdef double time(self) except? -1
    cdef object call_at(self, double when, object callback)
    cdef int call_soon(self, object callback) except -1
    cdef int call_outside_tasks(self, object callback) except -1
    cdef int need_time(self, str what) except -1

    # Tasks
    cdef bint check_thread(self) except -1
    cdef object other_loop(self, str call)
    cdef object current_task(self)
    cdef bint pulls  # whoever waits does the stream's work, as nothing goes on by itself
    cdef int check_can_wait(self, Driven stream, bint receiving) except -1
    cdef int watch_task(self, object task, object ended) except -1
    cdef int unwatch_task(self, object task, object ended) except -1
    cdef Waiter new_waiter(self, Driven stream, bint receiving)
    cdef object new_checkpoint(self)
    cdef object new_result(self)
    cdef object run_in_worker(self, object function, tuple arguments, object done)
    cdef int report(self, str message, object error) except -1

    # Sockets
    cdef bint polls  # a descriptor can be watched by ours beside the loop's own watching
    cdef bint tells_once  # of a socket's error, even where there is more to receive before it
    cdef int watch(self, Driven stream) except -1
    cdef int unwatch(self, Driven stream) except -1
    cdef int watch_for_room(self, Driven stream) except -1
    cdef int unwatch_for_room(self, Driven stream) except -1

    # What all have in common
    cdef uint8_t *sealed_buffer(self, size_t size) except NULL
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int nested(self) except -1
    cdef bint add_unsent(self, Driven stream) noexcept
    cdef int put_back(self, list unsent, Py_ssize_t first, Py_ssize_t end) except -1
    cdef int flush(self) except -1
    cdef bint schedule_flush(self) except -1


cdef class Driven:
    cdef readonly object loop
    cdef readonly Runtime runtime
    cdef bint queued  # is in runtime.unsent, or sends just now
    cdef bint blocked  # whoever takes what is sent takes no more for now
    cdef int fd
    cdef bint polled  # the loop itself watches the descriptor, for somebody else
    cdef bint end_only  # what it is watched for, while nothing is to be received
    cdef bint kept  # the loop watches it already, for whoever has opened it
    cdef object watcher  # what the runtime watches it with, None: nothing
    cdef object __weakref__

    cdef int receive(self) except -1
    cdef object fetch(self, bint receiving)
    cdef bint busy(self, bint receiving) except -1
    cdef int transmit(self) except -1
    cdef int fail_sending(self, object error) except -1
    cdef int fail_memory(self) except -1
    cdef int queue(self) except -1
    cdef int flush_soon(self) except -1
    cdef int send_now(self) except -1


cdef extern from "this_thread.h":
    uintptr_t this_thread() noexcept
    void keep_thread(uintptr_t *where, uintptr_t thread) noexcept
    uintptr_t kept_thread(const uintptr_t *where) noexcept


cdef inline bint runs_here(Runtime runtime) except -1:
    """Whether the loop runs in this thread: only there may its connections be touched.

    While the loop runs one of our callbacks, or is about to, the thread tells.
    """
    if this_thread() == kept_thread(&runtime.thread):
        if runtime.resuming or runtime.flush_scheduled:
            return True
    return runtime.check_thread()
