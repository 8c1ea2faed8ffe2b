"""What carries a connection's bytes, and what it carries them for.

A `Stream` receives bytes for its `Consumer` and sends what that has put into its outbox. It
knows nothing of WebSockets. The consumer is called from the loop's callbacks, where it may
resume tasks.

The rules: once a stream is lost it calls its consumer no more, and has let go of it. Whatever
of its consumer's it calls may be the end of both, so it keeps the consumer while it does.
"""

from libc.stdint cimport uint8_t, uint64_t

import contextlib

cdef extern from "peer_state.h" nogil:
    bint socket_ended(int fd)


cdef class Consumer:
    """What a stream feeds. This one wants nothing: it stands in where there is none any more."""

    # Receiving

    cdef int receive_into(self, uint8_t **to, size_t *room) except -1:
        """Say where the next bytes are to be put, and how many. `received` is called next."""
        raise RuntimeError("nobody receives from this stream any more")

    cdef int received(self, size_t n) except -1:
        """n bytes are where `receive_into` said."""
        return 0

    cdef int received_nothing(self) except -1:
        """No byte was put where `receive_into` said."""
        return 0

    cdef int fed(self, const uint8_t *data, size_t n) except -1:
        """n bytes have come, and were received by somebody else: they are copied."""
        return 0

    cdef int refused(self, object error) except -1:
        """What comes next breaks the protocol, and was refused by whoever received it."""
        return 0

    cdef bint lend(self) noexcept:
        """Have what `receive_into` gave stay where it is, whoever runs before `received`."""
        return False

    cdef int take_back(self, bint parsing) noexcept:
        """Undo `lend`, which has returned `parsing`."""
        return 0

    # Sending

    cdef int sent(self, size_t n) except -1:
        """The first n bytes of the outbox are taken."""
        return 0

    cdef int transmitted(self) except -1:
        """The stream has sent what it could: those who wait for room may go on."""
        return 0

    cdef int cannot_send(self, object cause) except -1:
        """Nothing more can be sent. What has come is still received."""
        return 0

    # The end

    cdef int ending(self) except -1:
        """The peer sends no more; the stream ends once it has taken what is sent."""
        return 0

    cdef int lose(self, object cause) except -1:
        """There is no stream any more; cause: the error, None if there was none."""
        return 0

    cdef int lose_again(self) except -1:
        """Go on with what failed when the stream was lost: no task is running."""
        return 0

    cdef int fail_memory(self) except -1:
        """There was no memory to go on with the stream."""
        return 0


cdef Consumer NOBODY = Consumer()


cdef class Stream(Driven):
    """Carries bytes for one consumer. What it is made of, a subclass provides."""

    def __cinit__(self, *args):
        self.consumer = NOBODY

    cdef int begin(self) except -1:
        """Begin to receive for the consumer."""
        raise NotImplementedError

    cdef int detach(self) except -1:
        """The end has been told to everybody: let go of the consumer."""
        self.consumer = NOBODY
        return 0

    cdef int fail_memory(self) except -1:
        cdef Consumer consumer = self.consumer
        return consumer.fail_memory()

    cdef int fail_sending(self, object error) except -1:
        cdef Consumer consumer = self.consumer
        self.broken = True
        consumer.cannot_send(error)
        try:
            self.runtime.report("a WebSocket connection was lost: sending failed", error)
        finally:
            self.abort()
        return 0

    # Sending

    cdef int send_with_payload(self, const uint8_t *data, size_t n) except -1:
        """Send the outbox and these bytes behind it, where `uncopied` is set.

        They are copied only as far as the system does not take them.
        """
        raise NotImplementedError

    cdef size_t backlog(self) except? 1:
        """How many bytes wait to be handed to the system."""
        raise NotImplementedError

    cdef uint64_t taken(self) except? 1:
        """How many of the bytes sent have come to the peer's side, as far as can be known."""
        raise NotImplementedError

    cdef bint unanswered(self) except -1:
        """Whether the peer's system has left unanswered what was sent, as far as can be known."""
        raise NotImplementedError

    # Receiving

    cdef int pause(self) except -1:
        """Receive nothing, but see the end where that can be seen."""
        self.paused = True
        return self.pause_reading()

    cdef int resume(self) except -1:
        self.paused = False
        return self.resume_reading()

    cdef int drain(self) except -1:
        """The end waits behind what is not received: receive all of it.

        That is what the system has, and no more can come.
        """
        if self.ended_by_us():  # perhaps only our side: the other may send
            with contextlib.suppress(OSError):
                self.shut_down()
        self.draining = True
        return self.resume()

    # Those of a stream whose socket the runtime watches; any other has its own.

    cdef int pause_reading(self) except -1:
        self.end_only = True
        self.runtime.unwatch(self)
        return self.runtime.watch(self)

    cdef int resume_reading(self) except -1:
        try:
            if not self.lost:
                self.end_only = False
                self.runtime.unwatch(self)
                self.runtime.watch(self)
        except MemoryError:
            self.consumer.fail_memory()
        return 0

    cdef bint peer_ended(self) except -1:
        """Whether the end of the stream waits to be received, as far as can be known."""
        return not self.lost and socket_ended(self.fd)

    # The end

    cdef int half_close(self) except -1:
        """Tell the peer that nothing more will be sent."""
        raise NotImplementedError

    cdef int shut_down(self) except -1:
        """Neither send nor wait for more; what has come is still received. May raise OSError."""
        self.socket.end()
        return 0

    cdef int abort(self) except -1:
        """Close at once; ends in `lose`."""
        raise NotImplementedError

    cdef int lose(self, object cause) except -1:
        """There is no stream any more: tell the consumer, once."""
        cdef Consumer consumer = self.consumer
        if self.lost:
            return 0
        self.lost = self.broken = True
        return consumer.lose(cause)

    cdef int release(self) except -1:
        """Have the loop call the stream no more, and close the socket. May be called again."""
        return 0

    cdef bint ended_by_us(self) except -1:
        """Whether the socket was shut down by way of `res.socket`."""
        return getattr(self.socket, "shut_down", False)
