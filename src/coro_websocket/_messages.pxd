from libc.stdint cimport int64_t, uint8_t


cdef class Message:
    cdef object contents  # its payload
    cdef int64_t length  # of the payload, in bytes
    cdef uint8_t bits  # as in the frame's first byte: fin, rsv1 to rsv3, opcode
    cdef uint8_t masked
    cdef uint8_t made  # it has its values, for good


cdef Message new_message(uint8_t bits, bint masked, object payload, int64_t length)
cpdef Message as_message(object value)
cpdef Message as_whole_message(object value)
cpdef Message as_fragment(object value, int opcode, bint begun, bint fin)
cdef object plain_payload(object payload)
cdef object no_utf8(object error)
