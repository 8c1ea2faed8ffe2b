"""`receive` and `send` of an open connection, as an ASGI application calls them.

The hot path: what comes resumes the task that awaits `receive()` then and there, with the event;
`send()` encodes at once, and what is awaited is only that there is room. Everything else, and every
error, is for a subclass in Python.

The rule: a `receive()` that is cancelled has taken nothing.
"""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact
from cpython.dict cimport PyDict_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_CheckExact

from .._connection.awaitables cimport ONE, SMALL, NextMessage, next_message
from .._rfc6455.frames cimport TEXT, opcode_of
from .._rfc6455.messages cimport Message, as_message
from .._rfc6455.receiving cimport MESSAGE
from .._runtimes.runtime cimport runs_here
from .._runtimes.waiter cimport (
    as_exception,
    awaitable_install,
    awaitable_next,
    awaitable_send,
    forbid_construction,
)
from .app_connection cimport AppConnection

cdef extern from "Python.h":
    PyObject *Py_None
    # 0: it has returned, 1: it has yielded
    int PyIter_Send(object iterator, object value, PyObject **result) except -1
    PyObject *PyDict_GetItemWithError(object mapping, object key) except? NULL

cdef str TYPE = "type"
cdef str TEXT_KEY = "text"
cdef str BYTES_KEY = "bytes"
cdef str SEND = "websocket.send"
cdef str RECEIVE = "websocket.receive"


cdef class Exchange:
    """The events of one connection.

    Attributes:
        connection: None until the application has accepted.
        connect_told: whether the application has had its first event.
    """

    cdef readonly AppConnection connection
    cdef public bint connect_told
    cdef public bint others_wait  # for the task that waits in `receive()` to have its event
    cdef dict closed  # the event of the end, once the application or the server has closed
    cdef bint messages_first  # before that, what has come

    # What a subclass provides

    def receive_first(self):
        """A coroutine of `receive()` before there is a connection."""
        raise NotImplementedError

    def send_other(self, event):
        """A coroutine of `send()` for all but a plain message on an open connection."""
        raise NotImplementedError

    def take_turn(self):
        """A coroutine that waits until no other task waits in `receive()`, perhaps."""
        raise NotImplementedError

    def pass_turn(self):
        """No task waits in `receive()` any more: let one do so, of those that wait for that."""
        raise NotImplementedError

    # The application's

    def receive(self):
        """Wait for the next event: what the application is given as `receive`."""
        cdef ReceiveEvent awaitable
        if self.connection is None or not self.connect_told:
            return self.receive_first()
        self.connection.receives()
        awaitable = ReceiveEvent.__new__(ReceiveEvent)
        awaitable.exchange = self
        awaitable.message = next_message(self.connection, MESSAGE, False, ONE)
        return awaitable

    def send(self, event):
        """Send an event: what the application is given as `send`."""
        cdef AppConnection connection = self.connection
        cdef PyObject *found
        if connection is None or self.closed is not None or not PyDict_CheckExact(event):
            return self.send_other(event)
        found = PyDict_GetItemWithError(event, TYPE)
        if found == NULL or not is_send(<object>found):
            return self.send_other(event)
        if connection.stream.broken or connection.engine.close_sent:
            return self.send_other(event)
        if not runs_here(connection.runtime):
            return self.send_other(event)
        found = PyDict_GetItemWithError(event, BYTES_KEY)
        if found == NULL or found == Py_None:
            found = PyDict_GetItemWithError(event, TEXT_KEY)
            if found == NULL or not PyUnicode_CheckExact(<object>found):
                return self.send_other(event)
        elif not PyBytes_CheckExact(<object>found):
            return self.send_other(event)
        message = <object>found  # kept, whatever becomes of the event meanwhile
        if connection.engine.rsv:
            return connection.write_message(as_message(message), True)
        return connection.write(message, True)

    # The subclass's

    def open(self, AppConnection connection not None):
        """The application has accepted."""
        self.connection = connection

    def tell_closed(self, dict event, *, bint messages_first):
        """From here on `receive()` gives this; messages_first: once what has come is received."""
        if self.closed is None:
            self.closed = event
            self.messages_first = messages_first
            if self.connection is not None:
                self.connection.wake_reader()

    @property
    def closed_event(self):
        return self.closed

    async def write(self, message):
        """Send a message that is no exact str or bytes, in the connection's loop."""
        cdef AppConnection connection = self.connection
        if not runs_here(connection.runtime):
            raise connection.runtime.other_loop("send()")
        await connection.write_message(as_message(message), True)


