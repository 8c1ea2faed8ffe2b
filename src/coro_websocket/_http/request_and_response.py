"""The two heads of an opening handshake as their receivers see them: `Response` and `Request`.

The rule: both are values. Who receives one cannot change it; the rooms that make it bind what
is known only later (the subprotocol agreed on, the socket) before it is handed out. What the
application wants in its answer, and what it has found out, it notes beside the Request's own.

RFC 6455 section 4, RFC 9110 and RFC 9112; "Response" and "Headers" of luvit's coro-websocket page.
"""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias
from urllib.parse import parse_qsl

from .._errors import InvalidOption
from .._options.tls import TLSInfo
from .._options.url import without_query
from .._quoting import clip
from .client_address import ClientAddress
from .cookies import SameSite, cookie_line, parse_cookies
from .headers import Headers, parse_token_list
from .reserved_headers import check_response_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._options.url import URL

__all__ = ["AgreedExtension", "Request", "Response", "State"]

AgreedExtension: TypeAlias = tuple[str, tuple[tuple[str, str | None], ...]]
"""An extension in use: its name and its parameters (RFC 6455 section 9.1)."""


class Response(Headers):
    """The server's answer to the opening handshake (RFC 6455 section 4.2.2).

    A sequence of `(name, value)` header pairs, in the order sent: `res[0]` is the first one
    (`res[1]` in Lua), `res["Server"]` the one of that name in any case. It is what
    `connect` returns first, and `HandshakeError.response` when the server refused. It cannot
    be changed.
    """

    __slots__ = (
        "_body",
        "_body_truncated",
        "_code",
        "_extensions",
        "_reason",
        "_socket",
        "_subprotocol",
        "_tls",
        "_url",
        "_version",
    )

    def __init__(
        self,
        headers: Iterable[tuple[str, str]] = (),
        *,
        code: int,
        reason: str = "",
        version: float = 1.1,
        subprotocol: str | None = None,
        extensions: Iterable[AgreedExtension] = (),
        body: bytes = b"",
        body_truncated: bool = False,
        url: URL | None = None,
        socket: Any = None,
    ) -> None:
        super().__init__(headers)
        self._code = code
        self._reason = reason
        self._version = version
        self._subprotocol = subprotocol
        self._extensions = tuple(extensions)
        self._body = body
        self._body_truncated = body_truncated
        self._url = url
        self._socket = socket
        self._tls: Any = None

    @property
    def code(self) -> int:
        """The HTTP status code: 101 if the connection was upgraded (RFC 9110 section 15).

        On luvit's coro-websocket page: `code`.
        """
        return self._code

    @property
    def reason(self) -> str:
        """The reason phrase beside the code, `"Switching Protocols"`; may be empty.

        On luvit's coro-websocket page: `reason` (RFC 9112 section 4).
        """
        return self._reason

    @property
    def version(self) -> float:
        """The version of HTTP that the answer used: 1.1, or 1.0 in some refusals.

        On luvit's coro-websocket page: `version` (RFC 9112 section 2.3).
        """
        return self._version

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another HTTP request after this answer.

        False for code 101, since it carries WebSocket frames from there on; else what the
        version and the `Connection` header say.

        On luvit's coro-websocket page: `keepAlive` (RFC 9112 section 9.3).
        """
        options = {option.lower() for option in parse_token_list(self.get_all("Connection"))}
        if self._code == 101 or "close" in options:
            return False
        return self._version >= 1.1 or "keep-alive" in options

    @property
    def socket(self) -> Any:
        """The socket that the connection is bound to; None in a refusal.

        Shutting it down ends the connection: `read()` gives what had come, then None. Once the
        connection is closed, so is the socket (`fileno()` is -1); shutting it down does nothing.

        On luvit's coro-websocket page: `socket`.
        """
        return self._socket

    @property
    def tls(self) -> TLSInfo | None:
        """TLS with the server: version, cipher suite, certificate; None without, or if refused."""
        if self._tls is not None and not isinstance(self._tls, TLSInfo):
            self._tls = TLSInfo.of(self._tls)
        return self._tls

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose of those offered, or None.

        RFC 6455 section 1.9.
        """
        return self._subprotocol

    @property
    def extensions(self) -> tuple[AgreedExtension, ...]:
        """The extensions in use, as `(name, ((parameter, value or None), ...))` each.

        Empty if none was agreed on (RFC 6455 section 9.1).
        """
        return self._extensions

    @property
    def url(self) -> URL | None:
        """The URL that answered, which after redirects is not the one asked for, or None."""
        return self._url

    @property
    def body(self) -> bytes:
        """What a refusal says after its headers, as far as `max_body_size` lets it.

        Empty for code 101: what follows its head are frames.
        """
        return self._body

    @property
    def body_truncated(self) -> bool:
        """Whether `body` is not all: cut, lost on the way, late, or that of a redirect followed."""
        return self._body_truncated

    def __bool__(self) -> bool:
        """True: also an answer without headers is one."""
        return True

    def __repr__(self) -> str:
        body = f", {len(self._body)} bytes of body" if self._body else ""
        body += " (truncated)" if self._body_truncated else ""
        return f"<Response {self._code} {clip(self._reason)} {self._redacted()!r}{body}>"

    def _bind(
        self,
        *,
        subprotocol: str | None = None,
        extensions: tuple[AgreedExtension, ...] | None = None,
        url: URL | None = None,
        socket: Any = None,
        ssl_object: Any = None,
    ) -> Self:
        """Fill in what was not known when the head was parsed; only before it is handed out."""
        self._subprotocol = subprotocol if subprotocol is not None else self._subprotocol
        self._extensions = extensions if extensions is not None else self._extensions
        self._url = url if url is not None else self._url
        self._socket = socket if socket is not None else self._socket
        self._tls = ssl_object if ssl_object is not None else self._tls
        return self


