from libc.stdint cimport uint8_t, uint64_t

from .frames cimport frame_header
from .looking_ahead cimport LookingAhead
from .messages cimport Message


cdef enum Unit:  # what is delivered at once
    MESSAGE
    FRAME
    PIECE  # of a message: what is here of a frame


cdef class Assembling(LookingAhead):
    # Counted since the beginning
    cdef readonly uint64_t messages_in
    cdef readonly uint64_t frames_in
    cdef readonly uint64_t coded_in  # bytes that extensions have made
    cdef readonly uint64_t decoded_in  # the bytes that were made of them

    cdef Message whole_frame(self, const frame_header *h)
    cdef int begin_frame(self, const frame_header *h) except -1
    cdef int trace_data(self, const frame_header *h) except -1
    cdef Message continue_frame(self, Unit unit)
    cdef int take_payload(self) except -1
    cdef size_t payload_here(self) noexcept
    cdef int check_body(self) except -1
    cdef Message finish_frame(self, Unit unit)
    cdef Message take_piece(self)
    cdef size_t deliverable(self) noexcept
    cdef Message deliver(self, bint fin)
    cdef object take_text(self, size_t size)
    cdef object text(self, const uint8_t *data, size_t n)
    cdef int decode_raw(self, bint ends) except -1
    cdef object decode(self, object payload, bint ends)
    cdef object decode_with(self, object extension, object payload, bint ends, uint64_t limit)
