from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .opcodes cimport (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV,
    TEXT,
    is_control,
    opcode_of,
)


cdef extern from "frame_header.h" nogil:
    const size_t FRAME_HEADER_MAX

    ctypedef struct frame_header:
        uint64_t length
        uint32_t size
        uint8_t fin
        uint8_t rsv
        uint8_t opcode
        uint8_t masked
        uint8_t key[4]

    int FRAME_HEADER_OK
    int FRAME_HEADER_PARTIAL
    int frame_header_parse(const uint8_t *p, size_t n, frame_header *h)
    size_t frame_header_write(uint8_t *p, const frame_header *h)


cdef extern from "mask.h" nogil:
    void mask_copy(
        uint8_t *to, const uint8_t *source, size_t n, const uint8_t *key, uint64_t offset
    )


cdef extern from "utf8.h" nogil:
    ctypedef struct utf8_state:
        uint8_t missing
        uint8_t low
        uint8_t high

    size_t utf8_check(utf8_state *s, const uint8_t *p, size_t n)
    size_t utf8_open_tail(const utf8_state *s, const uint8_t *p, size_t n)


cdef inline void set_first_byte(frame_header *h, uint8_t bits) noexcept nogil:
    h.fin = bits >> 7
    h.rsv = bits >> 4 & 7
    h.opcode = opcode_of(bits)


cdef int fill_masking_key(uint8_t *key) except -1
cdef object header_violation(int status, const frame_header *h)
