"""What an SSLContext of the user's own raises."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["context_errors"]


@contextlib.contextmanager
def context_errors() -> Iterator[None]:
    """Raise whatever a context of the user's own raises as an SSLError, unless it is an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, TypeError) and isinstance(error.__context__, ssl.SSLError):
            raise error.__context__ from None  # asyncio's TLS within TLS fails to pass it on
        raise ssl.SSLError(f"the SSLContext raised {error!r}") from error
