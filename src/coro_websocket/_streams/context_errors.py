"""What an SSLContext of the user's own raises."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["context_errors"]


class context_errors:
    """Raise whatever a context of the user's own raises as an SSLError, unless it is an OSError.

    A class, as one is entered for every step of TLS: `contextlib` takes several times as long.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) or not isinstance(error, Exception):
            return
        if isinstance(error, TypeError) and isinstance(error.__context__, ssl.SSLError):
            raise error.__context__ from None  # asyncio's TLS within TLS fails to pass it on
        raise ssl.SSLError(f"the SSLContext raised {error!r}") from error
