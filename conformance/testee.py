"""What is tested: the library echoing, with its default options, as client or as server.

    python testee.py [--fast] server             says its URL, and echoes until it is ended
    python testee.py [--fast] client URL AGENT   runs every case of the fuzzing server at URL

--fast: compress with level 1.

How each case ended is printed: most cases are there to break a rule.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from coro_websocket import (
    ConnectError,
    Deflate,
    Read,
    Request,
    WebSocketError,
    Write,
    connect,
    serve,
)

# The suite writes all of its reports before it answers the last handshake.
TIME_FOR_REPORTS = 300


async def echo(read: Read, write: Write) -> None:
    async for message in read:
        await write(message.payload)


async def client(compression: Deflate, url: str, agent: str) -> None:
    async with connect(f"{url}/getCaseCount") as (_, read, _write):
        message = await read()
        assert message is not None
        count = int(message.payload)
    for number in range(1, count + 1):
        try:
            async with connect(
                f"{url}/runCase?case={number}&agent={agent}", compression=compression
            ) as (_, read, write):
                await echo(read, write)
            print(f"{number}: closed with {read.close_code}")
        except ConnectError:
            raise  # the suite is gone
        except WebSocketError as error:
            print(f"{number}: {error!r}")
    async with connect(f"{url}/updateReports?agent={agent}", timeout=TIME_FOR_REPORTS) as (
        _,
        read,
        _write,
    ):
        await read()


async def server(compression: Deflate) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

    async def handler(_: Request, read: Read, write: Write) -> None:
        await echo(read, write)

    async with serve(handler, compression=compression) as serving:
        print(serving.url, flush=True)
        await serving.serve_forever()


def main(arguments: list[str]) -> None:
    fast = arguments[0] == "--fast"
    compression = Deflate(level=1) if fast else Deflate()
    testee, *more = arguments[fast:]
    asyncio.run(server(compression) if testee == "server" else client(compression, *more))


if __name__ == "__main__":
    main(sys.argv[1:])
