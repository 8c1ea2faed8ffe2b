from libc.stdint cimport uint8_t, uint64_t

from ._buffers cimport Body, Inbox
from ._frames cimport frame_header, utf8_state
from ._messages cimport Message
from ._sending cimport Sending


cdef enum Unit:  # what is delivered at once
    MESSAGE
    FRAME
    PIECE  # of a message: what is here of a frame


cdef class Receiving(Sending):
    cdef uint64_t max_message_size
    cdef Inbox inbox
    cdef uint8_t *target
    cdef int target_kind
    cdef readonly bint close_ahead  # a Close waits behind messages that nobody has read
    cdef size_t control_ahead  # bytes of the control frames that were looked at last
    cdef bint over  # nothing more will be delivered
    cdef bint parsing  # as we speak: nothing but that moves what is unread on
    cdef bint lent  # what `receive_into` gave: it stays where it is

    # Counted since the beginning
    cdef readonly uint64_t messages_in
    cdef readonly uint64_t frames_in
    cdef readonly uint64_t coded_in  # bytes that extensions have made
    cdef readonly uint64_t decoded_in  # the bytes that were made of them

    # The data frame that has begun but not ended
    cdef bint in_frame
    cdef uint8_t frame_bits
    cdef bint frame_masked
    cdef uint8_t frame_key[4]
    cdef uint64_t frame_left
    cdef uint64_t frame_offset
    cdef bint piecewise  # the last that asked wanted pieces

    # The message that has begun but not ended
    cdef uint8_t message_opcode  # 0: there is none
    cdef uint8_t message_rsv  # the bits of the extensions that have transformed it
    cdef bint message_begun  # a part of it has been delivered already
    cdef Body body
    cdef Body raw  # of a frame that an extension has transformed
    cdef Body filling  # the one of the two that the frame goes into
    cdef utf8_state utf8

    # Bytes in
    cdef int receive_into(
        self, uint8_t *scratch, size_t size, uint8_t **to, size_t *room
    ) except -1
    cdef bint lend(self) noexcept
    cdef int take_back(self, bint parsing) noexcept
    cdef int received(self, size_t n) noexcept
    cdef int release(self) except -1
    cdef int drop_behind_close(self) noexcept
    cdef int forget(self) noexcept
    cdef int cut_off(self) noexcept

    # Messages out
    cdef Message next(self, Unit unit, bint control)
    cdef Message parse(self, Unit unit, bint control)
    cdef int look_ahead(self, bint answer_close) except -1
    cdef int parse_ahead(self, bint answer_close) except -1
    cdef bint wrong_rsv(self, const frame_header *h) noexcept
    cdef bint data_is_next(self) noexcept
    cdef bint larger_is_next(self) noexcept
    cdef int skip_control(self) noexcept
    cdef int check_header(self, const frame_header *h) except -1
    cdef Message whole_frame(self, const frame_header *h)
    cdef int begin_frame(self, const frame_header *h) except -1
    cdef int trace_data(self, const frame_header *h) except -1
    cdef int take_payload(self) except -1
    cdef int check_body(self) except -1
    cdef Message finish_frame(self, Unit unit)
    cdef Message take_piece(self)
    cdef int check_length(self, uint64_t length, bint transformed) except -1
    cdef uint64_t room_left(self) noexcept
    cdef int decode_raw(self, bint ends) except -1
    cdef size_t deliverable(self) noexcept
    cdef Message deliver(self, bint fin)
    cdef size_t held(self) noexcept
    cdef object text(self, const uint8_t *data, size_t n)
    cdef object decode(self, object payload, bint ends)
    cdef object too_large(self, uint64_t actual)
    cdef int control_frame(self, const frame_header *h, uint8_t *data) except -1
    cdef int close_frame(self, const uint8_t *data, size_t n) except -1
    cdef int fail(self, object error) except -1
