"""Deciding what to answer to a request: the server's rules and the application's hooks, in order.

The rule: whatever may act upon the user's cookies comes after the check of where the request was
sent from, and nothing of the application's is asked about what is not well-formed HTTP.

0. A server that is about to end refuses everybody.
1. An upgrade from a page that `origins` does not let in is refused, as is one for which there is
   no place; with hooks, so are bodies.
2. `process_request`, one after the other; the first answer counts.
3. The router, if there is one. What it has found is known to the hooks before.
4. The rules of an opening handshake: RFC 6455 section 4.2.1.
5. `process_response` sees the answer, whichever of these has given it.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, NamedTuple

from .._http.answers import refusal
from .._http.http_response import SWITCHING_PROTOCOLS, HTTPResponse
from .._http.opening_errors import HandshakeError
from .._http.request_rules import asks_for_upgrade, check_for_hooks
from .hooks import Routing, call_hook, failing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from .._http.request_and_response import Request
    from .._http.server_handshake import ServerHandshake
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe
    from .client import Client
    from .draining import Draining
    from .hooks import Hooks
    from .places import Places

__all__ = ["Decider", "Decision", "decided_too_late", "ended_by_hang_up"]

RETRY_AFTER = 1  # seconds: by then another server listens, or a balancer knows that we do not


class Decision(NamedTuple):
    """What is answered to a request."""

    response: HTTPResponse
    error: HandshakeError | None = None  # why, where it is a refusal of ours
    by: str = ""  # the hook, where one has answered

    @property
    def upgrades(self) -> bool:
        return self.response.status == SWITCHING_PROTOCOLS

    @property
    def failed(self) -> bool:
        """Whether something of ours or the application's has failed, which the error is about."""
        return self.error is not None and self.error.__cause__ is not None


class Decider:
    """Decides for one server.

    Args:
        loop: the event loop.
        hooks: the application's.
        handler: what handles connections; it is asked first if it is a router.
        headers: what every 101 has besides its own.
        draining: whether the server is about to end.
        places: how many connections there may be.
    """

    def __init__(
        self,
        loop: SocketLoop,
        hooks: Hooks,
        handler: object,
        headers: tuple[tuple[str, str], ...],
        draining: Draining,
        places: Places,
    ) -> None:
        self._loop = loop
        self._hooks = hooks
        self._router = handler if isinstance(handler, Routing) else None
        self._headers = headers
        self._accepted = HTTPResponse(SWITCHING_PROTOCOLS, headers)
        self._draining = draining
        self._places = places

    async def decide(
        self, pipe: Pipe, handshake: ServerHandshake, request: Request, client: Client
    ) -> Decision:
        """What to answer; 101 if the connection is to be upgraded.

        Raises ConnectionError if the client has hung up meanwhile.
        """
        during = functools.partial(self._during, pipe, handshake, request)
        try:
            decision = await self._first(handshake, request, client, during)
        except HandshakeError as error:
            decision = _refused(error)
        request._bind(answered=True)
        return await self._last(request, decision, during)

    async def _first(
        self, handshake: ServerHandshake, request: Request, client: Client, during: During
    ) -> Decision:
        self._refuse_where_draining()
        handshake.check_origin()
        if asks_for_upgrade(request):
            self._places.take(client)
        if self._hooks.process_request or self._router is not None:
            check_for_hooks(request)
        if self._router is not None:
            with failing(self._loop, "the router"):  # a converter is the application's code
                self._router._find(request)
        for hook in self._hooks.process_request:
            response = await call_hook(self._loop, "process_request", hook, (request,), during)
            if response is not None:
                return Decision(response, by="process_request")
        if self._router is not None:
            ask = self._router._answer
            response = await call_hook(self._loop, "the router", ask, (request,), during)
            if response is not None:
                return Decision(response, by="the router")
        self._refuse_where_draining()  # a hook may have taken its time
        handshake.check()
        if not request._added:
            return Decision(self._accepted)
        return Decision(HTTPResponse(SWITCHING_PROTOCOLS, (*self._headers, *request._added)))

    def _refuse_where_draining(self) -> None:
        """RFC 9110 section 15.6.4."""
        if self._draining:
            headers = [("Retry-After", str(RETRY_AFTER))]
            raise refusal(503, "the server is about to end: try again", headers)

    async def _last(self, request: Request, decision: Decision, during: During) -> Decision:
        hook = self._hooks.process_response
        if hook is None:
            return decision
        arguments = (request, decision.response)
        try:
            response = await call_hook(self._loop, "process_response", hook, arguments, during)
        except HandshakeError as error:
            return _refused(error, decision)
        if response is None:
            return decision
        if response.status == decision.response.status or decision.failed:
            return decision._replace(response=response)
        return Decision(response, by="process_response")

    def _during(
        self, pipe: Pipe, handshake: ServerHandshake, request: Request
    ) -> AbstractAsyncContextManager[object]:
        """What a coroutine function is awaited in.

        A client that asks for an upgrade and hangs up wants nothing any more. One that asks for
        anything else may have closed its side only, and wait for the answer.
        """
        if asks_for_upgrade(request):
            return ended_by_hang_up(self._loop, pipe, handshake)
        return contextlib.AsyncExitStack()


if TYPE_CHECKING:
    During = Callable[[], AbstractAsyncContextManager[object]]


def decided_too_late(error: TimeoutError, passed: float) -> Decision:
    """What is answered when `timeout` has ended the hooks, after so many seconds of theirs.

    RFC 9110 section 15.6.4: a slow database, say, is for the moment. The cause is logged, with
    where the hook was.
    """
    cause = TimeoutError(f"the hooks took longer than the {passed:.3g} s that were left to them")
    cause.__cause__ = error.__cause__
    refused = refusal(503, "the decision took too long (timeout)")
    refused.__cause__ = cause
    return _refused(refused)


def _refused(error: HandshakeError, before: Decision | None = None) -> Decision:
    """before: what was decided before this error; if something had failed, it is logged, too."""
    assert error.response is not None
    cause = error.__cause__
    if before is not None and before.failed and cause is not None and cause.__context__ is None:
        cause.__context__ = before.error
    return Decision(HTTPResponse._of(error.response), error)


@contextlib.asynccontextmanager
async def ended_by_hang_up(
    loop: SocketLoop, pipe: Pipe, handshake: ServerHandshake
) -> AsyncIterator[None]:
    """Cancel what is in this block if the client hangs up, and raise ConnectionResetError.

    Once it has sent something it is watched no more: what it sends without end is left to TCP.
    """
    gone = False

    async def watch() -> None:
        nonlocal gone
        try:
            data = await pipe.receive()
        except OSError:
            data = b""
        if data:
            handshake.receive(data)
        else:
            gone = True
            loop.end(limit)

    try:
        async with loop.limit(None) as limit:
            watching = loop.spawn(watch)
            try:
                yield
            finally:
                watching.cancel()
                await loop.wait([watching])
    except TimeoutError:
        if gone:
            raise ConnectionResetError("the client hung up before it was answered") from None
        raise
