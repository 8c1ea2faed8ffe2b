"""What the peer may send in its connection's state, and how the connection fails if it does not.

The rules that one header can break on its own are in `_native/frame_header.h`. Here are
those of RFC 6455 that need to know more: the role (section 5.1), the extensions (5.2), the message
that has begun (5.4), max_message_size; and what a control frame brings about (5.5).
"""

from libc.stdint cimport uint8_t, uint64_t

from .frames cimport (
    CLOSE,
    CONTINUATION,
    FIN,
    FRAME_HEADER_PARTIAL,
    PING,
    PONG,
    frame_header,
    frame_header_parse,
    header_violation,
    is_control,
    utf8_check,
    utf8_state,
)

from .close_codes import NO_STATUS, close_payload, failure, may_be_sent
from .._errors import LimitError, ProtocolError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef class FrameRules(Incoming):

    # Headers

    cdef bint read_header(self, frame_header *h) except -1:
        """Whether the next frame's header is here. Fails the connection if it breaks a rule."""
        cdef int status = frame_header_parse(self.inbox.cur, self.inbox.end - self.inbox.cur, h)
        if status == FRAME_HEADER_PARTIAL:
            return False
        if status < 0:
            self.fail(header_violation(status, h))
        if has_wrong_rsv(self, h):
            self.fail(
                violation(f"frame with reserved bits {h.rsv:03b} that no extension uses", "5.2")
            )
        if h.masked == self.client:
            if self.client:
                self.fail(violation("masked frame, which a server must not", "5.1"))
            self.fail(violation("frame without a mask, which a client must not", "5.1"))
        if not is_control(h.opcode):
            self.check_fragmentation(h)
            if not self.piecewise:
                self.check_length(
                    h.length, h.rsv or (h.opcode == CONTINUATION and self.message_rsv)
                )
        return True

    cdef int check_fragmentation(self, const frame_header *h) except -1:
        """Section 5.4: the fragments of a message follow one another."""
        if h.opcode == CONTINUATION:
            if self.message_opcode == 0:
                self.fail(violation("continuation frame without a message to continue", "5.4"))
        elif self.message_opcode != 0:
            self.fail(violation("new message before the last one had ended", "5.4"))
        return 0

    cdef int check_length(self, uint64_t length, bint transformed) except -1:
        """Whether there may be so much more of the message."""
        cdef uint64_t room = room_left(self)
        if transformed:
            # What a message cannot be made smaller by is a little larger than it; `decode`
            # measures what it becomes.
            room += min(room // 4 + 64, <uint64_t>PY_SSIZE_T_MAX - room)
        if length > room or self.body.size > self.max_message_size:
            self.fail(self.too_large(self.body.size + length))
        return 0

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

    # Control frames

    cdef int act_on_control(self, const frame_header *h, const uint8_t *data) except -1:
        if h.opcode == PING:
            self.answer_ping(data, h.length)
        elif h.opcode == PONG:
            self.match_pong(data, h.length)
        else:
            self.act_on_close(data, h.length)
        return 0

    cdef int act_on_close(self, const uint8_t *data, size_t n) except -1:
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
            self.late_pong = None  # no Pong is owed to a peer that closes (section 5.5.2)
            self.close_sent = True
            self.send_frame(FIN | CLOSE, data, min(n, <size_t>2))
        return 0

    cdef int fail(self, object error) except -1:
        """Fail the connection (section 7.1.7): tell the peer once, and read no more."""
        self.over = True
        if not self.lent:
            self.in_frame = False
            self.drop_message()
        self.error = error
        self.close_code, self.close_reason = failure(error.code, error.reason)
        if not self.close_sent:
            self.late_pong = None
            self.close_sent = True
            payload = close_payload(self.close_code, self.close_reason)
            self.send_frame(FIN | CLOSE, payload, len(payload))
        raise error


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
