"""The TLS of a server: a context for new connections, made again from its files when asked to.

The rule: a context that works is only ever replaced by one that has been made without an error.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOption
from .._options.pem import pem_text
from .._options.tls import server_context, tls_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._options.tls import TLSOptions

__all__ = ["TLSSource"]


class TLSSource:
    """What a server was given as `tls`.

    `context` is for the next connection; those that are open keep the one that they began with.
    """

    def __init__(self, tls: ssl.SSLContext | TLSOptions | Mapping[str, Any]) -> None:
        """Raises InvalidOption as `server_context` does."""
        self.context = server_context(tls)
        self._options = None if isinstance(tls, ssl.SSLContext) else tls_options(tls)

    def reload(self) -> None:
        """Read the files again. Raises InvalidOption, and changes nothing, if that fails."""
        options = self._options
        if options is None:
            raise InvalidOption(
                "tls was given as an ssl.SSLContext, whose files are not known: call its "
                "load_cert_chain(), which counts for new connections, or give serve() the paths "
                "as tls={'cert': ..., 'key': ...}",
                "tls",
            )
        ca: Any = options.ca or ()
        given: list[Any] = [options.cert, options.key, *ca]
        if all(value is None or pem_text(value) is not None for value in given):
            raise InvalidOption(
                "tls was given as PEM text, of which there is nothing to read again: give "
                "serve() the paths of files as tls={'cert': ..., 'key': ...}",
                "tls",
            )
        self.context = server_context(options)
