from libc.stdint cimport uint8_t, uint64_t

from .frames cimport frame_header, is_control
from .incoming cimport Incoming


cdef class FrameRules(Incoming):
    cdef uint64_t max_message_size

    cdef bint read_header(self, frame_header *h) except -1
    cdef int check_fragmentation(self, const frame_header *h) except -1
    cdef int check_length(self, uint64_t length, bint transformed) except -1
    cdef object too_large(self, uint64_t actual)
    cdef int act_on_control(self, const frame_header *h, const uint8_t *data) except -1
    cdef int act_on_close(self, const uint8_t *data, size_t n) except -1
    cdef int fail(self, object error) except -1


cdef inline bint is_here(FrameRules self, const frame_header *h) noexcept:
    """Whether all of the frame at `cur`, whose header this is, has come."""
    return h.length <= <uint64_t>(self.inbox.end - self.inbox.cur) - h.size


cdef inline bint has_wrong_rsv(FrameRules self, const frame_header *h) noexcept:
    """Whether reserved bits are set that no extension uses so (RFC 7692 section 6).

    An extension marks the first frame of a message.
    """
    return h.rsv and (h.rsv & ~self.rsv or h.opcode == 0 or is_control(h.opcode))


cdef inline uint64_t room_left(FrameRules self) noexcept:
    """How many bytes more the message may have (max_message_size)."""
    if self.body.size > self.max_message_size:  # what pieces were asked of may have any length
        return 0
    return self.max_message_size - self.body.size


cdef object close_violation(const uint8_t *data, size_t n)
cdef object bad_utf8(str where=*)
