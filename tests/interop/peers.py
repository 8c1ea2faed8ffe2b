"""What every peer can do, whichever library it is: the tests know nothing but this.

A `Peer` is a library. It serves or connects at a `Place`, on the `Terms` that a test asks for;
what comes of it is a `Theirs`, the other end of one of our connections.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.conftest import Certificates

from coro_websocket import Read, Request, Response, Write, connect, serve

BOUND = 30.0  # seconds for everything that a test waits for

# A handshake that hangs must fail its test, not be ended by a limit of ours before that.
LATE: dict[str, Any] = {"timeout": BOUND, "close_timeout": BOUND}


@dataclass(frozen=True)
class Place:
    """Where a server is to listen, or listens."""

    certificates: Certificates
    tls: bool = False
    path: str | None = None
    port: int = 0

    def url(self, pathname: str = "/") -> str:
        """A URL with a host, which the path of a unix socket has to be given beside."""
        scheme = "wss" if self.tls else "ws"
        port = f":{self.port}" if self.path is None else ""
        return f"{scheme}://localhost{port}{pathname}"

    def whole_url(self, pathname: str = "/") -> str:
        """A URL that says everything."""
        if self.path is None:
            return self.url(pathname)
        return f"{'wss' if self.tls else 'ws'}+unix://{self.path}:{pathname}"


@dataclass(frozen=True)
class Refusal:
    """How a server is to refuse each opening handshake."""

    status: int
    body: str
    headers: Mapping[str, str]


class Refused(Exception):
    """A server, ours, has refused the peer's opening handshake."""

    def __init__(self, status: int, body: str | None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body  # None from a library that does not show it


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a peer is asked for besides its defaults."""

    subprotocols: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    compress: bool | None = None  # None: the library's default
    max_size: int | None = None  # None: whatever the tests send fits
    # Servers only:
    greeting: Sequence[str] = ()  # sent with the opening handshake
    refusal: Refusal | None = None
    # Clients only:
    pathname: str = "/"
    origin: str | None = None
    trust: bool = True  # whether the authority of the certificates is known


class Theirs(ABC):
    """The peer's end of one connection.

    Attributes:
        subprotocol: what was agreed on, as the peer sees it.
        headers: those that the peer has received, under their names in lower case.
        target: the path and query that were asked for, where the peer is the server.
        compressed: whether permessage-deflate was agreed on, as the peer sees it.
    """

    subprotocol: str | None
    headers: dict[str, str]
    target: str
    compressed: bool

    @abstractmethod
    async def send(self, message: str | bytes) -> None:
        """Send a message."""

    async def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool) -> None:
        """Send one message in fragments, with pings between them."""
        raise NotImplementedError

    @abstractmethod
    async def receive(self) -> str | bytes:
        """The next message."""

    @abstractmethod
    async def ping(self, payload: bytes) -> None:
        """Send a Ping, and wait until its Pong has come."""

    @abstractmethod
    async def close(self, code: int, reason: str) -> None:
        """Close the connection, and wait until it is closed."""

    @abstractmethod
    async def vanish(self) -> None:
        """End the connection without a word."""

    @abstractmethod
    async def ended(self) -> tuple[int | None, str]:
        """Wait for the connection to end: the code and the reason as the peer tells them."""

    @asynccontextmanager
    async def echoing(self) -> AsyncIterator[None]:
        """Send every message back."""

        async def echo() -> None:
            while True:
                await self.send(await self.receive())

        task = asyncio.create_task(echo())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass
class TheirServer:
    """A server of the peer's: `place` has its port; connections come out of `accepted`."""

    place: Place
    accepted: asyncio.Queue[Theirs] = field(default_factory=asyncio.Queue)


class Peer(ABC):
    """A library that we did not write.

    Attributes:
        name: what the tests call it.
        fragments: whether it can send a message in fragments.
        tls_over_unix: whether its client can do that.
        answers_with: the code that its answer to a Close carries; None: the same.
        no_code: what it takes a Close without a code for; None: it depends.
        compresses: whether, by default, its server and its client do.
    """

    name: str
    fragments = True
    tls_over_unix = True
    answers_with: int | None = None
    no_code: int | None = 1005
    server_compresses = True
    client_compresses = True

    @abstractmethod
    def serve(self, place: Place, terms: Terms) -> AbstractAsyncContextManager[TheirServer]:
        """A server, until the block is left."""

    @abstractmethod
    def connect_many(
        self, place: Place, terms: Terms, connections: int
    ) -> AbstractAsyncContextManager[list[Theirs]]:
        """Clients that have connected, until the block is left.

        Raises:
            Refused: our server has refused.
        """

    @asynccontextmanager
    async def connect(self, place: Place, terms: Terms) -> AsyncIterator[Theirs]:
        async with self.connect_many(place, terms, 1) as (theirs,):
            yield theirs


# Ours


@dataclass
class Ours:
    """Our end of a connection; `head` is the Response or the Request of the opening handshake."""

    head: Any
    read: Read
    write: Write

    @property
    def response(self) -> Response:
        assert isinstance(self.head, Response)
        return self.head

    @property
    def request(self) -> Request:
        assert isinstance(self.head, Request)
        return self.head


@asynccontextmanager
async def our_client(place: Place, *, pathname: str = "/", **options: Any) -> AsyncIterator[Ours]:
    if place.tls:
        options.setdefault("tls", {"ca": place.certificates.ca})
    async with connect(place.whole_url(pathname), **LATE | options) as opened:
        yield Ours(*opened)


@dataclass
class OurServer:
    place: Place
    accepted: asyncio.Queue[Ours] = field(default_factory=asyncio.Queue)


@asynccontextmanager
async def our_server(place: Place, **options: Any) -> AsyncIterator[OurServer]:
    """A server of ours, whose handlers stay until their connections are closed."""
    ours = OurServer(place)

    async def handler(request: Request, read: Read, write: Write) -> None:
        ours.accepted.put_nowait(Ours(request, read, write))
        await write.wait_closed()

    if place.tls:
        tls = {"cert": place.certificates.cert, "key": place.certificates.key}
        options.setdefault("tls", tls)
    async with serve(handler, path=place.path, **LATE | options) as server:
        ours.place = replace(place, port=server.port)
        yield ours


# Both


@dataclass
class Pairing:
    """A peer, who of us serves, and where."""

    peer: Peer
    we_serve: bool
    place: Place

    @property
    def peer_compresses(self) -> bool:
        return self.peer.client_compresses if self.we_serve else self.peer.server_compresses

    @asynccontextmanager
    async def connected(
        self, terms: Terms | None = None, /, **options: Any
    ) -> AsyncIterator[tuple[Ours, Theirs]]:
        """The two ends of a connection. What is done with them is bounded in time."""
        async with self.connected_many(1, terms, **options) as pairs:
            yield pairs[0]

    @asynccontextmanager
    async def connected_many(
        self, connections: int, terms: Terms | None = None, /, **options: Any
    ) -> AsyncIterator[list[tuple[Ours, Theirs]]]:
        """Connections of one server: for each the two ends."""
        terms = terms or Terms()
        async with asyncio.timeout(BOUND), AsyncExitStack() as stack:
            if self.we_serve:
                server = await stack.enter_async_context(our_server(self.place, **options))
                theirs = await stack.enter_async_context(
                    self.peer.connect_many(server.place, terms, connections)
                )
                ours = [await server.accepted.get() for _ in theirs]
                pairs = await matched(ours, theirs)
            else:
                their_server = await stack.enter_async_context(self.peer.serve(self.place, terms))
                pairs = []
                for _ in range(connections):
                    mine = await stack.enter_async_context(
                        our_client(their_server.place, **options)
                    )
                    pairs.append((mine, await their_server.accepted.get()))
            yield pairs


async def matched(ours: list[Ours], theirs: list[Theirs]) -> list[tuple[Ours, Theirs]]:
    """Which of our ends belongs to which of theirs: clients come in any order, and say which."""
    if len(theirs) == 1:
        return [(ours[0], theirs[0])]
    for number, each in enumerate(theirs):
        await each.send(str(number))
    pairs = []
    for mine in ours:
        message = await mine.read()
        assert message is not None
        pairs.append((mine, theirs[int(message.payload)]))
    return pairs
