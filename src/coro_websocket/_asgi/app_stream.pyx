"""The stream over the transport of the HTTP server that an application runs under.

The rules: once the closing handshake is done the transport is closed at once, as that server's
protocols do and as it expects when it shuts down. Where there is none, as the client has broken a
rule, its consumer says when: a client that still sends would lose what it has not received yet,
such as our Close.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from .._connection.connection cimport Connection
from .._streams.fed_stream cimport FedStream
from .._streams.stream cimport Consumer


cdef class AppStream(FedStream):

    def data_received(self, bytes data not None):
        """As `feed`, from bytes."""
        cdef Consumer consumer = self.consumer
        cdef size_t size = PyBytes_GET_SIZE(data)
        if size and not self.lost:
            try:
                self.take(<const uint8_t *>PyBytes_AS_STRING(data), size)
            except MemoryError:
                consumer.fail_memory()

    def send_first(self, bytes data not None):
        """Send what comes before everything of the consumer's: it has not begun yet."""
        self.transport.write(data)

    cdef int half_close(self) except -1:
        if isinstance(self.consumer, Connection):
            if (<Connection>self.consumer).engine.close_received:
                return self.hang_up()
        self.lingers = True
        return 0

    cdef int shut_down(self) except -1:
        return self.abort()

    cdef int hang_up(self) except -1:
        """Close the transport; it sends first what it holds."""
        if self.lost or self.transport.is_closing():
            return 0
        if self.resuming:  # see `half_close`
            self.runtime.call_soon(self.transport.close)
        else:
            self.transport.close()
        return 0
