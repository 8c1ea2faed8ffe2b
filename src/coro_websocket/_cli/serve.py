"""coro-websocket serve: an application of the user's, or an echo server, in one or more workers.

Where to listen is decided here, once for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOption
from .._options.tls import server_context
from .._runtimes.current import running_loop
from .._server.addresses import BACKLOG, Addresses, Listening, url_of
from .._server.server import DRAIN_TIMEOUT
from .output import seconds
from .serving import serve_alone, serve_as_worker
from .watching import Watch
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["add_serve"]

# Hidden: what a worker process is started with besides the command's own arguments.
SOCKETS = "--worker-sockets"
CHANNEL = "--worker-channel"

DESCRIPTION = """\
Serve WebSocket connections. APP is module:name: a handler, async def
handler(req, read, write), or a Router; with --factory a function that returns
one, or a mapping of arguments for serve() with 'handler' in it.

SIGTERM and SIGINT (Ctrl-C) drain: no more connections are accepted, handlers
have --drain-timeout seconds, then the connections are closed with 1012. A second
one closes all at once. SIGHUP reads the certificates again. A worker process
that dies is replaced.

The exit status is 0 after a signal, 1 if the server could not begin or a
worker had to be killed, 2 for a wrong call.
"""


def add_serve(commands: Any) -> None:
    server = commands.add_parser(
        "serve",
        help="run a server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server.add_argument(
        "app", nargs="?", metavar="APP", help="module:name of the handler, or of a Router"
    )
    server.add_argument("--echo", action="store_true", help="send every message back, without APP")
    server.add_argument(
        "--factory", action="store_true", help="APP is a function that returns the handler"
    )
    server.add_argument(
        "--app-dir", default=".", metavar="DIR", help="where to look for modules first (.)"
    )

    where = server.add_argument_group("where to listen")
    where.add_argument(
        "--host",
        action="append",
        help="the address to listen on (127.0.0.1); can be given several times",
    )
    where.add_argument("--port", type=int, default=0, help="the port to listen on (a free one)")
    where.add_argument("--path", help="a unix socket to listen on, instead of a port")
    where.add_argument(
        "--mode", type=_octal, metavar="660", help="the permissions of the unix socket's file"
    )
    where.add_argument(
        "--owner",
        type=_owner,
        metavar="USER[:GROUP]",
        help="the owner of the unix socket's file: names or numbers",
    )
    where.add_argument(
        "--systemd", action="store_true", help="listen on the sockets that systemd has opened"
    )
    where.add_argument(
        "--backlog",
        type=int,
        default=BACKLOG,
        metavar="N",
        help=f"how many connections may wait to be accepted ({BACKLOG})",
    )
    where.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with other processes; each worker gets a socket of its own",
    )

    tls = server.add_argument_group("TLS")
    tls.add_argument("--cert", metavar="FILE", help="a certificate (PEM file): serve wss://")
    tls.add_argument("--key", metavar="FILE", help="the certificate's key (PEM file)")
    tls.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities (PEM file): clients must show a certificate that one has signed",
    )

    processes = server.add_argument_group("processes")
    processes.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="how many processes serve (1)"
    )
    processes.add_argument(
        "--drain-timeout",
        type=_seconds_or_none,
        default=DRAIN_TIMEOUT,
        metavar="SECONDS",
        help=f"how long handlers have to return after a signal ({DRAIN_TIMEOUT:g}); none: any time",
    )
    processes.add_argument(
        "--reload",
        action="store_true",
        help="start anew when a Python file below --app-dir changes: for development",
    )
    processes.add_argument(SOCKETS, type=_descriptors, help=argparse.SUPPRESS)
    processes.add_argument(CHANNEL, type=int, help=argparse.SUPPRESS)
    server.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if (options.app is None) != options.echo:
        raise InvalidOption("give APP (module:name), or --echo and no APP", "APP")
    given = {"cert": options.cert, "key": options.key, "ca": options.ca}
    options.tls = {name: value for name, value in given.items() if value is not None}
    if options.worker_channel is not None:
        sockets = [socket.socket(fileno=each) for each in options.worker_sockets]
        channel = socket.socket(fileno=options.worker_channel)
        for each in (*sockets, channel):
            os.set_inheritable(each.fileno(), False)
        return serve_as_worker(options, sockets, channel)
    where: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "path": options.path,
        "sock": "systemd" if options.systemd else None,
        "backlog": options.backlog,
        "reuse_port": options.reuse_port,
        "mode": options.mode,
        "owner": options.owner,
    }
    if options.workers == 1 and not options.reload:
        return serve_alone(options, where)
    return _serve_in_workers(options, where)


def _serve_in_workers(options: argparse.Namespace, where: dict[str, Any]) -> int:
    if os.name != "posix":
        raise InvalidOption(
            "--workers and --reload need a system that hands sockets on to processes, as Windows "
            "does not: start the command several times, with another --port each",
            "workers",
        )
    if options.tls:
        server_context(options.tls)  # what cannot be used is said once, and not by each worker
    listening = asyncio.run(_listen(Addresses.check(**where), options))
    first = listening[0]

    def arguments(sockets: Sequence[int], channel: int) -> list[str]:
        descriptors = ",".join(map(str, sockets))
        return [*options.arguments, SOCKETS, descriptors, CHANNEL, str(channel)]

    def leave() -> None:
        if first.file is not None and first.sockets[0].fileno() >= 0:
            first.file.delete()
        for each in listening:
            for sock in each.sockets:
                sock.close()

    def serving(over_tls: bool) -> None:
        print(f"serving on {url_of(first.sockets, first.path, tls=over_tls)}", flush=True)

    sockets = [each.sockets for each in listening]
    watch = Watch(options.app_dir) if options.reload else None
    try:
        workers = Workers(options.workers, sockets, arguments, leave, options.drain_timeout, watch)
        return workers.run(serving)
    finally:
        leave()


async def _listen(where: Addresses, options: argparse.Namespace) -> list[Listening]:
    """What the workers listen on: the same for all, or a socket each with --reuse-port."""
    loop = running_loop("serve")
    first = await where.listen(loop)
    if not where.reuse_port:
        return [first]
    same_port = where.on_port(first.sockets[0].getsockname()[1])
    return [first, *[await same_port.listen(loop) for _ in range(options.workers - 1)]]


# The values of options


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError("expected permissions in octal, such as 660") from None


def _owner(text: str) -> tuple[str | int | None, str | int | None]:
    user, _, group = text.partition(":")
    return _name_or_number(user), _name_or_number(group)


def _name_or_number(text: str) -> str | int | None:
    return int(text) if text.isascii() and text.isdigit() else text or None


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError("expected a number of processes, from 1 to 1024")
    return int(text)


def _seconds_or_none(text: str) -> float | None:
    return None if text.lower() == "none" else seconds(text)


def _descriptors(text: str) -> Sequence[int]:
    return [int(each) for each in text.split(",")]
