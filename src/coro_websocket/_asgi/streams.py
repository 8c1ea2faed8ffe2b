"""Which stream a connection is served over."""

from __future__ import annotations

import contextlib
import socket as sockets
from typing import TYPE_CHECKING, Any

from .app_stream import AppStream

try:
    from .direct_stream import DirectStream
except ImportError:  # Windows
    DirectStream = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from .._runtimes.asyncio_loop import AsyncioLoop

__all__ = ["new_stream", "send_at_once"]

# Those whose transports tell of the end before they close the descriptor.
_KNOWN = {"asyncio", "uvloop"}

_TCP = (sockets.AF_INET, sockets.AF_INET6)


def send_at_once(transport: Any) -> None:
    """Have TCP not hold back the 101 until the client has acknowledged what TLS has sent before.

    That took 40 ms. asyncio does the same, but only for a socket whose listener was made with
    TCP's number, and those that uvicorn makes for several workers are not.
    """
    socket = transport.get_extra_info("socket")
    if socket is None or socket.family not in _TCP or socket.proto == sockets.IPPROTO_TCP:
        return
    with contextlib.suppress(OSError):  # the client has gone
        socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)


def new_stream(loop: AsyncioLoop, transport: Any) -> AppStream:
    """A stream over the transport: past it where it is a plain socket's that we know.

    Raises OSError where the system has no room to watch one more socket.
    """
    socket = transport.get_extra_info("socket")
    direct = (
        DirectStream is not None
        and loop.watches_sockets
        and DirectStream.can_serve(loop.runtime)
        and type(transport).__module__.partition(".")[0] in _KNOWN
        and transport.get_extra_info("ssl_object") is None
        and socket is not None
        and socket.fileno() >= 0
    )
    return (DirectStream if direct else AppStream)(loop.runtime, socket, transport)
