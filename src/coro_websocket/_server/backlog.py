"""Leaving a listening socket without a reset for those who have connected to it.

The rule: who waits in the backlog is accepted before the socket is closed, as the system resets
them otherwise. Nobody may come into it between the two: on Linux, a filter drops what asks for a
new TCP connection from then on. Such a client asks again after a second, and then finds another
server, or none.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from .accepting import CLIENT_HAS_GONE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["accept_and_close"]

# A program for SO_ATTACH_FILTER of socket(7), (code, jt, jf, k) each: load the byte of the TCP
# flags, keep SYN and ACK; drop the packet if that leaves SYN alone, which asks for a connection;
# let all others pass.
DROP_REQUESTS = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)
SO_ATTACH_FILTER = 26


def accept_and_close(
    listener: socket.socket, most: int, begin: Callable[[socket.socket, Any], None]
) -> None:
    """Give `begin` those that wait to be accepted, at most so many, and close the socket."""
    try:
        _let_nobody_come(listener)
        for _ in range(most):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in CLIENT_HAS_GONE:
                    return
            else:
                begin(accepted, address)
    finally:
        listener.close()


def _let_nobody_come(listener: socket.socket) -> None:
    if sys.platform != "linux" or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return  # nobody finds a unix socket whose file is deleted
    program = b"".join(struct.pack("HBBI", *each) for each in DROP_REQUESTS)
    kept = ctypes.create_string_buffer(program, len(program))
    option = struct.pack("HP", len(DROP_REQUESTS), ctypes.addressof(kept))
    with contextlib.suppress(OSError):  # where that is not allowed, we can only be quick
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)
