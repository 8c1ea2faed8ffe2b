from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from .._rfc6455.messages cimport Message
from .._rfc6455.receiving cimport Unit
from .._runtimes.waiter cimport Waiter
from .connection cimport Connection

cdef enum:
    SMALL = 4096  # bytes of a message that may be kept a moment longer than it is wanted


cdef enum Wanted:  # besides a message: what there is once the connection has closed cleanly
    ONE  # None
    ITEM  # StopAsyncIteration
    BATCH  # an empty list
    STREAM  # None
    CHUNK  # an error, as the message has not ended

cdef enum ReadState:
    NEW
    SUSPENDED
    FINISHED


cdef class MessageStream:
    cdef Connection connection
    cdef int kind
    cdef uint64_t number
    cdef object first  # the chunk that has shown that there is a message, or None
    cdef bint ended

    cdef int end(self) except -1


cdef class NextMessage:
    cdef Connection connection
    cdef ReadState state
    cdef Unit unit
    cdef bint control
    cdef Wanted wanted
    cdef MessageStream stream  # that wants a chunk

    cdef int step(self, PyObject *value, PyObject **result) except -1
    cdef bint still_waits(self, PyObject *value, PyObject **result) except -1
    cdef int leave_other_stream(self) noexcept
    cdef object end(self)
    cdef Waiter begin_to_wait(self)
    cdef bint suspend(self, Waiter waiter, PyObject **result) except -1
    cdef bint wait_on(self, Waiter waiter, PyObject *value, PyObject **result) except -1
    cdef object made_of(self, Message message)
    cdef object make_of(self, Message message)
    cdef list gather(self, Message message)
    cdef int leave(self) except -1
    cdef int give_up(self) except -1
    cdef str called(self)
    cdef object delegate(self)


cdef object next_message(Connection connection, Unit unit, bint control, Wanted wanted)
