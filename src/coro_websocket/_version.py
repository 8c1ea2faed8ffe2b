"""The version of the installed distribution."""

from __future__ import annotations

import functools


@functools.cache
def version() -> str:
    """The version, from the distribution's metadata; "0" where there is none."""
    from importlib import metadata  # costs more than the rest: only when needed

    try:
        return metadata.version("coro-websocket")
    except metadata.PackageNotFoundError:
        return "0"
