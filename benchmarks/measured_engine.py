"""The engine, where the commit that is measured has it."""

from __future__ import annotations

try:
    from coro_websocket._rfc6455.engine import Engine
except ModuleNotFoundError:  # a commit from before the folders
    from coro_websocket._engine import Engine  # type: ignore[import-not-found, no-redef]

__all__ = ["Engine"]
