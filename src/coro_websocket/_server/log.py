"""What the log says of a server's connections: which one, and how its opening has failed.

The rule: neither a query nor credentials get into the log.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from .._http.opening_errors import HandshakeError
from .._http.proxy_protocol import ProxyProtocolError
from .._options.url import without_query
from .._quoting import clip

if TYPE_CHECKING:
    from .._http.request_and_response import Request
    from .client import Client
    from .deciding import Decision

__all__ = ["in_words", "log_decision", "log_failure", "log_malformed", "logger"]

logger = logging.getLogger("coro_websocket.server")

# Of the errors of the network, those that are not only a client that has gone.
WORTH_A_LINE = (TimeoutError, ssl.SSLError, ProxyProtocolError)


def in_words(client: Client, pathname: str | None) -> str:
    """The connection of a client, and what it asks for."""
    if pathname is None or not pathname.startswith("/"):
        return str(client)  # what is not a path may have credentials: CONNECT's target, say
    return f"{client} to {clip(without_query(pathname))}"


def log_failure(error: Exception, client: Client) -> None:
    """A connection that was not opened, without anybody having refused it.

    One that the client has given up is nothing to look into: health probes do that all the time.
    """
    if isinstance(error, HandshakeError) or (
        isinstance(error, OSError) and not isinstance(error, WORTH_A_LINE)
    ):
        level = logging.DEBUG
    else:
        level = logging.INFO if isinstance(error, OSError) else logging.ERROR
    logger.log(
        level,
        "%s failed in its opening handshake: %s",
        client,
        error,
        exc_info=error if level == logging.ERROR else None,
    )


def log_malformed(error: HandshakeError, client: Client, pathname: str | None) -> None:
    """A connection whose client has sent what is not well-formed HTTP, or has gone."""
    if error.response is None:
        log_failure(error, client)
    else:
        _log_refusal(logging.INFO, error, error.response.code, in_words(client, pathname))


def log_decision(decision: Decision, client: Client, request: Request) -> None:
    """A request that was answered without an upgrade."""
    status = decision.response.status
    # Plain requests are what health probes send, and whoever scans the network.
    plain = not any(name.lower() in _OF_UPGRADES for name, _ in request)
    level = logging.DEBUG if plain and status < 500 else logging.INFO
    which = in_words(client, request.pathname)
    if decision.error is None:
        logger.log(level, "%s answered with %d by %s", which, status, decision.by)
    else:
        _log_refusal(level, decision.error, status, which)


_OF_UPGRADES = frozenset({"upgrade", "sec-websocket-key", "sec-websocket-version"})


def _log_refusal(level: int, error: HandshakeError, status: int, which: str) -> None:
    """By a rule, or because something of ours or the application's has failed."""
    assert error.response is not None
    code = error.response.code
    failed = error.__cause__ is not None
    logger.log(
        logging.ERROR if failed else level,
        "%s refused with %d: %s",
        which,
        status,
        str(error).split(f"refused with {code}: ", 1)[-1],
        exc_info=error.__cause__,  # the application's error, without ours around it
    )
