"""The server's half of the opening handshake.

The rule: a request is accepted only if RFC 6455 section 4.2.1 allows it in every point. Each one
that is refused gets a whole HTTP/1.1 answer that says why, and its connection is closed: there
cannot be a second request, smuggled in behind a bad one. The functions are pure; ServerHandshake
only feeds them. As in `client_handshake`, neither a socket nor a clock is touched.

RFC 6455 sections 4.2, 4.4 and 10.2; RFC 9110 section 15; RFC 9112 section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

import h11

from .._checks import check_int
from .._errors import InvalidOption, InvalidOptionType
from .._options.header_rules import (
    check_pathname,
    check_subprotocols,
    check_value,
    is_host,
    is_token,
    normalise_headers,
    refuse_reserved,
)
from .._options.url import without_query, without_userinfo
from .._quoting import clip
from .client_handshake import accept_key, check_extension, has_option
from .extension_header import format_extensions, parse_extensions
from .headers import too_long_list
from .opening_errors import HandshakeError
from .parsing import HeadBuffer, decode_headers, parse_head, redacted_start
from .request_and_response import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._rfc6455.extension import Extension, ExtensionFactory, Parameters

__all__ = [
    "Origins",
    "ServerHandshake",
    "check_origins",
    "check_request",
    "check_response_headers",
    "encode_response",
    "refusal",
    "response_headers",
]

Origins: TypeAlias = "Sequence[str | None] | Literal['same'] | None"
"""The origins to let in: "same", those of a list with None for a request without one, or None: all.

