"""A running server: where it listens, which clients it has, and how long it runs."""

from __future__ import annotations

import dataclasses
import functools
import socket
from typing import TYPE_CHECKING, Any, Self

from .._errors import InvalidOption
from .._rfc6455.close_codes import close_payload
from .accepting import ACCEPTS_PER_TURN, accept_connections
from .addresses import Listening, url_of
from .admission import Admission
from .backlog import accept_and_close
from .client import Client
from .draining import Draining
from .ending import LEAST_GRACE, Ending, drain_seconds
from .groups import NamedGroups
from .handler import after_failure
from .log import logger
from .opening import Opener
from .signals import Signals, check_signals
from .systemd import systemd_notify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from .._connection.group import Group
    from .._options.options import Seconds
    from .._runtimes.event_loop import Running, SocketLoop
    from .connections import Connections
    from .handler import Handler
    from .opening import Terms

__all__ = ["DRAIN_TIMEOUT", "Server"]

# With `close_timeout` (10 s) behind it, it fits into the 30 s that Kubernetes gives a program.
DRAIN_TIMEOUT = 20.0  # seconds
RESTART_CODE = 1012  # not 1001, which clients take for a clean end, after which many do not return
RESTART_REASON = "service restart"


class Server:
    """A running server, as `serve` gives it.

    `async with server:` closes it on the way out, as `async with serve(...) as server:` does.
    """

    def __init__(self, loop: SocketLoop, handler: Handler, terms: Terms) -> None:
        self._loop = loop
        self._handler = handler
        self._terms = terms
        self._draining = Draining(loop)
        self._admission = Admission(loop, terms.limits, terms.proxies)
        self._opener = Opener(loop, terms, handler, self._draining, self, self._admission)
        self._listening = Listening([])
        self._listeners: list[socket.socket] = []
        self._answers = False  # to those that have connected when listening ends
        self._accepting: list[Running] = []
        self._clients: set[Client] = set()
        self._ending = Ending(loop, self._clients)
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
        return url_of(self._listeners, self._listening.path, tls=tls)

    @property
    def connections(self) -> Connections:
        """The open connections: `len()` counts them, an iteration gives a ServerConnection each.

        It is live: it always shows those of the moment.
        """
        return self._admission.connections

    @property
    def handshakes(self) -> int:
        """How many clients there are besides: in their opening handshake, or being refused."""
        return len(self._clients) - len(self.connections)

    def group(self, name: str) -> Group:
        """The group of connections of this name, a new one if there is none.

        It is forgotten when it is empty and not referred to any more. May be called in any thread.
        """
        return self._groups.get(name)

    @property
    def draining(self) -> Draining:
        """Whether the server has stopped accepting connections: true in a condition, and awaitable.

        Handlers find it in `req.server.draining`. It is set by `drain`, and by `close`.
        """
        return self._draining

    async def serve_forever(
        self, *, signals: bool | Iterable[int] = False, drain_timeout: Seconds = DRAIN_TIMEOUT
    ) -> None:
        """Wait until the server is closed; when cancelled, close it.

        Args:
            signals: True: drain on SIGTERM and SIGINT (and SIGBREAK on Windows), and return when
                that has ended; on a second signal close all at once, and let a third one do what
                it would without us. Also: these signals. What they did before is restored at the
                end. systemd, where it has asked for that, is told READY=1 and STOPPING=1.
                False, the default: signals are not touched.
            drain_timeout: seconds that handlers then have to return, as in `drain`.

        Raises:
            InvalidOption: `signals` in another thread than the main one, or that cannot be
                handled.
            OtherEventLoopError: awaited in an event loop that is not the server's.
        """
        self._loop.check_runs_here("server.serve_forever()")
        numbers = check_signals(signals)
        timeout = drain_seconds("drain_timeout", drain_timeout)
        try:
            if not numbers:
                await self._closed.wait()
                return
            with Signals(self._loop, numbers) as coming:
                systemd_notify("READY=1")
                end = self._loop.spawn(functools.partial(self._end_on_signals, coming, timeout))
                try:
                    await self._closed.wait()
                finally:
                    end.cancel()
        finally:
            await self.close()

    async def _end_on_signals(self, coming: Signals, timeout: float | None) -> None:
        number = await coming.next()
        systemd_notify("STOPPING=1")
        logger.info("draining, as signal %d came", number)
        self._loop.spawn(functools.partial(self.drain, timeout))
        number = await coming.next()
        logger.info("closing at once, as signal %d came", number)
        coming.restore()
        await self._close_at_once()

    async def _close_at_once(self) -> None:
        """Tell the peers, wait for no answer, and cancel the handlers."""
        await self._close(RESTART_CODE, RESTART_REASON, at_once=True)

    async def drain(
        self,
        timeout: Seconds = DRAIN_TIMEOUT,
        *,
        code: int = RESTART_CODE,
        reason: str = RESTART_REASON,
    ) -> None:
        """Accept no more connections, wait for the handlers to return, and close the server.

        Clients that are still in their opening handshake, and those that have connected and were
        not accepted yet, are answered 503 with `Retry-After`. Handlers learn of it by
        `req.server.draining`.

        Args:
            timeout: seconds that the handlers have to return, 20 by default; 0: none; None: as
                long as they take. Then what is still open is closed as `close` does it; but
                those in their opening handshake have a second to be answered in any case.
            code: the close code for those: 1012 (service restart) by default, to which clients
                come back. Give 1001 where the server ends for good.
            reason: at most 123 bytes of UTF-8.

        May be called several times, by handlers too, who are not waited for, and before or while
        `close` is called. If it is cancelled before `timeout` has passed, handlers go on, and
        still no connection is accepted: call it, or `close`, again.

        Raises:
            InvalidMessage: a code or a reason may not be sent; the server goes on as it is.
            InvalidOption: `timeout` cannot be used; so does it then.
            OtherEventLoopError: awaited in an event loop that is not the server's.
        """
        self._loop.check_runs_here("server.drain()")
        close_payload(code, reason)
        within = drain_seconds("timeout", timeout)
        with self._ending.by_caller():
            if self._listeners:
                logger.info("draining %s: %d connections", self.url, len(self._clients))
            begun = self._loop.time()
            await self._stop_listening(answer=True)
            await self._ending.let_finish(within)
            await self._close(code, reason, grace=self._grace_since(begun))

    def _grace_since(self, begun: float) -> float:
        """What is left of the least time that clients have to be answered in a drain."""
        close_timeout = self._terms.options.close_timeout
        grace = LEAST_GRACE if close_timeout is None else min(LEAST_GRACE, close_timeout)
        return max(0.0, begun + grace - self._loop.time())

    async def close(self, code: int = 1001, reason: str = "going away") -> None:
        """Listen no more, close every connection with `code`, and wait for the handlers.

        A handler that has not returned `close_timeout` seconds after its connection was
        closed is cancelled; all are, and not waited for, if this is cancelled itself.

        Raises:
            InvalidMessage: a code or a reason may not be sent; the server goes on as it is.
            OtherEventLoopError: awaited in an event loop that is not the server's.
        """
        self._loop.check_runs_here("server.close()")
        close_payload(code, reason)
        with self._ending.by_caller():
            await self._close(code, reason)

    async def _close(
        self, code: int, reason: str, *, at_once: bool = False, grace: float = 0.0
    ) -> None:
        try:
            await self._stop_listening()
            within = self._terms.options.close_timeout
            await self._ending.close_others(code, reason, within, at_once=at_once, grace=grace)
        except BaseException as error:
            if self._loop.is_cancellation(error):
                self._ending.cancel_others()
            raise
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until `close` has finished.

        Raises OtherEventLoopError in an event loop that is not the server's.
        """
        self._loop.check_runs_here("server.wait_closed()")
        await self._closed.wait()

    def reload_tls(self) -> None:
        """Read the certificates again from their files: new connections use them.

        Connections that are open go on with those that they began with. May be called in every
        thread. It reads files, and takes milliseconds.

        Raises:
            InvalidOption: a file cannot be used, and the server goes on with what it has; or the
                server was not given paths, and the error says what to do instead.
        """
        if self._terms.tls is None:
            raise InvalidOption("there is no TLS to reload: the server was started without", "tls")
        self._terms.tls.reload()
        logger.info("the certificates of %s were read again", self.url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Listening

    def _start(self, listening: Listening) -> None:
        self._listening = listening
        self._listeners = list(listening.sockets)
        most = max(1, ACCEPTS_PER_TURN // len(self._listeners))
        for listener in self._listeners:
            listener.setblocking(False)
            accept = functools.partial(
                accept_connections,
                self._loop,
                listener,
                most,
                self._begin,
                self._admission.unfinished,
                self._leave,
                self._turn_away,
            )
            self._accepting.append(self._loop.spawn(accept))
        logger.info("serving on %s", self.url)

    def _accepts_alone(self) -> None:
        """No other process accepts from our sockets any more: who waits there is ours."""
        self._listening = dataclasses.replace(self._listening, shared=False)

    async def _stop_listening(self, *, answer: bool = False) -> None:
        """answer: to those that wait to be accepted, unless another process may accept them."""
        self._draining._set()
        listeners, self._listeners = self._listeners, []
        file = self._listening.file
        if file is not None and listeners and listeners[0].fileno() >= 0:
            file.delete()
        self._answers = answer
        accepting, self._accepting = self._accepting, []
        for running in accepting:
            running.cancel()
        await self._loop.wait(accepting)
        await self._loop.sleep(0)  # a client that is just being accepted has its task by then
        for listener in listeners:
            if listener.fileno() >= 0:  # its task was cancelled before it began
                self._leave(listener)

    def _leave(self, listener: socket.socket) -> None:
        if self._answers and not self._listening.shared:
            accept_and_close(listener, self._listening.backlog, self._begin)
        else:
            listener.close()

    def _turn_away(self, accepted: socket.socket, address: Any) -> None:
        if self._answers:
            self._begin(accepted, address)
        else:
            accepted.close()

    # Clients

    def _begin(self, accepted: socket.socket, address: Any) -> None:
        client = Client(accepted, self._clients, address, self._loop.time())
        self._admission.accepted(client)
        client.running = self._loop.spawn(functools.partial(self._serve, client), client)

    async def _serve(self, client: Client) -> None:
        """One client, from its first byte to its last."""
        opened = await self._opener.open(client.begin(self._loop.current_task()), client)
        if opened is None:
            return
        request, read, write, engine = opened
        self._admission.opened(client, request, read, write)
        # What follows takes as long as the connection: nothing is kept, and no coroutine is
        # awaited, that it can do without.
        del opened
        try:
            await self._handler(request, read, write)
        except BaseException as error:
            if await after_failure(self._loop, error, engine, client, request, write):
                raise
        else:
            await write.close()
