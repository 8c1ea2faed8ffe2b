"""Which stream a connection is served over."""

from __future__ import annotations

import contextlib
import functools
import socket as sockets
from typing import TYPE_CHECKING, Any

from .._runtimes.asyncio_loop import asyncio_loop
from .._runtimes.asyncio_runtime import runtime_of
from .app_stream import AppStream

try:
    from .direct_stream import DirectStream
except ImportError:  # Windows
    DirectStream = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    import asyncio

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
    if socket is None or socket.proto == sockets.IPPROTO_TCP or socket.family not in _TCP:
        return
    with contextlib.suppress(OSError):  # the client has gone
        socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)


def new_stream(loop: asyncio.AbstractEventLoop, transport: Any) -> AppStream:
    """A stream over the transport: past it where it is a plain socket's that we know."""
    runtime = runtime_of(loop)
    socket = transport.get_extra_info("socket")
    if (
        socket is not None
        and _is_known(type(transport).__module__)
        and DirectStream.can_serve(runtime)
        and asyncio_loop(loop).watches_sockets
        and transport.get_extra_info("ssl_object") is None
        and socket.fileno() >= 0
    ):
        return DirectStream(runtime, socket, transport)
    return AppStream(runtime, socket, transport)


@functools.lru_cache(maxsize=64)
def _is_known(module: str) -> bool:
    """Whether a stream may go past the transports that this module has."""
    return DirectStream is not None and module.partition(".")[0] in _KNOWN
