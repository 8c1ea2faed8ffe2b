"""The engine: RFC 6455's state machine for one connection, without I/O or a clock.

Received bytes go in and messages come out (`receiving`); messages go in and bytes to
send come out (`sending`). Here the two become one, in a role, and here it is said how
a connection has ended.
"""

from libc.stdint cimport uint64_t

from .buffers cimport Body
from .receiving cimport Receiving

from .close_codes import ABNORMAL, CLEAN, describe
from .deflate import DeflateExtension
from .._errors import ConnectionClosedError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef class Engine(Receiving):
    def __init__(self, bint client, *, max_message_size=16 * 1024 * 1024, extensions=()):
        # A message is one object in memory, whatever the option says.
        self.client = client
        self.max_message_size = <uint64_t>PY_SSIZE_T_MAX - 1024
        if max_message_size is not None and max_message_size < self.max_message_size:
            self.max_message_size = max_message_size
        self.extensions = tuple(extensions)
        for extension in extensions:
            self.rsv |= extension.rsv
        if self.rsv:
            self.raw = Body()
        # One of the user's own, derived from it, may do something else.
        if len(self.extensions) == 1 and type(self.extensions[0]) is DeflateExtension:
            self.deflate = self.extensions[0]
            self.deflate_bits = self.deflate.send_bits
            self.deflate_threshold = min(self.deflate.settings.threshold, PY_SSIZE_T_MAX)

    def end_error(self, cause=None, *, bint ended_by_us=False, bint given_up=False):
        """How the connection ended: None if cleanly, else the error that says why not.

        To be asked once no more bytes will come. It ended cleanly if we began the
        closing handshake, or if the peer closed with 1000, 1001 or without a code; but not
        if the peer broke off a message, or if a part of a message was read and no more came.

        ended_by_us: we ended the connection, though not with a Close.
        given_up: nobody wants the rest of a message that has begun.
        """
        if self.error is not None:
            return self.error
        ended_by_us = ended_by_us or self.initiated_close
        if ended_by_us or (self.close_received and self.close_code in CLEAN):
            wanted = self.message_begun and not given_up
            if self.message_opcode and (wanted or not ended_by_us):
                return self.cut_off_error()
            return None
        if not self.close_received:
            how = "the peer closed the connection"
            if cause is not None:
                how = f"the connection was lost ({str(cause) or type(cause).__name__})"
            error = ConnectionClosedError(f"{how} without a Close frame (RFC 6455 section 7.1.5)")
            error.__cause__ = cause
            return error
        return ConnectionClosedError(
            "the peer closed the connection with " + describe(self.close_code, self.close_reason),
            self.close_code,
            self.close_reason,
        )

    def cut_off_error(self):
        """The error of a message that had not ended when the connection did."""
        error = ConnectionClosedError(
            "the connection was closed before the message had ended",
            ABNORMAL if self.close_code is None else self.close_code,
            self.close_reason,
        )
        error._engine = id(self)
        return error
