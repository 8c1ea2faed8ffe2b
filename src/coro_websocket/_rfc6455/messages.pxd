from libc.stdint cimport int64_t, uint8_t


cdef class Message:
    cdef readonly object payload
    """The contents: str for text, bytes for binary and for control frames."""
    cdef readonly int64_t len
    """The size of the payload in bytes, for text that of its UTF-8."""
    cdef readonly bint mask
    """Whether the frame came, or is to be encoded, masked (section 5.1)."""
    cdef uint8_t bits  # as in the frame's first byte: fin, rsv1 to rsv3, opcode
    cdef uint8_t made  # it has its values, for good


cdef Message new_message(uint8_t bits, bint mask, object payload, int64_t len)
cpdef Message as_message(object value)
cpdef Message as_whole_message(object value)
cpdef Message as_fragment(object value, int opcode, bint begun, bint fin)
cdef object plain_payload(object payload)
cdef object no_utf8(object error)
