"""The engine: RFC 6455's state machine for one connection, without I/O or a clock.

Received bytes go in and messages come out; messages go in and bytes to send come
out. Messages are parsed when they are asked for, one at a time, so that whatever
came before a violation is delivered, and can be answered, before the connection
is failed. Control frames that wait behind messages which nobody has asked for
are answered by `look_ahead`.

Sections 5 (frames), 7 (closing) and 8 (errors) of RFC 6455. The rules that one
header can break on its own are in `_native/frame_header.h`.
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

from ._buffers cimport Body, Inbox, Outbox
from ._frames cimport (
    FRAME_HEADER_MAX,
    FRAME_HEADER_PARTIAL,
    fill_masking_key,
    frame_header,
    frame_header_parse,
    frame_header_write,
    header_violation,
    mask_copy,
    utf8_check,
    utf8_open_tail,
    utf8_state,
)
from ._messages cimport Message, new_message, no_utf8, plain_payload

from ._close import ABNORMAL, CLEAN, NO_STATUS, close_payload, describe, may_be_sent
from ._errors import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidMessage,
    LimitError,
    ProtocolError,
)

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *s, Py_ssize_t size, const char *errors
    ) noexcept
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    void PyErr_Clear() noexcept

cdef enum:
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    FIN = 0x80

    INTO_SCRATCH = 0
    INTO_HELD = 1
    INTO_BODY = 2

    PREFIX = 256  # bytes kept free at the front of a stream's buffer, for what was left over
    HELD_ROOM = 65536  # bytes received at once behind messages that nobody has read
    DIRECT = 16384  # a frame that misses more than this is received into its message's body
    PONG_BACKLOG = 16384  # unsent bytes behind which only the newest Ping is answered


cdef class Engine:
    def __cinit__(self):
        self.inbox = Inbox()
        self.body = Body()
        self.raw = Body()
        self.filling = self.body
        self.outbox = Outbox()
        self.late_pong_size = -1

    def __init__(self, bint client, *, max_message_size=16 * 1024 * 1024, extensions=()):
        # A message is one object in memory, whatever the option says.
        self.client = client
        self.max_message_size = <uint64_t>PY_SSIZE_T_MAX - 1024
        if max_message_size is not None and max_message_size < self.max_message_size:
            self.max_message_size = max_message_size
        self.extensions = list(extensions)
        for extension in extensions:
            self.rsv |= extension.rsv
        self.close_reason = ""
        self.pings = []
        self.answered = []

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
            if h.length > available or h.rsv or h.masked == self.client:
                break
            if h.opcode & 8:
                mask_copy(data, at + h.size, h.length, h.key, 0)
                if h.opcode == CLOSE:
                    answer_close = answer_close or (at == self.inbox.cur and not self.in_frame)
                    if not answer_close or close_violation(data, h.length) is not None:
                        self.close_ahead = True
                        break
                self.control_frame(&h, data)
            at += h.size + h.length
            self.inbox.ahead = at
        return 0

    cdef int check_header(self, const frame_header *h) except -1:
        """The rules that a header can break only in its connection's state."""
        if h.rsv and (h.rsv & ~self.rsv or h.opcode == 0 or h.opcode & 8):
            # An extension marks the first frame of a message (RFC 7692 section 6).
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
            self.close_sent = True
            payload = close_payload(error.code, error.reason[:123])
            self.send_frame(FIN | CLOSE, payload, len(payload))
        raise error

    # Messages in, bytes out

    cdef int send_data(
        self, uint8_t opcode, bint fin, uint8_t rsv, const uint8_t *data, size_t n
    ) except -1:
        """Queue a data frame that `check_data` has let through."""
        self.send_frame(opcode | (rsv << 4) | (FIN if fin else 0), data, n)
        if fin:
            self.sending_opcode = 0
        elif opcode:
            self.sending_opcode = opcode
            self.sending_rsv = rsv
        return 0

    cdef int check_data(
        self, uint8_t opcode, bint fin, const uint8_t *data, size_t n, bint checked
    ) except -1:
        """Whether a data frame may be sent now. checked: it is known to be UTF-8 if it is text."""
        cdef utf8_state state
        if self.close_sent:
            raise self.refuse_to_send()
        if opcode:
            if self.sending_opcode:
                raise ConcurrencyError(
                    "a fragmented message is being sent: its last fragment (fin=True) must come "
                    "before a new message (RFC 6455 section 5.4)"
                )
            if opcode > BINARY:
                raise InvalidMessage(f"opcode {opcode:#x} is reserved (RFC 6455 section 5.2)")
            state.missing = 0
        elif self.sending_opcode:
            state = self.sending_utf8
        else:
            raise InvalidMessage(
                "a continuation (opcode 0) needs a fragmented message to continue "
                "(RFC 6455 section 5.4)"
            )
        if opcode == TEXT or (opcode == 0 and self.sending_opcode == TEXT):
            if not (checked and state.missing == 0) and (
                utf8_check(&state, data, n) != n or (fin and state.missing)
            ):
                raise InvalidMessage("text must be UTF-8 (RFC 6455 section 5.6)")
        self.sending_utf8 = state
        return 0

    cdef int send_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1:
        cdef frame_header h
        cdef uint8_t *to
        cdef size_t size
        h.fin = bits >> 7
        h.rsv = bits >> 4 & 7
        h.opcode = bits & 15
        h.masked = self.client
        h.length = n
        if h.masked:
            fill_masking_key(h.key)
        if n > <size_t>PY_SSIZE_T_MAX - FRAME_HEADER_MAX:
            raise MemoryError
        to = self.outbox.make_room(FRAME_HEADER_MAX + n)
        size = frame_header_write(to, &h)
        if n:
            if h.masked:
                mask_copy(to + size, data, n, h.key, 0)
            else:
                memcpy(to + size, data, n)
        self.outbox.end += size + n
        return 0

    cdef int answer_ping(self, const uint8_t *data, size_t n) except -1:
        """Section 5.5.2. Behind a backlog only the newest Ping is answered (section 5.5.3)."""
        if self.outbox.unsent() > PONG_BACKLOG:
            memcpy(self.late_pong, data, n)
            self.late_pong_size = <int>n
        else:
            self.send_frame(FIN | PONG, data, n)
        return 0

    cdef int match_pong(self, const uint8_t *data, size_t n) except -1:
        """A Pong answers the Ping with its payload and all earlier ones (section 5.5.3)."""
        if not self.pings:
            return 0
        payload = PyBytes_FromStringAndSize(<const char *>data, n)
        if payload in self.pings:
            index = self.pings.index(payload) + 1
            self.answered += self.pings[:index]
            del self.pings[:index]
        return 0

    cdef int sent(self, size_t n) except -1:
        """n of the bytes to send have been sent."""
        cdef int late = self.late_pong_size
        self.outbox.sent(n)
        if late >= 0 and self.outbox.unsent() == 0:
            self.late_pong_size = -1
            self.send_frame(FIN | PONG, self.late_pong, late)
        return 0

    cdef object refuse_to_send(self):
        """The error for a message that comes after the Close frame (section 5.5.1)."""
        if self.error is not None:
            return ConnectionClosedError(
                f"cannot send: the connection was failed, {self.error}",
                self.close_code,
                self.close_reason,
            )
        if self.close_received:
            how = "the connection was closed with " + describe(self.close_code, self.close_reason)
        else:
            how = "the connection is being closed"
        code = ABNORMAL if self.close_code is None else self.close_code
        return ConnectionClosedError("cannot send: " + how, code, self.close_reason)

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

    def send_message(self, Message message not None, *, bint transform=True):
        """Queue a message, a fragment or a control frame, as its fields say.

        transform: let the extensions transform it, from its first frame on.
        """
        if message.bits & 15 < CLOSE:
            self.check_message(message)
            self.send_encoded(message, *self.encode(message, transform))
        else:
            self.send_control(message)

    def check_message(self, Message message not None):
        """Raise what `send_message` would raise for a data frame."""
        cdef Py_ssize_t size
        cdef const char *data
        refuse_reserved_bits(message)
        if isinstance(message.payload, str):
            data = PyUnicode_AsUTF8AndSize(message.payload, &size)
        else:
            data = PyBytes_AS_STRING(message.payload)
            size = PyBytes_GET_SIZE(message.payload)
        self.check_data(
            message.bits & 15,
            message.bits & FIN != 0,
            <const uint8_t *>data,
            size,
            isinstance(message.payload, str),
        )

    def encode(self, Message message not None, bint transform):
        """What the extensions make of a data frame: the reserved bits to set, and the payload.

        Touches no state but the extensions': it may run in another thread.
        """
        cdef uint8_t opcode = message.bits & 15
        cdef uint8_t rsv = 0
        begins = opcode != 0
        payload = message.payload
        if self.extensions and (transform if begins else self.sending_rsv):
            payload = payload.encode() if isinstance(payload, str) else payload
            for extension in self.extensions:
                if not begins and not self.sending_rsv & <uint8_t>extension.rsv:
                    continue
                encoded = extension.encode(
                    payload,
                    opcode=opcode or self.sending_opcode,
                    begins=begins,
                    ends=message.bits & FIN != 0,
                )
                if encoded is not None:
                    payload = encoded
                    rsv |= <uint8_t>extension.rsv
        return rsv if begins else 0, payload

    def send_encoded(self, Message message not None, uint8_t rsv, payload):
        """Queue a data frame with what `encode` made of it."""
        cdef Py_ssize_t size
        cdef const char *data
        if isinstance(payload, str):
            data = PyUnicode_AsUTF8AndSize(payload, &size)
        elif PyBytes_CheckExact(payload):
            data = PyBytes_AS_STRING(payload)
            size = PyBytes_GET_SIZE(payload)
        else:
            raise TypeError("an extension's encode() must return bytes or None")
        if self.close_sent:
            raise self.refuse_to_send()
        self.send_data(
            message.bits & 15, message.bits & FIN != 0, rsv, <const uint8_t *>data, size
        )

    def send_control(self, Message message not None):
        """Queue a control frame (section 5.5)."""
        cdef uint8_t opcode = message.bits & 15
        refuse_reserved_bits(message)
        if not message.bits & FIN:
            raise InvalidMessage("a control frame cannot be a fragment (RFC 6455 section 5.4)")
        if opcode > PONG:
            raise InvalidMessage(f"opcode {opcode:#x} is reserved (RFC 6455 section 5.2)")
        payload = message.payload
        if opcode == CLOSE:
            payload = payload.encode() if isinstance(payload, str) else payload
            code, reason = close_fields(payload)
            self.send_close(code, reason)
        elif opcode == PING:
            self.send_ping(payload)
        else:
            self.send_pong(payload)

    def send_close(self, code=1000, reason=""):
        """Queue a Close frame; after the first one this does nothing (section 5.5.1)."""
        payload = close_payload(code, reason)
        if self.close_sent:
            return
        self.close_sent = True
        self.initiated_close = True
        self.send_frame(FIN | CLOSE, payload, len(payload))

    def send_ping(self, payload, *, bint expected=True):
        """Queue a Ping (section 5.5.2); `pop_answered` tells of its Pong if that is expected."""
        payload = control_payload(payload)
        if self.close_sent:
            raise self.refuse_to_send()
        self.send_frame(FIN | PING, payload, len(payload))
        if expected:
            self.pings.append(payload)

    def send_pong(self, payload=b""):
        """Queue a Pong that no Ping asked for (section 5.5.3)."""
        payload = control_payload(payload)
        if self.close_sent:
            raise self.refuse_to_send()
        self.send_frame(FIN | PONG, payload, len(payload))

    def refuse(self):
        """The error for a message that comes after the Close frame."""
        return self.refuse_to_send()

    def fail_connection(self, error):
        """Fail the connection for a ProtocolError that was found outside the engine."""
        if not self.over:
            try:
                self.fail(error)
            except ProtocolError:
                pass

    def pop_answered(self):
        """The payloads of the Pings that have been answered since the last call."""
        answered = self.answered
        self.answered = []
        return answered

    def data_to_send(self):
        """The bytes to send, which are then taken as sent."""
        cdef size_t n = self.outbox.unsent()
        if n == 0:
            return b""
        data = PyBytes_FromStringAndSize(<char *>self.outbox.data(), n)
        self.sent(n)
        return data

    def end_error(self, cause=None):
        """How the connection ended: None if cleanly, else the error that says why not.

        To be asked once no more bytes will come. It ended cleanly if we began the
        closing handshake, or if the peer closed with 1000, 1001 or without a code.
        """
        if self.error is not None:
            return self.error
        if self.initiated_close:
            return None
        if not self.close_received:
            how = "the peer closed the connection"
            if cause is not None:
                how = f"the connection was lost ({cause})"
            return ConnectionClosedError(f"{how} without a Close frame (RFC 6455 section 7.1.5)")
        if self.close_code in CLEAN:
            return None
        return ConnectionClosedError(
            "the peer closed the connection with " + describe(self.close_code, self.close_reason),
            self.close_code,
            self.close_reason,
        )

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


cdef int refuse_reserved_bits(Message message) except -1:
    if message.bits & 0x70:
        raise InvalidMessage(
            "a reserved bit is set: only an extension sets them (RFC 6455 section 5.2)"
        )
    return 0


def control_payload(payload):
    """The payload of a Ping or Pong as bytes, at most 125 (section 5.5)."""
    payload = plain_payload(payload)
    if isinstance(payload, str):
        try:
            payload = payload.encode()
        except UnicodeEncodeError as error:
            raise InvalidMessage(no_utf8(error)) from None
    if len(payload) > 125:
        raise InvalidMessage(
            "a control frame's payload is at most 125 bytes (RFC 6455 section 5.5), "
            f"not {len(payload)}"
        )
    return payload


def close_fields(payload):
    """The code and the reason in the payload of a Close frame that is to be sent."""
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise InvalidMessage("a Close frame's payload is not one byte (RFC 6455 section 5.5.1)")
    try:
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    except UnicodeDecodeError:
        raise InvalidMessage("a close reason must be UTF-8 (RFC 6455 section 5.5.1)") from None
