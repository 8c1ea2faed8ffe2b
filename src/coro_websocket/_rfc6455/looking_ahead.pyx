"""Control frames that wait behind messages which nobody has asked for.

A peer is owed a Pong and the answer to its Close even while no task reads. So whoever has
received bytes that nobody reads has the engine look ahead: it acts on the control frames and
leaves everything where it is. `inbox.ahead` says how far it has looked, so that `next`, which
comes to the same frames later, does not act on them again.
"""

from libc.stdint cimport uint8_t

from .frames cimport (
    CLOSE,
    frame_header,
    frame_header_parse,
    is_control,
    mask_copy,
)
from .frame_rules cimport close_violation, has_wrong_rsv


cdef class LookingAhead(FrameRules):

    cdef int look_ahead(self, bint answer_close) except -1:
        """Act on the control frames that wait behind messages which nobody has asked for.

        A Close is answered if nothing waits before it or if answer_close says so;
        otherwise the messages before it may still be answered. Stops at the first
        violation that it sees, which is for `next` to reach.
        """
        if self.over or self.close_received or self.parsing:
            return 0
        if self.in_frame and self.frame_left > self.inbox.unread():
            return 0
        self.parsing = True
        try:
            return self.act_ahead(answer_close)
        finally:
            self.parsing = False

    cdef int act_ahead(self, bint answer_close) except -1:
        cdef frame_header h
        cdef uint8_t data[125]
        cdef bint first  # nothing but control frames waits before it
        cdef size_t looked = self.looked_at()
        while not self.close_received and not self.over and self.frame_ahead(looked, &h):
            if is_control(h.opcode):
                mask_copy(data, self.inbox.cur + looked + h.size, h.length, h.key, 0)
                if h.opcode == CLOSE:
                    first = not self.in_frame and looked <= self.control_ahead
                    if not (first or answer_close) or close_violation(data, h.length) is not None:
                        self.close_ahead = True
                        break
                self.act_on_control(&h, data)
                self.control_ahead += h.size + <size_t>h.length
            else:
                self.control_ahead = 0
            looked += h.size + <size_t>h.length
            self.inbox.ahead = self.inbox.cur + looked
        self.drop_behind_close()
        return 0

    cdef size_t looked_at(self) noexcept:
        """Where to look on, in bytes behind `cur`: a log that is told of a frame may move `cur`."""
        cdef size_t looked = <size_t>self.frame_left if self.in_frame else 0
        if self.inbox.cur + looked < self.inbox.ahead:
            return self.inbox.ahead - self.inbox.cur
        self.control_ahead = 0
        return looked

    cdef bint frame_ahead(self, size_t looked, frame_header *h) noexcept:
        """Whether a whole frame waits there, without a violation that its header shows."""
        cdef uint8_t *at = self.inbox.cur + looked
        cdef size_t available = self.inbox.end - at
        return (
            frame_header_parse(at, available, h) > 0
            and h.length <= available - h.size
            and h.masked != self.client
            and not has_wrong_rsv(self, h)
        )

    # What a connection may ask

    cdef bint data_is_next(self) noexcept:
        """Whether a data frame is here, or begins."""
        return (
            self.inbox.cur < self.inbox.end and not is_control(self.inbox.cur[0]) and not self.over
        )

    cdef bint larger_is_next(self) noexcept:
        """Whether the next frame begins a message that is too large to be read whole."""
        cdef frame_header h
        return (
            not self.in_frame
            and frame_header_parse(self.inbox.cur, self.inbox.unread(), &h) > 0
            and not is_control(h.opcode)
            and h.length > self.max_message_size
        )
