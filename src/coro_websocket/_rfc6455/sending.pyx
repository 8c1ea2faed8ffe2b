"""The sending half of the engine: messages in, bytes to send out.

It keeps the rules for what may be sent when (RFC 6455 sections 5.4 to 5.6), answers
Pings, and lets extensions transform data frames. Nothing but Pongs leaves after the
Close frame.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from .buffers cimport Outbox
from .frames cimport (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    FRAME_HEADER_MAX,
    PING,
    PONG,
    RSV,
    TEXT,
    fill_masking_key,
    frame_header,
    frame_header_parse,
    frame_header_write,
    is_control,
    mask_copy,
    opcode_of,
    set_first_byte,
    utf8_check,
    utf8_state,
)
from .messages cimport Message, no_utf8, plain_payload

from .close_codes import ABNORMAL, close_payload, describe
from .._errors import ConcurrencyError, ConnectionClosedError, InvalidMessage

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    PONG_BACKLOG = 16384  # unsent bytes behind which only the newest Ping is answered


cdef class Sending:
    def __cinit__(self, *args, **options):
        self.outbox = Outbox()
        self.extensions = ()
        self.close_reason = ""

    cdef int send_data(
        self, uint8_t opcode, bint fin, uint8_t rsv, const uint8_t *data, size_t n
    ) except -1:
        """Queue a data frame that `check_data` has let through."""
        cdef uint8_t bits = opcode | (rsv << 4) | (FIN if fin else 0)
        self.put_frame(bits, data, n)
        if fin:
            self.sending_opcode = 0
            self.messages_out += 1
        elif opcode:
            self.sending_opcode = opcode
            self.sending_rsv = rsv
        if self.trace is not None:
            self.traced(True, bits, n, data, n)
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
        if opcode == TEXT or (opcode == CONTINUATION and self.sending_opcode == TEXT):
            if not (checked and state.missing == 0) and (
                utf8_check(&state, data, n) != n or (fin and state.missing)
            ):
                raise InvalidMessage("text must be UTF-8 (RFC 6455 section 5.6)")
        self.sending_utf8 = state
        return 0

    cdef int send_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1:
        self.put_frame(bits, data, n)
        if self.trace is not None:
            self.traced(True, bits, n, data, n)
        return 0

    cdef int put_frame(self, uint8_t bits, const uint8_t *data, size_t n) except -1:
        """Queue a frame, of which the log is to be told once all state is as it says."""
        cdef frame_header h
        cdef uint8_t *to
        cdef size_t size
        set_first_byte(&h, bits)
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
        self.frames_out += 1
        self.bytes_encoded += size + n
        return 0

    cdef int begin_message(self, uint8_t opcode, size_t n) except -1:
        """Queue the header of a message in one frame, without a mask.

        `check_data` has let it through. Its payload is for the caller to send before anything
        else is queued, and to tell the log of.
        """
        cdef frame_header h
        h.fin = True
        h.rsv = 0
        h.opcode = opcode
        h.masked = False
        h.length = n
        cdef uint8_t *to = self.outbox.make_room(FRAME_HEADER_MAX)
        cdef size_t size = frame_header_write(to, &h)
        self.outbox.end += size
        self.messages_out += 1
        self.frames_out += 1
        self.bytes_encoded += size + n
        return 0

    cdef int traced(
        self, bint sent, uint8_t bits, uint64_t length, const uint8_t *start, size_t here
    ) except -1:
        """Tell of a frame; `start` is what is here of its payload, without the mask.

        What is told may call the connection: its state must be whole. What it raises is
        not the frame's fault.
        """
        try:
            shown = b"" if here == 0 else (<const char *>start)[: min(here, <size_t>SHOWN)]
            self.trace(sent, bits, length, shown)
        except Exception as error:
            show_unraisable(error)
        return 0

    cdef int forget_context(self) except -1:
        """Compress what follows without what came before: the peer gets something between them."""
        if self.deflate is not None:
            self.deflate.forget_sent()
        return 0

    cdef int mask_shared(self, const uint8_t *frame, size_t n) except -1:
        """Queue a message's one frame that was encoded elsewhere, now with a mask."""
        cdef frame_header h
        if frame_header_parse(frame, n, &h) > 0:
            self.send_data(h.opcode, True, h.rsv, frame + h.size, <size_t>h.length)
        return 0

    cdef int count_shared(self, const uint8_t *frame, size_t n, uint64_t len) except -1:
        """Count, and tell the log of, a message's one frame that was encoded elsewhere.

        len: the bytes of the message, uncompressed.
        """
        cdef frame_header h
        if frame_header_parse(frame, n, &h) <= 0:
            return 0
        if h.rsv:
            self.coded_out += h.length
            self.decoded_out += len
        if self.client:  # `mask_shared` has done the rest
            return 0
        self.messages_out += 1
        self.frames_out += 1
        self.bytes_encoded += n
        if self.trace is not None:
            self.traced(True, frame[0], h.length, frame + h.size, <size_t>h.length)
        return 0

    cdef int answer_ping(self, const uint8_t *data, size_t n) except -1:
        """Section 5.5.2. Behind a backlog only the newest Ping is answered (section 5.5.3)."""
        if self.outbox.unsent() > PONG_BACKLOG:
            self.late_pong = PyBytes_FromStringAndSize(<const char *>data, n)
        else:
            self.send_frame(FIN | PONG, data, n)
        return 0

    cdef int match_pong(self, const uint8_t *data, size_t n) except -1:
        """A Pong answers the Ping with its payload and all earlier ones (section 5.5.3)."""
        if self.pings is None:
            return 0
        payload = PyBytes_FromStringAndSize(<const char *>data, n)
        if payload in self.pings:
            index = self.pings.index(payload) + 1
            self.answered = (self.answered or []) + self.pings[:index]
            self.pings = self.pings[index:] or None
        return 0

    cdef int sent(self, size_t n) except -1:
        """n of the bytes to send have been sent."""
        self.outbox.sent(n)
        if self.late_pong is not None and self.outbox.unsent() == 0:
            self.send_late_pong()
        return 0

    cdef int send_late_pong(self) except -1:
        cdef bytes payload = self.late_pong
        if payload is not None:
            self.late_pong = None
            self.send_frame(
                FIN | PONG,
                <const uint8_t *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload),
            )
        return 0

    cdef int close_for(self, object error) except -1:
        """Close with the code and the reason of an error of ours, which who sends on is told."""
        if not self.close_sent:
            self.send_close(error.code, error.reason)
            self.closed_for = error
        return 0

    cdef object refuse_to_send(self):
        """The error for a message that comes after the Close frame (section 5.5.1)."""
        code = ABNORMAL if self.close_code is None else self.close_code
        reason = self.close_reason
        if self.error is not None:
            how = f"the connection was failed, {self.error}"
        elif self.closed_for is not None:
            code, reason = self.closed_for.code, self.closed_for.reason
            how = "the connection was closed with " + describe(code, reason)
        elif self.close_received:
            how = "the connection was closed with " + describe(self.close_code, self.close_reason)
        else:
            how = "the connection is being closed"
        error = ConnectionClosedError("cannot send: " + how, code, reason)
        error._engine = id(self)
        return error

    # What Python sees: the streams call the above from native code.

    def send_message(self, Message message not None, *, bint transform=True):
        """Queue a message, a fragment or a control frame, as its fields say.

        transform: let the extensions transform it, from its first frame on.
        """
        if is_control(message.bits):
            self.send_control(message)
        else:
            self.check_message(message)
            self.send_encoded(message, *self.encode(message, transform))

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
            opcode_of(message.bits),
            message.bits & FIN != 0,
            <const uint8_t *>data,
            size,
            isinstance(message.payload, str),
        )

    def encode(self, Message message not None, bint transform):
        """What the extensions make of a data frame: the reserved bits to set, and the payload.

        Touches no state but the extensions': it may run in another thread.
        """
        cdef uint8_t opcode = opcode_of(message.bits)
        cdef uint8_t rsv = 0
        begins = opcode != CONTINUATION
        payload = message.payload
        if self.extensions and (transform if begins else self.sending_rsv):
            payload = payload.encode() if isinstance(payload, str) else payload
            for extension in self.extensions:
                if not begins and not self.sending_rsv & <uint8_t>extension.rsv:
                    continue
                try:
                    encoded = extension.encode(
                        payload,
                        opcode=opcode or self.sending_opcode,
                        begins=begins,
                        ends=message.bits & FIN != 0,
                    )
                except StopIteration as error:  # no future can hold it
                    what = f"{type(extension).__name__}.encode() raised StopIteration"
                    raise RuntimeError(what) from error
                if encoded is not None:
                    if not PyBytes_CheckExact(encoded):
                        raise TypeError(
                            f"{type(extension).__name__}.encode() must return bytes or None, "
                            f"not {type(encoded).__name__}"
                        )
                    payload = encoded
                    rsv |= <uint8_t>extension.rsv
        return rsv if begins else 0, payload

    def send_encoded(self, Message message not None, uint8_t rsv, payload not None):
        """Queue a data frame with what `encode` made of it."""
        cdef Py_ssize_t size
        cdef const char *data
        if isinstance(payload, str):
            data = PyUnicode_AsUTF8AndSize(payload, &size)
        elif PyBytes_CheckExact(payload):
            data = PyBytes_AS_STRING(payload)
            size = PyBytes_GET_SIZE(payload)
        else:
            raise TypeError(f"the payload must be str or bytes, not {type(payload).__name__}")
        if self.close_sent:
            raise self.refuse_to_send()
        if rsv or (opcode_of(message.bits) == CONTINUATION and self.sending_rsv):
            self.coded_out += size
            self.decoded_out += message.len
        self.send_data(
            opcode_of(message.bits), message.bits & FIN != 0, rsv, <const uint8_t *>data, size
        )

    def send_control(self, Message message not None):
        """Queue a control frame (section 5.5)."""
        cdef uint8_t opcode = opcode_of(message.bits)
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
        self.send_late_pong()
        self.outbox.make_room(FRAME_HEADER_MAX + 125)  # without it no Close would ever be sent
        self.close_sent = True
        self.initiated_close = True
        self.send_frame(FIN | CLOSE, payload, len(payload))

    def send_ping(self, payload, *, bint expected=True):
        """Queue a Ping (section 5.5.2); `pop_answered` tells of its Pong if that is expected."""
        payload = control_payload(payload)
        if self.close_sent:
            raise self.refuse_to_send()
        if expected:
            self.pings = self.pings or []
            self.pings.append(payload)
        try:
            self.send_frame(FIN | PING, payload, len(payload))
        except BaseException:
            if expected:
                self.pings.pop()
            raise

    def forget_ping(self, payload):
        """Expect no Pong for this Ping any more."""
        if self.pings is not None and payload in self.pings:
            self.pings.remove(payload)

    def send_pong(self, payload=b""):
        """Queue a Pong that no Ping asked for (section 5.5.3)."""
        payload = control_payload(payload)
        if self.close_sent:
            raise self.refuse_to_send()
        self.send_frame(FIN | PONG, payload, len(payload))

    @property
    def sending_fragments(self):
        """Whether a fragmented message has been begun and not ended."""
        return self.sending_opcode != 0

    def refuse(self):
        """The error for a message that comes after the Close frame."""
        return self.refuse_to_send()

    def pop_answered(self):
        """The payloads of the Pings that have been answered since the last call."""
        answered, self.answered = self.answered, None
        return answered or []

    def data_to_send(self):
        """The bytes to send, which are then taken as sent."""
        cdef size_t n = self.outbox.unsent()
        if n == 0:
            return b""
        data = PyBytes_FromStringAndSize(<char *>self.outbox.data(), n)
        self.sent(n)
        return data


cdef int show_unraisable(object error) noexcept:
    raise error  # to sys.unraisablehook, as nobody who could catch it is to blame


cdef int refuse_reserved_bits(Message message) except -1:
    if message.bits & RSV:
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
