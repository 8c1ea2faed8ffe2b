"""The stream that owns its socket: recv and send from the loop's readable callback.

For plain TCP and unix sockets on loops that have `add_reader`; no asyncio transport
is involved.
"""

from libc.stdint cimport uint8_t

from .._engine cimport Engine
from ._connection cimport Connection, out_of_memory

import os

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)


cdef class SocketStream(Connection):
    cdef int fd
    cdef object on_readable
    cdef object on_writable
    cdef bint told_once  # the loop may not tell again that there is something to receive

    def __init__(self, loop, engine, options, socket, leftover=b""):
        self.socket = socket
        self.fd = socket.fileno()
        # uvloop tells of a reset once, even where messages wait before it.
        self.told_once = type(loop).__module__.partition(".")[0] == "uvloop"
        self.on_readable = self.readable
        self.on_writable = self.writable
        loop.add_reader(self.fd, self.on_readable)
        self.start(leftover)

    def readable(self):
        cdef uint8_t *to
        cdef size_t room
        cdef ssize_t n
        try:
            while not self.lost and not self.paused:
                self.receive_into(&to, &room)
                n = socket_receive(self.fd, to, room)
                if n > 0:
                    self.received(n)
                elif n == 0:
                    self.lose(None)
                elif n < -1:
                    self.lose(os_error(n))
                if n <= 0 or not self.told_once:
                    break
                if <size_t>n == room:  # there may be much more: the other tasks come first
                    self.loop.call_soon(self.on_readable)
                    break
        except MemoryError:
            self.lose(out_of_memory())

    def writable(self):
        self.transmit()

    cdef int transmit(self) except -1:
        cdef Engine engine = self.engine
        cdef size_t unsent
        cdef ssize_t n
        if self.lost:
            return 0
        while True:
            unsent = engine.outbox.unsent()
            if unsent == 0:
                if self.blocked:
                    self.blocked = False
                    self.loop.remove_writer(self.fd)
                break
            n = socket_send(self.fd, engine.outbox.data(), unsent)
            if n >= 0:
                if self.blocked:
                    self.bytes_out += n
                engine.sent(n)
            elif n == -1:
                if not self.blocked:
                    self.blocked = True
                    self.loop.add_writer(self.fd, self.on_writable)
                break
            else:
                # What has come already is still delivered: the end shows when reading.
                self.broken = True
                self.cause = os_error(n)
                engine.outbox.drop()
                self.told_once = True
                self.loop.call_soon(self.on_readable)
        return self.transmitted()

    cdef int pause_reading(self) except -1:
        self.loop.remove_reader(self.fd)
        return 0

    cdef int resume_reading(self) except -1:
        if not self.lost:
            self.loop.add_reader(self.fd, self.on_readable)
        return 0

    cdef int half_close(self) except -1:
        try:
            self.socket.half_close()
        except OSError as error:
            self.lose(error)
        return 0

    cdef int disconnect(self) except -1:
        return self.lose(None)

    cdef int abort(self) except -1:
        return self.lose(None)

    cdef int lose(self, object cause) except -1:
        if not self.lost:
            self.loop.remove_reader(self.fd)
            self.loop.remove_writer(self.fd)
            Connection.lose(self, cause)
            self.socket.release()
        return 0

    cdef size_t backlog(self) except? 1:
        return self.engine.outbox.unsent()


cdef object os_error(ssize_t status):
    cdef int code = <int>(-1 - status)
    return OSError(code, os.strerror(code))
