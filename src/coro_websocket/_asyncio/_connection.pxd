from libc.stdint cimport uint8_t, uint64_t

from .._engine cimport Engine
from .._messages cimport Message
from ._waiting cimport Waiter


cdef class LoopState:
    cdef uint8_t *scratch
    cdef bint scratch_lent
    cdef int depth  # how many of the library's callbacks are running
    cdef bint flush_scheduled
    cdef size_t burst  # bytes written since the loop last had its turn
    cdef list unsent  # connections with bytes that wait for the end of the callback
    cdef object flush_callback

    cdef int enter(self) noexcept
    cdef int leave(self) except -1
    cdef int flush(self) except -1


cdef class Connection:
    cdef readonly object loop
    cdef readonly Engine engine
    cdef readonly object socket
    cdef object __weakref__
    cdef LoopState state
    cdef object options

    # Owned by the reading side
    cdef object reader  # the read that waits
    cdef bint reader_fragments
    cdef bint reader_control
    cdef Waiter waiter
    cdef Message ready  # parsed, not yet taken
    cdef bint paused
    cdef size_t read_high_water
    cdef uint64_t bytes_in

    # Owned by the writing side
    cdef bint queued  # is in state.unsent
    cdef bint blocked  # the socket takes no more for now
    cdef bint broken  # the socket takes no more at all
    cdef size_t write_high_water
    cdef size_t write_low_water
    cdef list drain_waiters
    cdef bint turn_taken  # a fragmented message is being sent
    cdef object turn_owner  # by this task, frame by frame
    cdef object turn_waiters
    cdef uint64_t bytes_out
    cdef dict pings

    # Owned by the closing handshake
    cdef readonly bint lost  # there is no socket any more
    cdef object cause
    cdef bint half_closed
    cdef object close_timer
    cdef list close_waiters

    # Owned by the keepalive
    cdef object heartbeat_timer
    cdef object ping_timer
    cdef uint64_t seen_in
    cdef uint64_t seen_out
    cdef bint ping_sent
    cdef bint held_back

    # What a stream provides
    cdef int transmit(self) except -1
    cdef int pause_reading(self) except -1
    cdef int resume_reading(self) except -1
    cdef int half_close(self) except -1
    cdef int disconnect(self) except -1
    cdef int abort(self) except -1
    cdef size_t backlog(self) except? 1

    # What a stream tells
    cdef int receive_into(self, uint8_t **to, size_t *room) except -1
    cdef int received(self, size_t n) except -1
    cdef int transmitted(self) except -1
    cdef int lose(self, object cause) except -1

    # Reading
    cdef Message take(self, bint fragments, bint control)
    cdef Message parse(self, bint fragments, bint control)
    cdef int after_parsing(self) except -1
    cdef int unattended(self) except -1
    cdef object end_error(self)

    # Writing
    cdef object write(self, object message, bint transform)
    cdef object write_other(self, object message, bint transform)
    cdef object write_message(self, Message message, bint transform)
    cdef object write_large(self, Message message)
    cdef object after_write(self, size_t size)
    cdef int queue(self) except -1
    cdef int flush_soon(self) except -1
    cdef object closed_error(self)
    cdef int pass_turn(self) except -1

    # Closing
    cdef int advance_closing(self) except -1
    cdef int start_close_timer(self) except -1
    cdef int settle_pings(self) except -1
    cdef int fail_pings(self) except -1


cdef object out_of_memory()
