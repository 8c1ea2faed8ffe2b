"""serve: where to listen, what to let in, and who handles it; then a Server.

The rule: what cannot be used is refused at once, before anything is awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._checks import check_int, check_names, wrong_type
from .._errors import InvalidOption
from .._http.answers import check_response_headers
from .._http.origins import check_origins
from .._options.header_rules import check_subprotocols
from .._options.options import Options
from .._options.rules import NAMES_ELSEWHERE_OF_SERVERS, stream_socket
from .._options.tls import server_context
from .._runtimes.current import running_loop
from .handler import check_handler
from .listening import check_listening, listen_tcp, listen_unix
from .opening import Terms
from .server import Server

if TYPE_CHECKING:
    import os
    import socket
    import ssl
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from types import TracebackType

    from .._http.origins import Origins
    from .._options.tls import TLSOptions
    from .._runtimes.event_loop import SocketLoop
    from .handler import Handler

__all__ = ["Serving", "serve"]


def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | TLSOptions | Mapping[str, Any] | None = None,
    subprotocols: Sequence[str] = (),
    origins: Origins = "same",
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
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
            itself has ended is not an error of the handler.
        host: the address to listen on, all addresses of a name; 127.0.0.1 by default,
            "" for every address of the machine.
        port: the port, 0 to 65535; 0, the default, takes a free one (`server.port`).
        path: the path of a unix socket to listen on, instead of host and port. One that a server
            has left behind is replaced; closing the server deletes its own.
        sock: a stream socket that listens already, instead of host and port. It is the server's
            then, which closes it.
        tls: an SSLContext, TLSOptions or a mapping with its names (`cert` and `key` are
            needed; with `ca`, clients must show a certificate).
        subprotocols: those that the handler speaks, favourite first (section 1.9).
        origins: which `Origin` is let in (section 10.2). "same", the default: that of pages from
            the host and port in `Host`, and clients that send none, as all do that are not
            browsers. A list: these values, patterns (`https://*.example.com`: every subdomain, but
            not example.com; `http://localhost:*`: every port) and functions, and None for clients
            that send none. A function: called with the origin, or None, it returns whether to let
            it in. None: any.
        headers: more headers for the answer, as (name, value) pairs or a mapping.
        **options: `timeout` (for the opening handshake, TLS included), `close_timeout`,
            `heartbeat`, `ping_interval`, `ping_timeout`, `ping_message`, `max_message_size`,
            `max_head_size`, `max_header_lines`, `read_high_water`, `write_high_water`, `overflow`,
            `fragments`, `control`, `compression` and `extensions`, as in Options.

    Raises:
        NoEventLoopError: called where no event loop runs.
        InvalidOption: an option has a value that cannot be used.
        ServeError: when awaited, if the address cannot be listened on; an OSError.
    """
    loop = running_loop("serve()")
    known = (*ADDRESS_AND_HANDSHAKE, *SERVER_OPTIONS)
    check_names(options, known, "option of serve", NAMES_ELSEWHERE_OF_SERVERS)
    path = _check_address(host, port, path, sock)
    check_handler(handler)
    terms = Terms(
        Options.build(None, host="localhost", **options),
        server_context(tls) if tls is not None else None,
        check_subprotocols(subprotocols),
        check_origins(origins),
        check_response_headers(headers),
    )
    server = Server(loop, handler, terms)
    return Serving(loop, server, "127.0.0.1" if host is None else host, port, path, sock)


def _check_address(
    host: str | None,
    port: int,
    path: str | os.PathLike[str] | None,
    sock: socket.socket | None,
) -> str | None:
    """Check where to listen; return the path as `str`."""
    if sum(given is not None for given in (host, path, sock)) > 1:
        raise InvalidOption("give one of host, path and sock", "host")
    if host is not None and not isinstance(host, str):
        raise wrong_type("host", "str", host)
    if host and "\0" in host:  # a resolver would take what comes before it
        raise InvalidOption("host contains a NUL", "host")
    if host and "@" in host:  # what stands before it may be a password
        raise InvalidOption("host contains an '@': expected only a name or an address", "host")
    path = Options(path=path).path
    if sock is not None:
        check_listening(stream_socket("sock", sock))
    check_int("port", port, 0, 65535)
    if port and (path is not None or sock is not None):
        raise InvalidOption("port is for TCP: leave it out with path or sock", "port")
    return path


ADDRESS_AND_HANDSHAKE = (
    "host",
    "port",
    "path",
    "sock",
    "tls",
    "subprotocols",
    "origins",
    "headers",
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


class Serving:
    """What `serve` returns: await it or enter it."""

    def __init__(
        self,
        loop: SocketLoop,
        server: Server,
        host: str,
        port: int,
        path: str | None,
        sock: socket.socket | None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._where = (host, port, path, sock)

    def __await__(self) -> Generator[Any, Any, Server]:
        return self._open().__await__()

    async def _open(self) -> Server:
        host, port, path, sock = self._where
        file = None
        if sock is not None:
            listeners = [sock]
        elif path is not None:
            listener, file = await listen_unix(self._loop, path)
            listeners = [listener]
        else:
            listeners = await listen_tcp(self._loop, host, port)
        self._server._start(listeners, path, file)
        return self._server

    async def __aenter__(self) -> Server:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.close()
