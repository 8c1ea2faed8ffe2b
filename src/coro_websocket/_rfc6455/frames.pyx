"""Frames: pure functions over bytes, and the source of masking keys.

The header's layout and the rules that a header can break on its own are in
`_native/frame_header.h`, masking in `mask.h`, UTF-8 in `utf8.h` (RFC 6455
sections 5.2, 5.3 and 8.1).
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from libc.string cimport memcpy

from .messages cimport Message, new_message

import os

from .._errors import InvalidMessage, LimitError, ProtocolError

# Masking keys

cdef extern from "masking_keys.h":
    ctypedef struct masking_keys_pool:
        size_t left  # bytes that no frame has used yet
        uint8_t bytes[4096]

    masking_keys_pool masking_keys


cdef int fill_masking_key(uint8_t *key) except -1:
    """The next masking key (RFC 6455 section 10.3: it must not be predictable).

    The operating system's random source is read a pool at a time, so that a frame
    costs no system call.
    """
    if masking_keys.left < 4:
        refill_masking_keys()
    masking_keys.left -= 4
    memcpy(key, masking_keys.bytes + masking_keys.left, 4)
    return 0


cdef int refill_masking_keys() except -1:
    cdef Py_ssize_t size = sizeof(masking_keys.bytes)
    fresh = os.urandom(size)
    if not PyBytes_CheckExact(fresh) or PyBytes_GET_SIZE(fresh) != size:
        # It has been replaced, by a test perhaps
        raise RuntimeError(f"os.urandom({size}) must return {size} bytes")
    memcpy(masking_keys.bytes, PyBytes_AS_STRING(fresh), size)
    masking_keys.left = size
    return 0


def _forget_masking_keys():
    """In a forked child, in its one thread: its keys must not be those of its parent."""
    masking_keys.left = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_masking_keys)


# Violations that one header shows

cdef dict VIOLATIONS = {
    -1: ("reserved opcode {opcode:#x}", "5.2"),
    -2: ("fragmented control frame, opcode {opcode:#x}", "5.4"),
    -3: ("control frame with more than 125 bytes of payload, opcode {opcode:#x}", "5.5"),
    -4: ("payload length not in its shortest encoding: {length}", "5.2"),
    -5: ("payload length with the most significant bit set: {length:#x}", "5.2"),
}


cdef object header_violation(int status, const frame_header *h):
    """The error for a negative status of frame_header_parse."""
    template, section = VIOLATIONS[status]
    what = template.format(opcode=h.opcode, length=h.length)
    return ProtocolError(f"the peer sent a {what} (RFC 6455 section {section})", 1002, what)


# The codec's functions

def decode_frame(const uint8_t[::1] data not None, size_t index, object max_size):
    """The frame at `index`, unmasked, and the index behind it; None if it is not all here."""
    cdef size_t available = data.shape[0]
    cdef const uint8_t *start
    cdef frame_header h
    cdef int status
    if index >= available:
        return None
    start = &data[index]
    available -= index
    status = frame_header_parse(start, available, &h)
    if status < 0:
        raise header_violation(status, &h)
    if status == FRAME_HEADER_PARTIAL:
        return None
    if max_size is not None and h.length > max_size:
        raise LimitError(
            f"the peer sent a frame of {h.length} bytes; max_size is {max_size}",
            limit="max_size",
            value=max_size,
            actual=h.length,
        )
    if h.length > available - h.size:
        return None
    cdef size_t length = <size_t>h.length
    payload = PyBytes_FromStringAndSize(NULL, length)
    mask_copy(<uint8_t *>PyBytes_AS_STRING(payload), start + h.size, length, h.key, 0)
    return (
        new_message(start[0], h.masked, payload, length),
        index + h.size + length,
    )


def encode_frame(Message message not None, *, bint check=True):
    """The bytes of one frame, masked with a fresh key if the message's `mask` is set.

    What `frame_header_parse` would refuse to read is not written either, unless check
    is False.
    """
    cdef frame_header h
    cdef frame_header written
    cdef uint8_t head[14]
    cdef size_t size
    cdef int status
    cdef const uint8_t[::1] payload
    data = message.payload
    if isinstance(data, str):
        data = data.encode()
    set_first_byte(&h, message.bits)
    h.masked = message.mask
    h.length = len(data)
    if h.masked:
        fill_masking_key(h.key)
    size = frame_header_write(head, &h)
    status = frame_header_parse(head, size, &written)
    if status < 0 and check:
        raise InvalidMessage("not a frame: " + header_violation(status, &h).reason)
    frame = PyBytes_FromStringAndSize(NULL, size + h.length)
    out = <uint8_t *>PyBytes_AS_STRING(frame)
    memcpy(out, head, size)
    if h.length:
        payload = data
        if h.masked:
            mask_copy(out + size, &payload[0], h.length, h.key, 0)
        else:
            memcpy(out + size, &payload[0], h.length)
    return frame
