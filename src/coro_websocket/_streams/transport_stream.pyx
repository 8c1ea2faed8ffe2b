"""The stream over an asyncio transport, for loops without `add_reader`; TLS is then asyncio's.

It is the transport's `asyncio.BufferedProtocol`: bytes are received into memory that the
loop's transports share.
"""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport uint8_t, uint64_t

from .fed_stream cimport FedStream
from .stream cimport Consumer

import asyncio

cdef enum:
    ROOM = 65536  # bytes that a transport may receive at once
    # asyncio's TLS says how much it has not decrypted yet, and may have a record besides. Where
    # all of that finds room, nothing stays behind in it: if its peer's TCP ends meanwhile, it
    # hands over one more room full, and drops the rest.
    BESIDES = 32768


cdef class BareTransportStream(FedStream):
    cdef bint tls
    cdef bint ended_already
    cdef object error
    cdef object room  # the runtime's, from get_buffer to buffer_updated

    def __init__(self, runtime, socket, transport, write_high_water, ended=False, error=None):
        """write_high_water: bytes that the transport may hold before it is blocked.

        ended, error: the transport has told another protocol of its end already.
        """
        cdef uint64_t high = 2**62
        FedStream.__init__(self, runtime, socket, transport)
        if write_high_water is not None and write_high_water < high:
            high = write_high_water
        transport.set_write_buffer_limits(high=high, low=high // 16)
        self.tls = transport.get_extra_info("ssl_object") is not None
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
        cdef Py_ssize_t least = ROOM
        cdef Py_ssize_t hint
        if self.tls:
            hint = min(<Py_ssize_t>sizehint, PY_SSIZE_T_MAX - BESIDES)
            least = max(least, hint + BESIDES)
        if self.room is None:
            self.room = self.runtime.room
            self.runtime.room = None
        if self.room is None or len(self.room) < least:
            self.room = memoryview(bytearray(least))
        return self.room

    def buffer_updated(self, n):
        cdef Consumer consumer = self.consumer
        room = self.room
        self.room = None
        if n > 0 and not self.lost:
            try:
                self.take_from(room, n)
            except MemoryError:
                consumer.fail_memory()
        if self.runtime.room is None:
            self.runtime.room = room

    cdef int take_from(self, const uint8_t[::1] data, size_t n) except -1:
        if n > <size_t>data.shape[0]:
            raise ValueError(f"buffer_updated({n}) for a buffer of {data.shape[0]} bytes")
        return self.take(&data[0], n)

    def eof_received(self):
        self.feed_eof()
        return False

    def connection_made(self, transport):
        """The transport was connected before it was ours."""

    def connection_lost(self, error):
        try:
            self.end(error)
        finally:
            self.socket.release()


class TransportStream(BareTransportStream, asyncio.BufferedProtocol):
    """The stream as asyncio knows it: an instance of its BufferedProtocol."""

    __slots__ = ()
