"""Messages of a megabyte: what they cost besides their bytes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ECHO = """
import asyncio, resource
from coro_websocket import connect, serve

async def echo(req, read, write):
    async for msg in read:
        await write(msg.payload)

async def main():
    async with serve(echo, compression=None) as server:
        async with connect(server.url, compression=None) as (res, read, write):
            async def exchange(count):
                for _ in range(count):
                    await write(bytes(1 << 20))
                    await read()
            await exchange(10)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            await exchange(50)
            print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50)

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that did this")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="malloc is the sanitizer's")
def test_their_memory_is_not_asked_for_anew_with_each():
    """Four megabytes, 1,024 pages, were given back and cleared again for each round trip."""
    done = subprocess.run(
        [sys.executable, "-c", ECHO], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 300
