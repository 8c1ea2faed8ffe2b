"""The stream that receives from the transport's socket itself, and sends to it while it may.

An event loop's transport costs a call of Python's, or many, for each time that something comes,
and one for each time that something is sent; this costs neither. The transport stays what has the
socket: it receives what comes first, and is then paused once for all, so that a connection on which
nothing comes is not watched anew; it gets what the socket does not take at once, tells when it
takes more, and closes.

The rules: nothing is sent past the transport while that holds anything. The socket is not touched
once the transport has told of its end, which it does before it closes the descriptor.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from .._runtimes.runtime cimport Runtime
from .._streams.fed_stream cimport FedStream
from .._streams.stream cimport Consumer, Stream
from .app_stream cimport AppStream

import os

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)
    ssize_t socket_send_both(int fd, const void *first, size_t n, const void *second, size_t m)


cdef class DirectStream(AppStream):
    cdef bint watches  # the transport is paused: the runtime tells what comes, and not that
    cdef bint held  # the transport was given bytes, and may have some of them
    cdef object cause  # of its end, where it is told of none

    def __init__(self, runtime, socket, transport):
        AppStream.__init__(self, runtime, socket, transport)
        self.fd = socket.fileno()
        self.polled = True
        self.uncopied = True
        self.held = True

    @staticmethod
    def can_serve(Runtime runtime not None):
        """Whether the runtime can watch a socket that the loop has for somebody else."""
        return runtime.polls

    # Receiving

    cdef int take(self, const uint8_t *data, size_t n) except -1:
        self.take_over()
        return AppStream.take(self, data, n)

    cdef bint take_over(self) except -1:
        """Receive from now on; False if the system has no room to watch one more socket."""
        if not self.watches and not self.lost:
            try:
                self.runtime.watch(self)
            except OSError:
                return False
            self.watches = True
            self.transport.pause_reading()
        return self.watches

    cdef int receive(self) except -1:
        cdef Consumer consumer = self.consumer
        cdef uint8_t *to
        cdef size_t room
        cdef ssize_t n
        if self.lost:
            return consumer.lose_again()
        try:
            if self.end_only and self.peer_ended():
                return self.drain()
            if self.paused:
                return 0
            consumer.receive_into(&to, &room)
            n = socket_receive(self.fd, to, room)
            if n > 0:
                consumer.received(n)
                return 0
            consumer.received_nothing()
            if n == 0:
                self.end_of_stream()
            elif n < -1:
                self.fail(os_error(n))
        except MemoryError:
            consumer.fail_memory()
        return 0

    cdef int end_of_stream(self) except -1:
        """Do what a transport does that has received all."""
        self.runtime.unwatch(self)
        self.feed_eof()
        if not self.lost:
            self.transport.close()
        return 0

    cdef int fail(self, object cause) except -1:
        """The socket has an error, and with it the transport."""
        self.runtime.unwatch(self)
        if self.cause is None:
            self.cause = cause
        return self.abort()

    cdef int pause_reading(self) except -1:
        return Stream.pause_reading(self) if self.take_over() else AppStream.pause_reading(self)

    cdef int resume_reading(self) except -1:
        return Stream.resume_reading(self) if self.watches else AppStream.resume_reading(self)

    cdef bint peer_ended(self) except -1:
        return Stream.peer_ended(self)

    # Sending

    def send_first(self, bytes data not None):
        """As AppStream's; what the socket does not take is the transport's."""
        cdef size_t size = PyBytes_GET_SIZE(data)
        cdef ssize_t n = 0
        if self.transport_is_empty():
            n = socket_send(self.fd, PyBytes_AS_STRING(data), size)
        if n < <ssize_t>size:
            self.held = True
            self.transport.write(data[n:] if n > 0 else data)

    cdef bint transport_is_empty(self) except -1:
        if self.held and not self.blocked:
            self.sending = True  # what is written from within waits in the outbox
            try:
                self.held = self.transport.get_write_buffer_size() > 0
            finally:
                self.sending = False
        return not self.held

    cdef int transmit(self) except -1:
        cdef Consumer consumer = self.consumer
        cdef ssize_t n
        if self.sending or self.lost:
            return 0
        if self.outbox.unsent() and not self.broken and self.transport_is_empty():
            if self.lost:  # meanwhile
                return 0
            n = socket_send(self.fd, self.outbox.data(), self.outbox.unsent())
            if n > 0:
                self.bytes_out += n
                consumer.sent(n)
            if not self.outbox.unsent():
                return consumer.transmitted()
        self.held = True  # what is left, and errors, are the transport's
        return FedStream.transmit(self)

    cdef int send_with_payload(self, const uint8_t *data, size_t size) except -1:
        cdef Consumer consumer = self.consumer
        cdef size_t queued = self.outbox.unsent()
        cdef size_t taken = 0
        cdef ssize_t n = 0
        # The header waits in the outbox: nothing of Python's may run before this is behind it.
        cdef bint direct = not self.held and not self.sending
        if direct:
            n = socket_send_both(self.fd, self.outbox.data(), queued, data, size)
        if n > 0:
            taken = <size_t>n
            self.bytes_out += taken
        # The rest of the payload first: the consumer may add to what it has to send.
        try:
            if taken < queued:
                self.outbox.append(data, size)
            else:
                self.outbox.append(data + (taken - queued), size - (taken - queued))
        except MemoryError:  # a part of the frame is sent
            consumer.fail_memory()
            raise
        consumer.sent(min(taken, queued))
        if not self.outbox.unsent():
            return consumer.transmitted()
        if not direct:
            return self.transmit()
        self.held = True
        return FedStream.transmit(self)

    # The end

    def end(self, error=None):
        """The transport is closed, though its descriptor is not yet."""
        self.lose(self.cause if error is None else error)

    cdef int release(self) except -1:
        self.runtime.unwatch(self)
        return FedStream.release(self)


cdef object os_error(ssize_t status):
    cdef int code = <int>(-1 - status)
    return OSError(code, os.strerror(code))
