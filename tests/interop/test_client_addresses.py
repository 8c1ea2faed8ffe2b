"""Who the client is behind HAProxy, by the PROXY protocol and by X-Forwarded-For.

HAProxy is given a socket that listens already, so that no port has to be free.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.conftest import Certificates

from coro_websocket import ClientAddress, Read, Request, Write, connect, serve

from .conftest import missing

BOUND = 30.0

CONFIG = """
global
    maxconn 100
defaults
    mode {mode}
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend front
    bind fd@{fd}{tls}
    default_backend back
backend back
    {more}
    server ours unix@{back}{server}
"""


@asynccontextmanager
async def haproxy(
    folder: Path, *, mode: str, back: str, server: str = "", more: str = "", tls: str = ""
) -> AsyncIterator[int]:
    """HAProxy in front of the unix socket `back`; the port that it listens on."""
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if program is None:
        missing("haproxy is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = folder / "config"
        config.write_text(
            CONFIG.format(
                mode=mode, fd=listener.fileno(), tls=tls, more=more, back=back, server=server
            )
        )
        process = await asyncio.create_subprocess_exec(
            *(program, "-db", "-f", str(config)),
            pass_fds=[listener.fileno()],
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            await process.wait()


class Seen(list[tuple[ClientAddress | None, str]]):
    async def handler(self, req: Request, read: Read, write: Write) -> None:
        self.append((req.client, req.scheme))
        await write("served")
        await read()


pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
async def test_the_proxy_protocol_of_haproxy(send: str, tmp_path: Path) -> None:
    seen = Seen()
    back = str(tmp_path / "back")
    async with asyncio.timeout(BOUND), serve(seen.handler, path=back, proxy_protocol=["unix"]):
        async with haproxy(tmp_path, mode="tcp", back=back, server=" " + send) as port:
            for _ in range(2):
                async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
                    assert await client.recv() == "served"
                    address = client.local_address
                assert seen.pop() == (address, "ws")


async def test_the_proxy_protocol_of_haproxy_tells_of_tls(
    tmp_path: Path, certificates: Certificates
) -> None:
    """It ends TLS, and our server is told so."""
    seen = Seen()
    back, pem = str(tmp_path / "back"), tmp_path / "both.pem"
    pem.write_text(certificates.cert + certificates.key)
    options: dict[str, Any] = {"server": " send-proxy-v2-ssl-cn", "tls": f" ssl crt {pem}"}
    async with asyncio.timeout(BOUND), serve(seen.handler, path=back, proxy_protocol=["unix"]):
        async with haproxy(tmp_path, mode="tcp", back=back, **options) as port:
            url = f"wss://127.0.0.1:{port}/"
            async with connect(url, tls=certificates.client) as (res, read, _):
                assert await read() is not None
                address = res.socket.getsockname()
    assert seen == [(address, "wss")]


async def test_the_proxy_protocol_of_haproxy_before_tls_that_is_ours(
    tmp_path: Path, certificates: Certificates
) -> None:
    seen = Seen()
    back = str(tmp_path / "back")
    options: dict[str, Any] = {"proxy_protocol": True, "tls": certificates.server}
    async with asyncio.timeout(BOUND), serve(seen.handler, path=back, **options):
        async with haproxy(tmp_path, mode="tcp", back=back, server=" send-proxy-v2") as port:
            context: ssl.SSLContext = certificates.client
            async with websockets.connect(f"wss://127.0.0.1:{port}/", ssl=context) as client:
                assert await client.recv() == "served"
                address = client.local_address
    assert seen == [(address, "wss")]


async def test_the_health_checks_of_haproxy_are_no_faults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They come with a header of the command LOCAL, and leave."""
    seen = Seen()
    back = str(tmp_path / "back")
    async with asyncio.timeout(BOUND), serve(seen.handler, path=back, proxy_protocol=True) as ours:
        server = " send-proxy-v2 check inter 20ms"
        async with haproxy(tmp_path, mode="tcp", back=back, server=server) as port:
            while not ours.handshakes:
                await asyncio.sleep(0.001)
            async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
                assert await client.recv() == "served"
    assert [r for r in caplog.records if r.name == "coro_websocket.server"] == []


@pytest.mark.parametrize("spoofed", [None, "198.51.100.66", 'for="'])
async def test_x_forwarded_for_of_haproxy_whatever_the_client_has_sent(
    spoofed: str | None, tmp_path: Path
) -> None:
    seen = Seen()
    back = str(tmp_path / "back")
    more = "option forwardfor\n    http-request set-header X-Forwarded-Proto https"
    headers = {} if spoofed is None else {"X-Forwarded-For": spoofed}
    async with asyncio.timeout(BOUND), serve(seen.handler, path=back, trusted_proxies=["unix"]):
        async with haproxy(tmp_path, mode="http", back=back, more=more) as port:
            url = f"ws://127.0.0.1:{port}/"
            async with websockets.connect(url, additional_headers=headers) as client:
                assert await client.recv() == "served"
    assert seen == [(("127.0.0.1", None), "wss")]
