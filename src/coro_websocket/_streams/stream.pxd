from libc.stdint cimport uint8_t, uint64_t

from .._rfc6455.buffers cimport Outbox
from .._runtimes.runtime cimport Driven


cdef class Consumer:
    # Receiving
    cdef int receive_into(self, uint8_t **to, size_t *room) except -1
    cdef int received(self, size_t n) except -1
    cdef int received_nothing(self) except -1
    cdef int fed(self, const uint8_t *data, size_t n) except -1
    cdef int refused(self, object error) except -1
    cdef bint lend(self) noexcept
    cdef int take_back(self, bint parsing) noexcept

    # Sending
    cdef int sent(self, size_t n) except -1
    cdef int transmitted(self) except -1
    cdef int cannot_send(self, object cause) except -1

    # The end
    cdef int ending(self) except -1
    cdef int lose(self, object cause) except -1
    cdef int lose_again(self) except -1
    cdef int fail_memory(self) except -1


cdef class Stream(Driven):
    cdef Consumer consumer
    cdef Outbox outbox  # what the consumer has to send
    cdef readonly object socket
    cdef uint64_t bytes_out  # that the system, or whoever sends for us, has taken
    cdef bint uncopied  # `send_with_payload` sends a payload from where it is
    cdef bint broken  # nothing more can be sent
    cdef bint paused  # nothing is received
    cdef bint ends_slowly  # from half-closing it to its end a reader waits to be told of that
    cdef bint draining  # no more will come than is on this side already: it is received
    cdef readonly bint lost  # there is no stream any more

    cdef int begin(self) except -1
    cdef int detach(self) except -1

    # Sending
    cdef int send_with_payload(self, const uint8_t *data, size_t n) except -1
    cdef size_t backlog(self) except? 1
    cdef uint64_t taken(self) except? 1
    cdef bint unanswered(self) except -1

    # Receiving
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int drain(self) except -1
    cdef int pause_reading(self) except -1
    cdef int resume_reading(self) except -1
    cdef bint peer_ended(self) except -1

    # The end
    cdef int half_close(self) except -1
    cdef int shut_down(self) except -1
    cdef int abort(self) except -1
    cdef int lose(self, object cause) except -1
    cdef int release(self) except -1
    cdef bint ended_by_us(self) except -1
