from libc.stdint cimport uint8_t, uint64_t

from .buffers cimport Body, Inbox
from .frames cimport utf8_state
from .sending cimport Sending


cdef class Incoming(Sending):
    cdef Inbox inbox
    cdef uint8_t *target  # where `receive_into` has had the next bytes put
    cdef int target_kind
    cdef bint lent  # what `receive_into` gave: it stays where it is
    cdef bint parsing  # as we speak: nothing but that moves what is unread on
    cdef bint over  # nothing more will be delivered

    # The data frame that has begun but not ended
    cdef bint in_frame
    cdef uint8_t frame_bits
    cdef bint frame_masked
    cdef uint8_t frame_key[4]
    cdef uint64_t frame_left  # bytes of its payload that have not been taken
    cdef uint64_t frame_offset  # bytes of it that have, for the mask
    cdef bint piecewise  # the last that asked wanted pieces

    # The message that has begun but not ended
    cdef uint8_t message_opcode  # 0: there is none
    cdef uint8_t message_rsv  # the bits of the extensions that have transformed it
    cdef bint message_begun  # a part of it has been delivered already
    cdef Body body
    cdef Body raw  # of a frame that an extension has transformed; None: there is no extension
    cdef Body filling  # the one of the two that the frame goes into
    cdef utf8_state utf8

    cdef int receive_into(
        self, uint8_t *scratch, size_t size, uint8_t **to, size_t *room
    ) except -1
    cdef bint fills_body(self) noexcept
    cdef int received(self, size_t n) noexcept
    cdef int release(self) except -1
    cdef bint lend(self) noexcept
    cdef int take_back(self, bint parsing) noexcept
    cdef int drop_behind_close(self) noexcept
    cdef int forget(self) noexcept
    cdef int drop_message(self) noexcept
    cdef int cut_off(self) noexcept
    cdef size_t held(self) noexcept


cdef inline size_t raw_size(Incoming self) noexcept:
    return 0 if self.raw is None else self.raw.size
