"""A process that serves: the only one of the command, or one of its workers.

A worker gets listening sockets and a channel from the command, which does as the signals say
that it is sent; those that a terminal sends to all of them at once are for the command alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOption
from .._runtimes.current import running_loop
from .._server.serve import serve
from .._server.signals import ENDING, Signals
from .._server.systemd import systemd_notify
from .application import load
from .channel import CLOSE, DRAIN, READY, READY_OVER_TLS, RELOAD
from .demo import echo
from .output import complain

if TYPE_CHECKING:
    import argparse
    import socket

    from .._server.server import Server

__all__ = ["RELOADING", "serve_alone", "serve_as_worker"]

logger = logging.getLogger("coro_websocket.serve")

RELOADING = tuple(getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name))


def serve_alone(options: argparse.Namespace, where: dict[str, Any]) -> int:
    """Serve in this process until a signal ends it."""
    return asyncio.run(_serve(options, where, None))


def serve_as_worker(
    options: argparse.Namespace, sockets: list[socket.socket], channel: socket.socket
) -> int:
    """Serve on these sockets until the command says otherwise, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.setblocking(False)
    with channel:
        return asyncio.run(_serve(options, {"sock": sockets}, channel))


async def _serve(
    options: argparse.Namespace, where: dict[str, Any], channel: socket.socket | None
) -> int:
    try:
        arguments = await _application(options)
    except InvalidOption:
        raise
    except Exception as error:
        traceback.print_exception(error)
        complain("APP cannot be loaded: see above")
        return 1
    if options.tls:
        arguments["tls"] = options.tls
    has_tls = arguments.get("tls") is not None
    async with serve(**arguments, **where) as server, contextlib.AsyncExitStack() as stack:
        # Signals are waited for before anybody is told that we serve.
        if channel is not None:
            stack.push_async_callback(_cancel, asyncio.create_task(_obey(server, channel, options)))
            signals: tuple[int, ...] = (signal.SIGTERM,)
        elif has_tls:
            stack.push_async_callback(_cancel, asyncio.create_task(_reload_on_signals(server)))
            signals = ENDING
        else:
            signals = (*ENDING, *RELOADING)  # a terminal that is closed ends the server
        forever = asyncio.create_task(
            server.serve_forever(signals=signals, drain_timeout=options.drain_timeout)
        )
        await asyncio.sleep(0)
        if channel is not None:
            channel.send(READY_OVER_TLS if has_tls else READY)
        else:
            print(f"serving on {server.url}", flush=True)
        await forever
    return 0


async def _application(options: argparse.Namespace) -> dict[str, Any]:
    if options.echo:
        return {"handler": echo}
    return await load(options.app, factory=options.factory, folder=options.app_dir)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _reload_on_signals(server: Server) -> None:
    with Signals(running_loop("serve"), RELOADING) as coming:
        while True:
            await coming.next()
            systemd_notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            reload_tls(server)
            systemd_notify("READY=1")


def reload_tls(server: Server) -> None:
    """Read the certificates again; where that fails, say so and go on with those that are here."""
    try:
        server.reload_tls()
    except InvalidOption as error:
        logger.error("the certificates stay as they are: %s", error)
    except OSError as error:
        logger.error("the certificates stay as they are: %s", error.strerror or error)


async def _obey(server: Server, channel: socket.socket, options: argparse.Namespace) -> None:
    """Do what the command says; where that has gone, drain."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Task[None]] = []
    while True:
        try:
            came = await loop.sock_recv(channel, 100)
        except OSError:
            came = b""
        for number in came or DRAIN:
            command = bytes((number,))
            if command == RELOAD:
                reload_tls(server)
            elif command == CLOSE:
                ends.append(asyncio.create_task(server._close_at_once()))
            elif command == DRAIN:
                server._accepts_alone()
                ends.append(asyncio.create_task(server.drain(options.drain_timeout)))
        if not came:
            await asyncio.wait(ends)
            return
