"""serve: where to listen, what to let in, and who handles it; then a Server.

The rule: what cannot be used is refused at once, before anything is awaited.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .._checks import check_names
from .._http.origins import check_origins
from .._http.reserved_headers import check_response_headers
from .._options.header_rules import check_subprotocols
from .._options.options import Options
from .._options.rules import NAMES_ELSEWHERE_OF_SERVERS
from .._quoting import clip
from .._runtimes.current import running_loop
from .addresses import BACKLOG, Addresses
from .handler import check_handler
from .hooks import Routing, check_hooks
from .limits import MAX_HANDSHAKES, check_limits
from .opening import Terms
from .proxies import check_proxies
from .server import Server
from .tls_source import TLSSource

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from types import TracebackType

    from .._http.client_address import NetworkLike
    from .._http.origins import Origins
    from .._options.tls import TLSOptions
    from .._runtimes.event_loop import SocketLoop
    from .addresses import Sockets
    from .handler import Handler
    from .hooks import ProcessRequest, ProcessResponse
    from .unix_owner import Owner

__all__ = ["Serving", "serve"]


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    sock: Sockets | None = None,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
    mode: int | None = None,
    owner: Owner | None = None,
    tls: ssl.SSLContext | TLSOptions | Mapping[str, Any] | None = None,
    subprotocols: Sequence[str] = (),
    origins: Origins = "same",
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
    process_request: ProcessRequest | Sequence[ProcessRequest] | None = None,
    process_response: ProcessResponse | None = None,
    trusted_proxies: Iterable[NetworkLike] | None = None,
    proxy_protocol: bool | Iterable[NetworkLike] = False,
    max_connections: int | None = None,
    max_connections_per_client: int | None = None,
    max_handshakes: int | None = MAX_HANDSHAKES,
    **options: Any,
) -> Serving:
    """Serve WebSocket connections (RFC 6455 section 4.2).

    Await it for a Server, or enter it with `async with`, which closes the server on the
    way out:

        async def echo(req, read, write):
            async for msg in read:
                await write(msg.payload)

        async with serve(echo, port=8000) as server:
            await server.serve_forever()

    Args:
        handler: a coroutine function, called for each connection with its Request, `read`
            and `write`. When it returns, the connection is closed with 1000; when it
            raises, the error is logged and the connection closed with 1011. How this connection
            itself has ended is not an error of the handler. Or a Router, which chooses one by
            the path (`coro_websocket.router`).
        host: the address to listen on, all addresses of a name; 127.0.0.1 by default,
            "" for every address of the machine. A list: all of these, on the same port.
        port: the port, 0 to 65535; 0, the default, takes a free one (`server.port`).
        path: the path of a unix socket to listen on, instead of host and port. One that a server
            has left behind is replaced; closing the server deletes its own.
        sock: a stream socket that listens already, or a list of them, instead of host and port.
            They are the server's then, which closes them. "systemd": those that systemd has
            passed (socket activation; `systemd_sockets` picks among them).
        backlog: how many connections may wait to be accepted, as in listen(2); 1,024 by default.
            The system may allow less (net.core.somaxconn).
        reuse_port: whether several processes may listen on the same port at once, among whom the
            system then spreads the connections (SO_REUSEPORT). Default False.
        mode: the permissions of the unix socket's file, such as 0o660; by default what the
            umask leaves.
        owner: the owner of the unix socket's file: a user, or a pair of a user and a group, each
            a name or a number, None for what stays. They and `mode` are set before anybody can
            connect.
        tls: an SSLContext, TLSOptions or a mapping with its names (`cert` and `key` are
            needed; with `ca`, clients must show a certificate).
        subprotocols: those that the handler speaks, favourite first (section 1.9).
        origins: which `Origin` is accepted (section 10.2). "same", the default: that of pages from
            the host and port in `Host`, and clients that send none, as all do that are not
            browsers. A list: these values, patterns (`https://*.example.com`: every subdomain, but
            not example.com; `http://localhost:*`: every port) and functions, and None for clients
            that send none. A function: called with the origin, or None, it returns whether to
            accept it. None: any.
        headers: more headers for the answer, as (name, value) pairs or a mapping.
        process_request: a function or coroutine function, or a list of several, called with each
            Request before it is accepted, plain HTTP requests among them. The first that returns
            an HTTPResponse has answered; None goes on. It may keep what it finds in `req.state`,
            and call `req.set_cookie`, `req.add_response_header`, `req.choose_subprotocol`.
        process_response: a function or coroutine function, called with the Request and the
            HTTPResponse that is about to answer it; it returns another one, or None to leave it.
        trusted_proxies: networks of proxies in front of this server, such as ["10.0.0.0/8"], whose
            `Forwarded` (RFC 7239), `X-Forwarded-For` and `X-Forwarded-Proto` say who `req.client`
            is, and `req.scheme`; "unix": every peer of a unix socket. By default no peer's.
        proxy_protocol: True: each connection begins with a header of the PROXY protocol, version 1
            or 2, and is closed if it does not; with `trusted_proxies`, only these may connect.
            A list of networks: the connections from these, and no others. Default False.
        max_connections: how many connections may be open; more are answered 503 with
            `Retry-After`. None, the default: any number.
        max_connections_per_client: how many with the same `req.client.host`, of IPv6 addresses
            with the same first 64 bits; more are answered 429. None, the default: any number.
        max_handshakes: how many clients may be in their opening handshake at once, until their
            request is here; 2,000 by default. More wait to be accepted, and those that have kept
            the server waiting for longest are closed to make room. None: any number.
        **options: in seconds `timeout` (for the opening handshake, TLS included; 10),
            `close_timeout` (10), `ping_interval` (20), `ping_timeout` (20) and `heartbeat`; in
            bytes `max_message_size`, `max_head_size`, `read_high_water` and `write_high_water`;
            `ping_message`, `max_header_lines`, `overflow`, `fragments`, `control`, `compression`
            and `extensions`. Options says what each is; None turns off a limit.

    Raises:
        NoEventLoopError: called where no event loop runs.
        InvalidOption: an option has a value that cannot be used.
        ServeError: when awaited, if the address cannot be listened on; an OSError.
    """
    loop = running_loop("serve()")
    known = (*ADDRESS_AND_HANDSHAKE, *SERVER_OPTIONS)
    check_names(options, known, "option of serve", NAMES_ELSEWHERE_OF_SERVERS)
    where = Addresses.check(
        host, port, path, sock, backlog=backlog, reuse_port=reuse_port, mode=mode, owner=owner
    )
    if isinstance(handler, Routing):
        handler._check()
    else:
        check_handler(handler)
    terms = Terms(
        Options.build(None, host="localhost", **options),
        TLSSource(tls) if tls is not None else None,
        check_subprotocols(subprotocols),
        check_origins(origins),
        check_response_headers(headers),
        check_hooks(process_request, process_response),
        check_proxies(trusted_proxies, proxy_protocol),
        check_limits(max_connections, max_connections_per_client, max_handshakes),
    )
    server = Server(loop, handler, terms)
    return Serving(loop, server, where)


ADDRESS_AND_HANDSHAKE = (
    "host",
    "port",
    "path",
    "sock",
    "backlog",
    "reuse_port",
    "mode",
    "owner",
    "tls",
    "subprotocols",
    "origins",
    "headers",
    "process_request",
    "process_response",
    "trusted_proxies",
    "proxy_protocol",
    "max_connections",
    "max_connections_per_client",
    "max_handshakes",
)
SERVER_OPTIONS = (
    "timeout",
    "close_timeout",
    "heartbeat",
    "ping_interval",
    "ping_timeout",
    "ping_message",
    "max_message_size",
    "max_head_size",
    "max_header_lines",
    "read_high_water",
    "write_high_water",
    "overflow",
    "fragments",
    "control",
    "compression",
    "extensions",
)


class Serving(Coroutine[Any, Any, Server]):
    """What `serve` returns: await it or enter it, once."""

    def __init__(self, loop: SocketLoop, server: Server, where: Addresses) -> None:
        self._loop = loop
        self._server = server
        self._where = where
        self._opening = self._open()
        # The name under which Python warns that it was never awaited.
        self._opening.__qualname__ = "serve"  # type: ignore[attr-defined]

    def __await__(self) -> Generator[Any, Any, Server]:
        return self._opening.__await__()

    def send(self, value: Any, /) -> Any:
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        return self._opening.throw(*error)

    def close(self) -> None:
        self._opening.close()

    async def _open(self) -> Server:
        self._server._start(await self._where.listen(self._loop))
        return self._server

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = ""
            if hasattr(Server, name) and not name.startswith("_"):
                hint = ": a server is there once this is awaited, server = await serve(...)"
            raise AttributeError(f"what serve() returns has no {clip(name)}{hint}")

    async def __aenter__(self) -> Server:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.close()
