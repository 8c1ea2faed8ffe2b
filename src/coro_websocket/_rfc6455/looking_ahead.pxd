from .frame_rules cimport FrameRules
from .frames cimport frame_header


cdef class LookingAhead(FrameRules):
    cdef readonly bint close_ahead  # a Close waits behind messages that nobody has read
    cdef size_t control_ahead  # bytes of the control frames that were looked at last

    cdef int look_ahead(self, bint answer_close) except -1
    cdef int act_ahead(self, bint answer_close) except -1
    cdef size_t looked_at(self) noexcept
    cdef bint frame_ahead(self, size_t looked, frame_header *h) noexcept
    cdef bint data_is_next(self) noexcept
    cdef bint larger_is_next(self) noexcept
