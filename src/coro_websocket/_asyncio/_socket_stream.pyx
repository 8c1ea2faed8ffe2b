"""The stream that owns its socket: recv and send from the loop's readable callback.

For plain TCP and unix sockets on loops that have `add_reader`; no asyncio transport
is involved. Where there are many connections the loop watches one epoll descriptor for
all of them, so that its own Python code runs once for all that are ready.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint64_t

from ._loop_state cimport LoopState
from ._stream cimport Consumer, Stream

import os
import weakref

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)
    ssize_t socket_send_both(int fd, const void *first, size_t n, const void *second, size_t m)
    void socket_end(int fd)

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)
    size_t socket_unacknowledged(int fd)
    bint socket_unanswered(int fd)

cdef extern from "poller.h" nogil:
    int POLL_AVAILABLE
    ctypedef struct poll_event:
        pass
    void *poll_owner(const poll_event *event)
    int poll_open()
    void poll_close(int fd)
    int poll_add(int poll, int fd, void *owner, bint end_only)
    void poll_remove(int poll, int fd)
    int poll_events(int poll, poll_event *events, int most)

cdef enum:
    POLLER_FROM = 4  # connections of a loop; with fewer one more system call does not pay
    EVENTS = 64  # handled in one iteration of the loop


cdef class Poller:
    """The epoll descriptor of a loop's connections. Only the loop, which watches it, keeps it."""

    cdef int fd
    cdef set streams
    cdef object __weakref__

    def __cinit__(self):
        self.fd = poll_open()
        self.streams = set()

    def __dealloc__(self):
        if self.fd >= 0:
            poll_close(self.fd)

    cdef bint watch(self, SocketStream stream) except -1:
        """Watch the stream, perhaps only for its end; False if that cannot be done here."""
        cdef bint first = not self.streams
        if self.fd < 0:
            return False
        self.streams.add(stream)  # what epoll names must be kept
        try:
            if first:
                stream.loop.add_reader(self.fd, self.ready)
        except BaseException:
            self.streams.discard(stream)
            raise
        if poll_add(self.fd, stream.fd, <void *>stream, stream.end_only) < 0:
            self.forget(stream)
            return False
        return True

    cdef int unwatch(self, SocketStream stream) except -1:
        poll_remove(self.fd, stream.fd)
        return self.forget(stream)

    cdef int forget(self, SocketStream stream) except -1:
        if stream in self.streams and len(self.streams) == 1:
            stream.loop.remove_reader(self.fd)
        self.streams.discard(stream)
        return 0

    def ready(self):
        cdef poll_event events[EVENTS]
        cdef SocketStream stream
        cdef int i
        cdef int n = poll_events(self.fd, events, EVENTS)
        for i in range(n):  # a task that is resumed may end any of them
            Py_INCREF(<object>poll_owner(&events[i]))
        try:
            for i in range(n):
                stream = <SocketStream>poll_owner(&events[i])
                if stream.poller is self:
                    stream.receive()
        finally:
            for i in range(n):
                Py_DECREF(<object>poll_owner(&events[i]))


cdef class SocketStream(Stream):
    """Plain TCP, or a unix socket."""

    def __init__(self, loop, socket):
        self.socket = socket
        socket.in_use = True
        self.fd = socket.fileno()
        self.told_once = self.state.tells_once
        self.on_readable = self.readable
        self.on_writable = self.writable
        self.uncopied = True

    cdef int begin(self) except -1:
        return self.watch()

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
                if n <= 0 or self.poller is not None or not self.told_once:
                    break
                if self.bytes_out != sent:  # the socket was well: the loop will tell again
                    break
                if again or <size_t>n == room:  # there may be much more: others come first
                    if not self.lost:
                        self.loop.call_soon(self.on_readable)
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
                self.loop.add_writer(self.fd, self.on_writable)
            except MemoryError:  # what is left would never be sent
                self.consumer.fail_memory()
                raise
            self.blocked = True
        return 0

    cdef int unblock(self) except -1:
        if self.blocked:
            self.loop.remove_writer(self.fd)
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
                self.loop.call_soon(self.on_readable)  # the end shows when reading
            except MemoryError:
                self.consumer.fail_memory()
        return 0

    cdef int watch(self) except -1:
        cdef Poller poller
        cdef LoopState state = self.state
        cdef bint many
        if self.poller is not None or self in state.watching:
            return 0
        poller = state.poller() if state.poller is not None else None
        many = len(state.watching) >= POLLER_FROM
        if poller is None and POLL_AVAILABLE and (many or self.end_only):
            poller = Poller.__new__(Poller)
            state.poller = weakref.ref(poller)
            for stream in list(state.watching) if many else ():
                try:
                    (<SocketStream>stream).unwatch()
                    (<SocketStream>stream).watch()
                except MemoryError:  # nobody would watch it any more
                    (<SocketStream>stream).consumer.fail_memory()
        if poller is not None and poller.watch(self):
            self.poller = poller
            return 0
        if self.end_only:  # the loop cannot watch for the end alone
            return 0
        state.watching.add(self)
        try:
            self.loop.add_reader(self.fd, self.on_readable)
        except BaseException:
            state.watching.discard(self)
            raise
        return 0

    cdef int unwatch(self) except -1:
        cdef Poller poller = self.poller
        if poller is not None:
            poller.unwatch(self)
            self.poller = None
        elif self in self.state.watching:
            self.loop.remove_reader(self.fd)
            self.state.watching.discard(self)
        return 0

    cdef int pause_reading(self) except -1:
        self.end_only = True
        self.unwatch()
        return self.watch()

    cdef int resume_reading(self) except -1:
        try:
            if not self.lost:
                self.end_only = False
                self.unwatch()
                self.watch()
        except MemoryError:
            return self.consumer.fail_memory()
        return 0

    cdef bint peer_ended(self) except -1:
        return not self.lost and socket_ended(self.fd)

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
            self.unwatch()
            self.unblock()
        except BaseException:
            # A loop must not watch what is closed: once it calls us, this is tried again.
            socket_end(self.fd)
            self.loop.call_soon(self.on_readable)
            raise
        self.socket.release()
        self.on_readable = self.on_writable = None  # they hold the connection itself
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
