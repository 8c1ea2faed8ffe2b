"""coro-websocket demo: messages exchanged with an echo server of its own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .._opening.connect import connect
from .._server.serve import serve

if TYPE_CHECKING:
    import argparse

    from .._connection.read_write import Read, Write
    from .._http.request_and_response import Request

__all__ = ["add_demo", "echo"]

SHOWN = 60  # characters of a message that the demo prints


def add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="exchange messages with an echo server of its own")
    demo.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    return asyncio.run(_demo())


async def echo(_: Request, read: Read, write: Write) -> None:
    async for msg in read:
        await write(msg.payload)


async def _demo() -> int:
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
    async with serve(echo) as server:
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
