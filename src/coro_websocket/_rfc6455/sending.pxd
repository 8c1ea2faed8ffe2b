from libc.stdint cimport uint8_t, uint64_t

from .buffers cimport Outbox
from .frames cimport utf8_state


cdef enum:
    SHOWN = 64  # bytes of a payload that the log is given


cdef class Sending:
    cdef readonly bint client
    cdef readonly tuple extensions
    cdef public object trace  # is told of each frame, or None
    cdef uint8_t rsv  # the bits that they use
    cdef object deflate  # permessage-deflate, where it is the only one of them; else None
    cdef uint8_t deflate_bits  # of the window that we may use
    cdef uint64_t deflate_threshold  # bytes: what is smaller is not compressed

    # Owned by the closing handshake, which both halves take part in
    cdef readonly bint close_sent
    cdef readonly bint close_received
    cdef readonly bint initiated_close
    cdef readonly object close_code
    cdef readonly str close_reason
    cdef readonly object error
    cdef object closed_for  # the error of ours for which we closed, or None

    # Owned by the sending side
    cdef Outbox outbox
    cdef uint8_t sending_opcode  # of the fragmented message being sent; 0: there is none
    cdef uint8_t sending_rsv
    cdef utf8_state sending_utf8
    cdef list pings  # that wait for their Pongs; None: none does
    cdef list answered  # of them, those that nobody has been told of; None: there are none
    cdef bytes late_pong  # the payload of the Pong that waits for a backlog to be sent, or None

    # Counted since the beginning
    cdef readonly uint64_t messages_out
    cdef readonly uint64_t frames_out
    cdef readonly uint64_t bytes_encoded
    cdef readonly uint64_t coded_out  # bytes that extensions have made
    cdef readonly uint64_t decoded_out  # of these bytes

    cdef int check_data(
        self, uint8_t opcode, bint fin, const uint8_t *data, size_t n, bint checked
    ) except -1
    cdef int send_data(
        self, uint8_t opcode, bint fin, uint8_t rsv, const uint8_t *data, size_t n
    ) except -1
    cdef int send_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1
    cdef int put_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1
    cdef int begin_message(self, uint8_t opcode, size_t n) except -1
    cdef int traced(
        self, bint sent, uint8_t bits, uint64_t length, const uint8_t *start, size_t here
    ) except -1
    cdef int mask_shared(self, const uint8_t *frame, size_t n) except -1
    cdef int count_shared(self, const uint8_t *frame, size_t n, uint64_t len) except -1
    cdef int forget_context(self) except -1
    cdef int answer_ping(self, const uint8_t *data, size_t n) except -1
    cdef int match_pong(self, const uint8_t *data, size_t n) except -1
    cdef int sent(self, size_t n) except -1
    cdef int send_late_pong(self) except -1
    cdef int close_for(self, object error) except -1
    cdef object refuse_to_send(self)
