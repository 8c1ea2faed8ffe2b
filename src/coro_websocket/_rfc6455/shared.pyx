"""One message for many connections: encoded once, and compressed once for each window.

What a fresh compressor has made refers to nothing before its message, so that every peer can
inflate it that has agreed on as large a window or a larger one, whether or not contexts are
taken over (RFC 7692 section 7.2). A connection that went on with its own context after that
would refer to what its peer has at another distance: `forget_context` has it begin a new one.

The rule: a frame in here is unmasked, and never changes.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from .frames cimport FRAME_HEADER_MAX, frame_header, frame_header_write, opcode_of

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    LEAST_BITS = 9
    MOST_BITS = 15
    RSV1 = 4
    HEADER_ROOM = 16  # FRAME_HEADER_MAX at least


cdef class SharedMessage:
    """A whole text or binary message.

    Raises InvalidMessage if it may not be sent (RFC 6455 sections 5.2 and 5.6).
    """

    def __init__(self, Message message not None, bint compress):
        Sending().check_message(message)
        self.message = message
        self.compress = compress
        self.fitting_bits = LEAST_BITS
        while self.fitting_bits <= MOST_BITS and self.size() >> self.fitting_bits:
            self.fitting_bits += 1

    cdef uint64_t size(self) noexcept:
        return <uint64_t>self.message.len

    cdef bytes frame_for(self, Sending engine):
        """The frame that this connection's peer can read."""
        cdef int bits
        if not self.compress or engine.deflate is None or self.size() < engine.deflate_threshold:
            return self.plain()
        # What is smaller than the window refers to nothing beyond it, whatever has made it.
        bits = min(engine.deflate_bits, self.fitting_bits)
        if bits != self.last_bits:
            self.last_frame = self.compressed_for(engine, bits)
            self.last_bits = bits
        return self.last_frame

    cdef bytes plain(self):
        cdef Py_ssize_t size
        cdef const char *data
        if self.plain_frame is None:
            payload = self.message.payload
            if PyBytes_CheckExact(payload):
                data = PyBytes_AS_STRING(payload)
                size = PyBytes_GET_SIZE(payload)
            else:
                data = PyUnicode_AsUTF8AndSize(payload, &size)
            self.plain_frame = new_frame(opcode_of(self.message.bits), 0, data, size)
        return self.plain_frame

    cdef bytes compressed_for(self, Sending engine, int bits):
        """The compressed frame, if that is any smaller."""
        cdef bytes frame
        if self.compressed is None:
            self.compressed = {}
        frame = self.compressed.get(bits)
        if frame is None:
            frame = self.plain()
            try:
                frame = self.compress_with(engine.deflate, bits)
            except Exception:  # no memory, most likely: it is sent as it is
                pass
            self.compressed[bits] = frame
        return frame

    cdef bytes compress_with(self, object deflate, int bits):
        cdef bytes payload
        whole = self.message.payload
        # zlib looks back a little less than its window: for what fits into one, take a larger.
        payload = deflate.compress_alone(
            whole if PyBytes_CheckExact(whole) else whole.encode(),
            min(bits + 1, MOST_BITS) if bits == self.fitting_bits else bits,
        )
        if <uint64_t>PyBytes_GET_SIZE(payload) >= self.size():
            return self.plain()
        return new_frame(
            opcode_of(self.message.bits),
            RSV1,
            PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
        )


cdef bytes new_frame(uint8_t opcode, uint8_t rsv, const char *data, size_t n):
    cdef frame_header h
    cdef uint8_t start[HEADER_ROOM]
    cdef size_t size
    cdef bytes frame
    h.fin = True
    h.rsv = rsv
    h.opcode = opcode
    h.masked = False
    h.length = n
    if n > <size_t>PY_SSIZE_T_MAX - FRAME_HEADER_MAX:
        raise MemoryError
    size = frame_header_write(start, &h)
    frame = PyBytes_FromStringAndSize(NULL, size + n)
    memcpy(PyBytes_AS_STRING(frame), start, size)
    if n:
        memcpy(PyBytes_AS_STRING(frame) + size, data, n)
    return frame
