# A frame's first byte: FIN, the reserved bits and the opcode (RFC 6455 sections 5.2 and 11.8).
#
# A Message keeps its fields as this byte: `bits`, here and elsewhere.

from libc.stdint cimport uint8_t


cdef enum:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

    RSV = 0x70
    FIN = 0x80


cdef inline uint8_t opcode_of(uint8_t bits) noexcept nogil:
    return bits & 0x0F


cdef inline bint is_control(uint8_t bits) noexcept nogil:
    """Whether it is a control frame's (section 5.5), from its first byte or its opcode."""
    return bits & 8 != 0
