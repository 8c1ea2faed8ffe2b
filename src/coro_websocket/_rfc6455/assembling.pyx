"""Data frames become messages, fragments or pieces (RFC 6455 sections 5.4, 5.6, 6.2 and 8.1).

A message in one frame that is all here is copied once, from the buffer to its payload.
Any other frame begins, is continued with each byte that comes, and ends: its payload is gathered
in `body`, or in `raw` if an extension has yet to decode it. Text is checked as it comes,
so that the first byte that is wrong fails the connection.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from .buffers cimport Body
from .frame_rules cimport bad_utf8, room_left
from .frames cimport (
    CONTINUATION,
    FIN,
    RSV,
    TEXT,
    frame_header,
    mask_copy,
    utf8_check,
    utf8_open_tail,
)
from .messages cimport Message, new_message
from .sending cimport SHOWN

from .close_codes import INTERNAL_ERROR
from .._errors import ConnectionClosedError, LimitError, ProtocolError

cdef extern from "Python.h":
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *s, Py_ssize_t size, const char *errors
    ) noexcept
    void PyErr_Clear() noexcept
    int PyErr_ExceptionMatches(object kind) noexcept

cdef enum:
    RAW_PIECE = 16384  # bytes of a compressed message that are inflated at once for a piece


cdef class Assembling(LookingAhead):

    # Frames

    cdef Message whole_frame(self, const frame_header *h):
        """A message in one frame that is all here: one copy from buffer to payload."""
        cdef uint8_t *data
        cdef size_t n = <size_t>h.length
        cdef uint8_t bits = self.inbox.cur[0]
        if self.trace is not None:
            self.trace_data(h)
        data = self.inbox.cur + h.size
        if h.opcode == TEXT and not h.rsv:
            if h.masked:
                mask_copy(data, data, n, h.key, 0)
            payload = self.text(data, n)
        elif h.masked:
            payload = PyBytes_FromStringAndSize(NULL, n)
            mask_copy(<uint8_t *>PyBytes_AS_STRING(payload), data, n, h.key, 0)
        else:
            payload = PyBytes_FromStringAndSize(<char *>data, n)
        self.inbox.cur = data + n
        self.frames_in += 1
        self.messages_in += 1
        if h.rsv:
            self.message_rsv = h.rsv
            payload = self.decode(payload, True)
            n = PyBytes_GET_SIZE(payload)
            if h.opcode == TEXT:
                payload = self.text(<uint8_t *>PyBytes_AS_STRING(payload), n)
            bits &= ~<uint8_t>RSV
        return new_message(bits, h.masked, payload, n)

    cdef int begin_frame(self, const frame_header *h) except -1:
        cdef uint8_t bits = self.inbox.cur[0]
        if self.trace is not None:
            self.trace_data(h)
        if h.opcode != CONTINUATION:
            self.message_opcode = h.opcode
            self.message_rsv = h.rsv
            self.message_begun = False
            self.utf8.missing = 0
            self.filling = self.raw if h.rsv else self.body
        self.frames_in += 1
        self.frame_bits = bits
        self.frame_masked = h.masked
        memcpy(self.frame_key, h.key, 4)
        self.frame_left = h.length
        self.frame_offset = 0
        self.in_frame = True
        self.inbox.cur += h.size
        return 0

    cdef int trace_data(self, const frame_header *h) except -1:
        """Tell of the data frame that begins here."""
        cdef uint8_t start[SHOWN]
        cdef size_t here = self.inbox.unread() - h.size
        here = <size_t>min(<uint64_t>min(here, <size_t>SHOWN), h.length)
        mask_copy(start, self.inbox.cur + h.size, here, h.key, 0)
        return self.traced(False, self.inbox.cur[0], h.length, start, here)

    cdef Message continue_frame(self, Unit unit):
        """Take what is here of the frame's payload; what there is now to deliver, or None."""
        self.take_payload()
        if self.frame_left == 0:
            return self.finish_frame(unit)
        return self.take_piece() if self.piecewise else None

    cdef Message finish_frame(self, Unit unit):
        """The frame's payload is complete: the message, its fragment, or None if more follow."""
        cdef bint fin = self.frame_bits & FIN != 0
        if self.message_rsv:
            self.decode_raw(fin)
        if fin and self.message_opcode == TEXT and self.utf8.missing:
            self.fail(bad_utf8())
        self.in_frame = False
        if not fin and (unit == MESSAGE or (unit == PIECE and self.deliverable() == 0)):
            return None
        return self.deliver(fin)

    cdef Message take_piece(self):
        """What is here of the frame's payload, or None if there is nothing to deliver yet."""
        if self.message_rsv and self.raw.size:
            self.decode_raw(False)
        return self.deliver(False) if self.deliverable() else None

    # The payload

    cdef int take_payload(self) except -1:
        """Move what is here of the frame's payload to the body, and check it if it is text."""
        cdef Body filling = self.filling
        cdef size_t n = self.payload_here()
        cdef uint8_t *to
        if n:
            filling.make_room(n, self.frame_left)
            to = filling.data() + filling.size
            if self.frame_masked:
                mask_copy(to, self.inbox.cur, n, self.frame_key, self.frame_offset)
            else:
                memcpy(to, self.inbox.cur, n)
            self.inbox.cur += n
            filling.size += n
            self.frame_left -= n
            self.frame_offset += n
        return self.check_body()

    cdef size_t payload_here(self) noexcept:
        """How many bytes of the frame's payload can be taken at once."""
        cdef uint64_t n = min(<uint64_t>self.inbox.unread(), self.frame_left)
        if self.piecewise and self.message_rsv:
            # deflate inflates what is here to at most 1032 times as much.
            n = min(n, max(<uint64_t>1, min(self.max_message_size >> 11, <uint64_t>RAW_PIECE)))
        return <size_t>n

    cdef int check_body(self) except -1:
        """Check what has come of a text since the last time, on the first impossible byte."""
        cdef Body body = self.body
        cdef size_t fresh = body.size - body.checked
        if self.message_opcode == TEXT and fresh:
            if utf8_check(&self.utf8, body.data() + body.checked, fresh) != fresh:
                self.fail(bad_utf8())
            body.checked = body.size
        return 0

    cdef size_t deliverable(self) noexcept:
        """How much of the body ends with a whole character, if it is text."""
        if self.message_opcode != TEXT:
            return self.body.size
        return self.body.size - utf8_open_tail(&self.utf8, self.body.data(), self.body.size)

    cdef Message deliver(self, bint fin):
        """The body as a message, or as a part of one."""
        cdef uint8_t bits = (FIN if fin else 0) | (
            CONTINUATION if self.message_begun else self.message_opcode
        )
        cdef size_t size = self.deliverable()
        payload = self.take_text(size) if self.message_opcode == TEXT else self.body.take()
        self.message_begun = True
        if fin:
            self.message_opcode = 0
            self.messages_in += 1
        return new_message(bits, self.frame_masked, payload, size)

    cdef object take_text(self, size_t size):
        """The body's text; what it has of a character more is delivered with the next fragment."""
        cdef size_t tail = self.body.size - size
        cdef uint8_t tail_bytes[4]
        payload = self.text(self.body.data(), size)
        if tail:
            memcpy(tail_bytes, self.body.data() + size, tail)
        self.body.drop()
        if tail:
            self.body.make_room(tail, tail)
            memcpy(self.body.data(), tail_bytes, tail)
            self.body.size = self.body.checked = tail
        return payload

    cdef object text(self, const uint8_t *data, size_t n):
        cdef bint invalid
        cdef PyObject *decoded = decode_utf8(<const char *>data, n, NULL)
        if decoded == NULL:
            invalid = PyErr_ExceptionMatches(UnicodeDecodeError)
            PyErr_Clear()
            if not invalid:
                raise MemoryError
            self.fail(bad_utf8())
        result = <object>decoded
        Py_DECREF(result)
        return result

    # Extensions

    cdef int decode_raw(self, bint ends) except -1:
        """Let the extensions decode what has come of the frame, and add it to the body."""
        cdef Py_ssize_t size
        piece = self.decode(self.raw.take(), ends)
        size = PyBytes_GET_SIZE(piece)
        if size:
            self.body.make_room(size, size)
            memcpy(self.body.data() + self.body.size, PyBytes_AS_STRING(piece), size)
            self.body.size += size
        return self.check_body()

    cdef object decode(self, object payload, bint ends):
        """Let the extensions that have transformed a frame's payload undo that, last first."""
        cdef uint64_t limit = room_left(self)
        self.coded_in += PyBytes_GET_SIZE(payload)
        for extension in reversed(self.extensions):
            if self.message_rsv & <uint8_t>extension.rsv:
                payload = self.decode_with(extension, payload, ends, limit)
        self.decoded_in += PyBytes_GET_SIZE(payload)
        return payload

    cdef object decode_with(self, object extension, object payload, bint ends, uint64_t limit):
        try:
            payload = extension.decode(payload, ends=ends, limit=limit)
        except LimitError:
            self.fail(self.too_large(self.max_message_size + 1))
        except ProtocolError as error:
            self.fail(error)
        except MemoryError:
            raise
        except Exception as error:
            self.fail(extension_failed(extension, f"{error!r}", error))
        if not PyBytes_CheckExact(payload):
            what = f"it returned {type(payload).__name__}, not bytes"
            self.fail(extension_failed(extension, what, None))
        if <uint64_t>PyBytes_GET_SIZE(payload) > limit:
            self.fail(self.too_large(self.body.size + PyBytes_GET_SIZE(payload)))
        return payload


cdef object extension_failed(object extension, str what, object cause):
    error = ConnectionClosedError(
        f"the connection was failed: {type(extension).__name__}.decode() failed: {what}",
        INTERNAL_ERROR,
        "extension failed",
    )
    error.__cause__ = cause
    return error
