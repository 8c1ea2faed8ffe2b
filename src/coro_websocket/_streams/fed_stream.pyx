"""A stream whose bytes somebody else receives and sends: a transport.

It needs of the transport no more than asyncio's protocols may count on anywhere: `write`, `close`,
`is_closing`, `pause_reading`, `resume_reading`, `get_extra_info`. `abort`, `can_write_eof` with
`write_eof`, and `get_write_buffer_size` are used where they are there. Where no loop runs that is
known, it has `fetch` and `busy`, of which `Driven` tells, and whoever waits does the work.

Whoever has the transport calls `feed`, `feed_eof`, `pause_writing`, `resume_writing` and `end`, in
the loop's callbacks and not in a task. The transport is Python code, and so is whatever runs
between its lines: none of it is given the consumer's memory.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport SIZE_MAX, uint8_t, uint64_t

from .stream cimport Consumer, Stream

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)

cdef enum:
    # asyncio's TLS encrypts all that it is given, and tells of what waits in front of it only
    # once the transport below, of which nobody can ask, is full.
    SEAL = 65536  # bytes that TLS is given at once


cdef class FedStream(Stream):
    """Bytes that are fed to it; what is to be sent, it writes to the transport.

    Args:
        runtime: of the event loop in which the transport's callbacks run.
        socket: what `res.socket` shows; None if there is none.
        transport: what has been connected.
    """

    def __init__(self, runtime, socket, transport):
        self.socket = socket
        self.transport = transport
        self.counts = hasattr(transport, "get_write_buffer_size")
        self.at_once = SIZE_MAX
        if transport.get_extra_info("ssl_object") is not None:
            self.at_once = SEAL
        self.pulled = hasattr(transport, "fetch")

    cdef int begin(self) except -1:
        return 0

    cdef object fetch(self, bint receiving):
        return self.transport.fetch(receiving) if self.pulled else None

    cdef bint busy(self, bint receiving) except -1:
        return self.transport.busy(receiving) if self.pulled else False

    # What is called when something has happened to the transport

    def feed(self, const uint8_t[::1] data not None):
        """Bytes have come; they are copied."""
        cdef Consumer consumer = self.consumer
        if data.shape[0] and not self.lost:
            try:
                self.take(&data[0], data.shape[0])
            except MemoryError:
                consumer.fail_memory()

    cdef int take(self, const uint8_t *data, size_t n) except -1:
        cdef Consumer consumer = self.consumer
        return consumer.fed(data, n)

    def feed_eof(self):
        """The peer sends no more; the transport closes once what is written has been sent."""
        cdef Consumer consumer = self.consumer
        if self.lost:
            return
        if self.blocked:  # closing it would wait for the peer to take what it has not yet
            self.runtime.call_soon(self.abort_transport)
        elif not self.counts or self.transport.get_write_buffer_size():
            consumer.ending()  # nor may it wait for ever for a little

    def pause_writing(self):
        """The transport holds as much as it may."""
        self.blocked = True

    def resume_writing(self):
        """It takes more."""
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

    def end(self, error=None):
        """The transport is closed; error: why, None if nothing went wrong."""
        self.lose(error)

    # Stream

    cdef int transmit(self) except -1:
        cdef Consumer consumer = self.consumer
        cdef size_t unsent = self.outbox.unsent()
        cdef size_t n
        if self.sending:  # the call that runs goes on with what has been added
            return 0
        self.sending = True
        try:
            while unsent and not self.lost and not self.broken and not self.blocked:
                if self.transport.is_closing():
                    self.broken = True
                    consumer.cannot_send(None)
                    break
                n = min(unsent, self.at_once)
                data = PyBytes_FromStringAndSize(<char *>self.outbox.data(), n)
                consumer.sent(n)
                self.bytes_out += n
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
        cdef Consumer consumer = self.consumer
        if not self.lost:
            try:
                self.transport.resume_reading()
            except MemoryError:
                consumer.fail_memory()
        return 0

    cdef int half_close(self) except -1:
        if self.lost:
            return 0
        if hasattr(self.transport, "can_write_eof") and self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:  # the peer has gone already
                self.abort()
        elif self.resuming:  # asyncio's would tell of the end twice if it were closed in this call
            self.runtime.call_soon(self.transport.close)
        else:
            self.transport.close()
        return 0

    def abort_transport(self):
        """Close it at once, if it can."""
        getattr(self.transport, "abort", self.transport.close)()

    cdef int abort(self) except -1:
        if self.lost:  # asyncio's would tell of the end a second time
            return 0
        try:
            self.abort_transport()
        except MemoryError:  # it will not tell of the end at all
            self.lose(None)
        if not hasattr(self.transport, "abort"):  # it may wait for the peer
            self.lose(None)
        return 0

    cdef int release(self) except -1:
        if not self.transport.is_closing():
            self.abort_transport()
        return 0

    cdef int shut_down(self) except -1:
        return self.abort() if self.socket is None else Stream.shut_down(self)

    cdef size_t backlog(self) except? 1:
        cdef size_t waiting = self.transport.get_write_buffer_size() if self.counts else 0
        return self.outbox.unsent() + waiting

    cdef uint64_t taken(self) except? 1:
        # The transport's own bytes are counted too, as those of a handshake may be.
        cdef uint64_t waiting = self.transport.get_write_buffer_size() if self.counts else 0
        waiting += socket_unacknowledged(self.descriptor())
        return self.bytes_out - waiting if waiting < self.bytes_out else 0

    cdef bint peer_ended(self) except -1:
        return socket_ended(self.descriptor())

    cdef bint unanswered(self) except -1:
        return socket_unanswered(self.descriptor())

    cdef int descriptor(self) except? -2:
        return -1 if self.socket is None else self.socket.fileno()
