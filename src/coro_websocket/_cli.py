"""The command `coro-websocket`: demo, connect, serve.

Its exit status: 0 for a connection that ended cleanly (1000, 1001 or no code), 1 for one
that did not or that could not be made, 2 for a wrong call, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ._errors import (
    ConnectionClosedError,
    InvalidMessage,
    InvalidOption,
    InvalidURL,
    WebSocketError,
)
from ._http.opening_errors import HandshakeError
from ._opening.connect import connect
from ._quoting import printable
from ._rfc6455.close_codes import ABNORMAL, CLEAN, describe
from ._server.serve import serve
from ._version import version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._connection.read_write import Read, Write
    from ._http.request_and_response import Request

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
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever it cannot show is not a reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = asyncio.run(options.run(options))
        return status
    except (InvalidURL, InvalidOption) as error:
        _complain(error)
        return 2
    except BrokenPipeError:  # whoever read what we print has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (WebSocketError, OSError) as error:
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
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_demo(commands)
    _add_connect(commands)
    _add_serve(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="exchange messages with an echo server of its own")
    demo.set_defaults(run=_demo)


def _add_connect(commands: Any) -> None:
    client = commands.add_parser(
        "connect",
        help="connect standard input and output with a server",
        description=(
            "Each line of standard input is sent as a text message, each message that comes is "
            "printed as a line. The end of the input closes the connection, a little later "
            "(--wait); what comes until the server has answered that is printed too. The exit "
            "status is 0 if the connection ended cleanly (1000, 1001 or no code), else 1."
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
    client.add_argument(
        "-w",
        "--wait",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="how long to wait for answers at the end of the input, before closing (1)",
    )
    client.set_defaults(run=_connect)


def _add_serve(commands: Any) -> None:
    server = commands.add_parser("serve", help="run a server")
    server.add_argument(
        "--echo", action="store_true", required=True, help="send every message back"
    )
    server.add_argument("--host", help="the address to listen on (127.0.0.1)")
    server.add_argument("--port", type=int, default=0, help="the port to listen on (a free one)")
    server.add_argument("--path", help="a unix socket to listen on, instead of a port")
    server.add_argument("--cert", help="a certificate (PEM file): serve wss://")
    server.add_argument("--key", help="the certificate's key (PEM file)")
    server.set_defaults(run=_serve)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds, 0 or more")
    return seconds


def _complain(error: object) -> None:
    print(f"coro-websocket: {_without_controls(str(error))}", file=sys.stderr)
    if isinstance(error, HandshakeError) and error.response is not None and error.response.body:
        body = error.response.body.decode(errors="replace").strip()
        print(
            "\n".join(f"  | {_without_controls(line)}" for line in body.splitlines()),
            file=sys.stderr,
        )


def _without_controls(text: str) -> str:
    """The text without what could control a terminal."""
    return printable(text, keep="\t\n")


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
                print(f"{what}\n  sent      {_shortened(sent)}")
                if msg is None or msg.payload != expected:
                    print(f"  received  {msg!r}, which is not what was sent")
                    return 1
                print(f"  received  {_shortened(msg.payload)}\n  round trip {took * 1000:.3f} ms")
            print(f"ping\n  round trip {await write.ping() * 1000:.3f} ms")
        print(f"\nclosed: {read.close_code}")
    return 0


def _shortened(payload: Any) -> str:
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
        receiving = asyncio.create_task(_show_all(read))
        sending = asyncio.create_task(_send_lines(write, options.wait))
        try:
            await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is not None:
                await write.close()
                await asyncio.wait([receiving])  # what has come is shown all the same
                await sending
            await receiving
        finally:
            for task in (receiving, sending):
                task.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)
    # Where we close, `read` takes any end for a clean one.
    code = read.close_code or ABNORMAL
    if code in CLEAN:
        return 0
    if code == ABNORMAL:
        _complain("the connection ended without the server's answer to our Close")
    else:
        _complain(f"the server closed the connection with {describe(code, read.close_reason)}")
    return 1


async def _show_all(read: Read) -> None:
    async for msg in read:
        _show(msg.payload)


def _show(payload: str | bytes) -> None:
    """A message as a line; on a terminal without what could control it."""
    text = payload.decode(errors="backslashreplace") if isinstance(payload, bytes) else payload
    terminal = sys.stdout is not None and sys.stdout.isatty()
    print(_without_controls(text) if terminal else text, flush=True)


async def _send_lines(write: Write, wait: float) -> None:
    """Send what comes on standard input, and close once that has ended.

    Most servers answer a Close at once, and can send nothing after that, though they may still
    be working on an answer: hence the wait.
    """
    with contextlib.suppress(ConnectionClosedError):  # whoever reads learns why
        async for line in _lines():
            await write(line)
        await asyncio.sleep(wait)
        await write.close()


async def _lines() -> AsyncIterator[str]:
    """The lines of standard input, whatever it is: a pipe, a file, a terminal or nothing."""
    if sys.stdin is None:
        return
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | OSError | None] = asyncio.Queue()
    room = threading.Semaphore(100)  # a long file is read no faster than it is sent

    def put(line: bytes | OSError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def forward() -> None:
        try:
            # Not sys.stdin itself: at exit the interpreter would wait for its lock.
            with open(sys.stdin.fileno(), "rb", closefd=False) as source:
                for line in source:
                    room.acquire()
                    put(line)
        except OSError as error:
            put(error)
        else:
            put(None)

    # A daemon: at a prompt it may wait for a line that never comes.
    threading.Thread(target=forward, daemon=True).start()
    number = 0
    while (line := await lines.get()) is not None:
        if isinstance(line, OSError):
            raise line
        room.release()
        number += 1
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise InvalidMessage(
                f"line {number} of the input is not UTF-8, which text messages must be: {error}"
            ) from None


# serve


async def _serve(options: argparse.Namespace) -> int:
    tls = {"cert": options.cert, "key": options.key} if options.cert or options.key else None
    serving = serve(_echo, options.host, options.port, path=options.path, tls=tls)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving as server:
        print(f"serving on {server.url}", flush=True)
        await stopped.wait()
    return 0
