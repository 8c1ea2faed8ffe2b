"""A running server: where it listens, which clients it has, and how long it runs."""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING, Any

from .._options.url import URL, default_port
from .._rfc6455.close_codes import close_payload
from .._runtimes.lookup import host_with_zone
from .accepting import ACCEPTS_PER_TURN, accept_connections
from .client import Client
from .closing import cancel_others, close_others
from .groups import NamedGroups
from .handler import run_handler
from .log import logger
from .opening import Opener

if TYPE_CHECKING:
    from .._connection.group import Group
    from .._runtimes.event_loop import Running, SocketLoop
    from .handler import Handler
    from .listening import UnixFile
    from .opening import Terms

__all__ = ["Server"]


class Server:
    """A running server, as `serve` gives it."""

    def __init__(self, loop: SocketLoop, handler: Handler, terms: Terms) -> None:
        self._loop = loop
        self._handler = handler
        self._terms = terms
        self._opener = Opener(loop, terms)
        self._listeners: list[socket.socket] = []
        self._path: str | None = None
        self._file: UnixFile | None = None
        self._accepting: list[Running] = []
        self._clients: set[Client] = set()
        self._closed = loop.event()
        self._groups = NamedGroups()

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
        tls = self._terms.tls is not None
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
        return len(self._clients)

    def group(self, name: str) -> Group:
        """The group of connections of this name, a new one if there is none.

        It is forgotten when it is empty and nobody holds it. May be called in any thread.
        """
        return self._groups.get(name)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it."""
        try:
            await self._closed.wait()
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
            await self._stop_listening()
            within = self._terms.options.close_timeout
            await close_others(self._loop, self._clients, code, reason, within)
        except BaseException as error:
            if self._loop.is_cancellation(error):
                cancel_others(self._loop, self._clients)
            raise
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until `close` has finished."""
        await self._closed.wait()

    # Listening

    def _start(
        self, listeners: list[socket.socket], path: str | None, file: UnixFile | None
    ) -> None:
        self._listeners = listeners
        self._path = path
        self._file = file
        most = max(1, ACCEPTS_PER_TURN // len(listeners))
        for listener in listeners:
            listener.setblocking(False)
            accept = functools.partial(accept_connections, self._loop, listener, most, self._begin)
            self._accepting.append(self._loop.spawn(accept))
        logger.info("serving on %s", self.url)

    async def _stop_listening(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._listeners[0].fileno() >= 0:
            file.delete()
        accepting, self._accepting = self._accepting, []
        for running in accepting:
            running.cancel()
        await self._loop.wait(accepting)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    # Clients

    def _begin(self, accepted: socket.socket, address: Any) -> None:
        client = Client(accepted, self._clients)
        serve = functools.partial(self._serve, client, address)
        client.running = self._loop.spawn(serve, client.ended)

    async def _serve(self, client: Client, address: Any) -> None:
        """One client, from its first byte to its last."""
        opened = await self._opener.open(client.begin(self._loop.current_task()), address)
        if opened is not None:
            client.write = opened.write
            await run_handler(self._loop, self._handler, opened)
