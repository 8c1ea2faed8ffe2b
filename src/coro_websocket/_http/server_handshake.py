"""The server's half of the opening handshake: from bytes to a request, from answers to bytes.

The rule: bytes in, bytes out. As in `client_handshake`, neither a socket nor a clock is touched.
What may be asked stands in `request_rules`, what is answered in `answers`. Reading a request and
checking that it is an opening handshake are two steps: what comes between them may answer others.

RFC 6455 section 4.2; RFC 9112 sections 2.2 and 3.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h11

from .._options.header_rules import check_subprotocols
from .answers import closing_response, encode_response, refusal, switching_protocols
from .extension_agreement import NO_EXTENSIONS, agree_on_extensions
from .opening_errors import HandshakeError
from .origins import check_origins
from .parsing import TCHAR, HeadBuffer, decode_headers, parse_head, redacted_start
from .request_and_response import Request
from .request_rules import (
    check_opening,
    check_origin_of_upgrade,
    check_well_formed,
    choose_subprotocol,
)
from .reserved_headers import check_response_headers
from .usual_heads import usual_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._rfc6455.extension import Extension, ExtensionFactory
    from .http_response import HTTPResponse
    from .origins import Origins

__all__ = ["ServerHandshake"]

_ABSOLUTE = re.compile(r"(?:http|ws)s?://([^/?#]*)", re.IGNORECASE)  # RFC 9112 section 3.2.2


class ServerHandshake:
    """One opening handshake from the server's side, in steps.

    1. `receive` takes what comes from the client until it returns the Request, which is
       well-formed HTTP and need not be an opening handshake. `leftover` has what came after it.
    2. `check_origin`, where something is to look at the request before step 3.
    3. `check` holds it to the rules of an opening handshake.
    4. `choose` may change the subprotocol; `accept` gives the 101. `reject` gives another answer,
       from step 1 on.

    Where one raises HandshakeError, send `refusal()` and close.

    Args:
        subprotocols: those that the server speaks, favourite first.
        origins: the origins to accept, as for `serve`: "same": that of the host and port in `Host`,
            and requests without one; None: all.
        extensions: those that the server can use.
        max_head_size: the most bytes of the request's head.
        max_header_lines: the most header lines of it.

    Both limits may be None, for no limit.
    """

    def __init__(
        self,
        *,
        subprotocols: Sequence[str] = (),
        origins: Origins = "same",
        extensions: Sequence[ExtensionFactory] = (),
        max_head_size: int | None = 65536,
        max_header_lines: int | None = 128,
    ) -> None:
        self._factories = tuple(extensions)
        self._agreed = NO_EXTENSIONS
        self._subprotocols = check_subprotocols(subprotocols)
        self._origins = check_origins(origins)
        self._heads = HeadBuffer("the client's request", max_head_size, max_header_lines)
        self._method = "GET"
        self._pathname: str | None = None
        self._begun = False
        self._request: Request | None = None
        self._origin_checked = False
        self._checked = False
        self._error: HandshakeError | None = None

    @property
    def pathname(self) -> str | None:
        """What the client asks for, also where it is refused; None if that could not be read."""
        return self._pathname

    @property
    def leftover(self) -> bytes:
        """What came after the head of the request: the first bytes of frames."""
        return self._heads.rest

    @property
    def extensions(self) -> list[Extension]:
        """The extensions to use."""
        return list(self._agreed.extensions)

    def receive(self, data: bytes) -> Request | None:
        """Take bytes from the client; `b""` says that no more will come.

        Returns None while more is needed, and the Request once it is there: any request that is
        well-formed and within the limits.

        Raises:
            HandshakeError: it is not. `response` is the answer that `refusal()` encodes, or
                None if the client is gone.
        """
        if self._error is not None:
            raise self._error
        self._heads.feed(data)
        if self._request is not None:
            return self._request
        try:
            return self._receive(end=not data)
        except HandshakeError as error:
            self._error = error
            raise

    def _receive(self, *, end: bool) -> Request | None:
        if not self._begun:
            # RFC 9112 section 2.2: an empty line before the request is ignored.
            if not end and self._heads.start(2) == b"\r":
                return None
            self._begun = self._heads.skip_empty_line()
        self._check_start()
        head = self._next_head()
        if head is not None:
            request = _usual(head) or _parsed(head)
            self._method = request.method
            self._pathname = request.pathname
            check_well_formed(request)
            self._request = request
            return request
        if end:
            size = len(self._heads.rest)
            where = f"after {size} bytes of" if size else "without sending"
            raise HandshakeError(f"the client closed the connection {where} its request")
        return None

    def _check_start(self) -> None:
        """A request starts with a method, which is a token (RFC 9112 section 3.1)."""
        start = self._heads.start(2)
        if start and start[0] not in TCHAR:
            came = (
                "a TLS handshake"
                if start == b"\x16\x03"
                else redacted_start(self._heads.start(200))
            )
            raise refusal(400, f"expected an HTTP request, received {came} (RFC 9112 section 3)")

    def _next_head(self) -> bytes | None:
        try:
            return self._heads.next_head()
        except HandshakeError as error:
            raise refusal(431, str(error)) from None

    def check_origin(self) -> None:
        """Hold a request for an upgrade to `origins`, if `check` is not to come at once.

        Raises:
            HandshakeError: the page that has it sent is not let in (RFC 6455 section 10.2).
        """
        if not self._origin_checked:
            request = self._received()
            try:
                check_origin_of_upgrade(request, self._origins)
            except HandshakeError as error:
                self._error = error
                raise
            self._origin_checked = True

    def check(self) -> None:
        """Hold the request to the rules of an opening handshake, and agree on what it offers.

        `request.subprotocol` is then the first of the server's that the client offers, unless
        one was chosen before.

        Raises:
            HandshakeError: it cannot be accepted. `response` is the answer to send.
        """
        self.check_origin()
        request = self._received()
        try:
            check_opening(request)
            self._agreed = agree_on_extensions(request, self._factories)
        except HandshakeError as error:
            self._error = error
            raise
        if not request._chosen:
            request._bind(subprotocol=choose_subprotocol(request, self._subprotocols))
        self._checked = True

    def _received(self) -> Request:
        if self._request is None:
            raise RuntimeError("there is no request yet")
        return self._request

    def choose(self, subprotocol: str | None) -> None:
        """Agree on this subprotocol, or on none, in place of what `check` has chosen.

        Raises:
            InvalidOption: the client does not offer it.
        """
        self._received()._choose(subprotocol)

    def accept(self, headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = ()) -> bytes:
        """The 101 that completes the handshake, with `headers` added (RFC 6455 section 4.2.2)."""
        request = self._checked_request()
        return switching_protocols(request, self._agreed.header, check_response_headers(headers))

    def accept_as(self, response: HTTPResponse) -> bytes:
        """The 101 with the headers of `response`, a 101 too, which has checked them itself."""
        return switching_protocols(self._checked_request(), self._agreed.header, response.headers)

    def _checked_request(self) -> Request:
        request = self._received()
        if not self._checked:
            raise RuntimeError("the request was not checked yet")
        return request

    def reject(
        self,
        code: int,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
        body: bytes | str = b"",
    ) -> bytes:
        """The answer `code` instead of an upgrade: send it and close the connection.

        Args:
            code: the HTTP status, 200 to 599.
            reason: the reason phrase; None for the usual one.
            headers: more headers; length and `Connection` follow from the rest.
            body: `str` is sent as UTF-8; plain text unless `headers` has a `Content-Type`.
        """
        return encode_response(closing_response(code, reason, headers, body), method=self._method)

    def refusal(self) -> bytes:
        """The answer to a request that was refused with an error; empty if the client is gone."""
        if self._error is None or self._error.response is None:
            return b""
        return encode_response(self._error.response, method=self._method)


def _usual(head: bytes) -> Request | None:
    found = usual_request(head)
    return None if found is None else Request(found[1], pathname=found[0])


def _parsed(head: bytes) -> Request:
    try:
        event = parse_head(h11.Connection(h11.SERVER), head, "the client's request")
    except HandshakeError as error:
        raise refusal(400, str(error)) from None
    assert isinstance(event, h11.Request)
    target = event.target.decode("latin-1")
    host = None
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        host = absolute[1]
        target = target[absolute.end() :]
        target = target if target.startswith("/") else "/" + target
    return Request(
        decode_headers(event),
        method=event.method.decode("latin-1"),
        pathname=target,
        version=float(event.http_version),
        host=host,
    )
