from libc.stdint cimport uint8_t

from .assembling cimport FRAME, MESSAGE, PIECE, Assembling, Unit
from .frames cimport frame_header
from .messages cimport Message


cdef class Receiving(Assembling):
    cdef object refused  # the ProtocolError of what is behind all that has come, or None

    cdef Message next(self, Unit unit, bint control)
    cdef Message parse(self, Unit unit, bint control)
    cdef int choose_unit(self, Unit unit) except -1
    cdef Message take_control(self, const frame_header *h, bint wanted)
    cdef int skip_control(self) except -1
