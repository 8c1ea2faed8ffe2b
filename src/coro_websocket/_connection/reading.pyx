"""The reading side of a connection: what comes, who waits for it, what is held back.

The hot path, from top to bottom: a stream's readable callback asks `receive_into`
where to put the bytes and tells `received` how many there are; that parses what the
waiting `read()` asked for and resumes its task then and there. What the task writes
meanwhile is encoded into one buffer and sent when the task suspends.

The rules: one task reads at a time; a read that is cancelled takes nothing.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from .._rfc6455.engine cimport Engine
from .._rfc6455.frames cimport FIN, is_control, opcode_of
from .._rfc6455.messages cimport Message, new_message
from .._rfc6455.receiving cimport MESSAGE, PIECE, Unit
from .._runtimes.runtime cimport SCRATCH, Runtime
from .._runtimes.waiter cimport WAITING, Waiter
from .._streams.stream cimport Stream
from .keepalive cimport NEVER
from .writing cimport high_water

from .._errors import ConnectionClosedError, LimitError
from .._rfc6455.close_codes import TRY_AGAIN_LATER

cdef enum Overflow:  # what becomes of messages when too much waits for a reader
    WAIT
    DROP_OLDEST
    KEEP_LATEST
    CLOSE_CONNECTION

cdef dict OVERFLOW = {
    "wait": WAIT,
    "drop_oldest": DROP_OLDEST,
    "keep_latest": KEEP_LATEST,
    "close": CLOSE_CONNECTION,
}

LOOK_EVERY = 1.0  # seconds, while reading is paused; tests make it shorter

cdef enum:
    LOOK_BEHIND = 131072  # bytes that may be received above read_high_water, to look behind it


cdef class Reading(Sharing):
    """Reading over a stream."""

    def __cinit__(self, Engine engine not None, options, *args):
        self.read_high_water = high_water(options.read_high_water)
        self.overflow = OVERFLOW[options.overflow]
        self.look_at = NEVER

    # What the closing handshake and the alarm provide

    cdef int advance_closing(self) except -1:
        raise NotImplementedError

    cdef int start_close_timer(self) except -1:
        raise NotImplementedError

    cdef int arm(self, double at) except -1:
        raise NotImplementedError

    # What the stream tells

    cdef int receive_into(self, uint8_t **to, size_t *room) except -1:
        cdef uint8_t *scratch = NULL if self.runtime.scratch_lent else self.runtime.scratch
        return self.engine.receive_into(scratch, SCRATCH, to, room)

    cdef int received(self, size_t n) except -1:
        """n bytes are where `receive_into` said: resume the reader if it has waited for them."""
        cdef Engine engine = self.engine
        cdef Runtime runtime = self.runtime
        cdef Message message
        cdef Waiter waiter
        cdef bint lent
        self.bytes_in += n
        engine.received(n)
        lent = engine.inbox.borrowed
        if lent:
            runtime.scratch_lent = True
        try:
            runtime.enter()
            if self.reader is not None and self.waiter.state == WAITING:
                message = self.take(self.reader_unit, self.reader_control)
                if message is not None:
                    self.ready = message
                    waiter = self.waiter  # kept: the task may put another in its place
                    waiter.wake_now()
        finally:
            try:
                engine.release()
                if self.reader is None:
                    self.unattended()
            finally:
                if lent:
                    runtime.scratch_lent = False
                if self.stream.lost:
                    engine.cut_off()
                runtime.leave()
        return 0

    cdef int received_nothing(self) except -1:
        return self.engine.release()

    cdef int fed(self, const uint8_t *data, size_t n) except -1:
        cdef uint8_t *to
        cdef size_t room
        if n <= <size_t>SCRATCH:
            self.receive_into(&to, &room)
        else:
            self.engine.receive_into(NULL, 0, &to, &room)
        while room < n:
            memcpy(to, data, room)
            self.engine.received(room)
            self.bytes_in += room
            data += room
            n -= room
            self.engine.receive_into(NULL, 0, &to, &room)
        memcpy(to, data, n)
        return self.received(n)

    cdef int refused(self, object error) except -1:
        self.engine.refused = error
        return self.received(0)

    cdef bint lend(self) noexcept:
        return self.engine.lend()

    cdef int take_back(self, bint parsing) noexcept:
        return self.engine.take_back(parsing)

    # Reading

    cdef Message take(self, Unit unit, bint control):
        """The next message for a reader, or None if there is none yet, or none any more."""
        cdef Message message
        cdef Message rest
        if self.discarding and self.ready is None:
            return self.drop_data(control)
        while self.skipping:
            message = self.take_ready()
            if message is None or (is_control(message.bits) and not control):
                message = self.parse(PIECE, control)
            if message is None or is_control(message.bits):
                return message
            self.skipping = not message.bits & FIN
        message = self.take_ready()
        if message is None or (is_control(message.bits) and not control):
            return self.parse(unit, control)
        if message.bits & FIN or unit != MESSAGE:
            return message
        if self.discarding:
            return self.drop_data(control)
        # A fragment that was parsed for a reader who then gave up.
        rest = self.parse(MESSAGE, False)
        if rest is None:
            self.ready = message
            return None
        try:
            return new_message(
                opcode_of(message.bits) | (rest.bits & FIN),
                rest.mask,
                message.payload + rest.payload,
                message.len + rest.len,
            )
        except MemoryError:
            self.fail_memory()
        return None

    cdef Message drop_data(self, bint control):
        """Drop what is here, up to a control frame if these are wanted."""
        cdef Message message = self.parse(PIECE, control)
        while message is not None and not is_control(message.bits):
            self.dropped += message.bits & FIN != 0
            message = self.parse(PIECE, control)
        return message

    cdef Message take_ready(self):
        cdef Message message = self.ready
        self.ready = None
        return message

    cdef Message parse(self, Unit unit, bint control):
        cdef Engine engine = self.engine
        cdef Message message = None
        try:
            message = engine.next(unit, control)
        except ConnectionClosedError:
            pass  # engine.error has it: raised to the reader once the peer has been told
        except MemoryError:
            self.fail_memory()
        if (
            engine.inbox.cur == engine.inbox.end
            and not engine.inbox.borrowed
            and not engine.parsing
        ):
            engine.inbox.drop()
        if (
            engine.close_sent
            or (engine.outbox.end and not self.stream.queued)
            or self.stream.paused
            or engine.answered
        ):
            try:
                self.after_parsing()
            except MemoryError:
                self.fail_memory()
        return message

    cdef int after_parsing(self) except -1:
        """What parsing may have brought about besides a message."""
        cdef Engine engine = self.engine
        if engine.answered:
            self.settle_pings()
        if self.stream.lost:
            return 0
        if engine.outbox.unsent() and not self.stream.queued and not self.stream.blocked:
            self.stream.flush_soon()
        if self.stream.paused and engine.held() <= self.read_high_water // 4:
            self.stream.resume()
        if engine.close_sent:
            self.advance_closing()
        return 0

    cdef int unattended(self) except -1:
        """Bytes have come and no task reads: answer what must be answered, hold back the rest."""
        cdef Engine engine = self.engine
        cdef Stream stream = self.stream
        if stream.lost:
            return 0
        engine.look_ahead(engine.close_sent)
        if engine.held() >= self.read_high_water:
            engine.skip_control()
            if self.overflow != WAIT and engine.held() >= self.read_high_water:
                self.shed()
        if engine.held() >= self.read_high_water and not stream.paused and not stream.lost:
            if engine.initiated_close:
                # We are closing: what nobody reads must not keep the peer's Close from us.
                self.discarding = True
                self.drop_data(False)
            elif not self.stream.draining:
                self.pause()
        self.after_parsing()
        if engine.close_ahead and not engine.close_sent:
            self.start_close_timer()
        return 0

    cdef int pause(self) except -1:
        self.held_back = True
        self.stream.pause()
        return self.look_later()

    cdef int look_later(self) except -1:
        cdef double at
        if self.look_at == NEVER:
            at = self.runtime.time() + <double> LOOK_EVERY
            self.arm(at)
            self.look_at = at
        return 0

    cdef int look(self) except -1:
        """Reading is paused: is it the end, a Close or a Pong that waits behind what is unread?"""
        self.look_at = NEVER
        if not self.stream.paused:
            return 0
        if self.stream.peer_ended():
            return self.stream.drain()
        self.look_later()
        if self.engine.held() - min(self.engine.held(), self.read_high_water) < LOOK_BEHIND:
            self.stream.resume()  # what comes next pauses it again
        return 0

    cdef int shed(self) except -1:
        """More waits for a reader than may: do what the option `overflow` says."""
        cdef Engine engine = self.engine
        cdef Message message
        if self.overflow == CLOSE_CONNECTION:
            if not engine.close_sent:
                self.cause = too_slow(self.read_high_water, engine.held())
                engine.close_for(self.cause)
                self.begin_closing()
            return 0
        if engine.close_sent or (engine.message_opcode and engine.message_begun):
            return 0  # the message that is being read in parts has to go on
        while self.overflow == KEEP_LATEST or engine.held() > self.read_high_water // 2:
            if engine.larger_is_next():
                break  # only `read.stream()` can take it: it waits for that
            message = self.parse(MESSAGE, False)
            if message is None:
                break
            self.dropped += self.ready is not None
            self.ready = message
        return 0


cdef object too_slow(size_t limit, size_t held):
    return LimitError(
        f"{held} bytes wait to be read; read_high_water is {limit}, and overflow says to close "
        f"(close code {TRY_AGAIN_LATER})",
        TRY_AGAIN_LATER,
        "the receiver cannot keep up",
        limit="read_high_water",
        value=limit,
        actual=held,
    )
