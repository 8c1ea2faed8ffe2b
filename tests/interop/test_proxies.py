"""Our server behind nginx and behind HAProxy, as they pass WebSockets on to it.

They listen on unix sockets, so that no port has to be free. Both clients, ours and `websockets`,
meet our server through them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Certificates
from tests.helpers.nginx import nginx_configuration
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosedError as TheirConnectionClosedError

from coro_websocket import ConnectionClosedError, Read, Request, Write, connect, serve

from .conftest import missing

BOUND = 30.0

NGINX = """
server {{
    listen unix:{front}{tls};
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{
        proxy_pass http://unix:{back};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
        proxy_set_header Host $host;
    }}
}}
"""

HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout tunnel 60s
frontend front
    bind unix@{front}{tls}
    default_backend back
backend back
    server ours unix@{back}
"""


@dataclass
class Proxied:
    """Where a proxy listens, and what our server behind it has accepted."""

    path: str
    tls: Certificates | None
    accepted: asyncio.Queue[tuple[Request, Read, Write]]


async def answers(process: asyncio.subprocess.Process, path: str) -> None:
    """Wait until something listens on the unix socket."""
    while True:
        assert process.returncode is None, "the proxy has ended"
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return


@asynccontextmanager
async def proxied(name: str, certificates: Certificates, tls: bool) -> AsyncIterator[Proxied]:
    program = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if program is None:
        missing(f"{name} is not installed")
    accepted: asyncio.Queue[tuple[Request, Read, Write]] = asyncio.Queue()

    async def handler(request: Request, read: Read, write: Write) -> None:
        if request.pathname.startswith("/echo"):
            async for message in read:
                await write(message)
        else:
            accepted.put_nowait((request, read, write))
        await write.wait_closed()

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        front, back = str(folder / "front"), str(folder / "back")
        await stack.enter_async_context(
            serve(handler, path=back, subprotocols=["chat"], close_timeout=1)
        )
        pem = folder / "both.pem"
        pem.write_text(certificates.cert + certificates.key)
        if name == "nginx":
            server = NGINX.format(
                front=front,
                back=back,
                tls=" ssl" if tls else "",
                cert=certificates.cert_path,
                key=certificates.key_path,
            )
            text = nginx_configuration(folder, server)
            arguments = ["-p", str(folder), "-c"]
        else:
            text = HAPROXY.format(front=front, back=back, tls=f" ssl crt {pem}" if tls else "")
            arguments = ["-db", "-f"]
        config = folder / "config"
        config.write_text(text)
        for path, mode in ((folder, 0o755), (back, 0o666)):  # for nginx's worker, another user
            os.chmod(path, mode)
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            str(config),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(BOUND):
                await answers(process, front)
            yield Proxied(front, certificates if tls else None, accepted)
        finally:
            process.terminate()
            await process.wait()


pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.parametrize("name", ["nginx", "haproxy"]),
]

MESSAGES: list[str | bytes] = ["", "Grüße, 世界 🌍", b"\x00\xff" * 1000, "x" * 70_000, bytes(2**20)]


def options(proxy: Proxied) -> dict[str, object]:
    if proxy.tls is None:
        return {"path": proxy.path}
    return {"path": proxy.path, "tls": {"ca": proxy.tls.ca}}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_our_client_reaches_our_server(
    name: str, tls: bool, certificates: Certificates
) -> None:
    async with asyncio.timeout(BOUND), proxied(name, certificates, tls) as proxy:
        where: dict[str, Any] = options(proxy)
        async with connect(pathname="/echo?a=%20b", subprotocol="chat", **where) as (
            response,
            read,
            write,
        ):
            assert response.subprotocol == "chat"
            assert [extension for extension, _ in response.extensions] == ["permessage-deflate"]
            for message in MESSAGES:
                await write(message)
                await write([message[:1], message[1:]])
                for _ in range(2):
                    answer = await read()
                    assert answer is not None
                    assert answer.payload == message
            assert await write.ping() > 0


async def test_another_client_reaches_our_server(name: str, certificates: Certificates) -> None:
    async with asyncio.timeout(BOUND), proxied(name, certificates, False) as proxy:
        async with unix_connect(proxy.path, "ws://localhost/echo") as theirs:
            for message in MESSAGES:
                await theirs.send(message)
                assert await theirs.recv() == message
            await (await theirs.ping())


async def test_closes_pass_with_their_codes(name: str, certificates: Certificates) -> None:
    async with asyncio.timeout(BOUND), proxied(name, certificates, False) as proxy:
        async with connect(pathname="/a", path=proxy.path) as (_, read, _):
            _, _, their_write = await proxy.accepted.get()
            await their_write.close(4001, "Grüße")
            with pytest.raises(ConnectionClosedError) as caught:
                await read()
            assert (caught.value.code, caught.value.reason) == (4001, "Grüße")
        async with connect(pathname="/b", path=proxy.path) as (_, _, write):
            _, their_read, _ = await proxy.accepted.get()
            await write.close(3001, "later")
            with pytest.raises(ConnectionClosedError) as caught:
                await their_read()
            assert (caught.value.code, caught.value.reason) == (3001, "later")
        async with unix_connect(proxy.path, "ws://localhost/c") as theirs:
            _, _, their_write = await proxy.accepted.get()
            await their_write.close(4002)
            with pytest.raises(TheirConnectionClosedError, match="4002"):
                await theirs.recv()


async def test_a_client_that_vanishes_is_noticed(name: str, certificates: Certificates) -> None:
    async with asyncio.timeout(BOUND), proxied(name, certificates, False) as proxy:
        response, _, write = await connect(pathname="/a", path=proxy.path)
        _, their_read, _ = await proxy.accepted.get()
        response.socket.shutdown()
        with pytest.raises(ConnectionClosedError) as caught:
            await their_read()
        assert caught.value.code == 1006
        await write.wait_closed()
