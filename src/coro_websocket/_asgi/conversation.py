"""The events between one application and its client, before there is a connection and at its end.

The rule: an event that does not fit the state is a RuntimeError that says what was expected; an
event for a client that is gone is an OSError. What runs for each message is in `exchange`.

ASGI, "WebSocket", and its extension "WebSocket Denial Response".
"""

from __future__ import annotations

import asyncio
import collections
import enum
from typing import TYPE_CHECKING, Any

from .._errors import ConnectionClosedError
from .._rfc6455.close_codes import ABNORMAL, NORMAL
from .coroutine_functions import mark_as_coroutine_function
from .exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from .app_connection import AppConnection
    from .denial import Denial

    Pairs = Iterable[tuple[bytes, bytes]]

    class Answering(Protocol):
        """Whoever has the transport, and answers the request over it."""

        def accept(self, subprotocol: str | None, headers: Pairs) -> AppConnection: ...
        def refuse(self) -> None: ...
        def begin_denial(self, status: int, headers: Pairs) -> Denial: ...
        def is_closing(self) -> bool: ...
        def write(self, data: bytes) -> None: ...
        def hang_up(self) -> None: ...


__all__ = ["Conversation"]

mark_as_coroutine_function(Exchange.receive)
mark_as_coroutine_function(Exchange.send)

_DISCONNECT = "websocket.disconnect"


class _State(enum.Enum):
    CONNECTING = enum.auto()
    DENYING = enum.auto()  # the application sends a response of its own
    DENIED = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()  # by the application


class Conversation(Exchange):
    """What an application is given as `receive` and `send`, for one client."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._left = False  # by the application
        self._state = _State.CONNECTING
        self._denial: Denial | None = None
        self._gone = False
        # Most connections need none of these: each is made for the first who waits with it.
        self._turns: collections.deque[asyncio.Future[None]] | None = None
        self._news: asyncio.Event | None = None  # there is a connection, or there will be none
        self._room: asyncio.Event | None = None  # the transport takes more of a response

    @property
    def answered(self) -> bool:
        """Whether the client has been answered, or nothing more can be done about that."""
        return self._gone or self._state is not _State.CONNECTING

    # What happens to the client

    def client_gone(self) -> None:
        """The transport is lost."""
        self._gone = True
        if self.connection is None:
            self.tell_closed({"type": _DISCONNECT, "code": ABNORMAL}, messages_first=False)
        self._tell_news()
        self.resume_writing()
        self._let_go()

    def _let_go(self) -> None:
        """Once both have gone nothing is answered: be no cycle that a collector has to find."""
        if self._gone and self._left:
            vars(self).pop("_answering", None)

    def _tell_news(self) -> None:
        if self._news is not None:
            self._news.set()

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = asyncio.Event()
        self._room.clear()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set()

    def shut_down(self, code: int) -> None:
        """The server ends; what has come can still be received."""
        self.tell_closed({"type": _DISCONNECT, "code": code}, messages_first=True)
        if self.connection is not None:
            self.connection.begin_close(code, "")

    def application_ended(self) -> None:
        """Answer what it has left unanswered."""
        if self._state is _State.DENYING:
            assert self._denial is not None
            self._answering.write(self._denial.head())
            self._state = _State.DENIED
        if self.connection is not None:
            self.connection.leave()
        elif not self._gone:
            self._answering.hang_up()
        self._left = True
        self._let_go()

    # receive

    async def receive_first(self) -> dict[str, Any]:
        if not self.connect_told:
            self.connect_told = True
            return {"type": "websocket.connect"}
        while self.connection is None and not self._gone and self.closed_event is None:
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()
        if self.connection is None:
            assert self.closed_event is not None
            return dict(self.closed_event)
        return await self.receive()

    async def take_turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        if self._turns is None:
            self._turns = collections.deque()
        self._turns.append(turn)
        self.others_wait = True
        try:
            await turn
        except BaseException:
            if turn in self._turns:
                self._turns.remove(turn)
            else:
                self.pass_turn()
            raise

    def pass_turn(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        self.others_wait = bool(self._turns)

    # send

    async def send_other(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if self._state is _State.CONNECTING:
            self._send_connecting(kind, event)
        elif self._state is _State.OPEN:
            await self._send_open(kind, event)
        elif self._state is _State.DENYING:
            await self._send_denying(kind, event)
        else:
            if self._gone and self._state is _State.CLOSED:
                raise self._client_has_gone()
            what = "websocket.close" if self._state is _State.CLOSED else "the response"
            raise RuntimeError(f"Unexpected ASGI message {kind!r}, after sending {what!r}.")

    def _client_has_gone(self) -> OSError:
        error = ConnectionClosedError("cannot send: the client has gone", ABNORMAL)
        error._engine = self.engine_id
        return error

    @property
    def engine_id(self) -> int:
        """What the errors that tell of this connection's end are marked with."""
        return id(self if self.connection is None else self.connection.engine)

    def _send_connecting(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind not in ("websocket.accept", "websocket.close", "websocket.http.response.start"):
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or "
                f"'websocket.http.response.start' but got {kind!r}."
            )
        if self._gone or self._answering.is_closing():
            raise self._client_has_gone()
        if kind == "websocket.accept":
            headers = event.get("headers") or ()
            connection = self._answering.accept(event.get("subprotocol"), headers)
            self._state = _State.OPEN
            self.open(connection)
            self._tell_news()
        elif kind == "websocket.close":
            self._state = _State.CLOSED
            self._end({"type": _DISCONNECT, "code": ABNORMAL})
            self._answering.refuse()
        else:
            headers = event.get("headers") or ()
            self._denial = self._answering.begin_denial(event["status"], headers)
            self._state = _State.DENYING

    def _end(self, event: dict[str, Any]) -> None:
        self.tell_closed(event, messages_first=False)
        self._tell_news()

    async def _send_denying(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.http.response.body' but got {kind!r}."
            )
        if self._room is not None:
            await self._room.wait()
        if self._gone:
            raise self._client_has_gone()
        denial = self._denial
        assert denial is not None
        try:
            part = denial.body(event.get("body") or b"", bool(event.get("more_body")))
        except RuntimeError:
            if not denial.begun:  # another answer can still be sent
                self._denial, self._state = None, _State.CONNECTING
            raise
        self._answering.write(part)
        if denial.complete:
            self._state = _State.DENIED
            self._end({"type": _DISCONNECT, "code": ABNORMAL})
            self._answering.hang_up()

    async def _send_open(self, kind: str, event: Mapping[str, Any]) -> None:
        connection = self.connection
        assert connection is not None
        if kind == "websocket.send":
            await self.write(_payload(event))
        elif kind == "websocket.close":
            if self._gone:
                raise self._client_has_gone()
            code = event.get("code")
            code, reason = NORMAL if code is None else code, event.get("reason") or ""
            closing = connection.engine.close_sent
            connection.begin_close(code, reason)
            if not closing:
                self._state = _State.CLOSED
                self._end({"type": _DISCONNECT, "code": code, "reason": reason})
        else:
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got {kind!r}."
            )


def _payload(event: Mapping[str, Any]) -> str | bytes:
    """What a 'websocket.send' has to send."""
    data, text = event.get("bytes"), event.get("text")
    if data is not None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"'bytes' of 'websocket.send' must be bytes, not {type(data).__name__}")
        return bytes(data)
    if not isinstance(text, str):
        what = "neither" if text is None else f"'text' of type {type(text).__name__}"
        raise RuntimeError(
            f"Expected 'text' (str) or 'bytes' in ASGI message 'websocket.send', but got {what}."
        )
    return text
