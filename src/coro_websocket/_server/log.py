"""What the log says of a server's connections: which one, and how its opening has failed.

The rule: neither a query nor credentials get into the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._connection.log import address_in_words
from .._options.url import without_query
from .._quoting import clip

if TYPE_CHECKING:
    from .._http.opening_errors import HandshakeError

__all__ = ["in_words", "log_failure", "log_refusal", "logger"]

logger = logging.getLogger("coro_websocket.server")


def in_words(address: Any, pathname: str | None) -> str:
    """The connection of a client, and what it asks for."""
    connection = f"the connection from {address_in_words(address)}"
    if pathname is None or not pathname.startswith("/"):
        return connection  # what is not a path may have credentials: CONNECT's target, say
    return f"{connection} to {clip(without_query(pathname))}"


def log_failure(error: Exception, address: Any) -> None:
    """A connection that was not opened, without anybody having refused it."""
    known = isinstance(error, OSError)  # lost, late, or no TLS
    logger.log(
        logging.INFO if known else logging.ERROR,
        "the connection from %s failed in its opening handshake: %s",
        address_in_words(address),
        error,
        exc_info=None if known else error,
    )


def log_refusal(error: HandshakeError, address: Any, pathname: str | None) -> None:
    """A connection that was refused: by a rule, or because something of ours has failed."""
    if error.response is None:
        log_failure(error, address)
        return
    code = error.response.code
    logger.log(
        logging.INFO if error.__cause__ is None else logging.ERROR,
        "%s refused with %d: %s",
        in_words(address, pathname),
        code,
        str(error).split(f"refused with {code}: ", 1)[-1],
        exc_info=error if error.__cause__ is not None else None,
    )
