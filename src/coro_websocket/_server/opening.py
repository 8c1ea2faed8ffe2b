"""Opening the connection of a client: TLS, its request, and the 101 that accepts it.

The rule: this has one deadline, `timeout`, for all of it. Whatever goes wrong is logged and costs
nobody but this client.

RFC 6455 section 4.2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

from .._connection.begin import begin_connection
from .._connection.log import log_end
from .._http.http_response import HTTPResponse
from .._http.opening_errors import HandshakeError
from .._http.server_handshake import ServerHandshake
from .._runtimes.throttle import Throttle
from .._streams.opening_pipes import open_pipe
from .._streams.user_socket import ConnectionSocket
from .deciding import Decider, decided_too_late
from .log import in_words, log_decision, log_failure, log_malformed, logger
from .refusing import send_refusal

if TYPE_CHECKING:
    import socket

    from .._connection.read_write import Read, Write
    from .._http.origins import CheckedOrigins
    from .._http.request_and_response import Request
    from .._options.options import Options
    from .._rfc6455.engine import Engine
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe
    from .admission import Admission
    from .client import Client
    from .draining import Draining
    from .hooks import Hooks
    from .limits import Limits
    from .proxies import Proxies
    from .tls_source import TLSSource

__all__ = ["Opened", "Opener", "Terms"]

TLS_STEPS_PER_TURN = 4  # of TLS handshakes; a signature takes milliseconds


@dataclass(frozen=True)
class Terms:
    """What a server opens its connections with."""

    options: Options
    tls: TLSSource | None
    subprotocols: tuple[str, ...]
    origins: CheckedOrigins | None
    headers: tuple[tuple[str, str], ...]  # of the 101
    hooks: Hooks
    proxies: Proxies
    limits: Limits


class Opened(NamedTuple):
    """An open connection, as its handler gets it."""

    request: Request
    read: Read
    write: Write
    engine: Engine


class Opener:
    """Opens the connections of one server."""

    def __init__(
        self,
        loop: SocketLoop,
        terms: Terms,
        handler: object,
        draining: Draining,
        server: object,
        admission: Admission,
    ) -> None:
        self._loop = loop
        self._terms = terms
        self._decider = Decider(
            loop, terms.hooks, handler, terms.headers, draining, admission.places
        )
        self._server = server  # for `req.server`
        self._admission = admission
        self._throttle = Throttle(loop, TLS_STEPS_PER_TURN)

    async def open(self, accepted: socket.socket, client: Client) -> Opened | None:
        """The connection of a client that was accepted; None if it did not come to one."""
        options = self._terms.options
        sock = ConnectionSocket.taking_over(accepted)
        handshake = self._new_handshake()
        pipe: Pipe | None = None
        asked_at: float | None = None  # while the server decides
        try:
            async with self._loop.limit(options.timeout) as limit:
                await self._admission.receive_proxy_header(sock, client)
                pipe = await self._open_pipe(sock, client)
                request = await self._receive_request(pipe, handshake)
                self._bind(request, pipe, client)
                asked_at = self._loop.time()
                decision = await self._decider.decide(pipe, handshake, request, client)
                asked_at = None
                if decision.upgrades:
                    await pipe.send(handshake.accept_as(decision.response))
        except HandshakeError as error:
            assert pipe is not None
            log_malformed(error, client, handshake.pathname)
            self._admission.refused(client)
            refusal = HTTPResponse._of(error.response) if error.response is not None else None
            await send_refusal(self._loop, pipe, _encode(handshake, refusal), options)
            return None
        except BaseException as error:
            if asked_at is not None and isinstance(error, TimeoutError) and limit.expired():
                assert pipe is not None
                decision = decided_too_late(error, self._loop.time() - asked_at)
            else:
                if pipe is not None:
                    pipe.close()
                if not isinstance(error, Exception):
                    raise
                if limit.expired():
                    error = TimeoutError(f"it took longer than {options.timeout:g} s (timeout)")
                log_failure(error, client)
                return None
        if not decision.upgrades:
            log_decision(decision, client, request)
            self._admission.refused(client)
            await send_refusal(self._loop, pipe, _encode(handshake, decision.response), options)
            return None
        return self._begin(pipe, handshake, request, client)

    def _new_handshake(self) -> ServerHandshake:
        terms = self._terms
        return ServerHandshake(
            subprotocols=terms.subprotocols,
            origins=terms.origins,
            extensions=terms.options.extension_factories,
            max_head_size=terms.options.max_head_size,
            max_header_lines=terms.options.max_header_lines,
        )

    async def _open_pipe(self, sock: ConnectionSocket, client: Client) -> Pipe:
        return await open_pipe(
            self._loop,
            sock,
            tls=self._terms.tls.context if self._terms.tls is not None else None,
            server_side=True,
            close_timeout=self._terms.options.close_timeout,
            throttle=self._admission.throttle(self._throttle, client),
        )

    async def _receive_request(self, pipe: Pipe, handshake: ServerHandshake) -> Request:
        request = None
        while request is None:
            request = handshake.receive(await pipe.receive())
        return request

    def _bind(self, request: Request, pipe: Pipe, client: Client) -> None:
        """Say in the request what it came over, for whoever is to look at it."""
        request._bind(
            socket=pipe.socket,
            peer=client.peer,
            ssl_object=pipe.ssl_object,
            server=self._server,
        )
        self._admission.requested(client, request)

    def _begin(
        self, pipe: Pipe, handshake: ServerHandshake, request: Request, client: Client
    ) -> Opened:
        connection, read, write = begin_connection(
            pipe,
            self._terms.options,
            client=False,
            extensions=handshake.extensions,
            leftover=handshake.leftover,
        )
        request._forget_names()
        if logger.isEnabledFor(logging.INFO):
            which = in_words(client, request.pathname)
            logger.info("%s opened with 101", which)
            log_end(logger, which, connection, pipe.socket)
        return Opened(request, read, write, connection.engine)


def _encode(handshake: ServerHandshake, response: HTTPResponse | None) -> bytes:
    if response is None:  # the client has gone
        return b""
    if "Date" not in response.headers:  # RFC 9110 section 6.6.1
        response = response.with_headers({"Date": formatdate(usegmt=True)})
    return handshake.reject(*response._parts())
