"""The protocol that uvicorn hands an upgrade request to, and then the transport.

It has uvicorn's duties: the server's state, its settings, its log lines, its shutdown. The rules:
the application's task is the only thing that outlives a call; whatever it does, its client is
answered and the transport closed.

It knows uvicorn's Config and ServerState by their attributes alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from .._errors import ConnectionClosedError
from .._http.opening_errors import HandshakeError
from .._http.server_handshake import ServerHandshake
from .._options.options import Options
from .._rfc6455.engine import Engine
from .app_connection import AppConnection
from .conversation import Conversation
from .denial import Denial
from .scope import Scope, client_in_words, path_in_words, peer_of, websocket_scope
from .streams import new_stream, send_at_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._http.request_and_response import Request
    from .app_stream import AppStream

__all__ = ["WebSocketProtocol"]

TRACE = 5  # uvicorn's level for what happens to each connection
SERVICE_RESTART = 1012
EARLY = 65536  # bytes that a client may send before it is answered
READ_HIGH_WATER = 65536  # bytes that may wait for the application

logger = logging.getLogger("uvicorn.error")


class WebSocketProtocol(asyncio.Protocol):
    """WebSockets for uvicorn: `uvicorn app:app --ws coro_websocket.uvicorn:WebSocketProtocol`.

    uvicorn makes one for each connection and calls the rest; an application has nothing to do
    with it.

    Attributes:
        transport: asyncio's, or uvloop's.
        close_timeout: seconds that a client has to answer our Close.
    """

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: Any = None
        self.close_timeout = 10.0
        self._server_state = server_state
        self._app_state = app_state
        self._scope: Scope = {}
        self._handshake = ServerHandshake(
            origins=None,
            extensions=self._options().extension_factories,
            max_head_size=None,
            max_header_lines=None,
        )
        self._conversation: Conversation | None = None
        self._stream: AppStream | None = None
        self._early = bytearray()  # came before the client was answered
        self._early_paused = False
        self._writing_paused = False
        self._held = 0  # bytes, when that was last looked at
        self._giving_up: asyncio.TimerHandle | None = None

    def _options(self) -> Options:
        config = self.config
        return _options(
            config.ws_max_size,
            config.ws_ping_interval or None,
            config.ws_ping_timeout or None,
            bool(config.ws_per_message_deflate),
            max(self.close_timeout, 1e-6),
        )

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        send_at_once(transport)
        self._server_state.connections.add(self)
        self._writing_paused = _is_full(transport)
        self._trace("WebSocket connection made")

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            self._stream.data_received(data)
        elif self._conversation is None:
            self._take_request(data)
        else:
            self._early += data
            if len(self._early) >= EARLY and not self._early_paused:
                self._early_paused = True
                self.transport.pause_reading()

    def eof_received(self) -> None:
        if self._stream is not None:
            self._stream.feed_eof()

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._conversation is not None:
            self._conversation.pause_writing()
        if self._stream is not None:
            self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._conversation is not None:
            self._conversation.resume_writing()
        if self._stream is not None:
            self._stream.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._trace("WebSocket connection lost")
        if self._giving_up is not None:
            self._giving_up.cancel()
        try:
            if self._conversation is not None:
                self._conversation.client_gone()
        finally:
            if self._stream is not None:  # lets go of the descriptor before that is closed
                self._stream.end(exc)

    # uvicorn

    def shutdown(self) -> None:
        """The server ends: close with 1012; where that goes on already, hang up."""
        connection = None if self._conversation is None else self._conversation.connection
        if connection is None:
            if self._conversation is not None and not self._conversation.answered:
                self._answer_500()
                self._conversation.client_gone()
            self.hang_up()
        elif connection.engine.close_sent:
            self.hang_up()
        else:
            assert self._conversation is not None
            self._conversation.shut_down(SERVICE_RESTART)

    @property
    def ping_sent_at(self) -> float:
        """When the last Ping was sent, by the loop's clock; 0.0 if none was."""
        connection = self._connection
        return 0.0 if connection is None else connection.ping_sent_at

    @property
    def ping_timer(self) -> asyncio.TimerHandle | None:
        """What calls back when a Ping is due."""
        connection = self._connection
        return None if connection is None else connection.ping_timer

    @property
    def close_timer(self) -> asyncio.TimerHandle | None:
        """What calls back if the client does not answer our Close; None if we wait for none."""
        connection = self._connection
        return None if connection is None else connection.close_timer

    @property
    def _connection(self) -> AppConnection | None:
        return None if self._conversation is None else self._conversation.connection

    def _trace(self, what: str) -> None:
        if logger.isEnabledFor(TRACE):
            client = client_in_words(peer_of(self.transport))
            logger.log(TRACE, "%s%s", f"{client} - " if client else "", what)

    def _log(self, answer: str) -> None:
        if logger.isEnabledFor(logging.INFO):
            scope = self._scope
            client = client_in_words(scope["client"])
            logger.info('%s - "WebSocket %s" %s', client, path_in_words(scope), answer)

    # The request

    def _take_request(self, data: bytes) -> None:
        try:
            request = self._handshake.receive(data)
            if request is None:
                return
            self._handshake.check()
        except HandshakeError as error:
            logger.info("%s - %s", client_in_words(peer_of(self.transport)), error)
            self.write(self._handshake.refusal())
            self.hang_up()
            return
        self._begin(request)

    def _begin(self, request: Request) -> None:
        config = self.config
        self._scope = websocket_scope(
            request,
            self.transport,
            asgi_version=config.asgi_version,
            root_path=config.root_path,
            state=self._app_state,
        )
        self._early += self._handshake.leftover
        self._conversation = Conversation(self)
        if self._writing_paused:
            self._conversation.pause_writing()
        task = self.loop.create_task(self._run(self._conversation))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    # The application

    async def _run(self, conversation: Conversation) -> None:
        try:
            result = await self.config.loaded_app(
                self._scope, conversation.receive, conversation.send
            )
            if not conversation.answered:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not _tells_the_end_of(conversation, error):
                logger.exception("Exception in ASGI application\n")
        finally:
            try:
                if not conversation.answered:
                    self._answer_500()
            finally:
                conversation.application_ended()

    # What the conversation asks for

    def accept(
        self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> AppConnection:
        """Send the 101; from here on the connection has the transport."""
        pairs, subprotocol = self._accept_headers(subprotocol, headers)
        self._handshake.choose(subprotocol)
        head = self._handshake.accept(pairs)
        options = self._options()
        engine = Engine(
            False,
            max_message_size=options.max_message_size,
            extensions=self._handshake.extensions,
        )
        stream = new_stream(self.loop, self.transport)
        self._log("[accepted]")
        stream.send_first(head)
        del self._handshake  # it has done what it is for, and is large
        early, self._early = bytes(self._early), bytearray()
        if self._early_paused:  # what may be received now is the stream's to say
            self.transport.resume_reading()
        try:
            connection = AppConnection(engine, options, stream, early)
        except BaseException:  # the client has its 101: no other answer can follow
            self.transport.abort()
            raise
        self._stream = stream
        if self._writing_paused:
            stream.pause_writing()
        return connection

    def _accept_headers(
        self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[list[tuple[str, str]], str | None]:
        """The headers to add to the 101, and the subprotocol to agree on."""
        pairs = []
        for name, value in [*self._server_state.default_headers, *headers]:
            pair = name.decode("latin-1"), value.decode("latin-1")
            if pair[0].lower() != "sec-websocket-protocol":
                pairs.append(pair)
            elif not subprotocol:
                subprotocol = pair[1]
        if subprotocol and subprotocol not in self._scope["subprotocols"]:
            # Without its name: bearer tokens travel there.
            logger.warning(
                '%s - "WebSocket %s" the application has chosen a subprotocol that the client '
                "does not offer: left out (RFC 6455 section 4.2.2)",
                client_in_words(self._scope["client"]),
                path_in_words(self._scope),
            )
            subprotocol = None
        return pairs, subprotocol or None

    def refuse(self) -> None:
        """Answer 403, as the application has closed before it accepted."""
        self._log("403")
        self.write(self._handshake.reject(403, headers=self._default_headers()))
        self.hang_up()

    def begin_denial(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Denial:
        denial = Denial(status, headers, self._server_state.default_headers)
        self._log(str(status))
        return denial

    def _answer_500(self) -> None:
        self._log("500")
        self.write(
            self._handshake.reject(
                500, headers=self._default_headers(), body="Internal Server Error"
            )
        )

    def _default_headers(self) -> list[tuple[str, str]]:
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._server_state.default_headers
        ]

    def is_closing(self) -> bool:
        return bool(self.transport.is_closing())

    def write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._give_up_later()

    def _give_up_later(self) -> None:
        """Abort the transport, which sends first what it holds, if its client takes none of that.

        As long as one transport is there, uvicorn does not end.
        """
        self._held = _held_by(self.transport)
        if self._held:
            self._giving_up = self.loop.call_later(self.close_timeout, self._give_up)

    def _give_up(self) -> None:
        if _held_by(self.transport) < self._held:
            self._give_up_later()
        else:
            self.transport.abort()


@functools.lru_cache(maxsize=64)
def _options(
    max_size: int | None,
    ping_interval: float | None,
    ping_timeout: float | None,
    deflate: bool,
    close_timeout: float,
) -> Options:
    """What uvicorn's settings are as options of ours."""
    return Options(
        max_message_size=max_size,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        compression="deflate" if deflate else None,
        close_timeout=close_timeout,
        read_high_water=READ_HIGH_WATER,
        write_high_water=1,  # uvicorn sets the limits of its transports
    )


def _held_by(transport: Any) -> int:
    """How many bytes the transport has still to send, as far as it tells."""
    size = getattr(transport, "get_write_buffer_size", None)
    return 0 if size is None else int(size())


def _is_full(transport: Any) -> bool:
    """Whether the transport will tell when it takes more.

    What it holds of an earlier response it may have told the protocol before ours of.
    """
    held = _held_by(transport)
    if not held:
        return False
    low, high = transport.get_write_buffer_limits()
    if held <= low:
        return False
    transport.set_write_buffer_limits(low, low)  # there it tells, if it has not already
    transport.set_write_buffer_limits(high, low)
    return True


def _tells_the_end_of(conversation: Conversation, error: BaseException) -> bool:
    """Whether the application has only let out that its client is gone."""
    if isinstance(error, BaseExceptionGroup):
        return all(_tells_the_end_of(conversation, each) for each in error.exceptions)
    return isinstance(error, ConnectionClosedError) and error._engine == conversation.engine_id
