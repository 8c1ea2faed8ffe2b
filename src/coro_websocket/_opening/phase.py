"""The phases in which a connection is opened: each may take only so long, and its error says so."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .._http.opening_errors import ConnectTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._options.options import Options
    from .._options.proxy import Proxy
    from .._runtimes.event_loop import SocketLoop

__all__ = ["Phase"]


class Phase:
    """How far the opening of a connection has come, and the deadlines of its phases."""

    def __init__(self, loop: SocketLoop, options: Options) -> None:
        self.name = "resolve"
        self._loop = loop
        self._proxy: Proxy | None = None
        self._options = options

    @property
    def in_words(self) -> str:
        """The phase for an error message, with the proxy if that is what we wait for."""
        return (
            self.name if self._proxy is None else f"{self.name}, at the proxy {self._proxy.where}"
        )

    @contextlib.asynccontextmanager
    async def of(self, name: str, proxy: Proxy | None = None) -> AsyncIterator[None]:
        """Do what is in this phase; raises ConnectTimeout if that takes longer than it may.

        proxy: what it is done with, if that is not the server.
        """
        self.name, self._proxy = name, proxy
        limit: float | None = getattr(self._options, f"{name}_timeout")
        try:
            async with self._loop.limit(limit) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise ConnectTimeout(
                f"{self._options.url.redacted} was not open within {limit:g} s ({name}_timeout); "
                f"the phase that did not end: {self.in_words}",
                name,
            ) from None
