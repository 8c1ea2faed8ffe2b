"""How a stream becomes a connection, and `read` and `write`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._rfc6455.engine import Engine
from .connection import Connection
from .read_write import Read, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._options.options import Options
    from .._streams.stream import Stream
    from ..extensions import Extension

__all__ = ["begin_connection"]


def begin_connection(
    stream: Stream,
    options: Options,
    *,
    client: bool,
    extensions: Sequence[Extension] = (),
    leftover: bytes = b"",
) -> tuple[Connection, Read, Write]:
    """Begin a connection once the opening handshake is done.

    extensions: those that were agreed on. leftover: the bytes that came behind the handshake.
    """
    engine = Engine(client, max_message_size=options.max_message_size, extensions=extensions)
    connection = Connection(engine, options, stream, leftover)
    read = Read(connection, fragments=options.fragments, control=options.control)
    return connection, read, Write(connection)
