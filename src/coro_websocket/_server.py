"""serve: a WebSocket server on asyncio whose handlers get `(req, read, write)`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._asyncio._pipes import open_pipe
from ._asyncio._read_write import Read, Write
from ._asyncio._socket import ConnectionSocket
from ._asyncio._waiting import running_loop
from ._engine import Engine
from ._errors import (
    ConnectionClosedError,
    HandshakeError,
    InvalidOption,
    InvalidOptionType,
    ServeError,
)
from ._handler import check_handler
from ._handshake import check_subprotocols
from ._handshake_server import ServerHandshake, check_origins, check_response_headers
from ._headers import clip
from ._option_rules import NAMES_ELSEWHERE_OF_SERVERS, stream_socket
from ._options import Options
from ._tls import check_names, server_context
from ._url import URL, default_port, without_query

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from ._asyncio._pipes import Pipe
    from ._response import Request
    from ._tls import TLSOptions

__all__ = ["Server", "serve"]

logger = logging.getLogger("coro_websocket.server")

Handler = Callable[["Request", Read, Write], Awaitable[object]]

BACKLOG = 1024
FREE_PORT_TRIES = 20  # for a port that every address of a name has free
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | TLSOptions | Mapping[str, Any] | None = None,
    subprotocols: Sequence[str] = (),
    origins: Sequence[str | None] | None = None,
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
            raises, the error is logged and the connection closed with 1011.
        host: the address to listen on, all addresses of a name; 127.0.0.1 by default,
            "" for every address of the machine.
        port: the port, 0 to 65535; 0, the default, takes a free one (`server.port`).
        path: the path of a unix socket to listen on, instead of host and port.
        sock: a stream socket that listens already, instead of host and port. It is the server's
            then, which closes it.
        tls: an SSLContext, TLSOptions or a mapping with its names (`cert` and `key` are
            needed; with `ca`, clients must show a certificate).
        subprotocols: those that the handler speaks, favourite first (section 1.9).
        origins: the values of `Origin` that are let in, None among them for clients that
            send none; by default every origin is (section 10.2).
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
    if sum(given is not None for given in (host, path, sock)) > 1:
        raise InvalidOption("give one of host, path and sock", "host")
    if host is not None and not isinstance(host, str):
        raise InvalidOptionType(f"host is a str, not {type(host).__name__}", "host")
    if host and "\0" in host:  # a resolver would take what comes before it
        raise InvalidOption("host has a NUL inside", "host")
    path = Options(path=path).path
    if sock is not None:
        _check_listening(stream_socket("sock", sock))
    if isinstance(port, bool) or not isinstance(port, int):
        raise InvalidOptionType(f"port is an int, not {type(port).__name__}", "port")
    if not 0 <= port <= 65535:
        raise InvalidOption(f"port is 0 to 65535, not {port}", "port")
    if port and (path is not None or sock is not None):
        raise InvalidOption("port is for TCP: leave it out with path or sock", "port")
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
        if sock is not None:
            listeners = [sock]
        elif path is not None:
            listeners = [_listen_unix(path)]
        else:
            listeners = await _listen_tcp(host, port)
        self._server._start(listeners, path)
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
        origins: tuple[str | None, ...] | None,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        self._handler = handler
        self._options = options
        self._tls = tls
        self._subprotocols = subprotocols
        self._origins = origins
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._path: str | None = None
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
                host, port = listener.getsockname()[:2]
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
        """
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
        accepting, self._accepting = self._accepting, []
        for task in accepting:
            task.cancel()
        if accepting:
            await asyncio.wait(accepting)
        for listener in self._listeners:
            listener.close()
        if self._path is not None and self._listeners:
            with contextlib.suppress(OSError, ValueError):  # an abstract name is no file
                os.unlink(self._path)
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

    def _start(self, listeners: list[socket.socket], path: str | None) -> None:
        self._listeners = listeners
        self._path = path
        for listener in listeners:
            listener.setblocking(False)
            self._accepting.append(self._loop.create_task(self._accept(listener)))
        logger.info("serving on %s", self.url)

    async def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                await self._accept_one(listener)
        except OSError:
            if listener.fileno() >= 0:
                raise
        finally:
            listener.close()  # also where the loop ends and nobody has closed the server

    async def _accept_one(self, listener: socket.socket) -> None:
        try:
            accepted = await self._next_client(listener)
        except OSError as error:
            if listener.fileno() < 0:
                raise
            if error.errno in OUT_OF_DESCRIPTORS:
                logger.error("cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(1)
            return  # else the client has gone before it was accepted
        task = self._loop.create_task(self._serve(accepted))
        if task not in self._connections:  # an eager task has begun already
            self._connections[task] = None
            self._accepted[task] = accepted
        task.add_done_callback(self._ended)

    async def _next_client(self, listener: socket.socket) -> socket.socket:
        """Accept; a client that has been accepted is not dropped by a cancellation."""
        descriptor = listener.fileno()
        while True:
            with contextlib.suppress(BlockingIOError):
                return listener.accept()[0]
            readable = self._loop.create_future()
            try:
                self._loop.add_reader(descriptor, _wake, readable)
            except NotImplementedError:
                return (await self._loop.sock_accept(listener))[0]
            try:
                await readable
            finally:
                self._loop.remove_reader(descriptor)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if task in self._accepted:  # cancelled before it began
            self._accepted.pop(task).close()

    async def _serve(self, accepted: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = None
        self._accepted.pop(task, None)
        opened = await self._open(accepted)
        if opened is None:
            return
        self._connections[task] = opened[2]
        await self._handle(*opened)

    async def _open(self, accepted: socket.socket) -> tuple[Request, Read, Write] | None:
        """The opening handshake; nothing that only it has needed is kept."""
        options = self._options
        sock = ConnectionSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        try:
            async with asyncio.timeout(options.timeout):
                opened = await self._shake_hands(sock)
        except TimeoutError:
            logger.info("an opening handshake took longer than %s s (timeout)", options.timeout)
            return None
        except OSError as error:  # lost, or no TLS
            logger.info("opening handshake failed: %s", error)
            return None
        if opened is None:
            return None
        request, pipe, handshake = opened
        engine = Engine(
            False, max_message_size=options.max_message_size, extensions=handshake.extensions
        )
        connection = pipe.become_stream(engine, options, handshake.leftover)
        read = Read(connection, fragments=options.fragments, control=options.control)
        return request, read, Write(connection)

    def _new_handshake(self) -> ServerHandshake:
        return ServerHandshake(
            subprotocols=self._subprotocols,
            origins=self._origins,
            extensions=self._options.extension_factories,
            max_head_size=self._options.max_head_size,
            max_header_lines=self._options.max_header_lines,
        )

    async def _shake_hands(
        self, sock: ConnectionSocket
    ) -> tuple[Request, Pipe, ServerHandshake] | None:
        pipe = await open_pipe(
            self._loop,
            sock,
            tls=self._tls,
            server_side=True,
            close_timeout=self._options.close_timeout,
        )
        try:
            handshake = self._new_handshake()
            request = None
            while request is None:
                request = handshake.receive(await pipe.receive())
            await pipe.send(handshake.accept(self._headers))
        except HandshakeError as error:
            if error.__cause__ is None:
                logger.info("refused an opening handshake: %s", error)
            else:
                logger.error("refused an opening handshake: %s", error, exc_info=error)
            await self._refuse(pipe, handshake.refusal())
            return None
        except BaseException:
            pipe.close()
            raise
        request._bind(socket=pipe.socket, peer=_peer(sock), tls=self._tls is not None)
        return request, pipe, handshake

    async def _refuse(self, pipe: Pipe, answer: bytes) -> None:
        """Send the answer, and let the client read it before the connection goes."""
        try:
            if answer:
                await pipe.send(answer)
                await pipe.finish()
        finally:
            pipe.close()

    async def _handle(self, request: Request, read: Read, write: Write) -> None:
        try:
            await self._handler(request, read, write)
        except asyncio.CancelledError:
            await write.close(1001, "going away")
            raise
        except ConnectionClosedError as error:
            # The handler need not care how the peer left.
            logger.info("connection of %s ended: %s", request.peer, error)
            await write.close(1011, "internal error")
        except Exception:
            logger.exception("the handler failed for %s", without_query(request.pathname))
            await write.close(1011, "internal error")
        else:
            await write.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _peer(sock: socket.socket) -> Any:
    try:
        return sock.getpeername() or None
    except OSError:
        return None


def _check_listening(sock: socket.socket) -> None:
    option = getattr(socket, "SO_ACCEPTCONN", None)
    if option is None or sock.getsockopt(socket.SOL_SOCKET, option):
        return
    raise InvalidOption("sock must listen already: bind it, and call its listen()", "sock")


async def _listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`, on the same port."""
    loop = asyncio.get_running_loop()
    tries = 1 if port else FREE_PORT_TRIES
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        while True:
            tries -= 1
            try:
                return _listen_on_all(list(dict.fromkeys(found)), port)
            except OSError as error:
                # A port that one address has free may be another's in use.
                if error.errno != errno.EADDRINUSE or not tries:
                    raise
    except ValueError as error:  # UnicodeError too: no name, and not for any resolver
        raise InvalidOption(f"host: {clip(host)} is no host name: {error}", "host") from None
    except OSError as error:
        where = clip(host) if host else "every address"
        where += f", port {port}" if port else ""
        raise _cannot_listen(where, error) from error


def _listen_on_all(addresses: Sequence[Any], port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in addresses:
            listener = socket.socket(family, kind, proto)
            listeners.append(listener)
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            listener.listen(BACKLOG)
            port = listener.getsockname()[1]
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_unix(path: str) -> socket.socket:
    """Listen on a unix socket; one that a server has left behind is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidOption("this platform has no unix sockets", "path")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError, ValueError):  # an abstract name is no file
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise _cannot_listen(f"the unix socket {clip(path)}", error) from error
        raise
    return listener


def _cannot_listen(where: str, error: OSError) -> ServeError:
    return ServeError(f"cannot listen on {where}: {error.strerror or error}", error.errno)
