"""The stream over TLS that owns its socket: an ssl.SSLObject between two memory BIOs.

What is received goes into one BIO and is decrypted into the engine's own buffers; what the
engine has to send is encrypted into the other and sent from there.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from .._engine cimport Engine
from ._socket_stream cimport SocketStream, os_error

from ssl import SSLError, SSLWantReadError

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)

cdef enum:
    # A BIO keeps the memory that it has once needed, so a busy connection gets more.
    RECEIVE_LEAST = 18432  # a whole TLS record (RFC 8446 section 5.2) and a little
    RECEIVE_MOST = 16 * RECEIVE_LEAST
    FEED = 65536  # bytes that the BIO is given at once
    SEAL = 65536  # bytes that are encrypted at once

cdef enum Ending:
    OPEN
    HALF_CLOSING  # once everything is sent, our side is shut down
    HALF_CLOSED
    CLOSING  # once everything is sent, the socket is closed


cdef class Window:
    """Memory as the ssl module can read or fill it: a memoryview for each call costs more."""

    cdef uint8_t *data
    cdef size_t size

    cdef Window on(self, const uint8_t *data, size_t size):
        self.data = <uint8_t *>data
        self.size = size
        return self

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, <Py_ssize_t>self.size, False, flags)


cdef class TLSStream(SocketStream):
    cdef object tls
    cdef object incoming
    cdef object outgoing
    # Methods that are called for each message
    cdef object decrypt
    cdef object decrypted
    cdef object encrypt
    cdef object take_in
    cdef object take_out
    cdef Window window
    cdef size_t receive_size
    cdef bytes sealed  # encrypted, and not all sent
    cdef size_t sealed_start
    cdef Ending ending
    cdef bint unsealing
    cdef bint unsealed_in_part  # there may be more to decrypt
    cdef object on_sealed

    def __init__(self, loop, engine, options, socket, tls, incoming, outgoing, leftover=b""):
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        wrapped = getattr(tls, "_sslobj", tls)  # SSLObject adds to these but a Python call
        self.decrypt = wrapped.read
        self.decrypted = wrapped.pending
        self.encrypt = wrapped.write
        self.take_in = incoming.write
        self.take_out = outgoing.read
        self.window = Window()
        self.receive_size = RECEIVE_LEAST
        self.sealed = b""
        self.on_sealed = self.unseal_in_turn
        SocketStream.__init__(self, loop, engine, options, socket, leftover)
        self.uncopied = False
        # The opening handshake may have left records that nobody has decrypted.
        self.unsealed_in_part = True
        loop.call_soon(self.on_sealed)

    # Receiving

    cdef ssize_t receive_some(self, size_t *room) except? -2:
        cdef uint8_t *to
        cdef ssize_t n
        if self.unsealed_in_part:
            self.unseal()
            if self.lost or self.unsealed_in_part:
                return -1
        room[0] = self.receive_size
        spare = None
        if self.state.sealed_lent:  # to a connection whose task runs the loop in the loop
            spare = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room[0])
            to = <uint8_t *>PyBytes_AS_STRING(spare)
        else:
            to = self.state.sealed_buffer(RECEIVE_MOST)
        n = socket_receive(self.fd, to, room[0])
        if n > 0:
            if <size_t>n == room[0] and room[0] < <size_t>RECEIVE_MOST:
                self.receive_size *= 2  # which divides RECEIVE_MOST
            elif <size_t>n < room[0] // 4 and room[0] > <size_t>RECEIVE_LEAST:
                self.receive_size //= 2
            self.feed(to, n)
        return n

    cdef int feed(self, const uint8_t *received, size_t n) except -1:
        """Decrypt what was received, bit by bit: a BIO keeps the memory that it has needed."""
        cdef size_t now
        cdef bint lent = self.state.sealed_lent
        self.state.sealed_lent = True
        try:
            while n:
                # What cannot be decrypted now goes in at once.
                now = n if self.unsealed_in_part or self.lost else min(n, <size_t>FEED)
                self.take_in(self.window.on(received, now))
                received += now
                n -= now
                self.unseal()
        finally:
            self.state.sealed_lent = lent
        return 0

    cdef int unseal(self) except -1:
        """Decrypt what is here, as far as reading is not paused."""
        cdef uint8_t *to
        cdef size_t room
        cdef size_t n
        cdef size_t total
        cdef bint more = True
        cdef bint ended = False
        cdef object error = None
        if self.unsealing:  # we are called by the very task that we have resumed
            return 0
        self.unsealing = True
        try:
            while more and not self.lost and not self.paused:
                self.receive_into(&to, &room)
                total = 0
                while more and total < room:
                    try:
                        n = self.decrypt(room - total, self.window.on(to + total, room - total))
                        ended = n == 0  # the peer's close_notify
                        total += n
                        more = not ended and (
                            self.incoming.pending or (total == room and self.decrypted())
                        )
                    except SSLWantReadError:
                        more = False
                    except SSLError as raised:
                        error = raised
                        ended = True
                        more = False
                self.received(total)
        finally:
            self.unsealing = False
            self.unsealed_in_part = more
        if ended:
            if error is None and not self.lost:
                self.say_end(CLOSING)  # as far as the socket takes it at once
            self.lose(error)
        elif not self.lost and self.outgoing.pending:
            self.transmit()  # what TLS has to say for itself
        return 0

    def unseal_in_turn(self):
        if not self.lost and not self.paused and self.unsealed_in_part:
            try:
                self.unseal()
            except MemoryError:
                self.fail_memory()

    cdef int resume_reading(self) except -1:
        SocketStream.resume_reading(self)
        if self.unsealed_in_part and not self.unsealing and not self.lost:
            self.loop.call_soon(self.on_sealed)
        return 0

    # Sending

    cdef int send_all(self) except -1:
        cdef Engine engine = self.engine
        cdef size_t unsent
        cdef size_t left
        cdef ssize_t n
        while True:
            left = PyBytes_GET_SIZE(self.sealed) - self.sealed_start
            if left:
                n = socket_send(
                    self.fd, PyBytes_AS_STRING(self.sealed) + self.sealed_start, left
                )
                if n == -1:
                    return self.block()
                if n < -1:
                    return self.break_down(os_error(n))
                self.bytes_out += n
                self.sealed_start += n
                continue
            unsent = engine.outbox.unsent()
            if unsent and self.ending == OPEN:
                plain = self.window.on(engine.outbox.data(), min(unsent, <size_t>SEAL))
                try:
                    engine.sent(self.encrypt(plain))
                except SSLWantReadError:
                    pass  # a renegotiation: once the peer's part of it is here
                except SSLError as error:
                    return self.break_down(error)
            self.sealed = self.take_out()
            self.sealed_start = 0
            if not self.sealed:
                break
        self.unblock()
        if self.ending == CLOSING:
            self.lose(None)
        elif self.ending == HALF_CLOSING:
            self.ending = HALF_CLOSED
            SocketStream.half_close(self)
        return 0

    cdef int say_end(self, Ending ending) except -1:
        """Send close_notify behind everything else (RFC 8446 section 6.1), and end."""
        if self.ending == OPEN:
            try:
                self.tls.unwrap()
            except SSLError:  # the peer's close_notify is not here, or TLS has failed
                pass
        if self.ending < ending:
            self.ending = ending
            self.send_all()
        return 0

    cdef int half_close(self) except -1:
        return self.say_end(HALF_CLOSING)

    cdef int break_down(self, object cause) except -1:
        self.sealed = b""
        self.sealed_start = 0
        return SocketStream.break_down(self, cause)

    cdef int lose(self, object cause) except -1:
        self.sealed = b""
        self.sealed_start = 0
        self.on_sealed = None
        return SocketStream.lose(self, cause)

    cdef size_t backlog(self) except? 1:
        return self.engine.outbox.unsent() + PyBytes_GET_SIZE(self.sealed) - self.sealed_start
