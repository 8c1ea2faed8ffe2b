"""A consumer that is written in Python: it is handed bytes, and sends bytes.

For what is not a WebSocket connection: tests prove a stream with it, whatever the stream is.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

from .._rfc6455.buffers cimport Outbox
from .stream cimport Consumer, Stream

cdef enum:
    ROOM = 65536  # bytes that are received at once


cdef class ByteConsumer(Consumer):
    """A stream's bytes for Python code: a subclass says what becomes of them.

    It is called as a native consumer is: from the loop's callbacks, and with `lost` once. Nothing
    may be asked of the stream after that but `abort`.
    """

    cdef readonly Stream stream
    cdef Outbox outbox
    cdef bytearray buffer
    cdef object __weakref__

    def __init__(self, Stream stream not None):
        self.outbox = Outbox()
        self.buffer = bytearray(ROOM)
        self.stream = stream
        stream.consumer = self
        stream.outbox = self.outbox
        stream.begin()

    # What a subclass says

    def data_received(self, bytes data):
        """Bytes have come, one at least."""

    def room_made(self):
        """The stream has taken what it could."""

    def sending_failed(self, cause):
        """Nothing more can be sent; cause: the error, None if there was none."""

    def peer_ending(self):
        """The peer sends no more; the stream ends once it has taken what is sent."""

    def lost(self, cause):
        """There is no stream any more; cause: the error, None if there was none."""

    # What it asks of the stream

    def send(self, const uint8_t[::1] data not None):
        """Send bytes behind those that wait."""
        if data.shape[0]:
            self.outbox.append(&data[0], data.shape[0])
        self.stream.queue()

    def send_with_payload(self, const uint8_t[::1] data not None):
        """As `send`, from where they are; only where `uncopied` says so and nothing blocks."""
        self.stream.send_with_payload(&data[0], data.shape[0])

    def pause(self):
        self.stream.pause()

    def resume(self):
        self.stream.resume()

    def half_close(self):
        """Send nothing more; what was sent must have been taken."""
        self.stream.half_close()

    def abort(self):
        self.stream.abort()

    @property
    def uncopied(self):
        return self.stream.uncopied

    @property
    def blocked(self):
        """Whether the stream takes nothing just now."""
        return self.stream.blocked

    @property
    def unsent(self):
        """How many bytes wait here."""
        return self.outbox.unsent()

    @property
    def backlog(self):
        """How many bytes wait to be handed to the system, here and in the stream."""
        return self.stream.backlog()

    @property
    def bytes_out(self):
        return self.stream.bytes_out

    # Consumer

    cdef int receive_into(self, uint8_t **to, size_t *room) except -1:
        cdef uint8_t[::1] buffer = self.buffer
        to[0] = &buffer[0]
        room[0] = ROOM
        return 0

    cdef int received(self, size_t n) except -1:
        if n:
            self.data_received(bytes(self.buffer[:n]))
        return 0

    cdef int fed(self, const uint8_t *data, size_t n) except -1:
        self.data_received(PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>n))
        return 0

    cdef int sent(self, size_t n) except -1:
        return self.outbox.sent(n)

    cdef int transmitted(self) except -1:
        self.room_made()
        return 0

    cdef int cannot_send(self, object cause) except -1:
        self.outbox.drop()
        self.sending_failed(cause)
        return 0

    cdef int ending(self) except -1:
        self.peer_ending()
        return 0

    cdef int lose(self, object cause) except -1:
        self.outbox.drop()
        try:
            self.lost(cause)
        finally:
            self.lose_again()
        return 0

    cdef int lose_again(self) except -1:
        self.stream.release()
        return self.stream.detach()

    cdef int fail_memory(self) except -1:
        self.stream.abort()
        return self.stream.lose(MemoryError())
