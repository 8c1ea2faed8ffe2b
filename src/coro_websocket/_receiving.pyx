"""The receiving half of the engine: bytes in, messages out.

Messages are parsed when they are asked for, one at a time, so that whatever came
before a violation is delivered, and can be answered, before the connection is
failed. Control frames that wait behind messages which nobody has asked for are
answered by `look_ahead`.

RFC 6455 sections 5 (frames), 7.1.5 to 7.1.7 (Close and failing) and 8.1 (UTF-8). The
rules that one header can break on its own are in `_native/frame_header.h`.
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

from ._buffers cimport Body, Inbox
from ._frames cimport (
    CLOSE,
    FIN,
    FRAME_HEADER_PARTIAL,
    PING,
    PONG,
    TEXT,
    frame_header,
    frame_header_parse,
    header_violation,
    mask_copy,
    utf8_check,
    utf8_open_tail,
    utf8_state,
)
from ._messages cimport Message, new_message
from ._sending cimport Sending

from ._close import NO_STATUS, close_payload, may_be_sent
from ._errors import LimitError, ProtocolError

cdef extern from "Python.h":
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *s, Py_ssize_t size, const char *errors
    ) noexcept
    void PyErr_Clear() noexcept

cdef enum:
    INTO_SCRATCH = 0
    INTO_HELD = 1
    INTO_BODY = 2

    PREFIX = 256  # bytes kept free at the front of a stream's buffer, for what was left over
    HELD_ROOM = 65536  # bytes received at once behind messages that nobody has read
    DIRECT = 16384  # a frame that misses more than this is received into its message's body


cdef class Receiving(Sending):
    def __cinit__(self, *args, **options):
        self.inbox = Inbox()
        self.body = Body()
        self.raw = Body()
        self.filling = self.body

    # Bytes in

    cdef int receive_into(
        self, uint8_t *scratch, size_t size, uint8_t **to, size_t *room
    ) except -1:
        """Where the next bytes are to be put; `received` says how many were.

        scratch (NULL: there is none) is a buffer of the stream's, larger than PREFIX,
        that is the engine's from `received` to `release`.
        """
        cdef Inbox inbox = self.inbox
        cdef Body body = self.filling
        if (
            self.in_frame
            and self.frame_left >= DIRECT
            and inbox.cur == inbox.end
            and not self.over
        ):
            body.make_room(DIRECT, self.frame_left)
            self.target_kind = INTO_BODY
            self.target = body.data() + body.size
            room[0] = <size_t>min(self.frame_left, <uint64_t>(body.capacity - body.size))
        elif scratch != NULL and inbox.unread() <= PREFIX:
            self.target_kind = INTO_SCRATCH
            self.target = scratch + PREFIX
            room[0] = size - PREFIX
        else:
            inbox.make_room(HELD_ROOM)
            self.target_kind = INTO_HELD
            self.target = inbox.end
            room[0] = inbox.room()
        to[0] = self.target
        return 0

    cdef int received(self, size_t n) noexcept:
        if self.target_kind == INTO_BODY:
            if self.frame_masked:
                mask_copy(self.target, self.target, n, self.frame_key, self.frame_offset)
            self.filling.size += n
            self.frame_left -= n
            self.frame_offset += n
        elif self.target_kind == INTO_HELD:
            self.inbox.end += n
        else:
            self.inbox.borrow(self.target, n)
        return 0

    cdef int release(self) except -1:
        """Give the stream's buffer back."""
        if self.over:
            self.inbox.cur = self.inbox.end  # what comes after the end is nobody's
        return self.inbox.release()

    # Messages out

    cdef Message next(self, bint fragments, bint control):
        """The next message, or None if it is not all here or nothing more will come.

        fragments: give each frame by itself. control: give control frames too; they
        have been acted on. Raises ProtocolError at a violation, after the Close
        frame that tells the peer has been put among the bytes to send.
        """
        cdef frame_header h
        cdef int status
        cdef size_t available
        cdef uint8_t data[125]
        cdef uint8_t *payload
        cdef Message message
        cdef uint8_t bits
        while not self.over:
            if self.in_frame:
                self.take_payload()
                if self.frame_left:
                    return None
                message = self.finish_frame(fragments)
                if message is not None:
                    return message
                continue
            available = self.inbox.end - self.inbox.cur
            status = frame_header_parse(self.inbox.cur, available, &h)
            if status == FRAME_HEADER_PARTIAL:
                return None
            if status < 0:
                self.fail(header_violation(status, &h))
            self.check_header(&h)
            available -= h.size
            if h.opcode & 8:
                if h.length > available:
                    return None
                bits = self.inbox.cur[0]
                payload = self.inbox.cur + h.size
                mask_copy(data, payload, h.length, h.key, 0)
                if self.inbox.cur >= self.inbox.ahead:
                    self.control_frame(&h, data)
                self.inbox.cur = payload + h.length
                if h.opcode == CLOSE:
                    self.over = True
                if control:
                    return new_message(
                        bits,
                        h.masked,
                        PyBytes_FromStringAndSize(<char *>data, h.length),
                        h.length,
                    )
            elif h.fin and h.opcode and h.length <= available:
                return self.whole_frame(&h)
            else:
                self.begin_frame(&h)
        return None

    cdef int look_ahead(self, bint answer_close) except -1:
        """Act on the control frames that wait behind messages which nobody has asked for.

        A Close is answered if nothing waits before it or if answer_close says so;
        otherwise the messages before it may still be answered. Stops at the first
        violation, which is for `next` to reach.
        """
        cdef frame_header h
        cdef size_t available
        cdef uint8_t data[125]
        cdef uint8_t *at = self.inbox.cur
        if self.over or self.close_received:
            return 0
        if self.in_frame:
            if self.frame_left > self.inbox.unread():
                return 0
            at += self.frame_left
        if at < self.inbox.ahead:
            at = self.inbox.ahead
        while not self.close_received:
            available = self.inbox.end - at
            if frame_header_parse(at, available, &h) <= 0:
                break
            available -= h.size
            if h.length > available or h.masked == self.client or self.wrong_rsv(&h):
                break
            if h.opcode & 8:
                mask_copy(data, at + h.size, h.length, h.key, 0)
                if h.opcode == CLOSE:
                    self.skip_control()
                    answer_close = answer_close or (at == self.inbox.cur and not self.in_frame)
                    if not answer_close or close_violation(data, h.length) is not None:
                        self.close_ahead = True
                        break
                self.control_frame(&h, data)
            at += h.size + h.length
            self.inbox.ahead = at
        return 0

    cdef bint wrong_rsv(self, const frame_header *h) noexcept:
        """Whether reserved bits are set that no extension uses so (RFC 7692 section 6).

        An extension marks the first frame of a message.
        """
        return h.rsv and (h.rsv & ~self.rsv or h.opcode == 0 or h.opcode & 8)

    cdef int skip_control(self) noexcept:
        """Drop the control frames that have been acted on and wait before all messages."""
        cdef frame_header h
        while not self.in_frame and self.inbox.cur < self.inbox.ahead:
            frame_header_parse(self.inbox.cur, self.inbox.unread(), &h)
            if not h.opcode & 8 or h.opcode == CLOSE:
                break
            self.inbox.cur += h.size + h.length
        return 0

    cdef int check_header(self, const frame_header *h) except -1:
        """The rules that a header can break only in its connection's state."""
        if self.wrong_rsv(h):
            self.fail(
                violation(f"frame with reserved bits {h.rsv:03b} that no extension uses", "5.2")
            )
        if h.masked == self.client:
            if self.client:
                self.fail(violation("masked frame, which a server must not", "5.1"))
            self.fail(violation("frame without a mask, which a client must not", "5.1"))
        if h.opcode & 8:
            return 0
        if h.opcode == 0:
            if self.message_opcode == 0:
                self.fail(violation("continuation frame without a message to continue", "5.4"))
        elif self.message_opcode != 0:
            self.fail(violation("new message before the last one had ended", "5.4"))
        if h.length > self.max_message_size - self.body.size:
            self.fail(self.too_large(self.body.size + h.length))
        return 0

    cdef Message whole_frame(self, const frame_header *h):
        """A message in one frame that is all here: one copy from buffer to payload."""
        cdef uint8_t *data = self.inbox.cur + h.size
        cdef size_t n = <size_t>h.length
        cdef uint8_t bits = self.inbox.cur[0]
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
        if h.rsv:
            self.message_rsv = h.rsv
            payload = self.decode(payload, True)
            n = PyBytes_GET_SIZE(payload)
            if h.opcode == TEXT:
                payload = self.text(<uint8_t *>PyBytes_AS_STRING(payload), n)
            bits &= ~<uint8_t>0x70
        return new_message(bits, h.masked, payload, n)

    cdef int begin_frame(self, const frame_header *h) except -1:
        cdef uint8_t bits = self.inbox.cur[0]
        if h.opcode:
            self.message_opcode = h.opcode
            self.message_rsv = h.rsv
            self.message_begun = False
            self.utf8.missing = 0
            self.filling = self.raw if h.rsv else self.body
        self.frame_bits = bits
        self.frame_masked = h.masked
        memcpy(self.frame_key, h.key, 4)
        self.frame_left = h.length
        self.frame_offset = 0
        self.in_frame = True
        self.inbox.cur += h.size
        return 0

    cdef int take_payload(self) except -1:
        """Move what is here of the frame's payload to the body, and check it if it is text."""
        cdef Body filling = self.filling
        cdef size_t n = self.inbox.unread()
        cdef uint8_t *to
        if n > self.frame_left:
            n = <size_t>self.frame_left
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

    cdef int check_body(self) except -1:
        """Check what has come of a text since the last time, on the first impossible byte."""
        cdef Body body = self.body
        cdef size_t fresh = body.size - body.checked
        if self.message_opcode == TEXT and fresh:
            if utf8_check(&self.utf8, body.data() + body.checked, fresh) != fresh:
                self.fail(bad_utf8())
            body.checked = body.size
        return 0

    cdef Message finish_frame(self, bint fragments):
        """The frame's payload is complete: the message, its fragment, or None if more follow."""
        cdef bint fin = self.frame_bits & FIN != 0
        cdef bint is_text = self.message_opcode == TEXT
        cdef uint8_t bits = (self.frame_bits & FIN) | (
            0 if self.message_begun else self.message_opcode
        )
        cdef size_t tail = 0
        cdef size_t size
        cdef uint8_t tail_bytes[4]
        cdef uint8_t *body
        if self.message_rsv:
            piece = self.decode(self.raw.take(), fin)
            size = PyBytes_GET_SIZE(piece)
            self.body.make_room(size, size)
            memcpy(self.body.data() + self.body.size, PyBytes_AS_STRING(piece), size)
            self.body.size += size
            self.check_body()
        if fin and is_text and self.utf8.missing:
            self.fail(bad_utf8())
        self.in_frame = False
        if not fin and not fragments:
            return None
        if is_text:
            # A character that the next fragment ends is delivered with that fragment.
            body = self.body.data()
            tail = utf8_open_tail(&self.utf8, body, self.body.size)
            size = self.body.size - tail
            payload = self.text(body, size)
            if tail:
                memcpy(tail_bytes, body + size, tail)
            self.body.size = 0
            self.body.take()
        else:
            size = self.body.size
            payload = self.body.take()
        if tail:
            self.body.make_room(tail, tail)
            memcpy(self.body.data(), tail_bytes, tail)
            self.body.size = self.body.checked = tail
        self.message_begun = True
        if fin:
            self.message_opcode = 0
        return new_message(bits, self.frame_masked, payload, size)

    cdef object text(self, const uint8_t *data, size_t n):
        cdef PyObject *decoded = decode_utf8(<const char *>data, n, NULL)
        if decoded == NULL:
            PyErr_Clear()
            self.fail(bad_utf8())
        result = <object>decoded
        Py_DECREF(result)
        return result

    cdef object decode(self, object payload, bint ends):
        """Let the extensions that have transformed a frame's payload undo that, last first."""
        cdef uint64_t limit = self.max_message_size - self.body.size
        for extension in reversed(self.extensions):
            if self.message_rsv & <uint8_t>extension.rsv:
                try:
                    payload = extension.decode(payload, ends=ends, limit=limit)
                except LimitError:
                    self.fail(self.too_large(self.max_message_size + 1))
                except ProtocolError as error:
                    self.fail(error)
                if not PyBytes_CheckExact(payload):
                    raise TypeError(f"{extension!r}.decode() must return bytes")
                if <uint64_t>PyBytes_GET_SIZE(payload) > limit:
                    self.fail(self.too_large(self.body.size + PyBytes_GET_SIZE(payload)))
        return payload

    cdef object too_large(self, uint64_t actual):
        return LimitError(
            f"the peer sent a message of at least {actual} bytes; "
            f"max_message_size is {self.max_message_size} (close code 1009)",
            1009,
            f"message larger than {self.max_message_size} bytes",
            limit="max_message_size",
            value=self.max_message_size,
            actual=actual,
        )

    cdef int control_frame(self, const frame_header *h, uint8_t *data) except -1:
        if h.opcode == PING:
            self.answer_ping(data, h.length)
        elif h.opcode == PONG:
            self.match_pong(data, h.length)
        else:
            self.close_frame(data, h.length)
        return 0

    cdef int close_frame(self, const uint8_t *data, size_t n) except -1:
        """Section 5.5.1: check the peer's Close and answer it if it is the first."""
        error = close_violation(data, n)
        if error is not None:
            self.fail(error)
        if n:
            self.close_code = data[0] << 8 | data[1]
            self.close_reason = data[2:n].decode()
        else:
            self.close_code = NO_STATUS
        self.close_received = True
        if not self.close_sent:
            self.late_pong_size = -1  # no Pong is owed to a peer that closes (section 5.5.2)
            self.close_sent = True
            self.send_frame(FIN | CLOSE, data, min(n, <size_t>2))
        return 0

    cdef int fail(self, object error) except -1:
        """Fail the connection (section 7.1.7): tell the peer once, and read no more."""
        self.over = True
        self.error = error
        self.close_code = error.code
        self.close_reason = error.reason
        if not self.close_sent:
            self.late_pong_size = -1
            self.close_sent = True
            payload = close_payload(error.code, error.reason[:123])
            self.send_frame(FIN | CLOSE, payload, len(payload))
        raise error

    # What Python sees: the streams call the above from native code.

    def receive(self, const uint8_t[::1] data not None):
        """Take bytes that came from the peer."""
        cdef uint8_t *to
        cdef size_t room
        cdef size_t taken = 0
        cdef size_t n
        cdef size_t size = data.shape[0]
        while taken < size:
            self.receive_into(NULL, 0, &to, &room)
            n = min(room, size - taken)
            memcpy(to, &data[taken], n)
            self.received(n)
            taken += n

    def next_message(self, *, bint fragments=False, bint control=False):
        """The next message that is here, or None. Raises ProtocolError at a violation."""
        cdef Message message = self.next(fragments, control)
        self.release()
        return message

    def answer_ahead(self, *, bint answer_close=False):
        """Act on control frames that wait behind messages which nobody has asked for."""
        self.look_ahead(answer_close)

    def fail_connection(self, error):
        """Fail the connection for a ProtocolError that was found outside the engine."""
        if not self.over:
            try:
                self.fail(error)
            except ProtocolError:
                pass

    @property
    def finished(self):
        """Whether nothing more will be delivered: after a Close or a violation."""
        return self.over


cdef object violation(str what, str section):
    return ProtocolError(f"the peer sent a {what} (RFC 6455 section {section})", 1002, what)


cdef object close_violation(const uint8_t *data, size_t n):
    """What is wrong with the payload of a Close frame that came, or None (section 5.5.1)."""
    cdef utf8_state state
    if n == 0:
        return None
    if n == 1:
        return violation("Close frame with a payload of one byte", "5.5.1")
    code = data[0] << 8 | data[1]
    if not may_be_sent(code):
        return violation(f"Close frame with the code {code}", "7.4")
    state.missing = 0
    if utf8_check(&state, data + 2, n - 2) != n - 2 or state.missing:
        return bad_utf8("close reason")
    return None


cdef object bad_utf8(str where="text message"):
    return ProtocolError(
        f"the peer sent a {where} that is not UTF-8 (RFC 6455 section 8.1)",
        1007,
        f"{where} that is not UTF-8",
    )
