"""What is awaited for a message: the next one, a batch of them, one that is taken in chunks.

A read takes its message at the moment its task goes on, never before, so that a
read that is cancelled has taken nothing.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from .._rfc6455.frames cimport BINARY, FIN, TEXT
from .._rfc6455.messages cimport Message
from .._rfc6455.receiving cimport FRAME, PIECE, Unit
from .._runtimes.runtime cimport kept_thread, runs_here, this_thread
from .._runtimes.waiter cimport (
    IDLE,
    WAITING,
    WOKEN,
    Waiter,
    as_exception,
    awaitable_install,
    awaitable_next,
    awaitable_send,
    forbid_construction,
    raise_thrown,
)
from .connection cimport Connection

from .._advice import no_attribute, not_iterable
from .._errors import ConcurrencyError

cdef extern from "Python.h":
    PyObject *Py_None
    # 0: it has returned, 1: it has yielded
    int PyIter_Send(object iterator, object value, PyObject **result) except -1

cdef dict CALLS = {
    ONE: "read()",
    ITEM: "anext(read)",
    BATCH: "read.batch()",
    STREAM: "read.stream()",
    CHUNK: "anext(stream)",
}

cdef dict ITERATE = {
    ONE: "'async for msg in read', without a call",
    ITEM: "'async for msg in read'",
    BATCH: "'for msg in await read.batch()'",
    STREAM: "'async for chunk in await read.stream()'",
    CHUNK: "'async for frame in read.fragments()'",
}


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class NextMessage:
    """The awaitable of one message, or of a batch. It is a coroutine to asyncio, as create_task
    wants it."""

    cdef int step(self, PyObject *value, PyObject **result) except -1:
        """As awaitable.h has it: 0 returns the message, 1 yields what it waits with.

        value: what the loop sends; it is for whoever the waiting is delegated to.
        """
        cdef Connection connection = self.connection
        cdef Message message
        cdef Waiter waiter
        result[0] = NULL
        if self.state == FINISHED:
            raise awaited_before()
        if this_thread() != kept_thread(&connection.runtime.thread):
            if not runs_here(connection.runtime):
                raise connection.runtime.other_loop("read()")
        if self.state == SUSPENDED:
            if self.still_waits(value, result):
                return 1
        elif connection.reader is not None:
            raise two_readers()
        if connection.streaming:
            self.leave_other_stream()
        while True:
            message = connection.take(self.unit, self.control)
            if message is not None:
                self.leave()
                return give(message if self.wanted <= ITEM else self.made_of(message), result)
            if connection.has_ended():
                self.leave()
                return give(self.end(), result)
            waiter = self.begin_to_wait()
            if not connection.stream.lost:
                if not waiter.delegates:
                    return give(waiter, result) + 1
                if self.suspend(waiter, result):
                    return 1
            waiter.gone_on()

    cdef bint still_waits(self, PyObject *value, PyObject **result) except -1:
        """Whether it goes on waiting now that its task runs; what with is in `result` then."""
        cdef Waiter waiter = self.connection.waiter
        if waiter.state == WAITING and not waiter.pulls:
            raise RuntimeError("read() is being awaited already")
        if waiter.delegate is not None and self.wait_on(waiter, value, result):
            return True
        waiter.gone_on()
        return False

    cdef int leave_other_stream(self) noexcept:
        """Whoever reads on has given up the message that was streamed."""
        cdef Connection connection = self.connection
        if self.stream is None or self.stream.number != connection.streaming:
            connection.streaming = 0
            connection.skipping = True
        return 0

    cdef object end(self):
        """What is given once no more will come, unless that is an error."""
        cdef Connection connection = self.connection
        connection.engine.forget()  # nothing that is here can become a message
        error = connection.end_error()
        if error is not None:
            raise error.with_traceback(None)
        if self.wanted == ITEM:
            raise StopAsyncIteration
        if self.wanted == CHUNK:
            raise connection.engine.cut_off_error()
        return [] if self.wanted == BATCH else None

    cdef Waiter begin_to_wait(self):
        """Nothing is here: be who reads, and have the waiter armed that wakes the task."""
        cdef Connection connection = self.connection
        cdef Waiter waiter = connection.waiter
        if not runs_here(connection.runtime):
            raise connection.runtime.other_loop("read()")
        if connection.reader is not None and connection.reader is not self:
            raise two_readers()  # the other has begun while an extension or a log handler ran
        if waiter is None or (waiter.state != IDLE and waiter.state != WOKEN):
            waiter = connection.waiter = connection.runtime.new_waiter(connection.stream, True)
        waiter.arm()
        self.state = SUSPENDED
        connection.reader = self
        connection.reader_unit = self.unit
        connection.reader_control = self.control
        if connection.stream.paused:
            try:
                connection.stream.resume()
            except MemoryError:
                connection.fail_memory()
        return waiter

    cdef bint suspend(self, Waiter waiter, PyObject **result) except -1:
        """Wait as the runtime has it; False if that is over already."""
        try:
            waiter.delegate = waiter.suspend()
        except BaseException:
            self.give_up()
            raise
        return self.wait_on(waiter, Py_None, result)

    cdef bint wait_on(self, Waiter waiter, PyObject *value, PyObject **result) except -1:
        """Let whoever the waiting is delegated to go on; False once that is over."""
        delegate = waiter.delegate
        try:
            if PyIter_Send(delegate, <object>value, result):
                return True
        except BaseException:
            self.give_up()
            raise
        Py_DECREF(<object>result[0])
        result[0] = NULL
        waiter.delegate = None
        if self.state == FINISHED:  # it was given up meanwhile
            raise awaited_before()
        return False

    cdef object made_of(self, Message message):
        """What is given in place of the message; the next read gets it if that fails."""
        try:
            return self.make_of(message)
        except MemoryError:
            self.connection.ready = message
            raise

    cdef object make_of(self, Message message):
        if self.wanted == BATCH:
            return self.gather(message)
        if self.wanted == STREAM:
            return new_stream(self.connection, message)
        if message.bits & FIN:
            self.stream.end()
            if not message.len:
                raise StopAsyncIteration
        return message.payload

    cdef list gather(self, Message message):
        """The message and those that are here behind it, up to the next control frame.

        A Close is answered, and nothing can be sent any more, once it is parsed. It ends at
        `read_high_water`, as what is here may be compressed.
        """
        cdef Connection connection = self.connection
        cdef list messages = [message]
        cdef size_t size = message.len
        while size < connection.read_high_water and connection.engine.data_is_next():
            message = connection.take(self.unit, self.control)
            if message is None:
                break
            try:
                messages.append(message)
            except MemoryError:  # the next read gets it
                connection.ready = message
            if connection.ready is message:
                break
            size += message.len
        return messages

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
        cdef int status = self.step(<PyObject *>value, &result)
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
            self.connection.waiter.delegate = None
            self.connection.waiter.gone_on()
            try:
                self.connection.unattended()
            except MemoryError:
                self.connection.fail_memory()
        return 0

    # What is done to a call of `read` that should have been awaited

    def __aiter__(self):
        not_iterable(self.called(), ITERATE[self.wanted if self.unit != FRAME else CHUNK])

    def __getattr__(self, name):
        no_attribute(self.called(), name)

    cdef str called(self):
        return CALLS[self.wanted]

    def throw(self, kind, value=None, traceback=None):
        delegate = self.delegate()
        if delegate is None:
            self.give_up()
            raise_thrown(kind, value, traceback)
        try:
            return delegate.throw(as_exception(kind, value, traceback))
        except StopIteration:  # it has caught that, and the waiting is over
            pass
        except BaseException:
            self.give_up()
            raise
        if self.state == SUSPENDED:
            self.connection.waiter.delegate = None
        return self.send(None)

    def close(self):
        delegate = self.delegate()
        try:
            if delegate is not None:
                delegate.close()
        finally:
            self.give_up()

    cdef object delegate(self):
        """Who waits for this read, if it does not itself."""
        return self.connection.waiter.delegate if self.state == SUSPENDED else None

    def __repr__(self):
        return f"<read() {('not started', 'waiting', 'finished')[self.state]}>"


cdef PyObject *next_message_next(PyObject *self) except NULL:
    cdef NextMessage awaitable = <NextMessage>self
    cdef PyObject *result = NULL
    cdef int status = awaitable.step(Py_None, &result)
    cdef bint small = (
        status == 0
        and awaitable.wanted <= ITEM
        and result != Py_None
        and (<Message>result).len <= SMALL
    )
    return awaitable_next(status, result, small)


cdef int next_message_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    return awaitable_send((<NextMessage>self).step(value, result))


awaitable_install(NextMessage, <void *>next_message_next, <void *>next_message_send)


cdef inline int give(object outcome, PyObject **result) noexcept:
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return 0


cdef object awaited_before():
    return RuntimeError("cannot reuse already awaited read()")


cdef object next_message(Connection connection, Unit unit, bint control, Wanted wanted):
    cdef NextMessage awaitable = NextMessage.__new__(NextMessage)
    awaitable.connection = connection
    awaitable.state = NEW
    awaitable.unit = unit
    awaitable.control = control
    awaitable.wanted = wanted
    return awaitable


@cython.final
@cython.auto_pickle(False)
cdef class Chunk:
    """The awaitable of a chunk that is here already, or of the end; it takes it when it runs."""

    cdef MessageStream stream

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        stream = self.stream
        if stream is None:
            raise RuntimeError("this chunk has been awaited already")
        self.stream = None
        payload = stream.first
        stream.first = None
        if payload is not None:
            raise StopIteration(payload)
        if stream.ended:
            raise StopAsyncIteration
        raise ConcurrencyError("another task has read this chunk: one task reads at a time")


@cython.auto_pickle(False)
cdef class MessageStream:
    """A message that is being read piece by piece: iterate over it with `async for`.

    The chunks are str for text, split between characters, and bytes for binary; none is empty.
    A chunk is whatever has come. A cancelled `anext()` loses nothing: go on iterating. If the
    connection ends before the message, iterating raises ConnectionClosedError (or the other
    errors of `read()`), so that a message that was cut off is never taken for a whole one.
    """

    @property
    def opcode(self):
        """1 for text, 2 for binary (RFC 6455 section 5.6)."""
        return self.kind

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Chunk chunk
        cdef NextMessage awaitable
        if self.first is not None or self.ended:
            chunk = Chunk.__new__(Chunk)
            chunk.stream = self
            return chunk
        if self.connection.streaming != self.number:
            raise ConcurrencyError(
                "this message was given up when the next one was asked for: what was left of it "
                "is dropped"
            )
        awaitable = next_message(self.connection, PIECE, False, CHUNK)
        awaitable.stream = self
        return awaitable

    cdef int end(self) except -1:
        self.ended = True
        self.connection.streaming = 0
        return 0

    def __repr__(self):
        kind = "text" if self.kind == TEXT else "binary"
        return f"<{kind} message{', ended' if self.ended else ''}>"


cdef MessageStream new_stream(Connection connection, Message message):
    cdef MessageStream stream = MessageStream.__new__(MessageStream)
    stream.connection = connection
    stream.kind = TEXT if isinstance(message.payload, str) else BINARY
    stream.first = message.payload or None
    connection.streams += 1
    stream.number = connection.streams
    connection.streaming = stream.number
    if message.bits & FIN:
        stream.end()
    return stream


for made_here in (NextMessage, Chunk, MessageStream):
    forbid_construction(made_here)


cdef object two_readers():
    return ConcurrencyError(
        "another task is reading from this connection: one task reads at a time"
    )
