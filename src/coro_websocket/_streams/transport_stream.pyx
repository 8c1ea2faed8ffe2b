"""The stream over an asyncio transport, for loops without `add_reader`; TLS is then asyncio's.

It is the transport's `asyncio.BufferedProtocol`: bytes are received into memory that the
loop's transports share, and sent through the transport's own. asyncio is Python code, and so
is whatever runs between its lines: none of it is given the consumer's memory.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from .stream cimport Consumer, Stream

import asyncio

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)

cdef enum:
    ROOM = 65536  # bytes that a transport may receive at once


cdef class BareTransportStream(Stream):
    cdef readonly object transport
    cdef bint ended_already
    cdef object error
    cdef bint resuming
    cdef bint sending
    cdef object room  # the runtime's, from get_buffer to buffer_updated

    def __init__(self, runtime, socket, transport, write_high_water, ended=False, error=None):
        """write_high_water: bytes that the transport may hold before it is blocked.

        ended, error: the transport has told another protocol of its end already.
        """
        cdef uint64_t high = 2**62
        self.socket = socket
        self.transport = transport
        if write_high_water is not None and write_high_water < high:
            high = write_high_water
        transport.set_write_buffer_limits(high=high, low=high // 16)
        self.ended_already = ended
        self.error = error

    cdef int begin(self) except -1:
        self.transport.set_protocol(self)
        if self.ended_already:
            self.loop.call_soon(self.connection_lost, self.error)
        else:
            self.transport.resume_reading()
        return 0

    # BufferedProtocol

    def get_buffer(self, sizehint):
        if self.room is None:
            self.room = self.runtime.room
            self.runtime.room = None
            if self.room is None:
                self.room = memoryview(bytearray(ROOM))
        return self.room

    def buffer_updated(self, n):
        cdef Consumer consumer = self.consumer
        room = self.room
        self.room = None
        if n > 0 and not self.lost:
            try:
                self.feed(room, n)
            except MemoryError:
                consumer.fail_memory()
        if self.runtime.room is None:
            self.runtime.room = room

    cdef int feed(self, const uint8_t[::1] data, size_t n) except -1:
        if n > <size_t>data.shape[0]:
            raise ValueError(f"buffer_updated({n}) for a buffer of {data.shape[0]} bytes")
        return self.consumer.fed(&data[0], n)

    def eof_received(self):
        if self.blocked:  # closing it would wait for the peer to take what it has not yet
            self.loop.call_soon(self.transport.abort)
        elif self.transport.get_write_buffer_size():
            self.consumer.ending()  # nor may it wait for ever for a little
        return False

    def pause_writing(self):
        self.blocked = True

    def resume_writing(self):
        cdef Consumer consumer = self.consumer
        self.blocked = False
        self.resuming = True
        try:
            if self.outbox.unsent():
                self.transmit()
            else:
                consumer.transmitted()
        except MemoryError:
            consumer.fail_memory()
        finally:
            self.resuming = False

    def connection_made(self, transport):
        """The transport was connected before it was ours."""

    def connection_lost(self, error):
        try:
            self.lose(error)
        finally:
            self.socket.release()

    # Stream

    cdef int transmit(self) except -1:
        cdef Consumer consumer = self.consumer
        cdef size_t unsent = self.outbox.unsent()
        if self.sending:  # the call that runs goes on with what has been added
            return 0
        self.sending = True
        try:
            while unsent and not self.lost and not self.broken:
                if self.transport.is_closing():
                    self.broken = True
                    consumer.cannot_send(None)
                    break
                data = PyBytes_FromStringAndSize(<char *>self.outbox.data(), unsent)
                consumer.sent(unsent)
                self.bytes_out += unsent
                self.transport.write(data)
                unsent = self.outbox.unsent()
        except BaseException as error:  # whatever follows would leave a gap
            self.broken = True
            consumer.cannot_send(error)
            self.abort()
            raise
        finally:
            self.sending = False
        return consumer.transmitted()

    cdef int pause_reading(self) except -1:
        self.transport.pause_reading()
        return 0

    cdef int resume_reading(self) except -1:
        if not self.lost:
            try:
                self.transport.resume_reading()
            except MemoryError:
                self.consumer.fail_memory()
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
            try:
                self.transport.abort()
            except MemoryError:  # it will not tell of the end at all
                self.lose(None)
                self.socket.release()
        return 0

    cdef size_t backlog(self) except? 1:
        return self.outbox.unsent() + <size_t>self.transport.get_write_buffer_size()

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
