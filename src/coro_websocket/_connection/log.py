"""Connections in the log: who is at the other end, and how each connection has ended."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from .._quoting import clip
from .._rfc6455.close_codes import ABNORMAL, describe

if TYPE_CHECKING:
    from .._streams.user_socket import ConnectionSocket
    from .connection import Connection

__all__ = ["log_end", "address_in_words"]


def address_in_words(address: Any) -> str:
    """The address of a socket, fit for a log: `127.0.0.1:80`, `[::1]:80`, `'/path'`."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return clip(address) if address else "a unix socket"


def log_end(
    logger: logging.Logger, which: str, connection: Connection, sock: ConnectionSocket
) -> None:
    """Log the end of a connection once it has come. which: the connection, in words."""
    if logger.isEnabledFor(logging.INFO):
        sock.when_released(functools.partial(_log, logger, which, connection))


def _log(logger: logging.Logger, which: str, connection: Connection) -> None:
    engine = connection.engine
    code = ABNORMAL if engine.close_code is None else engine.close_code
    how = describe(code, engine.close_reason)
    if engine.error is not None or not engine.close_received:
        error = connection.ended_with
        how = how if error is None else f"{describe(code, '')}: {error}"
    logger.info("%s closed with %s", which, how)
