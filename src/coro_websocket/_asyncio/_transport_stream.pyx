"""The stream over an asyncio transport, for loops without `add_reader`; TLS is then asyncio's.

It is the transport's `asyncio.BufferedProtocol`: bytes are received into memory that the
loop's transports share, and sent through the transport's own. asyncio is Python code, and so
is whatever runs between its lines: none of it is given the engine's memory.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from .._engine cimport Engine
from ._connection cimport Connection
from ._loop_state cimport LoopState

import asyncio

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)

cdef enum:
    ROOM = 65536  # bytes that a transport may receive at once


cdef class BareTransportStream(Connection):
    cdef readonly object transport
    cdef bint resuming
    cdef bint sending
    cdef object room  # the loop's, from get_buffer to buffer_updated

    def __init__(self, loop, engine, options, socket, transport, leftover=b""):
        self.socket = socket
        self.transport = transport
        transport.set_write_buffer_limits(
            high=min(self.write_high_water, <size_t>2**62), low=self.write_low_water // 4
        )
        transport.set_protocol(self)
        transport.resume_reading()
        try:
            self.start(leftover)
        except BaseException:  # there is no connection
            self.abort()
            raise

    # BufferedProtocol

    def get_buffer(self, sizehint):
        cdef LoopState state = self.state
        if self.room is None:
            self.room = state.transport_room
            state.transport_room = None
            if self.room is None:
                self.room = memoryview(bytearray(ROOM))
        return self.room

    def buffer_updated(self, n):
        cdef size_t last
        room = self.room
        self.room = None
        if n > 0 and not self.lost:
            try:
                last = self.copy_in(room, n)
                self.state.transport_room = room
                self.received(last)
            except MemoryError:
                self.fail_memory()

    cdef size_t copy_in(self, const uint8_t[::1] data, size_t n) except 0:
        """Copy n bytes to where the engine wants them: how many of them `received` is to tell."""
        cdef Engine engine = self.engine
        cdef uint8_t *to
        cdef size_t room
        cdef size_t done = 0
        if n > <size_t>data.shape[0]:
            raise ValueError(f"buffer_updated({n}) for a buffer of {data.shape[0]} bytes")
        self.receive_into(&to, &room)
        while room < n - done:
            memcpy(to, &data[done], room)
            engine.received(room)
            self.bytes_in += room
            done += room
            engine.receive_into(NULL, 0, &to, &room)
        memcpy(to, &data[done], n - done)
        return n - done

    def eof_received(self):
        if self.blocked:  # closing it would wait for the peer to take what it has not yet
            self.loop.call_soon(self.transport.abort)
        elif self.transport.get_write_buffer_size():
            self.start_close_timer()  # nor may it wait for ever for a little
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
        if self.sending:  # the call that runs goes on with what has been added
            return 0
        self.sending = True
        try:
            while unsent and not self.lost and not self.broken:
                if self.transport.is_closing():
                    self.broken = True
                    engine.outbox.drop()
                    break
                data = PyBytes_FromStringAndSize(<char *>engine.outbox.data(), unsent)
                engine.sent(unsent)
                self.bytes_out += unsent
                self.transport.write(data)
                unsent = engine.outbox.unsent()
        except BaseException as error:  # whatever follows would leave a gap
            self.broken = True
            if self.cause is None:
                self.cause = error
            engine.outbox.drop()
            self.abort()
            raise
        finally:
            self.sending = False
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
            try:
                self.transport.abort()
            except MemoryError:  # it will not tell of the end at all
                self.lose(None)
                self.socket.release()
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
