"""The stream over an asyncio transport, for loops without `add_reader`; TLS is then asyncio's.

It is the transport's `asyncio.BufferedProtocol`: bytes are received into the same
buffers as on a socket, and sent through the transport's own.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from .._engine cimport Engine
from ._connection cimport Connection

import asyncio

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)

cdef extern from "Python.h":
    const int PyBUF_WRITE
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)


cdef class BareTransportStream(Connection):
    cdef readonly object transport
    cdef bint resuming

    def __init__(self, loop, engine, options, socket, transport, leftover=b""):
        self.socket = socket
        self.transport = transport
        transport.set_write_buffer_limits(
            high=min(self.write_high_water, <size_t>2**62), low=self.write_low_water // 4
        )
        transport.set_protocol(self)
        transport.resume_reading()
        self.start(leftover)

    # BufferedProtocol

    def get_buffer(self, sizehint):
        cdef uint8_t *to
        cdef size_t room
        self.receive_into(&to, &room)
        return PyMemoryView_FromMemory(<char *>to, room, PyBUF_WRITE)

    def buffer_updated(self, n):
        if n > 0 and not self.lost:
            try:
                self.received(n)
            except MemoryError:
                self.fail_memory()

    def eof_received(self):
        if self.blocked:  # closing it would wait for the peer to take what it has not yet
            self.loop.call_soon(self.transport.abort)
        return False

    def pause_writing(self):
        self.blocked = True

    def resume_writing(self):
        self.blocked = False
        self.resuming = True
        try:
            if self.engine.outbox.unsent():
                self.transmit()
            else:
                self.transmitted()
        except MemoryError:
            self.fail_memory()
        finally:
            self.resuming = False

    def connection_made(self, transport):
        """The transport was connected before it was ours."""

    def connection_lost(self, error):
        try:
            self.lose(error)
        finally:
            self.socket.release()

    # Connection

    cdef int transmit(self) except -1:
        cdef Engine engine = self.engine
        cdef size_t unsent = engine.outbox.unsent()
        while unsent and not self.lost and not self.broken:
            if self.transport.is_closing():
                self.broken = True
                engine.outbox.drop()
                break
            try:
                data = PyBytes_FromStringAndSize(<char *>engine.outbox.data(), unsent)
                engine.sent(unsent)
                self.bytes_out += unsent
                self.transport.write(data)
            except BaseException:  # whatever follows would leave a gap
                self.broken = True
                engine.outbox.drop()
                self.abort()
                raise
            unsent = engine.outbox.unsent()
        return self.transmitted()

    cdef int pause_reading(self) except -1:
        self.transport.pause_reading()
        return 0

    cdef int resume_reading(self) except -1:
        if not self.lost:
            try:
                self.transport.resume_reading()
            except MemoryError:
                self.fail_memory()
        return 0

    cdef int half_close(self) except -1:
        if self.lost:
            return 0
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:  # the peer has gone already
                self.abort()
        elif self.resuming:  # asyncio's would tell of the end twice if it were closed in this call
            self.loop.call_soon(self.transport.close)
        else:
            self.transport.close()
        return 0

    cdef int abort(self) except -1:
        if not self.lost:  # asyncio's would tell of the end a second time
            self.transport.abort()
        return 0

    cdef size_t backlog(self) except? 1:
        return self.engine.outbox.unsent() + <size_t>self.transport.get_write_buffer_size()

    cdef uint64_t taken(self) except? 1:
        # The transport's own bytes are counted too, as those of a handshake may be.
        cdef uint64_t waiting = self.transport.get_write_buffer_size()
        waiting += socket_unacknowledged(self.socket.fileno())
        return self.bytes_out - waiting if waiting < self.bytes_out else 0

    cdef bint peer_ended(self) except -1:
        return socket_ended(self.socket.fileno())

    cdef bint unanswered(self) except -1:
        return socket_unanswered(self.socket.fileno())


class TransportStream(BareTransportStream, asyncio.BufferedProtocol):
    """The stream as asyncio knows it: an instance of its BufferedProtocol."""

    __slots__ = ()
