from libc.stdint cimport uint8_t

from .._rfc6455.engine cimport Engine
from .._rfc6455.messages cimport Message
from .._rfc6455.shared cimport SharedMessage
from .._runtimes.runtime cimport Runtime
from .._runtimes.waiter cimport Waiter
from .._streams.stream cimport Consumer, Stream
from .turns cimport Turns


cdef class Writing


cdef class LargeFrame:
    cdef Message message
    cdef bint done  # it was sent, or could not be
    cdef object error


cdef class MessageTurns(Turns):
    cdef Writing connection  # None once that has ended
    cdef Runtime runtime


cdef class Writing(Consumer):
    cdef Runtime runtime
    cdef readonly Stream stream
    cdef readonly Engine engine
    cdef object options
    cdef bint uncopied  # large messages can be sent from where they are
    cdef object cause  # of the connection's end
    cdef bint out_of_memory  # it ended for want of memory, and there was none for that cause either
    cdef size_t write_high_water
    cdef size_t write_low_water
    cdef list drain_waiters  # None: nobody has waited; so the others
    cdef list large_waiters  # for a thread that transforms their frame
    cdef MessageTurns turns  # None: every message was sent at once
    cdef bint turns_ended
    cdef dict pings  # that wait for their Pongs; None: none does
    cdef double latency  # seconds, of the last Pong; negative: none has come

    # What the closing handshake provides
    cdef int begin_closing(self) except -1

    # Messages
    cdef object write(self, object message, bint transform)
    cdef object write_uncopied(self, uint8_t opcode, const char *data, size_t size)
    cdef object write_other(self, object message, bint transform)
    cdef object write_message(self, Message message, bint transform)
    cdef object write_now(self, Message message, bint transform)
    cdef int write_shared(self, SharedMessage shared) except -1
    cdef int send_shared(self, SharedMessage shared) except -1
    cdef bint write_aside(self, Message message) except -1
    cdef object write_large(self, Message message)
    cdef int send_large(self, LargeFrame frame, object encoding) except -1
    cdef object after_write(self, size_t size)
    cdef int hand_over(self) except -1
    cdef bint must_wait(self, size_t most) except -1

    # Fragmented messages, each in its turn
    cdef MessageTurns have_turns(self)
    cdef int end_turns(self, bint now) except -1
    cdef int break_off(self) except -1
    cdef object closed_error(self)
    cdef object known_cause(self)

    # Pings
    cdef object forget_ping(self, object payload)
    cdef int settle_pings(self) except -1
    cdef int fail_pings(self) except -1


cdef inline bint is_taken(MessageTurns turns) noexcept:
    """Whether a message that has not ended has its turn."""
    return turns is not None and turns.taken


cdef list or_new(list waiters)
cdef size_t high_water(value)
