"""How many connections and opening handshakes a server has at once: the options, checked."""

from __future__ import annotations

from dataclasses import dataclass

from .._checks import check_int

__all__ = ["MAX_HANDSHAKES", "Limits", "check_limits"]

MAX_HANDSHAKES = 2000  # with TLS and whole heads they take some 200 MB


@dataclass(frozen=True)
class Limits:
    """Those of one server; None: no limit."""

    max_connections: int | None
    max_connections_per_client: int | None
    max_handshakes: int | None


def check_limits(
    max_connections: int | None, max_connections_per_client: int | None, max_handshakes: int | None
) -> Limits:
    """The limits, each a number of at least 1, or None; else InvalidOption."""
    return Limits(
        _check("max_connections", max_connections),
        _check("max_connections_per_client", max_connections_per_client),
        _check("max_handshakes", max_handshakes),
    )


def _check(name: str, value: int | None) -> int | None:
    return None if value is None else check_int(name, value, 1, or_none=True)
