"""The stream that owns its socket: recv and send from the loop's readable callback.

For plain TCP and unix sockets, where the runtime can watch them.
"""

from libc.stdint cimport uint8_t, uint64_t

from .stream cimport Consumer, Stream

import os

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)
    ssize_t socket_send_both(int fd, const void *first, size_t n, const void *second, size_t m)
    void socket_end(int fd)

cdef extern from "peer_state.h" nogil:
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)


cdef class SocketStream(Stream):
    """Plain TCP, or a unix socket."""

    def __init__(self, runtime, socket, kept=False):
        self.socket = socket
        socket.in_use = True
        self.fd = socket.fileno()
        self.kept = kept
        self.told_once = self.runtime.tells_once
        self.uncopied = True

    cdef int begin(self) except -1:
        return self.runtime.watch(self)

    def readable(self):
        self.receive()

    cdef int receive(self) except -1:
        """Take what has come, as far as it is this connection's turn."""
        cdef size_t room
        cdef ssize_t n
        cdef uint64_t sent = self.bytes_out
        cdef bint again = False
        cdef Consumer consumer = self.consumer
        if self.lost:  # see `release`
            return consumer.lose_again()
        try:
            if self.end_only and self.peer_ended():
                return self.drain()
            while not self.lost and not self.paused:
                n = self.receive_some(&room)
                if n == 0:
                    self.lose(None)
                elif n < -1:
                    self.lose(os_error(n))
                if n <= 0 or self.watcher is not self.runtime or not self.told_once:
                    break
                if self.bytes_out != sent:  # the socket was well: the loop will tell again
                    break
                if again or <size_t>n == room:  # there may be much more: others come first
                    if not self.lost:
                        self.runtime.call_soon(self.readable)
                    break
                again = True
        except MemoryError:
            consumer.fail_memory()
        return 0

    cdef ssize_t receive_some(self, size_t *room) except? -2:
        """Receive once and tell what came: what `socket_receive` returned, for how much room."""
        cdef uint8_t *to
        cdef ssize_t n
        self.consumer.receive_into(&to, room)
        n = socket_receive(self.fd, to, room[0])
        if n > 0:
            self.consumer.received(n)
        else:
            self.consumer.received_nothing()
        return n

    def writable(self):
        cdef Consumer consumer = self.consumer
        try:
            if self.lost:
                consumer.lose_again()
            else:
                self.transmit()
        except MemoryError:
            consumer.fail_memory()

    cdef int transmit(self) except -1:
        cdef Consumer consumer = self.consumer
        if self.lost:
            return 0
        if not self.broken:
            self.send_all()
        return consumer.transmitted()

    cdef int send_all(self) except -1:
        """Send until everything is sent or the socket takes no more."""
        cdef size_t unsent
        cdef ssize_t n
        while True:
            unsent = self.outbox.unsent()
            if unsent == 0:
                self.unblock()
                break
            n = socket_send(self.fd, self.outbox.data(), unsent)
            if n >= 0:
                self.bytes_out += n
                self.consumer.sent(n)
            elif n == -1:
                self.block()
                break
            else:
                self.break_down(os_error(n))
                break
        return 0

    cdef int send_with_payload(self, const uint8_t *data, size_t size) except -1:
        cdef Consumer consumer = self.consumer
        cdef size_t queued = self.outbox.unsent()
        cdef size_t taken = 0
        cdef ssize_t n = socket_send_both(self.fd, self.outbox.data(), queued, data, size)
        if n < -1:
            return self.break_down(os_error(n))
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
        if self.outbox.unsent():
            return self.block()
        return consumer.transmitted()

    cdef int block(self) except -1:
        if not self.blocked:
            try:
                self.runtime.watch_for_room(self)
            except MemoryError:  # what is left would never be sent
                self.consumer.fail_memory()
                raise
            self.blocked = True
        return 0

    cdef int unblock(self) except -1:
        if self.blocked:
            self.runtime.unwatch_for_room(self)
            self.blocked = False
        return 0

    cdef int break_down(self, object cause) except -1:
        """The socket takes no more. What has come already is still delivered."""
        self.broken = True
        self.consumer.cannot_send(cause)
        self.unblock()
        self.told_once = True
        if not self.lost:
            try:
                self.runtime.call_soon(self.readable)  # the end shows when reading
            except MemoryError:
                self.consumer.fail_memory()
        return 0

    cdef int half_close(self) except -1:
        try:
            self.socket.half_close()
        except OSError as error:
            self.lose(error)
        return 0

    cdef int abort(self) except -1:
        return self.lose(None)

    cdef int release(self) except -1:
        try:
            self.runtime.unwatch(self)
            self.unblock()
        except BaseException:
            # A loop must not watch what is closed: once it calls us, this is tried again.
            socket_end(self.fd)
            self.runtime.call_soon(self.readable)
            raise
        self.socket.release()
        return 0

    cdef size_t backlog(self) except? 1:
        return self.outbox.unsent()

    cdef uint64_t taken(self) except? 1:
        cdef size_t waiting = socket_unacknowledged(self.fd)
        return self.bytes_out - waiting if waiting < self.bytes_out else 0

    cdef bint unanswered(self) except -1:
        return socket_unanswered(self.fd)


cdef object os_error(ssize_t status):
    cdef int code = <int>(-1 - status)
    return OSError(code, os.strerror(code))