"same" is a request without an `Origin`, or whose origin has the host and port in `Host`.
"""

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
# As browsers write it: without the port of the scheme, and in ASCII (RFC 6454 section 6.2).
_ORIGIN = re.compile(
    r"(?!http://[^/]*:80\Z|https://[^/]*:443\Z)"
    r"[a-z][a-z0-9+\-.]*://(?:[a-z0-9\-._~!$&'()+,;=%]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?|null",
    re.IGNORECASE | re.ASCII,
)
_ABSOLUTE = re.compile(r"(?:http|ws)s?://([^/?#]*)", re.IGNORECASE)  # RFC 9112 section 3.2.2
# Its host and port, without userinfo (RFC 9110 section 4.2.4).
_AUTHORITY = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
)

_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_HOST_AND_PORT = re.compile(r"(.*?)(?::([0-9]*))?")

_PHRASES = {status.value: status.phrase for status in HTTPStatus}

# Headers that a handler cannot set in a 101, and why; then those in a refusal.
_RESERVED = {
    "connection": "the handshake sets it",
    "upgrade": "the handshake sets it",
    "sec-websocket-accept": "the handshake sets it",
    "sec-websocket-extensions": "only extensions that are implemented may be agreed on",
    "sec-websocket-protocol": "name subprotocols in the option subprotocols",
    "content-length": "an answer that upgrades has no body",
    "transfer-encoding": "an answer that upgrades has no body",
}
_RESERVED_IN_REFUSALS = {
    "connection": "the connection is closed after a refusal",
    "content-length": "it follows from the body",
    "transfer-encoding": "the body is sent as it is",
}


def check_origins(origins: Origins) -> tuple[str | None, ...] | Literal["same"] | None:
    """`origins` if each could be that of an `Origin` header, else InvalidOption."""
    if origins is None or origins == "same":
        return origins
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Iterable):
        raise InvalidOptionType(
            "origins must be 'same', a list of str and None, or None", "origins"
        )
    origins = tuple(origins)
    for origin in origins:
        if origin is not None and not isinstance(origin, str):
            raise InvalidOptionType(
                f"an origin must be str or None, not {type(origin).__name__}", "origins"
            )
        if origin is not None and not _ORIGIN.fullmatch(origin):
            raise InvalidOption(
                f"{clip(without_userinfo(origin))} is not an origin: expected 'scheme://host' or "
                f"'scheme://host:port' without a path (RFC 6454 section 6.1){_origin_hint(origin)}",
                "origins",
            )
    return origins


def _origin_hint(origin: str) -> str:
    """What to give in place of an origin that no `Origin` header has."""
    if origin == "same":
        return "; 'same' stands alone: in a list, name the origins of your own pages"
    if "*" in origin:
        return "; there are no wildcards: list each origin, or give origins=None to let in any"
    scheme, _, rest = origin.rpartition("://")
    scheme = scheme.lower() or "https"
    host = without_userinfo(re.split(r"[/?#]", rest)[0])
    host = host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))
    instead = f"{scheme}://{host}"
    return f"; did you mean {instead!r}?" if _ORIGIN.fullmatch(instead) else ""


def check_response_headers(
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None,
) -> tuple[tuple[str, str], ...]:
    """`headers` as pairs if a 101 may have them besides its own, else InvalidOption."""
    given = normalise_headers(headers)
    refuse_reserved(given, _RESERVED)
    return given


# The rules.


def check_request(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    origins: Origins = "same",
) -> str | None:
    """The subprotocol to agree on, or None, if `request` is an opening handshake to accept.

    It is the first of `subprotocols`, the server's, that the client offers too. `origins` says
    which `Origin` to accept; None, for any, is right only where neither cookies nor addresses are
    trusted.

    Raises:
        HandshakeError: the request cannot be accepted. `response` is the answer to send.
    """
    _check_request_line(request)
    _check_host(request)
    _check_lists(request)
    _check_upgrade(request)
    _check_no_body(request)
    _check_protocol_version(request)
    _check_key(request)
    _check_path(request)
    _check_subprotocols(request)
    _check_origin(request, origins)
    offered = request.subprotocols
    return next((name for name in subprotocols if name in offered), None)


def _check_request_line(request: Request) -> None:
    # An upgrade is a thing of HTTP/1.1 (RFC 6455 section 4.2.1, item 1; RFC 9110 section 7.8).
    if not 1.1 <= request.version < 2:
        raise refusal(
            400 if request.version == 1.0 else 505,
            f"expected HTTP/1.1, received HTTP/{request.version}: a proxy in between may have "
            "lowered it (RFC 6455 section 4.2.1)",
        )
    authority = request._host
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        raise refusal(
            400,
            f"expected host and port in the target, received {clip(without_userinfo(authority))} "
            "(RFC 9112 section 3.2.2)",
        )
    if request.method != "GET":
        raise refusal(
            405,
            f"expected GET, received {clip(request.method)} (RFC 6455 section 4.2.1)",
            [("Allow", "GET")],
        )


def _check_host(request: Request) -> None:
    hosts = request.get_all("Host")
    if len(hosts) != 1 or not is_host(hosts[0]):
        received = ", ".join(clip(without_userinfo(host)) for host in hosts) or "none"
        raise refusal(400, f"expected one Host, received {received} (RFC 9112 section 3.2)")


def _check_lists(request: Request) -> None:
    if (too_long := too_long_list(request)) is not None:
        raise refusal(431, f"{too_long} (RFC 6585 section 5)")


def _check_upgrade(request: Request) -> None:
    for header, option in (("Upgrade", "websocket"), ("Connection", "upgrade")):
        values = request.get_all(header)
        if not has_option(values, option):
            raise refusal(
                426,
                f"this is a WebSocket server: expected {option!r} in {header}, "
                f"received {_quoted(values)} (RFC 6455 section 4.2.1)",
                [("Upgrade", "websocket")],
            )


def _check_no_body(request: Request) -> None:
    if request.get("Content-Length", "0").strip("0") or "Transfer-Encoding" in request:
        raise refusal(400, "expected no body in an opening handshake (RFC 6455 section 4.1)")


def _check_protocol_version(request: Request) -> None:
    versions = request.get_all("Sec-WebSocket-Version")
    if versions != ["13"]:
        # One that we do not speak, or none that could be read (RFC 6455 section 4.4).
        raise refusal(
            426 if len(versions) == 1 and versions[0].isdecimal() else 400,
            f"expected one Sec-WebSocket-Version: 13, received {_quoted(versions)} "
            "(RFC 6455 section 4.4)",
            [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        )


def _check_key(request: Request) -> None:
    keys = request.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise refusal(
            400,
            "expected one Sec-WebSocket-Key with 16 bytes in base64, "
            f"received {_quoted(keys)} (RFC 6455 section 4.2.1)",
        )


def _check_path(request: Request) -> None:
    try:
        check_pathname(request.pathname)
    except InvalidOption:
        received = clip(without_userinfo(without_query(request.pathname)))
        raise refusal(
            400, f"expected a path, received {received} (RFC 6455 section 4.2.1)"
        ) from None


def _check_subprotocols(request: Request) -> None:
    if not all(map(is_token, request.subprotocols)):
        # Without the value: bearer tokens travel there.
        raise refusal(400, "expected tokens in Sec-WebSocket-Protocol (RFC 6455 section 4.1)")


def _check_origin(request: Request, origins: Origins) -> None:
    # Browsers send it with every opening handshake, whoever wrote the page, and the user's cookies
    # with it: this is the only defence against cross-site requests (RFC 6455 section 10.2).
    if origins is None:
        return
    received = request.get_all("Origin")
    origin = received[0].lower() if received else None
    hint = ""
    if len(received) <= 1:
        if _is_let_in(origin, origins, request.host):
            return
        if origin is None or (_ORIGIN.fullmatch(origin) and origin.isascii()):
            lets_in = clip(origin) if origin is not None else "None"
            hint = f"; origins=[{lets_in}, {'None' if origins == 'same' else '...'}] lets it in"
    # Not userinfo, though no browser sends any.
    redacted = [re.sub(r"(?<=://).*@", "...@", without_query(each)) for each in received]
    raise refusal(
        403,
        f"the origin is not allowed: received Origin {_quoted(redacted)} and "
        f"Host {clip(request.host)}{hint} (RFC 6455 section 10.2)",
    )


def _is_let_in(
    origin: str | None, origins: Sequence[str | None] | Literal["same"], host: str
) -> bool:
    if origins == "same":
        return origin is None or _is_of_host(origin, host)
    return origin in [each.lower() if each is not None else None for each in origins]


def _is_of_host(origin: str, host: str) -> bool:
    """Whether `origin`, in lower case, has the host and port that `host`, a Host header, names.

    The scheme of the origin says which port is meant where there is none: that of the connection
    may be another, behind a proxy that ends TLS.
    """
    scheme, _, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme, "")
    return bool(authority) and _with_port(authority, default) == _with_port(host.lower(), default)


def _with_port(authority: str, default: str) -> tuple[str, str]:
    match = _HOST_AND_PORT.fullmatch(authority)
    return (match[1], match[2] or default) if match is not None else (authority, default)


def _quoted(values: Sequence[str]) -> str:
    return clip(", ".join(values)) if values else "none"


def agree_on_extensions(
    request: Request, extensions: Sequence[ExtensionFactory] = ()
) -> list[tuple[str, Parameters, Extension]]:
    """Those of the extensions that `request` offers which both sides can use.

    Of several offers of one extension the first that can be agreed on counts (RFC 6455
    section 9.1). What is unknown, or cannot be done as offered, is declined.

    Raises:
        HandshakeError: the header is not a list of extensions; or one of ours failed, which is
            the error's cause.
    """
    try:
        offers = parse_extensions(request.get_all("Sec-WebSocket-Extensions"))
    except ValueError as error:
        raise refusal(
            400, f"expected extensions in Sec-WebSocket-Extensions, {error} (RFC 6455 section 9.1)"
        ) from None
    factories = {factory.name: factory for factory in extensions}
    agreed: list[tuple[str, Parameters, Extension]] = []
    used = 0
    for name, offered in offers:
        factory = factories.get(name)
        if factory is None:
            continue
        try:
            answer = factory.agree(offered)
            if answer is None:
                continue
            parameters, extension = answer
            check_extension(name, extension)
            format_extensions([(name, parameters)])
        except Exception as error:
            raise refusal(500, f"the extension {clip(name)} has failed") from error
        if not extension.rsv & used:
            used |= extension.rsv
            agreed.append((name, parameters, extension))
            del factories[name]
    return agreed


def response_headers(
    request: Request,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
    extensions: Iterable[tuple[str, Parameters]] = (),
) -> tuple[tuple[str, str], ...]:
    """The headers of the 101 that accepts `request`, in the order to send them.

    The subprotocol in it is `request.subprotocol`. The headers that make the handshake what it
    is cannot be set by `headers`: InvalidOption says why.

    RFC 6455 section 4.2.2, item 5.
    """
    given = check_response_headers(headers)
    chosen = request.subprotocol
    in_use = format_extensions(extensions)
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(request["Sec-WebSocket-Key"])),
        *([("Sec-WebSocket-Protocol", chosen)] if chosen is not None else []),
        *([("Sec-WebSocket-Extensions", in_use)] if in_use else []),
        *given,
    )


# The answers.


def refusal(code: int, message: str, headers: Iterable[tuple[str, str]] = ()) -> HandshakeError:
    """The error that a request is refused with; its `response` is the answer to send."""
    return HandshakeError(
        f"the client's opening handshake is refused with {code}: {message}",
        _closing_response(code, headers=headers, body=message + "\n"),
    )


def _closing_response(
    code: int,
    reason: str | None = None,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
    body: bytes | str = b"",
) -> Response:
    check_int("code", code, 200, 599)
    if reason is None:
        reason = _PHRASES.get(code, "")
    given = normalise_headers(headers)
    refuse_reserved(given, _RESERVED_IN_REFUSALS)
    names = {name.lower() for name, _ in given}
    content = body.encode() if isinstance(body, str) else bytes(body)
    pairs = [*given]
    if code in (204, 304):  # these end with their head (RFC 9112 section 6.3)
        content = b""
    else:
        if content and "content-type" not in names:
            pairs.append(("Content-Type", "text/plain; charset=utf-8"))
        pairs.append(("Content-Length", str(len(content))))
    # An Upgrade header is named in Connection (RFC 9110 section 7.8).
    pairs.append(("Connection", "Upgrade, close" if "upgrade" in names else "close"))
    return Response(pairs, code=code, reason=check_value(reason, "reason", "reason"), body=content)


def encode_response(response: Response, *, method: str = "GET") -> bytes:
    """`response` as it goes on the wire; an answer to HEAD has no body (RFC 9110 section 9.3.2)."""
    lines = [f"HTTP/1.1 {response.code} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if method == "HEAD" else head + response.body


class ServerHandshake:
    """One opening handshake from the server's side.

    Pass what comes from the client to `receive` until it returns the Request, then send either
    `accept()` or `reject(...)`; where it raises, send `refusal()` and close. `leftover` has what
    came after the head.

    Args:
        subprotocols: those that the server speaks, favourite first.
        origins: the origins to accept: "same": that of the host and port in `Host`, and requests
            without one; a list, None in it for a request without one; None: all.
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
        self._agreed: list[tuple[str, Parameters, Extension]] = []
        self._subprotocols = check_subprotocols(subprotocols)
        self._origins = check_origins(origins)
        self._http = h11.Connection(h11.SERVER)
        self._heads = HeadBuffer("the client's request", max_head_size, max_header_lines)
        self._method = "GET"
        self._pathname: str | None = None
        self._begun = False
        self._request: Request | None = None
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
        return [extension for _, _, extension in self._agreed]

    def receive(self, data: bytes) -> Request | None:
        """Take bytes from the client; `b""` says that no more will come.

        Returns None while more is needed, and the Request once it is there and can be accepted.

        Raises:
            HandshakeError: it cannot be. `response` is the answer that `refusal()` encodes, or
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
            if not end and self._heads.rest == b"\r":
                return None
            self._begun = self._heads.skip_empty_line()
        start = self._heads.start(2)
        if start and not is_token(chr(start[0])):
            came = (
                "a TLS handshake"
                if start == b"\x16\x03"
                else redacted_start(self._heads.start(200))
            )
            raise refusal(400, f"expected an HTTP request, received {came} (RFC 9112 section 3)")
        try:
            head = self._heads.next_head()
        except HandshakeError as error:
            raise refusal(431, str(error)) from None
        if head is None:
            if end:
                size = len(self._heads.rest)
                where = f"after {size} bytes of" if size else "without sending"
                raise HandshakeError(f"the client closed the connection {where} its request")
            return None
        try:
            event = parse_head(self._http, head, "the client's request")
        except HandshakeError as error:
            raise refusal(400, str(error)) from None
        assert isinstance(event, h11.Request)
        request = _request(event)
        self._method = request.method
        self._pathname = request.pathname
        chosen = check_request(request, subprotocols=self._subprotocols, origins=self._origins)
        self._agreed = agree_on_extensions(request, self._factories)
        self._request = request._bind(subprotocol=chosen)
        return request

    def accept(self, headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = ()) -> bytes:
        """The 101 that completes the handshake, with `headers` added (RFC 6455 section 4.2.2)."""
        if self._request is None:
            raise RuntimeError("there is no request to accept yet")
        in_use = [(name, parameters) for name, parameters, _ in self._agreed]
        pairs = response_headers(self._request, headers, in_use)
        return encode_response(Response(pairs, code=101, reason="Switching Protocols"))

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
        return encode_response(_closing_response(code, reason, headers, body), method=self._method)

    def refusal(self) -> bytes:
        """The answer to a request that `receive` raised for; empty if the client is gone."""
        if self._error is None or self._error.response is None:
            return b""
        return encode_response(self._error.response, method=self._method)


def _request(event: h11.Request) -> Request:
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
