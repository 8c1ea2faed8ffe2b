"""serve: a WebSocket server on asyncio whose handlers get `(req, read, write)`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._checks import check_int, check_names, wrong_type
from .._connection.begin import begin_connection
from .._connection.leaving import close_on_exit
from .._connection.log import address_in_words, log_end
from .._connection.read_write import Read, Write
from .._errors import ConnectionClosedError, InvalidOption
from .._http.opening_errors import HandshakeError
from .._http.server_handshake import ServerHandshake, check_origins, check_response_headers
from .._options.header_rules import check_subprotocols
from .._options.options import Options
from .._options.rules import NAMES_ELSEWHERE_OF_SERVERS, stream_socket
from .._options.tls import server_context
from .._options.url import URL, default_port, without_query
from .._quoting import clip
from .._rfc6455.close_codes import close_payload
from .._runtimes.lookup import host_with_zone
from .._runtimes.loops import current_loop, running_loop
from .._runtimes.throttle import Throttle
from .._streams.opening_pipes import open_pipe
from .._streams.user_socket import ConnectionSocket
from .accepting import ACCEPTS_PER_TURN, accept_connections
from .handler import check_handler
from .listening import check_listening, listen_tcp, listen_unix

if TYPE_CHECKING:
    import os
    import ssl
    from types import TracebackType

    from .._http.request_and_response import Request
    from .._http.server_handshake import Origins
    from .._options.tls import TLSOptions
    from .._rfc6455.engine import Engine
    from .._streams.opening_pipes import Pipe
    from .listening import UnixFile

__all__ = ["Server", "serve"]

logger = logging.getLogger("coro_websocket.server")

Handler = Callable[["Request", Read, Write], Awaitable[object]]

TLS_STEPS_PER_TURN = 4  # of TLS handshakes; a signature takes milliseconds
LINGER = 2.0  # seconds that a client which was refused has to read the answer and hang up


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
            browsers. A list: these values, None among them for clients that send none. None: any.
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
    running_loop("serve()")
    known = (*ADDRESS_AND_HANDSHAKE, *SERVER_OPTIONS)
    check_names(options, known, "option of serve", NAMES_ELSEWHERE_OF_SERVERS)
    path = _check_address(host, port, path, sock)
    check_handler(handler)
    server = Server(
        handler,
        Options.build(None, host="localhost", **options),
        server_context(tls) if tls is not None else None,
        check_subprotocols(subprotocols),
        check_origins(origins),
        check_response_headers(headers),
    )
    return Serving(server, "127.0.0.1" if host is None else host, port, path, sock)


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
        server: Server,
        host: str,
        port: int,
        path: str | None,
        sock: socket.socket | None,
    ) -> None:
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
            listener, file = await listen_unix(path)
            listeners = [listener]
        else:
            listeners = await listen_tcp(host, port)
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


class Server:
    """A running server, as `serve` gives it."""

    def __init__(
        self,
        handler: Handler,
        options: Options,
        tls: ssl.SSLContext | None,
        subprotocols: tuple[str, ...],
        origins: Origins,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        self._handler = handler
        self._options = options
        self._tls = tls
        self._subprotocols = subprotocols
        self._origins = origins
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._tls_throttle = Throttle(running_loop("serve()"), TLS_STEPS_PER_TURN)
        self._listeners: list[socket.socket] = []
        self._path: str | None = None
        self._file: UnixFile | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: dict[asyncio.Task[None], Write | None] = {}
        self._accepted: dict[asyncio.Task[None], socket.socket] = {}  # not begun yet
        self._closed = self._loop.create_future()

    # What the user sees

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none once the server is closed."""
        return tuple(self._listeners)

    @property
    def port(self) -> int:
        """The TCP port that is listened on; 0 for a unix socket or once closed."""
        for listener in self._listeners:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                return int(listener.getsockname()[1])
        return 0

    @property
    def url(self) -> str:
        """A URL under which a client on this machine reaches the server."""
        tls = self._tls is not None
        if self._path is not None:
            return str(URL("localhost", default_port(tls), tls, "/", path=self._path))
        for listener in self._listeners:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                address = listener.getsockname()
                host, port = host_with_zone(address), address[1]
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                return str(URL(host, port, tls, "/"))
        return ""

    @property
    def connections(self) -> int:
        """How many connections there are, those in their opening handshake included."""
        return len(self._connections)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it."""
        try:
            await asyncio.shield(self._closed)
        finally:
            await self.close()

    async def close(self, code: int = 1001, reason: str = "going away") -> None:
        """Listen no more, close every connection with `code`, and wait for the handlers.

        A handler that has not returned `close_timeout` seconds after its connection was
        closed is cancelled; all are, and not waited for, if this is cancelled itself.

        Raises InvalidMessage, and leaves the server as it is, for a code or a reason that may not
        be sent.
        """
        close_payload(code, reason)
        try:
            await self._close(code, reason)
        except asyncio.CancelledError:
            for task in self._connections:
                if task is not asyncio.current_task():
                    task.cancel()
            raise
        finally:
            if not self._closed.done():
                self._closed.set_result(None)

    async def _close(self, code: int, reason: str) -> None:
        file, self._file = self._file, None
        if file is not None and self._listeners[0].fileno() >= 0:
            file.delete()
        accepting, self._accepting = self._accepting, []
        for task in accepting:
            task.cancel()
        if accepting:
            await asyncio.wait(accepting)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        current = asyncio.current_task()
        handlers = [task for task in self._connections if task is not current]
        closings = []
        for task in handlers:
            write = self._connections[task]
            if write is None:  # still in its opening handshake
                task.cancel()
            else:
                closings.append(asyncio.ensure_future(write.close(code, reason)))
        if closings:
            await asyncio.wait(closings)
        if handlers:
            _, late = await asyncio.wait(handlers, timeout=self._options.close_timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def wait_closed(self) -> None:
        """Wait until `close` has finished."""
        await asyncio.shield(self._closed)

    # Accepting

    def _start(
        self, listeners: list[socket.socket], path: str | None, file: UnixFile | None
    ) -> None:
        self._listeners = listeners
        self._path = path
        self._file = file
        most = max(1, ACCEPTS_PER_TURN // len(listeners))
        for listener in listeners:
            listener.setblocking(False)
            accepting = accept_connections(listener, most, self._begin)
            self._accepting.append(self._loop.create_task(accepting))
        logger.info("serving on %s", self.url)

    def _begin(self, accepted: socket.socket, peer: Any) -> None:
        task = self._loop.create_task(self._serve(accepted, peer))
        if task not in self._connections:  # an eager task has begun already
            self._connections[task] = None
            self._accepted[task] = accepted
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if task in self._accepted:  # cancelled before it began
            self._accepted.pop(task).close()

    async def _serve(self, accepted: socket.socket, address: Any) -> None:
        """One connection, from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = None
        self._accepted.pop(task, None)
        opened = await self._open(accepted, address)
        if opened is None:
            return
        self._connections[task] = opened[2]
        await self._handle(*opened)

    async def _open(
        self, accepted: socket.socket, address: Any
    ) -> tuple[Request, Read, Write, Engine] | None:
        """The opening handshake; nothing that only it has needed is kept."""
        options = self._options
        sock = ConnectionSocket.taking_over(accepted)
        handshake = self._new_handshake()
        pipe: Pipe | None = None
        try:
            async with asyncio.timeout(options.timeout) as deadline:
                pipe = await open_pipe(
                    running_loop("serve()"),
                    sock,
                    tls=self._tls,
                    server_side=True,
                    close_timeout=options.close_timeout,
                    throttle=self._tls_throttle,
                )
                request = None
                while request is None:
                    request = handshake.receive(await pipe.receive())
                await pipe.send(handshake.accept(self._headers))
        except HandshakeError as error:
            assert pipe is not None
            await self._refuse(pipe, handshake, error, address)
            return None
        except BaseException as error:
            if pipe is not None:
                pipe.close()
            if not isinstance(error, Exception):
                raise
            if deadline.expired():
                error = TimeoutError(f"it took longer than {options.timeout:g} s (timeout)")
            _log_failure(error, address)
            return None
        request._bind(socket=pipe.socket, peer=address or None, tls=self._tls is not None)
        request._bind(ssl_object=pipe.ssl_object)
        connection, read, write = begin_connection(
            pipe,
            options,
            client=False,
            extensions=handshake.extensions,
            leftover=handshake.leftover,
        )
        which = _which(address, request.pathname)
        logger.info("%s opened with 101", which)
        log_end(logger, which, connection, pipe.socket)
        return request, read, write, connection.engine

    def _new_handshake(self) -> ServerHandshake:
        return ServerHandshake(
            subprotocols=self._subprotocols,
            origins=self._origins,
            extensions=self._options.extension_factories,
            max_head_size=self._options.max_head_size,
            max_header_lines=self._options.max_header_lines,
        )

    async def _refuse(
        self, pipe: Pipe, handshake: ServerHandshake, error: HandshakeError, address: Any
    ) -> None:
        """Send the answer, and let the client read it before the connection goes."""
        if error.response is None:
            _log_failure(error, address)
        else:
            code = error.response.code
            logger.log(
                logging.INFO if error.__cause__ is None else logging.ERROR,
                "%s refused with %d: %s",
                _which(address, handshake.pathname),
                code,
                str(error).split(f"refused with {code}: ", 1)[-1],
                exc_info=error if error.__cause__ is not None else None,
            )
        limits = (LINGER, self._options.timeout, self._options.close_timeout)
        try:
            async with asyncio.timeout(min(limit for limit in limits if limit is not None)):
                if answer := handshake.refusal():
                    await pipe.send(answer)
                    await pipe.finish()
        except OSError:
            pass  # the client has gone, or does not hang up
        finally:
            pipe.close()

    async def _handle(self, request: Request, read: Read, write: Write, engine: Engine) -> None:
        try:
            await self._handler(request, read, write)
        except (Exception, asyncio.CancelledError) as error:
            cancelled = not current_loop().is_failure(error)
            # The handler need not care how the peer left.
            if not cancelled and not _tells_the_end_of(engine, error):
                logger.exception(
                    "the handler failed for %s", _which(request.peer, request.pathname)
                )
            await close_on_exit(write, error)
            if cancelled:
                raise
        else:
            await write.close()


def _tells_the_end_of(engine: Engine, error: BaseException) -> bool:
    """Whether this connection has raised the error: another one's end is the handler's failure."""
    if isinstance(error, BaseExceptionGroup):
        return all(_tells_the_end_of(engine, each) for each in error.exceptions)
    return isinstance(error, ConnectionClosedError) and error._engine == id(engine)


def _log_failure(error: Exception, address: Any) -> None:
    known = isinstance(error, OSError)  # lost, late, or no TLS
    logger.log(
        logging.INFO if known else logging.ERROR,
        "the connection from %s failed in its opening handshake: %s",
        address_in_words(address),
        error,
        exc_info=None if known else error,
    )


def _which(address: Any, pathname: str | None) -> str:
    which = f"the connection from {address_in_words(address)}"
    if pathname is None or not pathname.startswith("/"):
        return which  # what is not a path may have credentials: CONNECT's target, say
    return f"{which} to {clip(without_query(pathname))}"
