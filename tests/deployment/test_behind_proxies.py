"""docs/deployment.md: nginx and HAProxy in front of its program, as it configures them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Certificates
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as their_connect
from websockets.exceptions import InvalidStatus

from coro_websocket import Options, serve

from .documented import BOUND, app, documented, proxy, refused

asyncio_only = pytest.mark.asyncio(loop_factories=["asyncio"])

PROXIES = ["nginx", "haproxy", "haproxy-proxy-protocol"]
WITH_PROXY_PROTOCOL = {"trusted_proxies=proxies": 'proxy_protocol=["127.0.0.1"]'}
DEFAULTS = Options.build(None, host="localhost")


def app_for(name: str) -> dict[str, str]:
    return WITH_PROXY_PROTOCOL if name == "haproxy-proxy-protocol" else {}


@contextlib.asynccontextmanager
async def client(
    port: int, context: ssl.SSLContext, **options: Any
) -> AsyncIterator[ClientConnection]:
    """`websockets`, from an address of its own."""
    async with their_connect(
        f"wss://localhost:{port}/echo",
        host="127.0.0.1",
        ssl=context,
        local_addr=("127.0.0.2", 0),
        proxy=None,
        **options,
    ) as theirs:
        yield theirs


async def health(port: int, context: ssl.SSLContext) -> int:
    async with httpx.AsyncClient(verify=context) as theirs:
        return (await theirs.get(f"https://localhost:{port}/healthz")).status_code


@asyncio_only
@pytest.mark.parametrize("name", PROXIES)
async def test_a_proxy_ends_tls_and_says_who_the_client_is_and_what_page_it_comes_from(
    name: str, tmp_path: Path, certificates: Certificates
):
    async with (
        asyncio.timeout(BOUND),
        app(tmp_path, app_for(name)) as (process, app_port),
        proxy(name, tmp_path, certificates, app_port) as port,
    ):
        forged = {
            "X-Forwarded-For": "192.0.2.1",
            "X-Forwarded-Proto": "http",
            "Forwarded": "for=192.0.2.1;proto=http",
        }
        async with client(port, certificates.client, additional_headers=forged) as theirs:
            assert await theirs.recv() == "wss from 127.0.0.2"
            for message in ("Grüße", "x" * 200_000):
                await theirs.send(message)
                assert await theirs.recv() == message
            assert await health(port, certificates.client) == 200
            own, other = f"https://localhost:{port}", "https://evil.example"
            async with client(port, certificates.client, origin=own) as page:
                await page.recv()
            with pytest.raises(InvalidStatus, match="403"):
                await client(port, certificates.client, origin=other).__aenter__()

            # It drains: the connection goes on, and nobody else is let in.
            process.send_signal(signal.SIGTERM)
            await refused(app_port)
            if name != "haproxy-proxy-protocol":
                assert await health(port, certificates.client) in (502, 503)
            await theirs.send("still here")
            assert await theirs.recv() == "still here"
        assert await process.wait() == 0


@asyncio_only
@pytest.mark.parametrize("name", PROXIES)
async def test_while_a_server_drains_whoever_comes_gets_to_another_one(
    name: str, tmp_path: Path, certificates: Certificates
):
    async with (
        asyncio.timeout(BOUND),
        app(tmp_path, app_for(name)) as (first, first_port),
        app(tmp_path, app_for(name)) as (second, second_port),
        proxy(name, tmp_path, certificates, first_port, second_port) as port,
    ):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                theirs = await stack.enter_async_context(client(port, certificates.client))
                await theirs.recv()
            first.send_signal(signal.SIGTERM)
            await refused(first_port)
            for _ in range(10):
                async with client(port, certificates.client) as late:
                    assert await late.recv() == "wss from 127.0.0.2"
        assert await first.wait() == 0
        assert second.returncode is None


def seconds(name: str, setting: str) -> float:
    found = re.findall(rf"{setting}\s+(\d+)s", documented(name))
    assert found, setting
    return min(map(float, found))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("nginx", "proxy_read_timeout"),
        ("nginx", "proxy_send_timeout"),
        ("haproxy", "timeout tunnel"),
        ("haproxy-proxy-protocol", "timeout client"),
        ("haproxy-proxy-protocol", "timeout server"),
    ],
)
def test_a_proxys_time_for_silence_is_longer_than_the_keepalive(name: str, setting: str):
    assert seconds(name, setting) > DEFAULTS.ping_interval + DEFAULTS.ping_timeout


@asyncio_only
@pytest.mark.deep
@pytest.mark.parametrize("name", PROXIES)
async def test_pings_keep_an_idle_connection_through_a_proxy(
    name: str, tmp_path: Path, certificates: Certificates
):
    often = {"host, port, ": "host, port, ping_interval=0.3, "}
    async with (
        asyncio.timeout(BOUND),
        app(tmp_path, {**app_for(name), **often}) as (_, app_port),
        proxy(name, tmp_path, certificates, app_port, replaced={"75s": "1s"}) as port,
        client(port, certificates.client, ping_interval=None) as theirs,
    ):
        await theirs.recv()
        await asyncio.sleep(2.5)
        await theirs.send("still here")
        assert await theirs.recv() == "still here"


@asyncio_only
async def test_a_server_behind_the_proxy_protocol_takes_no_client_without(tmp_path: Path):
    async def handler(req, read, write):
        raise AssertionError

    async with asyncio.timeout(BOUND), serve(handler, proxy_protocol=True) as server:
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient() as theirs:
                await theirs.get(f"http://127.0.0.1:{server.port}/")
