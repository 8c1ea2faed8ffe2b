"""An application's own HTTP response in place of the upgrade, event by event.

The rule: the head goes out with the first part of the body, or when the application ends, so that
an application that fails between the two has still answered.

ASGI, "WebSocket Denial Response"; RFC 9112 section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from .._http.answers import PHRASES

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Denial"]

# To h11, which wants to have seen one, this is what is answered; the real one is answered alike.
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

_LENGTH = {b"content-length", b"transfer-encoding"}


class Denial:
    """The response of one application to one request.

    Args:
        status: 200 to 599.
        headers: pairs of bytes; without a length, it follows from the body where that comes at
            once, and is chunked where it does not.
        defaults: the server's, each for where the application has none of that name.

    Raises:
        RuntimeError: the status or a header cannot be sent.

    Attributes:
        begun: whether a part of it has gone out.
        complete: whether all of it has.
    """

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        defaults: Iterable[tuple[bytes, bytes]],
    ) -> None:
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise RuntimeError(
                "Expected an HTTP status from 200 to 599 in 'websocket.http.response.start', "
                f"but got {status!r}."
            )
        given = [(bytes(name), bytes(value)) for name, value in headers]
        names = {name.lower() for name, _ in given}
        self._status = status
        self._headers = [pair for pair in defaults if pair[0].lower() not in names] + given
        self._has_length = not names.isdisjoint(_LENGTH)
        try:
            h11.Response(status_code=status, headers=self._headers)
        except h11.LocalProtocolError as error:
            raise _invalid(error) from None
        self.begun = False
        self.complete = False
        self._http = h11.Connection(h11.SERVER)
        self._http.receive_data(_REQUEST)
        self._http.next_event()

    def body(self, data: bytes, more: bool) -> bytes:
        """The bytes that a part of the body makes; more: there are more parts to come.

        Raises RuntimeError if the response cannot have it: nothing more of it can be sent.
        """
        try:
            out = b"" if self.begun else self._head(None if more else len(data))
            out += self._http.send(h11.Data(data=data)) or b""
            if not more:
                out += self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise _invalid(error) from None
        self.begun = True
        self.complete = not more
        return out

    def head(self) -> bytes:
        """The head, if it has not gone out: the application has ended without a body."""
        if self.begun:
            return b""
        self.begun = True
        return self._head(0)

    def _head(self, length: int | None) -> bytes:
        headers = list(self._headers)
        if length is not None and not self._has_length and self._status not in (204, 304):
            headers.append((b"Content-Length", b"%d" % length))
        reason = PHRASES.get(self._status, "").encode()
        response = h11.Response(status_code=self._status, headers=headers, reason=reason)
        return self._http.send(response) or b""


def _invalid(error: h11.LocalProtocolError) -> RuntimeError:
    return RuntimeError(f"The response to a WebSocket request is not valid: {error}")
