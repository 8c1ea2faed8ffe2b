"""What an echo costs under uvicorn: our WebSocketProtocol against its own implementations.

    python benchmarks/uvicorn_echo.py                       256 B, 100 connections, both loops
    python benchmarks/uvicorn_echo.py --http httptools --rounds 9

CPU microseconds of the server's process for each message, the median of interleaved rounds. The
load is the client in C; each measurement is a fresh process. Only ratios within one run mean
something.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import native

if TYPE_CHECKING:
    from collections.abc import Callable

IMPLEMENTATIONS = {
    "coro-websocket": "coro_websocket.uvicorn:WebSocketProtocol",
    "websockets-sansio": "websockets-sansio",
    "websockets": "websockets",
    "wsproto": "wsproto",
}
LOOPS = ("asyncio", "uvloop")
PROGRAMS = Path(__file__).resolve().parent.parent / "build" / "benchmarks" / "programs"


async def echo(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


def serve(implementation: str, loop: str, http: str) -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(listener.getsockname()[1], flush=True)

    config = uvicorn.Config(
        echo,
        ws=IMPLEMENTATIONS[implementation],
        loop=loop,
        http=http,
        lifespan="off",
        log_level="critical",
        ws_per_message_deflate=False,
    )
    asyncio.Runner(loop_factory=config.get_loop_factory()).run(Server(config).serve([listener]))


def measured(arguments: argparse.Namespace, implementation: str, loop: str) -> float:
    """CPU microseconds for each message."""
    command = native.python(
        "uvicorn_echo.py", "--serve", implementation, "--loops", loop, "--http", arguments.http
    )
    with native.server(command) as (pid, port):
        program = str(native.compiled("client", PROGRAMS))
        load = (arguments.connections, arguments.size, arguments.seconds, 0, 0, pid)
        figures = native.figures([program, "echo", str(port), "/", *map(str, load)])
        return figures["server_cpu"] / figures["messages"] * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", choices=IMPLEMENTATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--http", default="h11", help="uvicorn's HTTP implementation")
    parser.add_argument("--only", nargs="+", choices=IMPLEMENTATIONS, default=[])
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.loops[0], arguments.http)
        return
    who = arguments.only or list(IMPLEMENTATIONS)
    for loop in arguments.loops:
        figures: dict[str, list[float]] = {name: [] for name in who}
        for _ in range(arguments.rounds):
            for name in who:
                try:
                    figures[name].append(measured(arguments, name, loop))
                except native.Failed as error:
                    print(f"{name} / {loop} failed: {error}", file=sys.stderr)
        reference = statistics.median(figures.get("websockets-sansio") or [float("nan")])
        for name, found in figures.items():
            median = statistics.median(found) if found else float("nan")
            print(f"{loop:8} {name:18} {median:6.1f} us  {median / reference:5.2f}", flush=True)


if __name__ == "__main__":
    main()
