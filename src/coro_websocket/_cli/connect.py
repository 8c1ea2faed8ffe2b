"""coro-websocket connect: lines of standard input become messages, and messages lines."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from .._errors import ConnectionClosedError, InvalidMessage
from .._opening.connect import connect
from .._rfc6455.close_codes import ABNORMAL, CLEAN, describe
from .output import complain, seconds, without_controls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._connection.read_write import Read, Write

__all__ = ["add_connect"]


def add_connect(commands: Any) -> None:
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
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="how long to wait for answers at the end of the input, before closing (1)",
    )
    client.set_defaults(run=run)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_connect(options))


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
        complain("the connection ended without the server's answer to our Close")
    else:
        complain(f"the server closed the connection with {describe(code, read.close_reason)}")
    return 1


async def _show_all(read: Read) -> None:
    async for msg in read:
        _show(msg.payload)


def _show(payload: str | bytes) -> None:
    """A message as a line; on a terminal without what could control it."""
    text = payload.decode(errors="backslashreplace") if isinstance(payload, bytes) else payload
    terminal = sys.stdout is not None and sys.stdout.isatty()
    print(without_controls(text) if terminal else text, flush=True)


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
