"""The headers of an answer that are not the user's to set, and why.

The rule: what makes a 101 a handshake, and what says where another answer ends, follows from the
rest of the answer. Nobody can add to it, change it or take it away.

RFC 6455 section 4.2.2; RFC 9112 section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._options.header_rules import normalise_headers, refuse_reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["OF_REFUSALS", "check_refusal_headers", "check_response_headers"]

_OF_101 = {
    "connection": "the handshake sets it",
    "upgrade": "the handshake sets it",
    "sec-websocket-accept": "the handshake sets it",
    "sec-websocket-extensions": "only extensions that are implemented may be agreed on",
    "sec-websocket-protocol": "name subprotocols in the option subprotocols, or choose one with "
    "req.choose_subprotocol()",
    "content-length": "an answer that upgrades has no body",
    "transfer-encoding": "an answer that upgrades has no body",
}
OF_REFUSALS = {
    "connection": "the connection is closed after a refusal",
    "content-length": "it follows from the body",
    "transfer-encoding": "the body is sent as it is",
}


def check_response_headers(
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None,
) -> tuple[tuple[str, str], ...]:
    """`headers` as pairs if a 101 may have them besides its own, else InvalidOption."""
    given = normalise_headers(headers)
    refuse_reserved(given, _OF_101)
    return given


def check_refusal_headers(
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None,
) -> tuple[tuple[str, str], ...]:
    """`headers` as pairs if an answer that is no 101 may have them, else InvalidOption."""
    given = normalise_headers(headers)
    refuse_reserved(given, OF_REFUSALS)
    return given
