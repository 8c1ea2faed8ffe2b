"""Refusing a client: it can read why, and cannot stay.

The rule: the answer is sent whole, then the client has a while to read it and to hang up. Closing
at once could reset the connection, and the client would lose the answer (RFC 9112 section 9.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe

__all__ = ["send_refusal"]

LINGER = 2.0  # seconds that a client has to read the answer and hang up


async def send_refusal(loop: SocketLoop, pipe: Pipe, answer: bytes, options: Options) -> None:
    """Send the answer to a request in place of an upgrade, and close the connection.

    b"": the client has gone.
    """
    limits = (LINGER, options.timeout, options.close_timeout)
    try:
        if answer:
            async with loop.limit(options.timeout):
                await pipe.send(answer)
            async with loop.limit(min(limit for limit in limits if limit is not None)):
                await pipe.finish()
    except OSError:
        pass  # the client has gone, or does not hang up
    finally:
        pipe.close()
