"""`read` and `write`: what the user holds of a connection.

A write is encoded when it is called, or, called where the connection's loop does not run,
when that loop awaits it.
"""

from cpython.object cimport PyObject

from .._rfc6455.receiving cimport FRAME, MESSAGE, PIECE, Unit
from .._runtimes.runtime cimport Runtime, runs_here
from .awaitables cimport BATCH, ITEM, ONE, STREAM, next_message
from .connection cimport Connection

import functools

from .._advice import check_read_call, check_write_call
from .._rfc6455.close_codes import ABNORMAL, NORMAL
from .._rfc6455.messages import as_message, is_fragments

ctypedef PyObject *(*Call)(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept
ctypedef int (*CallCheck)(PyObject *arguments, PyObject *keywords) except -1

cdef extern from "call.h":
    Call call_install(object type, Call call) noexcept
    PyObject *call_checked(
        Call own,
        CallCheck check,
        Py_ssize_t usual,
        PyObject *self,
        PyObject *arguments,
        PyObject *keywords,
    ) noexcept


cdef inline int check_can_wait(Connection connection, bint receiving) except -1:
    """Before anything is sent: where somebody else would have to do that, it is refused."""
    if connection.runtime.pulls and not connection.stream.lost:
        connection.runtime.check_can_wait(connection.stream, receiving)
    return 0


async def run_in_loop(Runtime runtime not None, str name, call):
    """Call what is awaited, now that the connection's loop runs."""
    if not runtime.check_thread():
        raise runtime.other_loop(f"{name}()")
    return await call()


cdef object in_its_loop(Runtime runtime, str name, call):
    """A coroutine for the connection's loop to run: it does what was asked for elsewhere."""
    coroutine = run_in_loop(runtime, name, call)
    # Under which Python warns that it was never awaited
    coroutine.__name__ = coroutine.__qualname__ = name
    return coroutine


cdef class Read:
    """`read`: gives the messages of a connection, to one task at a time.

        msg = await read()        # a Message, or None once closed cleanly
        async for msg in read:    # until closed cleanly
            print(msg.payload)

    A cancelled read loses no message. The connection ends cleanly when we close it, or
    when the peer closes it with 1000, 1001 or no code; however else it ends, every read
    from then on raises. So it does where the peer closed in the middle of a message, or where
    fragments of a message have been read and no more will come. What came before the end is
    given first.
    """

    def __cinit__(self, Connection connection not None, *, bint fragments, bint control):
        self.connection = connection
        self._unit = FRAME if fragments else MESSAGE
        self._control = control

    def __call__(self, *, fragments=None, control=None):
        """Wait for the next message (`read` of luvit's coro-websocket page).

        Args:
            fragments: give the next frame by itself, with its own `fin` and opcode, rather
                than whole messages. Default: the option `fragments`.
            control: give Ping, Pong and Close frames too, as the original does; they have
                been answered already. Default: the option `control`.

        Returns:
            The Message, or None once the connection has closed cleanly. `payload` is str
            for text, bytes for all else. A character that a text fragment ends in the
            middle of is given with the next fragment.

        Raises:
            ConnectionClosedError: the connection ended, with `code` and `reason`: the peer
                closed it with an error code, or it was lost (1006, RFC 6455 section 7.1.5).
            ProtocolError: the peer broke the protocol; it has been told (section 7.1.7).
            LimitError: a message was larger than `max_message_size` (1009).
            PingTimeout: the peer has gone silent (`ping_interval`, `ping_timeout`).
            ConcurrencyError: another task is reading.
        """
        cdef Unit unit = self._unit
        if fragments is not None:
            unit = FRAME if fragments else MESSAGE
        return next_message(
            self.connection, unit, self._control if control is None else control, ONE
        )

    def __aiter__(self):
        return self

    def __anext__(self):
        return next_message(self.connection, self._unit, self._control, ITEM)

    def batch(self):
        """Wait for the next message, and take those that have come with it in one go.

            while messages := await read.batch():
                for msg in messages: ...

        Cheaper than reading them one by one where very many small messages come. A batch
        ends before a control frame, and with the message that makes it `read_high_water`
        bytes or more, decompressed.

        Returns:
            The messages that `read()` would have given, one at least; [] once the connection
            has closed cleanly.

        Raises:
            As `read()` does, once every message before the end has been given.
        """
        return next_message(self.connection, self._unit, self._control, BATCH)

    def stream(self):
        """Wait for the next message to begin, and take it piece by piece as its bytes arrive.

            while (message := await read.stream()) is not None:
                async for chunk in message:
                    file.write(chunk)

        For messages that are larger than memory, in one frame or in many, compressed or not:
        `max_message_size` bounds only what one chunk becomes once decompressed. While chunks are
        not taken, the peer waits (`read_high_water`). Reading anything else gives the message up:
        what is left of it is dropped as it comes, and the next message follows.

        Returns:
            A MessageStream, or None once the connection has closed cleanly.

        Raises:
            As `read()` does.
        """
        return next_message(self.connection, PIECE, False, STREAM)

    def fragments(self, *, control=None):
        """A reader of the same connection that gives each frame as it arrives.

        Use it as `read` itself: `async for frame in read.fragments()`. The first frame of
        a message has its opcode, the others 0; the last has `fin` (RFC 6455 section 5.4).
        `max_message_size` then bounds each frame.
        """
        return Read(
            self.connection,
            fragments=True,
            control=self._control if control is None else control,
        )

    @property
    def close_code(self):
        """The close code (RFC 6455 section 7.1.5); None while the connection is open.

        The code of the peer's Close frame, 1005 if it had none; 1006 if there was no
        Close frame; the code we failed the connection with if the peer broke the protocol.
        """
        cdef Connection connection = self.connection
        if connection.engine.close_code is not None:
            return connection.engine.close_code
        return ABNORMAL if connection.stream.lost else None

    def _end_error(self):
        """The error that the connection ended with; None if cleanly. To be asked at its end."""
        return self.connection.end_error()

    @property
    def close_reason(self):
        """The reason in the Close frame (RFC 6455 section 7.1.6), "" if there is none."""
        return self.connection.engine.close_reason

    @property
    def stats(self):
        """What the connection has counted up to now."""
        return self.connection.stats

    def __repr__(self):
        return f"<read {describe(self.connection)}>"


cdef class Write:
    """`write`: sends messages; any number of tasks may write at once.

        await write("text")                 # a text message
        await write(b"bytes")               # a binary message
        await write({"payload": "data"})    # opcode 2 unless it says another
        await write(["a ", "message"])      # one message in two fragments
        await write(None)                   # closes

    A message is encoded when `write` is called, whole or not at all; awaiting it waits
    until there is room for more. Frames of different messages never interleave: a message
    that comes behind the fragments of another task, or behind one that a thread compresses,
    is encoded when its turn comes, and never if it is cancelled before.
    """

    def __cinit__(self, Connection connection not None):
        self.connection = connection

    def __call__(self, message=None, *, bint compress=True):
        """Send a message (`write` of luvit's coro-websocket page).

        Args:
            message: str (sent as text), bytes, bytearray or memoryview (as binary), a
                Message or a mapping with its fields (a frame as the fields say; opcode 2
                by default), an iterable or async iterable of str or of bytes-like
                fragments (one fragmented message), or None (closes, as `close()` does).
            compress: False sends this message as it is, without compressing it or letting
                another extension transform it. What is 64 KiB or more is compressed in
                another thread, so that the event loop goes on.

        Returns:
            An awaitable. It is done at once while less than `write_high_water` bytes wait
            for the peer to take them, and otherwise when that has sunk to a quarter.

        Raises:
            ConnectionClosedError: the connection is closed or closing; nothing was sent.
            InvalidMessageType, InvalidMessage: what was given is not a message that may be
                sent (RFC 6455 sections 5.2 to 5.6), an empty mapping and an iterable without
                fragments among that; nothing was sent.
            ConcurrencyError: this task began a fragmented message (`fin=False`) and starts
                another before its last fragment. Other tasks wait for their turn.
            OtherEventLoopError: awaited in an event loop that is not the connection's.

        Called in another thread, it does nothing yet and returns a coroutine for
        `asyncio.run_coroutine_threadsafe(write(message), loop)`. So do `ping`, `pong` and `close`.
        """
        if not runs_here(self.connection.runtime):
            return self.write_later(message, compress)
        check_can_wait(self.connection, message is None)
        return self.connection.write(message, compress)

    cdef object write_later(self, object message, bint compress):
        if message is not None and not is_fragments(message):
            message = as_message(message)  # taken as it is now
        call = functools.partial(self, message, compress=compress)
        return in_its_loop(self.connection.runtime, "write", call)

    def ping(self, payload=None):
        """Send a Ping (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes; by default 8 random ones.

        Returns:
            A future of the round-trip time in seconds. It need not be awaited. It raises
            ConnectionClosedError if the connection ends before the Pong comes.
        """
        cdef Connection connection = self.connection
        if not runs_here(connection.runtime):
            call = functools.partial(self.ping, payload)
            return in_its_loop(connection.runtime, "write.ping", call)
        return connection.ping(payload)

    def pong(self, payload=b""):
        """Send a Pong that no Ping asked for (RFC 6455 section 5.5.3): a heartbeat.

        payload: at most 125 bytes. Pings are answered without this.
        """
        cdef Connection connection = self.connection
        if not runs_here(connection.runtime):
            call = functools.partial(self.pong, payload)
            return in_its_loop(connection.runtime, "write.pong", call)
        check_can_wait(connection, False)
        return connection.pong(payload)

    def close(self, code=NORMAL, reason=""):
        """Close the connection with a closing handshake (RFC 6455 section 7.1.2).

        The Close frame is sent at once; awaiting waits until the connection is closed, at
        most about `close_timeout` seconds. Messages that are still on their way can be
        read. Closing a closed connection does nothing.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; None for a Close without a
                code (section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            InvalidMessage: the code or the reason may not be sent.
        """
        cdef Connection connection = self.connection
        if not runs_here(connection.runtime):
            call = functools.partial(self.close, code, reason)
            return in_its_loop(connection.runtime, "write.close", call)
        check_can_wait(connection, True)
        return connection.close(code, reason)

    async def wait_closed(self):
        """Wait until the connection is closed, whoever closes it."""
        cdef Connection connection = self.connection
        if not runs_here(connection.runtime):
            raise connection.runtime.other_loop("write.wait_closed()")
        await connection.wait_closed()

    @property
    def stats(self):
        """What the connection has counted up to now."""
        return self.connection.stats

    def __repr__(self):
        return f"<write {describe(self.connection)}>"


cdef int check_read(PyObject *arguments, PyObject *keywords) except -1:
    check_read_call(<tuple>arguments, <dict>keywords if keywords != NULL else ())
    return 0


cdef int check_write(PyObject *arguments, PyObject *keywords) except -1:
    check_write_call(<tuple>arguments, <dict>keywords if keywords != NULL else ())
    return 0


cdef PyObject *call_read(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept:
    return call_checked(own_call_of_read, check_read, 0, self, arguments, keywords)


cdef PyObject *call_write(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept:
    return call_checked(own_call_of_write, check_write, 1, self, arguments, keywords)


cdef Call own_call_of_read = call_install(Read, call_read)
cdef Call own_call_of_write = call_install(Write, call_write)


cdef str describe(Connection connection):
    role = "client" if connection.engine.client else "server"
    if connection.stream.lost:
        return f"{role}, closed"
    return f"{role}, closing" if connection.engine.close_sent else f"{role}, open"
