"""HTTPResponse: what a server answers in place of an upgrade, or with it.

The rule: it is checked when it is made, where the mistake is; whatever it holds can be sent.

RFC 9110 section 15; RFC 9112 section 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from .._checks import check_int, is_int, wrong_type
from .._errors import InvalidOption, InvalidOptionType
from .._options.header_rules import check_value
from .cookies import SameSite, cookie_line
from .headers import Headers
from .reserved_headers import OF_REFUSALS, check_refusal_headers, check_response_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .request_and_response import Response

__all__ = ["SWITCHING_PROTOCOLS", "HTTPResponse"]

SWITCHING_PROTOCOLS = 101
_NO_HEADERS = Headers()


@dataclass(frozen=True, slots=True, eq=False)
class HTTPResponse:
    """An HTTP response that `process_request` answers with, and `process_response` sees.

        HTTPResponse(200, body="OK\\n")
        HTTPResponse(302, {"Location": "https://example.com/login"})
        HTTPResponse(503, {"Retry-After": "10"}, "come back later\\n")

    The connection is closed after it; `Connection`, `Content-Length` and `Transfer-Encoding`
    follow from the rest and cannot be set. An answer to HEAD, a 204 and a 304 are sent without
    the body. It cannot be changed; `with_headers` and `with_cookie` make another.

    Args:
        status: the HTTP status, 200 to 599. 101 stands for the upgrade: only `process_response`
            gets one, and may give it back with more headers.
        headers: (name, value) pairs or a mapping. A body without a `Content-Type` is plain text.
        body: bytes, or `str`, which is sent as UTF-8.
        reason: the phrase beside the status; None for the usual one.

    Raises:
        InvalidOption: one of them cannot be sent.
    """

    status: int
    headers: Headers = _NO_HEADERS
    body: bytes = b""
    reason: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            status: int,
            headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
            body: bytes | bytearray | memoryview | str = b"",
            reason: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        upgrades = is_int(self.status) and self.status == SWITCHING_PROTOCOLS
        status = self.status if upgrades else check_int("status", self.status, 200, 599)
        if isinstance(self.headers, (str, bytes)):
            raise InvalidOptionType(
                "headers must be a list of (name, value) pairs or a mapping, not "
                f"{type(self.headers).__name__}: did you mean body=...?",
                "headers",
            )
        check = check_response_headers if upgrades else check_refusal_headers
        body = _checked_body(self.body)
        if upgrades and body:
            raise InvalidOption("an answer 101 has no body (RFC 6455 section 4.2.2)", "body")
        object.__setattr__(self, "status", int(status))
        object.__setattr__(self, "headers", Headers(check(self.headers)))
        object.__setattr__(self, "body", body)
        if self.reason is not None:
            object.__setattr__(self, "reason", check_value(self.reason, "reason", "reason"))

    def with_headers(self, headers: Iterable[tuple[str, str]] | Mapping[str, str]) -> Self:
        """The same with these headers after its own.

        Raises:
            InvalidOption: one of them cannot be sent.
        """
        more = headers.items() if hasattr(headers, "items") else headers
        both: Any = (*self.headers, *more)
        return replace(self, headers=both)

    def with_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = True,
        http_only: bool = True,
        same_site: SameSite | None = "Lax",
    ) -> Self:
        """The same with a cookie for the browser to keep; the arguments are `req.set_cookie`'s."""
        line = cookie_line(
            name,
            value,
            max_age=max_age,
            path=path,
            domain=domain,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
        )
        return self.with_headers([("Set-Cookie", line)])

    @classmethod
    def _of(cls, response: Response) -> Self:
        """A refusal of ours, without the headers that follow from the rest."""
        headers = [pair for pair in response if pair[0].lower() not in OF_REFUSALS]
        return cls(response.code, headers, response.body, response.reason)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HTTPResponse):
            return NotImplemented
        return self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[int, str | None, tuple[tuple[str, str], ...], bytes]:
        return self.status, self.reason, tuple(self.headers), self.body

    def __repr__(self) -> str:
        body = f" {len(self.body)} bytes of body" if self.body else ""
        return f"<HTTPResponse {self.status} {self.headers._redacted()!r}{body}>"


def _checked_body(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise wrong_type("body", "str or bytes-like", body)
    return bytes(body)
