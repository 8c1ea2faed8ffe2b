"""The command `coro-websocket`: demo, connect, serve.

Its exit status: 0 for a connection that ended cleanly, 1 for one that did not or that
could not be made, 2 for a wrong call, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ._client import connect
from ._errors import ConnectionClosedError, HandshakeError, WebSocketError
from ._server import serve
from ._version import version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._asyncio._read_write import Read, Write
    from ._response import Request

__all__ = ["main"]

SHOWN = 60  # characters of a message that the demo prints


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(name)s: %(message)s",
    )
    try:
        status: int = asyncio.run(options.run(options))
        return status
    except WebSocketError as error:
        _complain(error)
        return 1
    except OSError as error:  # an address that cannot be listened on
        _complain(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coro-websocket",
        description="WebSockets from the command line.",
    )
    parser.add_argument("--version", action="version", version=f"coro-websocket {version()}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what happens, on stderr")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="exchange messages with an echo server of its own")
    demo.set_defaults(run=_demo)

    client = commands.add_parser(
        "connect",
        help="connect standard input and output with a server",
        description=(
            "Each line of standard input is sent as a text message, each message that comes is "
            "printed as a line. The end of the input closes the connection. The exit status is 0 "
            "if the connection ended cleanly (1000, 1001 or no code), else 1."
        ),
    )
    client.add_argument("url", metavar="URL", help="ws://, wss:// or ws+unix://")
    client.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="send this header too; can be given several times",
    )
    client.add_argument(
        "-s",
        "--subprotocol",
        action="append",
        default=[],
        metavar="NAME",
        help="offer this subprotocol; can be given several times",
    )
    client.add_argument(
        "-k", "--insecure", action="store_true", help="accept any TLS certificate (dangerous)"
    )
    client.add_argument(
        "-t",
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long opening the connection may take (10)",
    )
    client.set_defaults(run=_connect)

    server = commands.add_parser("serve", help="run a server")
    server.add_argument(
        "--echo", action="store_true", required=True, help="send every message back"
    )
    server.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    server.add_argument("--port", type=int, default=0, help="the port to listen on (a free one)")
    server.add_argument("--path", help="a unix socket to listen on, instead of a port")
    server.add_argument("--cert", help="a certificate (PEM file): serve wss://")
    server.add_argument("--key", help="the certificate's key (PEM file)")
    server.set_defaults(run=_serve)
    return parser


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _complain(error: Exception) -> None:
    print(f"coro-websocket: {error}", file=sys.stderr)
    if isinstance(error, HandshakeError) and error.response is not None and error.response.body:
        body = error.response.body.decode(errors="replace").strip()
        print("\n".join(f"  | {_printable(line)}" for line in body.splitlines()), file=sys.stderr)


def _printable(text: str) -> str:
    """The text without what could control a terminal."""
    return "".join(c if c.isprintable() or c in "\t\n" else repr(c)[1:-1] for c in text)


# demo


async def _echo(_: Request, read: Read, write: Write) -> None:
    async for msg in read:
        await write(msg.payload)


async def _demo(_: argparse.Namespace) -> int:
    megabyte = bytes(range(256)) * 4096
    exchanges: list[tuple[str, Any, str | bytes]] = [
        ("text", "Hello There!", "Hello There!"),
        ("text, not ASCII", "Grüße, 世界 🌍", "Grüße, 世界 🌍"),
        ("binary", b"\x00\x01\x02\xff", b"\x00\x01\x02\xff"),
        (
            "three fragments",
            ["One message ", "in three ", "fragments"],
            "One message in three fragments",
        ),
        ("1 MiB", megabyte, megabyte),
    ]
    async with serve(_echo) as server:
        print(f"echo server on {server.url}")
        async with connect(server.url) as (res, read, write):
            print(f"connected: {res.code} {res.reason}\n")
            for what, sent, expected in exchanges:
                start = time.perf_counter()
                await write(sent)
                msg = await read()
                took = time.perf_counter() - start
                print(f"{what}\n  sent      {_shown(sent)}")
                if msg is None or msg.payload != expected:
                    print(f"  received  {msg!r}, which is not what was sent")
                    return 1
                print(f"  received  {_shown(msg.payload)}\n  round trip {took * 1000:.3f} ms")
            print(f"ping\n  round trip {await write.ping() * 1000:.3f} ms")
        print(f"\nclosed: {read.close_code}")
    return 0


def _shown(payload: Any) -> str:
    shown = repr(payload)
    if len(shown) > SHOWN:
        return f"{shown[:SHOWN]}... ({len(payload):,} bytes)"
    return shown


# connect


async def _connect(options: argparse.Namespace) -> int:
    settings: dict[str, Any] = {}
    if options.insecure:
        settings["tls"] = {"insecure": True}
    async with connect(
        options.url,
        headers=options.header,
        subprotocol=options.subprotocol or None,
        timeout=options.timeout,
        **settings,
    ) as (_, read, write):
        async with contextlib.AsyncExitStack() as stack:
            sending = asyncio.create_task(_send_lines(write))
            stack.push_async_callback(_stop, sending)
            async for msg in read:
                _show(msg.payload)
        return 0


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionClosedError):
        await task


def _show(payload: str | bytes) -> None:
    """A message as a line; on a terminal without what could control it."""
    text = payload.decode(errors="backslashreplace") if isinstance(payload, bytes) else payload
    print(_printable(text) if sys.stdout.isatty() else text, flush=True)


async def _send_lines(write: Write) -> None:
    async for line in _lines():
        await write(line)
    await write.close()


async def _lines() -> AsyncIterator[str]:
    """The lines of standard input, whatever it is: a pipe, a file or a terminal."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    room = threading.Semaphore(100)  # a long file is read no faster than it is sent

    def put(line: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def forward() -> None:
        # Not sys.stdin itself: at exit the interpreter would wait for its lock.
        with open(
            sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape", closefd=False
        ) as source:
            for line in source:
                room.acquire()
                put(line.rstrip("\n"))
        put(None)

    # A daemon: at a prompt it may wait for a line that never comes.
    threading.Thread(target=forward, daemon=True).start()
    while (line := await lines.get()) is not None:
        room.release()
        yield line


# serve


async def _serve(options: argparse.Namespace) -> int:
    tls = {"cert": options.cert, "key": options.key} if options.cert or options.key else None
    if options.path is not None:
        serving = serve(_echo, path=options.path, tls=tls)
    else:
        serving = serve(_echo, options.host, options.port, tls=tls)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving as server:
        print(f"serving on {server.url}", flush=True)
        await stopped.wait()
    return 0
