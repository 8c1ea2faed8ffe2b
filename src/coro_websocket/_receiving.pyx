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

from ._buffers cimport HELD_KEPT, Body, Inbox
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
from ._sending cimport SHOWN, Sending

from ._close import INTERNAL_ERROR, NO_STATUS, close_payload, failure, may_be_sent
from ._errors import ConnectionClosedError, LimitError, ProtocolError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *s, Py_ssize_t size, const char *errors
    ) noexcept
    void PyErr_Clear() noexcept
    int PyErr_ExceptionMatches(object kind) noexcept

cdef enum:
    INTO_SCRATCH = 0
    INTO_HELD = 1
    INTO_BODY = 2

    PREFIX = 256  # bytes kept free at the front of a stream's buffer, for what was left over
    HELD_ROOM = 65536  # bytes received at once behind messages that nobody has read
    DIRECT = 16384  # a frame that misses more than this is received into its message's body
    LARGE = 131072  # bytes of a body that is made larger for that
    RAW_PIECE = 16384  # bytes of a compressed message that are inflated at once for a piece


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
            and not (self.piecewise and self.message_rsv)
            and (body.size >= LARGE or self.frame_left <= body.capacity - body.size)
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

    cdef bint lend(self) noexcept:
        """Have what `receive_into` gave stay where it is: Python code may run before `received`.

        Whatever that calls on the connection finds what was there before. Returns what
        `take_back` is to be given.
        """
        cdef bint parsing = self.parsing
        self.parsing = self.lent = True
        return parsing

    cdef int take_back(self, bint parsing) noexcept:
        self.parsing = parsing
        self.lent = False
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
        if not self.parsing:
            if self.over:
                self.inbox.cur = self.inbox.end  # what comes after the end is nobody's
            self.drop_behind_close()
            if self.inbox.end - self.inbox.cur <= HELD_KEPT < self.inbox.capacity:
                self.inbox.fit()
        if not self.inbox.borrowed or self.inbox.cur == self.inbox.end:
            return self.inbox.release()  # which moves nothing
        try:
            return self.inbox.release()
        except MemoryError:
            self.over = True
            raise

    cdef int drop_behind_close(self) noexcept:
        """Drop what has come behind a Close that was answered ahead of the messages before it."""
        if self.close_received and self.inbox.ahead > self.inbox.cur:
            self.inbox.end = self.inbox.ahead
        return 0

    cdef int forget(self) noexcept:
        """Drop all that has come: nothing more will be delivered."""
        if not self.parsing:
            self.over = True
            self.in_frame = False
            self.inbox.drop()
            self.body.drop()
            self.raw.drop()
        return 0

    cdef int cut_off(self) noexcept:
        """No more bytes will come: drop what can no longer become a frame.

        Unless it is being read in pieces.
        """
        if self.in_frame and not self.piecewise and self.frame_left > self.inbox.unread():
            self.forget()
        return 0

    # Messages out

    cdef Message next(self, Unit unit, bint control):
        """The next message, frame or piece, or None if it is not here or nothing more will come.

        control: give control frames too; they have been acted on. Raises ProtocolError at a
        violation (ConnectionClosedError where an extension has failed), after the Close frame
        that tells the peer has been put among the bytes to send.

        While it runs Python code may run: of an extension, of a log handler, of a finalizer.
        Whatever that calls on the connection, nothing more is parsed before we are done.
        """
        if self.parsing:
            return None
        self.parsing = True
        try:
            return self.parse(unit, control)
        finally:
            self.parsing = False

    cdef Message parse(self, Unit unit, bint control):
        cdef frame_header h
        cdef int status
        cdef size_t available
        cdef uint8_t data[125]
        cdef Message message
        cdef uint8_t bits
        if self.piecewise != (unit == PIECE):
            self.piecewise = unit == PIECE
            if self.in_frame and not self.piecewise:
                # Of this frame only pieces were asked for, which may be of any length.
                self.check_length(self.raw.size + self.frame_left, self.message_rsv)
        while not self.over:
            if self.in_frame:
                self.take_payload()
                if self.frame_left:
                    message = self.take_piece() if self.piecewise else None
                    if message is None and self.inbox.unread():
                        continue
                    return message
                message = self.finish_frame(unit)
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
                mask_copy(data, self.inbox.cur + h.size, h.length, h.key, 0)
                if self.inbox.cur >= self.inbox.ahead:
                    self.control_frame(&h, data)
                self.inbox.cur += h.size + h.length
                self.frames_in += 1
                if h.opcode == CLOSE:
                    self.over = True
                if self.trace is not None:
                    self.traced(False, bits, h.length, data, <size_t>h.length)
                if control:
                    return new_message(
                        bits,
                        h.masked,
                        PyBytes_FromStringAndSize(<char *>data, h.length),
                        h.length,
                    )
            elif h.fin and h.opcode and h.length <= available and not (h.rsv and unit == PIECE):
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
        if self.over or self.close_received or self.parsing:
            return 0
        self.parsing = True
        try:
            return self.parse_ahead(answer_close)
        finally:
            self.parsing = False

    cdef int parse_ahead(self, bint answer_close) except -1:
        cdef frame_header h
        cdef size_t available
        cdef uint8_t data[125]
        cdef uint8_t *at
        cdef size_t looked = 0  # bytes behind `cur`: the Python code may have these moved
        if self.in_frame:
            if self.frame_left > self.inbox.unread():
                return 0
            looked = <size_t>self.frame_left
        if self.inbox.cur + looked < self.inbox.ahead:
            looked = self.inbox.ahead - self.inbox.cur
        else:
            self.control_ahead = 0
        while not self.close_received and not self.over:
            at = self.inbox.cur + looked
            available = self.inbox.end - at
            if frame_header_parse(at, available, &h) <= 0:
                break
            available -= h.size
            if h.length > available or h.masked == self.client or self.wrong_rsv(&h):
                break
            if h.opcode & 8:
                mask_copy(data, at + h.size, h.length, h.key, 0)
                if h.opcode == CLOSE:
                    if not self.in_frame and looked <= self.control_ahead:
                        answer_close = True  # there are only control frames before it
                    if not answer_close or close_violation(data, h.length) is not None:
                        self.close_ahead = True
                        break
                self.control_frame(&h, data)
                self.control_ahead += h.size + <size_t>h.length
            else:
                self.control_ahead = 0
            looked += h.size + <size_t>h.length
            self.inbox.ahead = self.inbox.cur + looked
        self.drop_behind_close()
        return 0

    cdef bint wrong_rsv(self, const frame_header *h) noexcept:
        """Whether reserved bits are set that no extension uses so (RFC 7692 section 6).

        An extension marks the first frame of a message.
        """
        return h.rsv and (h.rsv & ~self.rsv or h.opcode == 0 or h.opcode & 8)

    cdef bint data_is_next(self) noexcept:
        """Whether a data frame is here, or begins."""
        return self.inbox.cur < self.inbox.end and not self.inbox.cur[0] & 8 and not self.over

    cdef bint larger_is_next(self) noexcept:
        """Whether the next frame begins a message that is too large to be read whole."""
        cdef frame_header h
        return (
            not self.in_frame
            and frame_header_parse(self.inbox.cur, self.inbox.unread(), &h) > 0
            and h.opcode & 8 == 0
            and h.length > self.max_message_size
        )

    cdef int skip_control(self) noexcept:
        """Drop the control frames that have been acted on and wait before all messages.

        For when too much waits: a reader that asks for control frames does without these.
        """
        cdef frame_header h
        while not self.in_frame and not self.parsing and self.inbox.cur < self.inbox.ahead:
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
        if not self.piecewise:
            self.check_length(h.length, h.rsv or (h.opcode == 0 and self.message_rsv))
        return 0

    cdef int check_length(self, uint64_t length, bint transformed) except -1:
        """Whether there may be so much more of the message."""
        cdef uint64_t room = self.room_left()
        if transformed:
            # What a message cannot be made smaller by is a little larger than it; `decode`
            # measures what it becomes.
            room += min(room // 4 + 64, <uint64_t>PY_SSIZE_T_MAX - room)
        if length > room or self.body.size > self.max_message_size:
            self.fail(self.too_large(self.body.size + length))
        return 0

    cdef uint64_t room_left(self) noexcept:
        """How many bytes more the message may have (max_message_size)."""
        if self.body.size > self.max_message_size:  # what pieces were asked of may have any length
            return 0
        return self.max_message_size - self.body.size

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
            bits &= ~<uint8_t>0x70
        return new_message(bits, h.masked, payload, n)

    cdef int begin_frame(self, const frame_header *h) except -1:
        cdef uint8_t bits = self.inbox.cur[0]
        if self.trace is not None:
            self.trace_data(h)
        if h.opcode:
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

    cdef int take_payload(self) except -1:
        """Move what is here of the frame's payload to the body, and check it if it is text."""
        cdef Body filling = self.filling
        cdef size_t n = self.inbox.unread()
        cdef uint64_t most
        cdef uint8_t *to
        if n > self.frame_left:
            n = <size_t>self.frame_left
        if self.piecewise and self.message_rsv:
            # deflate inflates what is here to at most 1032 times as much.
            most = min(self.max_message_size >> 11, <uint64_t>RAW_PIECE)
            n = min(n, <size_t>most if most else 1)
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

    cdef size_t deliverable(self) noexcept:
        """How much of the body ends with a whole character, if it is text."""
        if self.message_opcode != TEXT:
            return self.body.size
        return self.body.size - utf8_open_tail(&self.utf8, self.body.data(), self.body.size)

    cdef Message deliver(self, bint fin):
        """The body as a message, or as a part of one."""
        cdef uint8_t bits = (FIN if fin else 0) | (
            0 if self.message_begun else self.message_opcode
        )
        cdef size_t size = self.deliverable()
        cdef size_t tail = self.body.size - size
        cdef uint8_t tail_bytes[4]
        if self.message_opcode == TEXT:
            # A character that the next fragment ends is delivered with that fragment.
            payload = self.text(self.body.data(), size)
            if tail:
                memcpy(tail_bytes, self.body.data() + size, tail)
            self.body.drop()
        else:
            payload = self.body.take()
        if tail:
            self.body.make_room(tail, tail)
            memcpy(self.body.data(), tail_bytes, tail)
            self.body.size = self.body.checked = tail
        self.message_begun = True
        if fin:
            self.message_opcode = 0
            self.messages_in += 1
        return new_message(bits, self.frame_masked, payload, size)

    cdef size_t held(self) noexcept:
        """How many bytes wait for a reader."""
        return self.inbox.unread() + self.body.size + self.raw.size

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

    cdef object decode(self, object payload, bint ends):
        """Let the extensions that have transformed a frame's payload undo that, last first."""
        cdef uint64_t limit = self.room_left()
        self.coded_in += PyBytes_GET_SIZE(payload)
        for extension in reversed(self.extensions):
            if self.message_rsv & <uint8_t>extension.rsv:
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
        self.decoded_in += PyBytes_GET_SIZE(payload)
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
        if not self.lent:
            self.in_frame = False
            self.body.drop()
            self.raw.drop()
        self.error = error
        self.close_code, self.close_reason = failure(error.code, error.reason)
        if not self.close_sent:
            self.late_pong_size = -1
            self.close_sent = True
            payload = close_payload(self.close_code, self.close_reason)
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
        try:
            while taken < size:
                self.receive_into(NULL, 0, &to, &room)
                n = min(room, size - taken)
                memcpy(to, &data[taken], n)
                self.received(n)
                taken += n
        except MemoryError:
            self.forget()
            raise

    def next_message(self, *, bint fragments=False, bint pieces=False, bint control=False):
        """The next message that is here, or None. Raises ProtocolError at a violation."""
        try:
            return self.next(PIECE if pieces else FRAME if fragments else MESSAGE, control)
        except MemoryError:
            self.forget()  # a part of the message is gone
            raise
        finally:
            self.release()

    def answer_ahead(self, *, bint answer_close=False):
        """Act on control frames that wait behind messages which nobody has asked for."""
        self.look_ahead(answer_close)

    def fail_connection(self, error):
        """Fail the connection for a ProtocolError that was found outside the engine."""
        if not self.over:
            try:
                self.fail(error)
            except ConnectionClosedError:
                pass

    @property
    def finished(self):
        """Whether nothing more will be delivered: after a Close or a violation."""
        return self.over


cdef object violation(str what, str section):
    return ProtocolError(f"the peer sent a {what} (RFC 6455 section {section})", 1002, what)


cdef object extension_failed(object extension, str what, object cause):
    error = ConnectionClosedError(
        f"the connection was failed: {type(extension).__name__}.decode() failed: {what}",
        INTERNAL_ERROR,
        "extension failed",
    )
    error.__cause__ = cause
    return error


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
