"""A connection that an ASGI application has: how it ends, and how much of it waits.

The rules: until the application asks for a message, one is enough; from then on as much as
`read_high_water` says may wait. How the connection has ended is told as an event, and never as an
error.
"""

from .._connection.connection cimport Connection
from .._connection.keepalive cimport NEVER, is_due
from .._rfc6455.engine cimport Engine
from .._runtimes.waiter cimport WAITING, Waiter
from .app_stream cimport AppStream

from .._errors import PingTimeout
from .._rfc6455.close_codes import INTERNAL_ERROR, NO_STATUS

cdef double QUIET = 0.1  # seconds in which a client that was told of its fault sends nothing

cdef enum:
    UNASKED = 1  # bytes that wait before the application has asked for a message


cdef class AppConnection(Connection):
    """A server's connection, over an AppStream."""

    def __cinit__(self, *args):
        self.read_high_water = UNASKED
        self.quiet_at = NEVER

    cdef int receives(self) except -1:
        """The application asks for messages: some may wait for it."""
        if self.read_high_water == UNASKED:
            self.read_high_water = self.options.read_high_water
        return 0

    cdef object end_error(self):
        return None  # see `disconnect_event`

    cdef dict disconnect_event(self):
        """What the application is told once no more messages come."""
        cdef Engine engine = self.engine
        error = engine.closed_for if engine.error is None else engine.error
        if engine.close_received:
            code, reason = engine.close_code, engine.close_reason
        elif error is not None:
            code, reason = error.code, error.reason
        else:
            return {"type": "websocket.disconnect", "code": NO_STATUS}
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    # The end

    def begin_close(self, code, reason):
        """Send a Close frame unless one was sent. Raises InvalidMessage."""
        if not self.stream.lost:
            try:
                self.engine.send_close(code, reason)
                self.begin_closing()
                if self.reader is None:
                    self.unattended()
                else:
                    self.wake_reader()
            except MemoryError:
                self.fail_memory()

    cdef int wake_reader(self) except -1:
        """Have the task that waits for a message look again."""
        cdef Waiter waiter = self.waiter
        if self.reader is not None and waiter.state == WAITING:
            waiter.wake_soon()
        return 0

    def leave(self):
        """The application has ended: send what waits, and hang up."""
        cdef Engine engine = self.engine
        closing = self.half_closed or (engine.initiated_close and not engine.close_received)
        if self.stream.lost or closing:
            return  # within close_timeout the client hears of that, and hangs up
        try:
            if engine.close_ahead and not engine.close_sent:  # behind what nobody has received
                engine.look_ahead(True)
                self.begin_closing()
            self.leaving = True
            self.start_close_timer()
            if engine.outbox.unsent():
                self.stream.queue()
            if not engine.outbox.unsent() or self.stream.broken:
                self.hang_up()
        except MemoryError:
            self.fail_memory()

    cdef int advance_closing(self) except -1:
        Connection.advance_closing(self)
        if (<AppStream>self.stream).lingers and self.quiet_at == NEVER:
            self.linger()
        return 0

    cdef int linger(self) except -1:
        """Hang up once the client is quiet: while it sends, it may not have received our Close."""
        if not self.stream.lost:
            self.seen = self.bytes_in
            self.quiet_at = self.runtime.time() + QUIET
            self.arm(self.quiet_at)
        return 0

    cdef int do_what_is_due(self, double now) except -1:
        if is_due(self.quiet_at, now) and not self.stream.lost:
            if self.bytes_in == self.seen:
                self.quiet_at = NEVER
                self.hang_up()
            else:
                self.linger()
        return Connection.do_what_is_due(self, now)

    cdef int arm_next(self) except -1:
        Connection.arm_next(self)
        return self.arm(self.quiet_at)

    cdef int hang_up(self) except -1:
        return (<AppStream>self.stream).hang_up()

    cdef int transmitted(self) except -1:
        Connection.transmitted(self)
        if self.leaving and not self.engine.outbox.unsent() and not self.stream.lost:
            self.hang_up()
        return 0

    cdef int time_out(self) except -1:
        """The peer is gone, or does not answer: tell it so, as it may hear us all the same."""
        error = PingTimeout(
            f"nothing came from the client for {self.options.ping_timeout:g} s after a Ping",
            INTERNAL_ERROR,
            "keepalive ping timeout",
        )
        if self.cause is None:
            self.cause = error
        self.engine.fail_connection(error)
        self.leaving = True  # once that is sent
        self.stream.queue()
        return self.advance_closing()

    # What uvicorn's tests, and ours, look at

    @property
    def unread(self):
        """How many bytes wait for the application."""
        return self.engine.held()

    cdef int send_keepalive(self) except -1:
        self.ping_sent_at = self.runtime.time()
        return Connection.send_keepalive(self)

    @property
    def ping_timer(self):
        """What calls back when a Ping is due; None if none is ever sent."""
        return None if self.keepalive is None else self.alarm

    @property
    def close_timer(self):
        """What calls back when the peer has not answered our Close; None if nothing waits."""
        cdef Engine engine = self.engine
        if not engine.initiated_close or engine.close_received or self.stream.lost:
            return None
        return None if (<AppStream>self.stream).transport.is_closing() else self.alarm
