"""How what the opening handshake was done over becomes a connection, `read` and `write`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .._rfc6455.engine import Engine
from .connection import Connection
from .read_write import Read, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._options.options import Options
    from .._rfc6455.extension import Extension
    from .._streams.stream import Stream

__all__ = ["begin_connection"]


class Pipe(Protocol):
    """What has been opened."""

    def become_stream(self, options: Options) -> Stream: ...
    def unread(self) -> bytes: ...
    def close(self) -> None: ...


def begin_connection(
    pipe: Pipe,
    options: Options,
    *,
    client: bool,
    extensions: Sequence[Extension] = (),
    leftover: bytes = b"",
) -> tuple[Connection, Read, Write]:
    """Begin a connection once the opening handshake is done; if that fails, close the pipe.

    extensions: those that were agreed on. leftover: the bytes that came behind the handshake.
    """
    try:
        engine = Engine(client, max_message_size=options.max_message_size, extensions=extensions)
        stream = pipe.become_stream(options)
        connection = Connection(engine, options, stream, leftover + pipe.unread())
        read = Read(connection, fragments=options.fragments, control=options.control)
        return connection, read, Write(connection)
    except BaseException:
        pipe.close()
        raise