class State(SimpleNamespace):
    """What an application has found out about a request: attributes of any name.

    `repr()` shows their names alone, as a value may be a secret.
    """

    def __repr__(self) -> str:
        return f"<State {' '.join(vars(self))}>" if vars(self) else "<State>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"req.state has no {clip(name)}: no hook has set it", name=name)


class Found(NamedTuple):
    """What a Router has found for a request."""

    pattern: str | None
    params: Mapping[str, Any]
    target: Any  # the Router's own


_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})

# What other libraries call what a Request has.
_ELSEWHERE = {
    "headers": "the Request is them: req['Origin'], req.get('Origin')",
    "remote_address": "it is req.client, or req.peer for the other end of the socket",
    "remote": "it is req.client.host",
    "path_params": "it is req.params",
    "match_info": "it is req.params",
    "query_params": "it is req.query",
    "query_string": "it is the part of req.pathname behind '?', or decoded req.query",
    "url": "it has req.scheme, req.host and req.pathname",
    "user": "basic_auth sets req.state.user",
    "body": "a request that has one is refused",
}


class Request(Headers):
    """A client's opening handshake, as the server's handler sees it (RFC 6455 section 4.2.1).

    A sequence of `(name, value)` header pairs, in the order sent, with look-up by name. It
    cannot be changed, but for `state`, which is the application's.

    `process_request` may have `add_response_header`, `set_cookie` and `choose_subprotocol` say
    what the 101 that accepts it is to have.
    """

    __slots__ = (
        "_added",
        "_answered",
        "_asks_for_upgrade",
        "_chosen",
        "_client",
        "_found",
        "_host",
        "_id",
        "_method",
        "_pathname",
        "_peer",
        "_scheme",
        "_server",
        "_socket",
        "_state",
        "_subprotocol",
        "_tls",
        "_version",
    )

    def __init__(
        self,
        headers: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        pathname: str = "/",
        version: float = 1.1,
        host: str | None = None,
        subprotocol: str | None = None,
        socket: Any = None,
        peer: Any = None,
    ) -> None:
        super().__init__(headers)
        self._method = method
        self._pathname = pathname
        self._version = version
        self._host = host
        self._subprotocol = subprotocol
        self._socket = socket
        self._peer = peer
        self._state: State | None = None
        self._added: tuple[tuple[str, str], ...] = ()  # headers of the 101
        self._chosen = False  # whether the application has chosen the subprotocol
        self._answered = False
        self._asks_for_upgrade: bool | None = None  # not looked up yet
        self._tls: Any = None
        self._client: ClientAddress | None = None
        self._scheme: str | None = None
        self._id: int | None = None
        self._server: Any = None
        self._found: Found | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise AttributeError(f"a Request has no attribute {clip(name)}{hint}", name=name)

    @property
    def method(self) -> str:
        """The HTTP method: "GET" in every opening handshake (RFC 6455 section 4.1)."""
        return self._method

    @property
    def pathname(self) -> str:
        """What the client asks for: the path and the query, as sent, percent-encoding included.

        What `pathname` is to the client. Of a target in absolute form, which usually only proxies
        are sent, it is the same part (RFC 9112 section 3.2.2).
        """
        return self._pathname

    @property
    def path(self) -> str:
        """The path that the client asks for, without the query; percent-encoded, as sent.

        What it means, decoded, is for a Router to find out: `req.params`.
        """
        return self._pathname.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query by name, decoded: `{"room": "a b"}` for `?room=a+b`.

        Of several of one name the first counts: `urllib.parse.parse_qsl` gives all of them.
        """
        query: dict[str, str] = {}
        for name, value in parse_qsl(self._pathname.partition("?")[2], keep_blank_values=True):
            query.setdefault(name, value)
        return query

    @property
    def version(self) -> float:
        """The version of HTTP that the request used: 1.1 (RFC 9112 section 2.3)."""
        return self._version

    @property
    def host(self) -> str:
        """The host, with the port if there is one, that the client meant to reach.

        From `Host`, or from a target in absolute form, which has the last word (RFC 9112
        section 3.2.2). The client chose it: it proves nothing.
        """
        return self._host if self._host is not None else self.get("Host", "")

    @property
    def origin(self) -> str | None:
        """The origin of the page whose script connects; None for clients that are not browsers.

        From `Origin` (RFC 6454 section 7; RFC 6455 section 10.2).
        """
        return self.get("Origin")

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, its favourite first (RFC 6455 section 1.9)."""
        offered = self._values_of("sec-websocket-protocol")
        return tuple(dict.fromkeys(parse_token_list(offered))) if offered else ()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose of those offered, or None."""
        return self._subprotocol

    @property
    def socket(self) -> Any:
        """The socket that the connection is bound to, closed once that is; None if none is yet."""
        return self._socket

    @property
    def peer(self) -> Any:
        """The other end of the socket, as `socket.getpeername()` gives it, or None.

        `(host, port)` for IPv4, with flow info and scope id after them for IPv6, a path for a
        unix socket. Behind a proxy it is the proxy's: `client` is the client's.
        """
        return self._peer

    @property
    def client(self) -> ClientAddress | None:
        """The client's address, as far as it can be known: `req.client.host`, `req.client.port`.

        That of the peer, unless a proxy that is trusted says who was connected to it: see the
        options `trusted_proxies` and `proxy_protocol` of `serve`. None for the peer of a unix
        socket that says nothing (RFC 7239).
        """
        if self._client is None:
            self._client = ClientAddress.of_socket(self._peer)
        return self._client

    @property
    def scheme(self) -> str:
        """By what the client has come: "wss" if it is encrypted, else "ws".

        It is encrypted up to this server, or up to a trusted proxy that says so (RFC 7239 section
        5.4, `X-Forwarded-Proto`, or the PROXY protocol).
        """
        if self._scheme is not None:
            return self._scheme
        return "wss" if self._tls is not None else "ws"

    @property
    def id(self) -> int | None:
        """The number of the connection, which no other of this process has; the log has it too."""
        return self._id

    @property
    def tls(self) -> TLSInfo | None:
        """TLS up to this server: version, cipher suite, client's certificate; None without."""
        if self._tls is not None and not isinstance(self._tls, TLSInfo):
            self._tls = TLSInfo.of(self._tls)
        return self._tls

    @property
    def server(self) -> Any:
        """The Server that the connection came to; None where that is not one of `serve`.

        `req.server.draining` tells a handler that the server accepts no more connections.
        """
        return self._server

    @property
    def params(self) -> Mapping[str, Any]:
        """The values of the parameters in the path, by name, where a Router has found its route.

        Its handler gets the same ones as keyword arguments.
        """
        return self._found.params if self._found is not None else _NO_PARAMS

    @property
    def route(self) -> str | None:
        """The pattern that the path matches, `/chat/{room}`; None without a Router, or a route."""
        return self._found.pattern if self._found is not None else None

    @property
    def state(self) -> State:
        """What the application has found out, for its handler: a namespace, empty at first.

        `process_request` sets attributes (`req.state.user = "ann"`) that the handler reads.
        """
        if self._state is None:
            self._state = State()
        return self._state

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client has sent, by name (RFC 6265 section 4.2)."""
        return parse_cookies(self.get_all("Cookie"))

    def add_response_header(self, name: str, value: str) -> None:
        """Have the 101 that accepts this request carry one more header.

        For `process_request`. Another answer does not get it.

        Raises:
            InvalidOption: the handshake sets this header itself, or it cannot be sent, or the
                request is answered already.
        """
        self._check_unanswered("add_response_header")
        self._added += check_response_headers([(name, value)])

    def set_cookie(
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
    ) -> None:
        """Have the browser keep a cookie, by a `Set-Cookie` in the 101 (RFC 6265 section 4.1).

        For `process_request`. Another answer does not get it: see `HTTPResponse.with_cookie`.

        Args:
            name: a token. One that begins with `__Host-` or `__Secure-` has a browser insist on
                what the prefix says.
            value: without spaces, quotes, commas, semicolons and backslashes: encode others.
            max_age: in seconds, after which it is forgotten, 0 at once; None: with the browser's
                end.
            path: it is sent only with requests beneath this path; None: that of the request.
            domain: it is sent to the hosts in this domain, too; None: to this host alone.
            secure: whether it is sent over TLS only.
            http_only: whether scripts cannot read it.
            same_site: "Lax", "Strict" or "None": whether requests have it that another site's
                page starts; None for the browser's default.

        Raises:
            InvalidOption: one of them cannot be used, or they contradict each other, or the
                request is answered already.
        """
        self._check_unanswered("set_cookie")
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
        self._added += (("Set-Cookie", line),)

    def choose_subprotocol(self, subprotocol: str | None) -> None:
        """Agree on this subprotocol, or with None on none, in place of what `serve` would choose.

        For `process_request`. `req.subprotocols` has what the client offers.

        Raises:
            InvalidOption: the client does not offer it (RFC 6455 section 4.2.2), or the request
                is answered already.
        """
        self._check_unanswered("choose_subprotocol")
        self._choose(subprotocol)

    def _check_unanswered(self, method: str) -> None:
        if self._answered:
            raise InvalidOption(
                f"req.{method}() is for process_request: the request is answered already", method
            )

    def __bool__(self) -> bool:
        """True: also a request without headers is one."""
        return True

    def __repr__(self) -> str:
        pathname = clip(without_query(self._pathname))
        return f"<Request {self._method} {pathname} {self._redacted()!r}>"

    def _choose(self, subprotocol: str | None) -> None:
        """Agree on this subprotocol, or on none; InvalidOption if the client does not offer it."""
        if subprotocol is not None and subprotocol not in self.subprotocols:
            # Without its name: bearer tokens travel there.
            raise InvalidOption(
                "subprotocol must be one that the client offers, or None (RFC 6455 section 4.2.2)",
                "subprotocol",
            )
        self._subprotocol = subprotocol
        self._chosen = True

    def _bind(
        self,
        *,
        subprotocol: str | None = None,
        socket: Any = None,
        peer: Any = None,
        client: ClientAddress | None = None,
        scheme: str | None = None,
        id: int | None = None,
        ssl_object: Any = None,
        answered: bool | None = None,
        server: Any = None,
        found: Found | None = None,
    ) -> Self:
        """Fill in what was not known when the head was parsed; only before it is handed out."""
        self._subprotocol = subprotocol if subprotocol is not None else self._subprotocol
        self._socket = socket if socket is not None else self._socket
        self._peer = peer if peer is not None else self._peer
        self._answered = answered if answered is not None else self._answered
        self._client = client if client is not None else self._client
        self._scheme = scheme if scheme is not None else self._scheme
        self._id = id if id is not None else self._id
        self._tls = ssl_object if ssl_object is not None else self._tls
        self._server = server if server is not None else self._server
        self._found = found if found is not None else self._found
        return self
