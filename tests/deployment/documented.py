"""What docs/deployment.md shows: its configurations and its program, run as they stand there.

Only ports, paths and the names of certificates are replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from ports import reserved_port
from tests.conftest import Certificates
from tests.helpers.nginx import nginx_configuration
from tests.interop.conftest import missing

BOUND = 30.0
DOCUMENT = Path(__file__).parents[2] / "docs/deployment.md"
FIRST = "127.0.0.1:8000"
SECOND = re.compile(r"# (server .*)127\.0\.0\.1:8001")


def documented(name: str, replaced: Mapping[str, str] | None = None) -> str:
    """An example of the document; each of `replaced` has to be in it."""
    block = DOCUMENT.read_text().split(f"<!-- example: {name} -->\n```")[1].split("```")[0]
    text = block.partition("\n")[2]
    for old, new in (replaced or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    """Where a program of Debian is."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        missing(f"{name} is not installed")
    return found


@contextlib.asynccontextmanager
async def running(
    *command: str, env: Mapping[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, which is ended at the end of the block if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(env or {})},
        pass_fds=pass_fds,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Wait until something listens on the port."""
    while True:
        assert process.returncode is None, "the process has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return


async def refused(port: int) -> None:
    """Wait until nothing listens on the port any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def app(
    folder: Path,
    replaced: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The document's program and its port."""
    with reserved_port() as port:
        path = folder / f"app{port}.py"
        path.write_text(documented("app.py", replaced))
        environ = {**(env or {}), "PORT": str(port)}
        async with running(sys.executable, str(path), env=environ) as process:
            await listening(process, port)
            yield process, port


@contextlib.asynccontextmanager
async def proxy(
    name: str,
    folder: Path,
    certificates: Certificates,
    app_port: int,
    second: int | None = None,
    replaced: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """nginx or HAProxy as the document has it, in front of the program: the port of its TLS.

    second: the port of a second program.
    """
    with reserved_port() as port:
        replaced = {FIRST: f"127.0.0.1:{app_port}", **(replaced or {})}
        if second is not None:
            commented = SECOND.search(documented(name))
            assert commented is not None
            replaced[commented[0]] = f"{commented[1]}127.0.0.1:{second}"
        if name == "nginx":
            replaced["listen 443 ssl;"] = f"listen 127.0.0.1:{port} ssl;"
            replaced["/etc/ssl/example.com.crt"] = certificates.cert_path
            replaced["/etc/ssl/example.com.key"] = certificates.key_path
            text = nginx_configuration(folder, documented(name, replaced))
            command = [program("nginx"), "-p", str(folder), "-c"]
        else:
            pem = folder / "both.pem"
            pem.write_text(certificates.cert + certificates.key)
            replaced["bind :443"] = f"bind 127.0.0.1:{port}"
            replaced["/etc/ssl/example.com.pem"] = str(pem)
            text = documented(name, replaced)
            command = [program("haproxy"), "-db", "-f"]
        config = folder / f"{name}.conf"
        config.write_text(text)
        async with running(*command, str(config)) as process:
            await listening(process, port)
            try:
                yield port
            finally:
                process.send_signal(signal.SIGTERM)  # killed, nginx would leave its workers
                await process.wait()


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock
