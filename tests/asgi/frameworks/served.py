"""An application that uvicorn serves with our protocol, in a thread, on a free port."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import uvicorn

# uvicorn's own can stand in for ours, to see whether a test is about ours alone.
OTHER = "websockets-sansio"
PROTOCOL = os.environ.get("CORO_WEBSOCKET_IN_UVICORN", "coro_websocket.uvicorn:WebSocketProtocol")
BOUND = 20.0  # seconds for what takes none

# Of the loops and of uvicorn's HTTP implementations, each once.
LOOPS = {"asyncio": "h11", "uvloop": "httptools"}


@dataclass
class Served:
    """Where it is.

    Attributes:
        url: the origin, as "ws://127.0.0.1:1234".
        http: the same for HTTP.
        server: uvicorn's.
        ran: ends when the server has.
    """

    url: str
    http: str
    server: uvicorn.Server
    ran: Future[None]

    def end(self) -> None:
        """What a signal does; returns at once."""
        self.server.should_exit = True


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens: Future[None] = Future()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set_result(None)


@contextlib.contextmanager
def served(app: Any, *, loop: str = "asyncio", **settings: Any) -> Iterator[Served]:
    """uvicorn with the application, from the end of its startup on.

    Args:
        app: an ASGI application, or uvicorn's name of one.
        loop: one of LOOPS.
        settings: more of uvicorn's settings.
    """
    settings = {"ws": PROTOCOL, "http": LOOPS[loop], "log_config": None, **settings}
    config = uvicorn.Config(app, loop=loop, timeout_graceful_shutdown=10, **settings)
    server = _Server(config)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1, "uvicorn") as threads,
    ):
        port = listener.getsockname()[1]
        ran: Future[None] = threads.submit(server.run, [listener])
        wait((server.listens, ran), BOUND, FIRST_COMPLETED)
        if ran.done():
            ran.result()
        try:
            yield Served(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}", server, ran)
        finally:
            server.should_exit = True
            ran.result(BOUND)
