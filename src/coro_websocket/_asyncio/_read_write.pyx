"""`read` and `write`: what the user holds of a connection.

A read takes its message at the moment its task goes on, never before, so that a
read that is cancelled has taken nothing. A write is encoded when it is called.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from .._messages cimport Message
from ._connection cimport Connection
from ._waiting cimport (
    IDLE,
    WAITING,
    WOKEN,
    Waiter,
    awaitable_install,
    awaitable_next,
    awaitable_send,
    raise_thrown,
)

from .._close import ABNORMAL, NORMAL
from .._errors import ConcurrencyError

cdef enum ReadState:
    NEW
    SUSPENDED
    FINISHED


@cython.final
@cython.freelist(64)
cdef class NextMessage:
    """The awaitable of one message. It is a coroutine to asyncio, as create_task wants it."""

    cdef Connection connection
    cdef ReadState state
    cdef bint fragments
    cdef bint control
    cdef bint iterating

    cdef int step(self, PyObject **result) except -1:
        """As awaitable.h has it: 0 returns the message, 1 yields a waiter."""
        cdef Connection connection = self.connection
        cdef Message message
        cdef Waiter waiter
        if self.state == FINISHED:
            raise RuntimeError("cannot reuse already awaited read()")
        if self.state == SUSPENDED and connection.waiter.state == WAITING:
            raise RuntimeError("read() is being awaited already")
        if self.state == NEW and connection.reader is not None:
            raise ConcurrencyError(
                "another task is reading from this connection: one task reads at a time"
            )
        message = connection.take(self.fragments, self.control)
        if message is not None:
            self.leave()
            Py_INCREF(message)
            result[0] = <PyObject *>message
            return 0
        if connection.lost:
            self.leave()
            error = connection.end_error()
            if error is not None:
                raise error.with_traceback(None)
            if self.iterating:
                raise StopAsyncIteration
            Py_INCREF(None)
            result[0] = <PyObject *>None
            return 0
        waiter = connection.waiter
        if waiter is None or (waiter.state != IDLE and waiter.state != WOKEN):
            waiter = connection.waiter = Waiter.__new__(Waiter, connection.loop)
        waiter.arm()
        self.state = SUSPENDED
        connection.reader = self
        connection.reader_fragments = self.fragments
        connection.reader_control = self.control
        if connection.paused:
            connection.paused = False
            connection.resume_reading()
        Py_INCREF(waiter)
        result[0] = <PyObject *>waiter
        return 1

    cdef int leave(self) except -1:
        """No task waits in this read any more."""
        if self.connection.reader is self:
            self.connection.reader = None
        self.state = FINISHED
        return 0

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *result
        cdef int status = self.step(&result)
        outcome = <object>result
        Py_DECREF(outcome)  # the one reference is now `outcome`'s
        if status == 1:
            return outcome
        raise StopIteration(outcome)

    cdef int give_up(self) except -1:
        """The task goes on without a message; what came meanwhile is now unattended."""
        cdef bint suspended = self.state == SUSPENDED
        self.leave()
        if suspended:
            self.connection.unattended()
        return 0

    def throw(self, kind, value=None, traceback=None):
        self.give_up()
        raise_thrown(kind, value, traceback)

    def close(self):
        self.give_up()

    def __repr__(self):
        return f"<read() {('not started', 'waiting', 'finished')[self.state]}>"


cdef PyObject *next_message_next(PyObject *self) except NULL:
    cdef PyObject *result = NULL
    cdef int status = (<NextMessage>self).step(&result)
    return awaitable_next(status, result)


cdef int next_message_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    return awaitable_send((<NextMessage>self).step(result))


awaitable_install(NextMessage, <void *>next_message_next, <void *>next_message_send)


cdef class Read:
    def __cinit__(self, Connection connection not None, *, bint fragments, bint control):
        self.connection = connection
        self._fragments = fragments
        self._control = control

    cdef object next(self, bint fragments, bint control, bint iterating):
        cdef NextMessage awaitable = NextMessage.__new__(NextMessage)
        awaitable.connection = self.connection
        awaitable.state = NEW
        awaitable.fragments = fragments
        awaitable.control = control
        awaitable.iterating = iterating
        return awaitable

    def __call__(self, *, fragments=None, control=None):
        return self.next(
            self._fragments if fragments is None else fragments,
            self._control if control is None else control,
            False,
        )

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.next(self._fragments, self._control, True)

    def fragments(self, *, control=None):
        return Read(
            self.connection,
            fragments=True,
            control=self._control if control is None else control,
        )

    @property
    def close_code(self):
        cdef Connection connection = self.connection
        if connection.engine.close_code is not None:
            return connection.engine.close_code
        return ABNORMAL if connection.lost else None

    @property
    def close_reason(self):
        return self.connection.engine.close_reason

    def __repr__(self):
        return f"<read {describe(self.connection)}>"


cdef class Write:
    def __cinit__(self, Connection connection not None):
        self.connection = connection

    def __call__(self, message=None, *, bint compress=True):
        return self.connection.write(message, compress)

    def ping(self, payload=None):
        return self.connection.ping(payload)

    def pong(self, payload=b""):
        return self.connection.pong(payload)

    def close(self, code=NORMAL, reason=""):
        return self.connection.close(code, reason)

    async def wait_closed(self):
        await self.connection.wait_closed()

    def __repr__(self):
        return f"<write {describe(self.connection)}>"


cdef str describe(Connection connection):
    role = "client" if connection.engine.client else "server"
    if connection.lost:
        return f"{role}, closed"
    return f"{role}, closing" if connection.engine.close_sent else f"{role}, open"
