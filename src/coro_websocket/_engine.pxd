from libc.stdint cimport uint8_t, uint64_t

from ._buffers cimport Body, Inbox, Outbox
from ._frames cimport frame_header, utf8_state
from ._messages cimport Message


cdef class Engine:
    cdef readonly bint client
    cdef uint64_t max_message_size
    cdef readonly list extensions
    cdef uint8_t rsv  # the bits that they use

    # Owned by the receiving side
    cdef Inbox inbox
    cdef uint8_t *target
    cdef int target_kind

    # The data frame that has begun but not ended
    cdef bint in_frame
    cdef uint8_t frame_bits
    cdef bint frame_masked
    cdef uint8_t frame_key[4]
    cdef uint64_t frame_left
    cdef uint64_t frame_offset

    # The message that has begun but not ended
    cdef uint8_t message_opcode  # 0: there is none
    cdef uint8_t message_rsv  # the bits of the extensions that have transformed it
    cdef bint message_begun  # a part of it has been delivered already
    cdef Body body
    cdef Body raw  # of a frame that an extension has transformed
    cdef Body filling  # the one of the two that the frame goes into
    cdef utf8_state utf8

    # Owned by the closing handshake
    cdef readonly bint close_sent
    cdef readonly bint close_received
    cdef readonly bint close_ahead  # a Close waits behind messages that nobody has read
    cdef readonly bint initiated_close
    cdef readonly object close_code
    cdef readonly str close_reason
    cdef readonly object error
    cdef bint over  # nothing more will be delivered

    # Owned by the sending side
    cdef Outbox outbox
    cdef uint8_t sending_opcode  # of the fragmented message being sent; 0: there is none
    cdef uint8_t sending_rsv
    cdef utf8_state sending_utf8
    cdef list pings
    cdef list answered
    cdef uint8_t late_pong[125]
    cdef int late_pong_size  # -1: there is none

    # Bytes in
    cdef int receive_into(
        self, uint8_t *scratch, size_t size, uint8_t **to, size_t *room
    ) except -1
    cdef int received(self, size_t n) noexcept
    cdef int release(self) except -1

    # Messages out
    cdef Message next(self, bint fragments, bint control)
    cdef int look_ahead(self, bint answer_close) except -1
    cdef int check_header(self, const frame_header *h) except -1
    cdef int begin_frame(self, const frame_header *h) except -1
    cdef int take_payload(self) except -1
    cdef int check_body(self) except -1
    cdef Message whole_frame(self, const frame_header *h)
    cdef Message finish_frame(self, bint fragments)
    cdef object text(self, const uint8_t *data, size_t n)
    cdef object decode(self, object payload, bint ends)
    cdef object too_large(self, uint64_t actual)
    cdef int control_frame(self, const frame_header *h, uint8_t *data) except -1
    cdef int close_frame(self, const uint8_t *data, size_t n) except -1
    cdef int fail(self, object error) except -1

    # Messages in, bytes out
    cdef int send_data(
        self, uint8_t opcode, bint fin, uint8_t rsv, const uint8_t *data, size_t n
    ) except -1
    cdef int check_data(
        self, uint8_t opcode, bint fin, const uint8_t *data, size_t n, bint checked
    ) except -1
    cdef int send_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1
    cdef int answer_ping(self, const uint8_t *data, size_t n) except -1
    cdef int match_pong(self, const uint8_t *data, size_t n) except -1
    cdef int sent(self, size_t n) except -1
    cdef object refuse_to_send(self)
