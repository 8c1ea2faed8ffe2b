"""Bytes in: where the stream puts what it receives, and what of a message has begun.

The rule: a stream asks `receive_into` where to put bytes, `received` takes them, and `release`
gives the stream's buffer back. The payload of a large frame goes straight to its message's body.
"""

from libc.stdint cimport uint8_t, uint64_t

from .buffers cimport HELD_KEPT, Body, Inbox
from .frames cimport mask_copy

cdef enum:  # where the next bytes go
    INTO_SCRATCH
    INTO_HELD
    INTO_BODY

cdef enum:
    PREFIX = 256  # bytes kept free at the front of a stream's buffer, for what was left over
    HELD_ROOM = 65536  # bytes received at once behind messages that nobody has read
    DIRECT = 16384  # a frame that misses more than this is received into its message's body
    LARGE = 131072  # bytes of a body that is made larger for that


cdef class Incoming(Sending):
    def __cinit__(self, *args, **options):
        self.inbox = Inbox()
        self.body = Body()
        self.filling = self.body

    cdef int receive_into(
        self, uint8_t *scratch, size_t size, uint8_t **to, size_t *room
    ) except -1:
        """Where the next bytes are to be put; `received` says how many were.

        scratch (NULL: there is none) is a buffer of the stream's, larger than PREFIX,
        that is the engine's from `received` to `release`.
        """
        cdef Inbox inbox = self.inbox
        cdef Body body = self.filling
        if self.fills_body():
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

    cdef bint fills_body(self) noexcept:
        """Whether what comes next is payload of a large frame, and its body has room for it."""
        return (
            self.in_frame
            and self.frame_left >= DIRECT
            and self.inbox.cur == self.inbox.end
            and not self.over
            and not (self.piecewise and self.message_rsv)
            and (
                self.filling.size >= LARGE
                or self.frame_left <= self.filling.capacity - self.filling.size
            )
        )

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

    # What will not be read

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
            self.drop_message()
        return 0

    cdef int drop_message(self) noexcept:
        """Drop what is here of the message that has begun."""
        self.body.drop()
        if self.raw is not None:
            self.raw.drop()
        return 0

    cdef int cut_off(self) noexcept:
        """No more bytes will come: drop what can no longer become a frame.

        Unless it is being read in pieces.
        """
        if self.in_frame and not self.piecewise and self.frame_left > self.inbox.unread():
            self.forget()
        return 0

    cdef size_t held(self) noexcept:
        """How many bytes wait for a reader."""
        return self.inbox.unread() + self.body.size + raw_size(self)
