"""The stream over TLS that owns its socket: an ssl.SSLObject between two memory BIOs.

What is received goes into one BIO and is decrypted to where the consumer wants it; what that
has to send is encrypted into the other and sent from there.

The rule: Python code may run inside ssl's calls (signal handlers, finalizers, callbacks of the
context) and may use this connection. What it finds is as before the call: it reads nothing,
what it writes is sent after the call, and the memory that ssl works on stays where it is.
What such code raises has left a gap in the stream: the connection is lost.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from .socket_stream cimport SocketStream, os_error
from .stream cimport Consumer

from _ssl import MemoryBIO, _SSLSocket
from ssl import SSLError, SSLWantReadError, SSLZeroReturnError

cdef extern from "socket_io.h" nogil:
    ssize_t socket_receive(int fd, void *to, size_t n)
    ssize_t socket_send(int fd, const void *source, size_t n)

cdef enum:
    # A BIO keeps the memory that it has once needed, so a busy connection gets more.
    RECEIVE_LEAST = 18432  # a whole TLS record (RFC 8446 section 5.2) and a little
    RECEIVE_MOST = 16 * RECEIVE_LEAST
    FEED = 65536  # bytes that the BIO is given at once
    SEAL = 65536  # bytes that are encrypted at once
    ANSWERS = 65536  # bytes of TLS's own for the peer, behind which nothing more is decrypted

cdef enum Ending:
    OPEN
    HALF_CLOSING  # once everything is sent, our side is shut down
    HALF_CLOSED
    CLOSING  # once everything is sent, the socket is closed


cdef class Window:
    """Memory as the ssl module can read or fill it: a memoryview for each call costs more.

    It is shown once, to the call that it is for: nobody can look at it later.
    """

    cdef uint8_t *data
    cdef size_t size

    cdef Window on(self, const uint8_t *data, size_t size):
        self.data = <uint8_t *>data
        self.size = size
        return self

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, <Py_ssize_t>self.size, False, flags)
        self.data = NULL
        self.size = 0


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
    cdef bint trusted  # with memory: `tls` is ssl's own, which keeps none of it
    cdef Window window
    cdef bint in_tls  # a call that must not be entered again is running
    cdef size_t receive_size
    cdef const uint8_t *unfed  # received, and not yet in the BIO
    cdef size_t unfed_size
    cdef bytes sealed  # encrypted, and not all sent
    cdef size_t sealed_size  # of it, which other threads may ask for
    cdef size_t sealed_start
    cdef Ending ending
    cdef Ending ending_next  # asked for while `in_tls`
    cdef bint unsealed_in_part  # there may be more to decrypt
    cdef bint answers_wait  # for the peer, and so does what it has sent
    cdef object on_sealed

    def __init__(self, runtime, socket, tls, incoming, outgoing, kept=False):
        if type(incoming) is not MemoryBIO or type(outgoing) is not MemoryBIO:
            raise TypeError("TLSStream: incoming and outgoing must be ssl.MemoryBIO")
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        wrapped = getattr(tls, "_sslobj", tls)  # SSLObject adds to these but a Python call
        self.trusted = type(wrapped) is _SSLSocket
        self.decrypt = wrapped.read
        self.decrypted = wrapped.pending
        self.encrypt = wrapped.write
        self.take_in = incoming.write
        self.take_out = outgoing.read
        self.window = Window()
        self.receive_size = RECEIVE_LEAST
        self.sealed = b""
        self.on_sealed = self.unseal_in_turn
        SocketStream.__init__(self, runtime, socket, kept)
        self.uncopied = False

    cdef int begin(self) except -1:
        SocketStream.begin(self)
        return self.unseal_soon()  # the opening handshake may have left records

    # Receiving

    cdef ssize_t receive_some(self, size_t *room) except? -2:
        cdef uint8_t *to
        cdef ssize_t n
        if self.in_tls or self.answers_wait:
            return -1
        if self.unfed_size:  # the loop runs in a task that was resumed with what came before
            self.put_in(self.unfed_size)
            self.unsealed_in_part = True
        if self.unsealed_in_part:
            self.unseal()
            if self.lost or self.unsealed_in_part or self.paused or self.answers_wait:
                return -1
        room[0] = self.receive_size
        spare = None
        if self.runtime.sealed_lent:  # to a connection whose task runs the loop in the loop
            spare = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room[0])
            to = <uint8_t *>PyBytes_AS_STRING(spare)
        else:
            to = self.runtime.sealed_buffer(RECEIVE_MOST)
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
        cdef bint lent = self.runtime.sealed_lent
        self.runtime.sealed_lent = True
        self.unfed = received
        self.unfed_size = n
        try:
            while self.unfed_size:
                # What cannot be decrypted now goes in at once.
                self.put_in(n if self.unsealed_in_part else <size_t>FEED)
                self.unseal()
        except BaseException:
            if self.unfed_size:
                self.put_in(self.unfed_size)
                self.unseal_soon()
            raise
        finally:
            self.runtime.sealed_lent = lent
        return 0

    cdef int put_in(self, size_t most) except -1:
        """Put what was received into the BIO, in its order."""
        cdef size_t n = min(most, self.unfed_size)
        cdef const uint8_t *data = self.unfed
        if n:
            self.unfed += n
            self.unfed_size -= n
            try:
                self.take_in(self.window.on(data, n))
            except MemoryError:
                raise  # which loses the connection
            except BaseException as error:
                self.lose(error)
                raise
        return 0

    cdef int unseal(self) except -1:
        """Decrypt what is here, as far as the peer and who reads keep up."""
        cdef Consumer consumer = self.consumer
        cdef uint8_t *to
        cdef size_t room
        cdef size_t n
        cdef size_t total
        cdef bint parsing
        cdef bint scratch_lent
        cdef bint more
        cdef bint ended = False
        cdef object error = None
        self.unsealed_in_part = True
        if self.in_tls:
            return 0
        while not ended and self.unsealed_in_part and not (
            self.lost or self.paused or self.answers_wait
        ):
            consumer.receive_into(&to, &room)
            total = 0
            more = True
            parsing = consumer.lend()
            scratch_lent = self.runtime.scratch_lent
            self.runtime.scratch_lent = True
            self.in_tls = True
            try:
                while more and total < room:
                    n = self.decrypt_into(to + total, room - total)
                    ended = n == 0  # the peer's close_notify
                    total += n
                    more = not ended and (
                        self.incoming.pending or (total == room and self.decrypted())
                    )
            except SSLWantReadError:
                more = False
            except SSLZeroReturnError:  # the peer's close_notify, behind ours
                ended = True
                more = False
            except BaseException as raised:
                error = raised
                ended = True
                more = False
            self.in_tls = False
            self.runtime.scratch_lent = scratch_lent
            consumer.take_back(parsing)
            self.unsealed_in_part = more
            try:
                consumer.received(total)
            except BaseException:  # of the task that was resumed
                if more:
                    self.unseal_soon()
                raise
            finally:
                if ended:
                    self.end_receiving(error)
        if self.lost:
            return 0
        # What TLS has to say for itself, and what was put off while ssl's call ran
        if self.outgoing.pending or self.ending_next != OPEN or self.outbox.unsent():
            if not self.blocked:
                if self.outgoing.pending or not self.queued:
                    self.transmit()
            elif <size_t>self.outgoing.pending >= ANSWERS and not self.draining:
                self.answers_wait = True
                SocketStream.pause_reading(self)
        return 0

    cdef ssize_t decrypt_into(self, uint8_t *to, size_t room) except -1:
        if self.trusted:
            return self.decrypt(room, self.window.on(to, room))
        data = self.decrypt(room)
        if not PyBytes_CheckExact(data) or <size_t>PyBytes_GET_SIZE(data) > room:
            raise TypeError(f"{type(self.tls).__name__}.read(n) must return at most n bytes")
        memcpy(to, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return PyBytes_GET_SIZE(data)

    cdef int end_receiving(self, object error) except -1:
        """What comes ends here: with the peer's close_notify, or with what has been raised."""
        if isinstance(error, MemoryError):
            raise error  # which loses the connection
        if error is None and not self.lost:
            self.say_end(CLOSING)  # as far as the socket takes it at once
        self.lose(error)
        if error is not None and not isinstance(error, SSLError):
            raise error
        return 0

    cdef int unseal_soon(self) except -1:
        """Decrypt in the loop's time."""
        if not self.lost:
            self.unsealed_in_part = True
            self.runtime.call_soon(self.on_sealed)
        return 0

    def unseal_in_turn(self):
        cdef Consumer consumer
        if self.lost or self.paused or self.answers_wait or not self.unsealed_in_part:
            return
        if self.in_tls:
            self.unseal_soon()
            return
        consumer = self.consumer
        try:
            self.unseal()
        except MemoryError:
            consumer.fail_memory()

    cdef int resume_reading(self) except -1:
        if self.answers_wait:
            return 0
        SocketStream.resume_reading(self)
        if self.unsealed_in_part:
            self.unseal_soon()
        return 0

    cdef int drain(self) except -1:
        self.answers_wait = False  # the peer will send no more
        return SocketStream.drain(self)

    cdef int answers_taken(self) except -1:
        """The peer reads again: so do we."""
        if self.answers_wait:
            self.answers_wait = False
            if not self.paused and not self.lost:
                self.resume_reading()
        return 0

    # Sending

    cdef int send_all(self) except -1:
        cdef size_t unsent
        cdef size_t left
        cdef ssize_t n
        if self.in_tls:
            return 0 if self.queued else self.flush_soon()
        while not self.lost and not self.broken:
            left = self.sealed_size - self.sealed_start
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
            unsent = self.outbox.unsent()
            if unsent and self.ending == OPEN:
                self.seal(min(unsent, <size_t>SEAL))
            else:
                self.seal(0)
            if self.sealed_size == self.sealed_start:
                break
        if self.lost or self.broken:
            return 0
        self.unblock()
        self.answers_taken()
        if self.ending_next != OPEN and not self.outbox.unsent():
            return self.say_end(self.ending_next)
        if self.ending == CLOSING:
            self.lose(None)
        elif self.ending == HALF_CLOSING:
            self.ending = HALF_CLOSED
            SocketStream.half_close(self)
        return 0

    cdef int seal(self, size_t n) except -1:
        """Encrypt the next n bytes, and take that and what TLS has for the peer to be sent.

        What was taken before has been sent.
        """
        cdef size_t taken = 0
        cdef object error = None
        cdef bytes sealed = b""
        try:
            if n:
                self.outbox.lend()
                self.in_tls = True
                try:
                    taken = self.encrypt_from(self.outbox.data(), n)
                except SSLWantReadError:
                    pass  # a renegotiation: once the peer's part of it is here
                finally:
                    self.in_tls = False
                    self.outbox.take_back()
            sealed = self.take_out()
        except BaseException as raised:
            error = raised
        if isinstance(error, SSLError):
            return 0 if self.lost or self.broken else self.break_down(error)
        if error is not None:  # how much of it was encrypted is not known
            self.lose(error)
            raise error
        if self.lost or self.broken:  # by what ran meanwhile
            return 0
        self.sealed = sealed
        self.sealed_size = PyBytes_GET_SIZE(sealed)
        self.sealed_start = 0
        return self.consumer.sent(taken) if n else 0

    cdef ssize_t encrypt_from(self, const uint8_t *data, size_t n) except -1:
        cdef ssize_t taken
        if self.trusted:
            taken = self.encrypt(self.window.on(data, n))
        else:
            taken = self.encrypt(PyBytes_FromStringAndSize(<const char *>data, n))
        if taken < 0 or <size_t>taken > n:
            raise ValueError(f"{type(self.tls).__name__}.write() took {n} bytes and says {taken}")
        return taken

    cdef int say_end(self, Ending ending) except -1:
        """Send close_notify behind everything else (RFC 8446 section 6.1), and end."""
        if self.in_tls:
            self.ending_next = max(self.ending_next, ending)
            return 0 if self.queued else self.flush_soon()
        self.ending_next = OPEN
        if self.ending == OPEN:
            self.in_tls = True
            try:
                self.tls.unwrap()
            except SSLError:  # the peer's close_notify is not here, or TLS has failed
                pass
            except BaseException as error:
                self.lose(error)
                raise
            finally:
                self.in_tls = False
        if self.ending < ending and not self.lost:
            self.ending = ending
            self.send_all()
        return 0

    cdef int half_close(self) except -1:
        return self.say_end(HALF_CLOSING)

    cdef int break_down(self, object cause) except -1:
        self.sealed = b""
        self.sealed_size = self.sealed_start = 0
        SocketStream.break_down(self, cause)
        return self.answers_taken()

    cdef int release(self) except -1:
        self.sealed = b""
        self.sealed_size = self.sealed_start = 0
        self.unfed_size = 0
        self.on_sealed = None
        return SocketStream.release(self)

    cdef size_t backlog(self) except? 1:
        cdef size_t answers = self.outgoing.pending if self.blocked else 0
        cdef size_t start = self.sealed_start
        cdef size_t sealed = max(self.sealed_size, start) - start
        return self.outbox.unsent() + sealed + answers
