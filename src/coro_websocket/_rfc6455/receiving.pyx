"""The receiving half of the engine: `next` parses one message when it is asked for.

So whatever came before a violation is delivered, and can be answered, before the
connection is failed. `_engine.pyx` begins with the theory.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from .assembling cimport FRAME, MESSAGE, PIECE, Unit
from .frame_rules cimport is_here
from .frames cimport (
    CLOSE,
    CONTINUATION,
    frame_header,
    frame_header_parse,
    is_control,
    mask_copy,
)
from .incoming cimport raw_size
from .messages cimport Message, new_message

from .._errors import ConnectionClosedError


cdef class Receiving(Assembling):

    cdef Message next(self, Unit unit, bint control):
        """The next message, frame or piece, or None if it is not here or nothing more will come.

        control: give control frames too; they have been acted on. Raises ProtocolError at a
        violation (ConnectionClosedError where an extension has failed), after the Close frame
        that tells the peer has been put among the bytes to send.

        While it runs Python code may run: of an extension, of a log handler, of a finalizer.
        Whatever that calls on the connection, nothing more is parsed before we are done.
        """
        cdef Message message
        if self.parsing:
            return None
        self.parsing = True
        try:
            message = self.parse(unit, control)
            if message is None and self.refused is not None and not self.over:
                self.fail(self.refused)
            return message
        finally:
            self.parsing = False

    cdef Message parse(self, Unit unit, bint control):
        cdef frame_header h
        cdef Message message
        if self.piecewise != (unit == PIECE):
            self.choose_unit(unit)
        while not self.over:
            if self.in_frame:
                message = self.continue_frame(unit)
                if message is not None:
                    return message
                if self.in_frame and self.inbox.cur == self.inbox.end:
                    return None
            elif not self.read_header(&h):
                return None
            elif is_control(h.opcode):
                if not is_here(self, &h):
                    return None
                message = self.take_control(&h, control)
                if message is not None:
                    return message
            elif (
                h.fin
                and h.opcode != CONTINUATION
                and is_here(self, &h)
                and not (h.rsv and unit == PIECE)
            ):
                return self.whole_frame(&h)
            else:
                self.begin_frame(&h)
        return None

    cdef int choose_unit(self, Unit unit) except -1:
        """From here on whole frames are wanted, or pieces."""
        self.piecewise = unit == PIECE
        if self.in_frame and not self.piecewise:
            # Of this frame only pieces were asked for, which may be of any length.
            self.check_length(raw_size(self) + self.frame_left, self.message_rsv)
        return 0

    cdef Message take_control(self, const frame_header *h, bint wanted):
        """Act on a control frame, unless `look_ahead` has; the frame, if it is wanted."""
        cdef uint8_t data[125]
        cdef uint8_t bits = self.inbox.cur[0]
        mask_copy(data, self.inbox.cur + h.size, h.length, h.key, 0)
        if self.inbox.cur >= self.inbox.ahead:
            self.act_on_control(h, data)
        self.inbox.cur += h.size + h.length
        self.frames_in += 1
        if h.opcode == CLOSE:
            self.over = True
        if self.trace is not None:
            self.traced(False, bits, h.length, data, <size_t>h.length)
        if not wanted:
            return None
        payload = PyBytes_FromStringAndSize(<char *>data, h.length)
        return new_message(bits, h.masked, payload, h.length)

    cdef int skip_control(self) except -1:
        """Drop the control frames that have been acted on and wait before all messages.

        For when too much waits: a reader that asks for control frames does without these.
        """
        cdef frame_header h
        if self.parsing or self.in_frame:
            return 0
        self.parsing = True
        try:
            while self.inbox.cur < self.inbox.ahead:
                frame_header_parse(self.inbox.cur, self.inbox.unread(), &h)
                if not is_control(h.opcode) or h.opcode == CLOSE:
                    break
                self.take_control(&h, False)
        finally:
            self.parsing = False
        return 0

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
