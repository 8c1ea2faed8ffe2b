from libc.stdint cimport uint8_t

from .._engine cimport Engine
from .._messages cimport Message
from ._loop_state cimport LoopState
from ._stream cimport Consumer, Stream


cdef class Writing(Consumer):
    cdef readonly object loop
    cdef LoopState state
    cdef readonly Stream stream
    cdef readonly Engine engine
    cdef object options
    cdef bint uncopied  # large messages can be sent from where they are
    cdef object cause  # of the connection's end
    cdef size_t write_high_water
    cdef size_t write_low_water
    cdef list drain_waiters
    cdef set background  # tasks that write what nobody waits for; None: none yet
    cdef size_t background_size  # bytes of theirs
    cdef bint turn_taken  # a fragmented message is being sent
    cdef object turn_owner  # by this task, frame by frame
    cdef object fragment_sent  # until then a thread transforms a fragment of that message
    cdef object fragment_owner  # for this task, whose turn it still is
    cdef list turn_waiters
    cdef dict pings
    cdef readonly object latency  # seconds, of the last Pong

    # What the closing handshake provides
    cdef int begin_close(self, object code, object reason) except -1

    # Messages
    cdef object write(self, object message, bint transform)
    cdef object write_uncopied(self, uint8_t opcode, const char *data, size_t size)
    cdef object write_other(self, object message, bint transform)
    cdef object write_message(self, Message message, bint transform)
    cdef object write_now(self, Message message, bint transform)
    cdef bint write_shared(self, Message message, bytes frame) except -1
    cdef int write_aside(self, Message message) except -1
    cdef object write_large(self, Message message)
    cdef int send_large(self, Message message, owner, sent, encoding) except -1
    cdef object after_write(self, size_t size)
    cdef int hand_over(self) except -1
    cdef bint must_wait(self, size_t most) except -1

    # Fragmented messages, each in its turn
    cdef int pass_turn(self) except -1
    cdef int watch_owner(self) except -1
    cdef int break_off(self) except -1
    cdef object closed_error(self)

    # Pings
    cdef int settle_pings(self) except -1
    cdef int fail_pings(self) except -1


cdef size_t high_water(value)
cdef int wake_all(list waiters, bint now=*) except -1
cdef object current_task(loop)