cdef inline bint is_send(object kind):
    return kind is SEND or kind == SEND


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class ReceiveEvent:
    """The awaitable of one event. It is a coroutine to asyncio, as create_task wants it."""

    cdef Exchange exchange
    cdef NextMessage message
    cdef bint small  # what it gives is
    cdef object delegate  # waits until no other task waits

    cdef int step(self, PyObject *value, PyObject **result) except -1:
        """As awaitable.h has it."""
        cdef Exchange exchange = self.exchange
        cdef AppConnection connection = exchange.connection
        cdef int status
        while True:
            if self.delegate is not None:
                if PyIter_Send(self.delegate, <object>value, result):
                    return 1
                Py_DECREF(<object>result[0])
                result[0] = NULL
                self.delegate = None
                value = Py_None
            if connection.reader is None or connection.reader is self.message:
                break
            if not runs_here(connection.runtime):
                raise connection.runtime.other_loop("receive()")
            self.delegate = exchange.take_turn()
        try:
            status = self.step_alone(value, result)
        finally:
            if exchange.others_wait and connection.reader is None:
                exchange.pass_turn()
        return status

    cdef int step_alone(self, PyObject *value, PyObject **result) except -1:
        cdef Exchange exchange = self.exchange
        cdef int status
        if exchange.closed is not None:
            return give(self.take_at_end(), result)
        status = self.message.step(value, result)
        if status == 1:
            return 1
        outcome = <object>result[0]
        Py_DECREF(outcome)  # the one reference is now `outcome`'s
        if outcome is None:
            return give(exchange.connection.disconnect_event(), result)
        self.small = (<Message>outcome).len <= SMALL
        return give(self.event_of(<Message>outcome), result)

    cdef object take_at_end(self):
        """The application, or the server, has closed."""
        cdef Exchange exchange = self.exchange
        cdef Message message = None
        if exchange.messages_first:
            message = exchange.connection.take(MESSAGE, False)
        self.message.give_up()
        return exchange.closed.copy() if message is None else self.event_of(message)

    cdef dict event_of(self, Message message):
        """The event of a message, which the next `receive()` gets if that fails."""
        try:
            if opcode_of(message.bits) == TEXT:
                return {TYPE: RECEIVE, TEXT_KEY: message.payload}
            return {TYPE: RECEIVE, BYTES_KEY: message.payload}
        except MemoryError:
            self.exchange.connection.ready = message
            raise

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *result
        cdef int status = self.step(<PyObject *>value, &result)
        outcome = <object>result
        Py_DECREF(outcome)
        if status == 1:
            return outcome
        raise StopIteration(outcome)

    def throw(self, kind, value=None, traceback=None):
        if self.delegate is not None:
            try:
                return self.delegate.throw(as_exception(kind, value, traceback))
            except StopIteration:  # it has caught that, and the waiting is over
                self.delegate = None
            return self.send(None)
        try:
            return self.message.throw(kind, value, traceback)
        finally:
            if self.exchange.others_wait:
                self.exchange.pass_turn()

    def close(self):
        try:
            if self.delegate is not None:
                self.delegate.close()
        finally:
            self.message.close()
            if self.exchange.others_wait:
                self.exchange.pass_turn()

    def __repr__(self):
        return f"<receive() of {self.message!r}>"


cdef PyObject *receive_next(PyObject *self) except NULL:
    cdef PyObject *result = NULL
    cdef ReceiveEvent awaitable = <ReceiveEvent>self
    cdef int status = awaitable.step(Py_None, &result)
    return awaitable_next(status, result, awaitable.small)


cdef int receive_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    return awaitable_send((<ReceiveEvent>self).step(value, result))


awaitable_install(ReceiveEvent, <void *>receive_next, <void *>receive_send)
forbid_construction(ReceiveEvent)


cdef inline int give(object outcome, PyObject **result) noexcept:
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return 0
