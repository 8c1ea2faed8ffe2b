"""Who the client is behind proxies: `req.client`, `req.scheme`, and what the log says."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import struct
from typing import Any

import pytest
import websockets
from tests.helpers.raw_peer import BOUND, clients_of, until, watchdog

from coro_websocket import InvalidOption, InvalidOptionType, connect, serve

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

LOCAL = ["127.0.0.0/8"]
V1 = b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 80\r\n"
REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Seen(list):
    """What the handlers have been given."""

    async def handler(self, req, read, write):
        self.append((req.client, req.scheme))
        await write("served")
        await read()


def v2(ip, port, more=b""):
    ip = ipaddress.ip_address(ip)
    body = ip.packed + ip.packed + struct.pack("!HH", port, 80) + more
    family = 0x11 if ip.version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, family]) + struct.pack("!H", len(body)) + body


def raw(port, data):
    """What a plain socket is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=BOUND) as sock:
        sock.sendall(data)
        received = b""
        try:
            while b"\r\n\r\n" not in received and (data := sock.recv(4096)):
                received += data
        except ConnectionResetError:
            pass
        return received


async def ask(server, data):
    return await asyncio.to_thread(raw, server.port, data)


async def test_without_trusted_proxies_the_peer_is_the_client_whatever_it_says():
    seen = Seen()
    headers = {"Forwarded": "for=1.1.1.1;proto=https", "X-Forwarded-For": "1.1.1.1"}
    async with asyncio.timeout(BOUND), serve(seen.handler) as server:
        async with websockets.connect(server.url, additional_headers=headers) as client:
            await client.recv()
            here = client.local_address
    assert seen == [(here, "ws")]


@pytest.mark.parametrize(
    ("headers", "client", "scheme"),
    [
        ({"X-Forwarded-For": "1.1.1.1, 203.0.113.5"}, ("203.0.113.5", None), "ws"),
        (
            {"X-Forwarded-For": "203.0.113.5, 127.0.0.2", "X-Forwarded-Proto": "https"},
            ("203.0.113.5", None),
            "wss",
        ),
        (
            {"Forwarded": 'for=1.1.1.1, for="[2001:db8::5]:4711";proto=https'},
            ("2001:db8::5", 4711),
            "wss",
        ),
        ({"Forwarded": "for=_hidden"}, ("_hidden", None), "ws"),
    ],
)
async def test_a_trusted_proxy_names_the_client(headers, client, scheme, caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    async with asyncio.timeout(BOUND), serve(seen.handler, trusted_proxies=LOCAL) as server:
        async with websockets.connect(server.url, additional_headers=headers) as theirs:
            await theirs.recv()
            proxy = "{}:{}".format(*theirs.local_address)
        await until(lambda: not clients_of(server))
    assert seen == [(client, scheme)]
    lines = [r.getMessage() for r in caplog.records if " closed with " in r.getMessage()]
    assert f" from {seen[0][0]} through {proxy} to '/' closed with 1000" in lines[0]


async def test_a_proxy_on_a_unix_socket_is_trusted_where_that_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    path = str(tmp_path / "socket")
    headers = {"X-Forwarded-For": "203.0.113.5"}
    for trusted in ([], ["unix"]):
        async with asyncio.timeout(BOUND), serve(seen.handler, path=path, trusted_proxies=trusted):
            async with connect(path=path, headers=headers) as (_, read, _):
                await read()
    assert seen == [(None, "ws"), (("203.0.113.5", None), "ws")]
    assert " from 203.0.113.5 through a unix socket to '/' opened" in caplog.text


@pytest.mark.parametrize("header", [V1, v2("203.0.113.5", 4711)], ids=["v1", "v2"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_proxy_protocol_names_the_client_before_tls(header, tls, certificates, caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    context = certificates.server if tls else None
    async with serve(seen.handler, tls=context, proxy_protocol=True) as server:

        def through_a_proxy():
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=BOUND)
            with sock:
                sock.sendall(header)
                if tls:
                    sock = certificates.client.wrap_socket(sock, server_hostname="localhost")
                with sock:
                    sock.sendall(REQUEST + b"\r\n")
                    assert b" 101 " in sock.recv(4096)

        async with asyncio.timeout(BOUND):
            await asyncio.to_thread(through_a_proxy)
            await until(lambda: not clients_of(server))
    assert seen == [(("203.0.113.5", 4711), "wss" if tls else "ws")]
    assert "from 203.0.113.5:4711 through 127.0.0.1:" in caplog.text


async def test_what_a_local_header_is_sent_by_is_the_client_itself():
    seen = Seen()
    header = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
    async with asyncio.timeout(BOUND), serve(seen.handler, proxy_protocol=True) as server:
        assert b" 101 " in await ask(server, header + REQUEST + b"\r\n")
        assert b" 101 " in await ask(server, b"PROXY UNKNOWN\r\n" + REQUEST + b"\r\n")
    assert [client.host for client, _ in seen] == ["127.0.0.1"] * 2


async def test_the_proxy_protocol_tells_of_tls_up_to_the_proxy():
    seen = Seen()
    header = v2("203.0.113.5", 1, struct.pack("!BHBI", 0x20, 5, 1, 0))
    async with asyncio.timeout(BOUND), serve(seen.handler, proxy_protocol=True) as server:
        assert b" 101 " in await ask(server, header + REQUEST + b"\r\n")
    assert seen == [(("203.0.113.5", 1), "wss")]


async def test_headers_are_believed_of_what_the_proxy_protocol_names_only_if_that_is_trusted():
    """A client of the balancer's is no trusted proxy because the balancer is one."""
    seen = Seen()
    request = REQUEST + b"X-Forwarded-For: 1.1.1.1\r\n\r\n"
    trusted = [*LOCAL, "198.51.100.0/24"]
    async with asyncio.timeout(BOUND):
        async with serve(seen.handler, proxy_protocol=True, trusted_proxies=trusted) as server:
            await ask(server, V1 + request)
            await ask(server, v2("198.51.100.7", 1) + request)
    assert [client.host for client, _ in seen] == ["203.0.113.5", "1.1.1.1"]


@pytest.mark.parametrize(
    "data",
    [
        REQUEST + b"\r\n",
        b"PROXY TCP4 x\r\n" + REQUEST,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(8),
    ],
    ids=["HTTP", "a malformed header", "TLS"],
)
async def test_who_sends_no_proper_header_is_closed_at_once_and_logged(data, caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    async with (
        asyncio.timeout(BOUND),
        serve(seen.handler, proxy_protocol=True, timeout=60) as server,
    ):
        assert await ask(server, data) == b""
        await until(lambda: not clients_of(server))
    assert not seen
    assert "failed in its opening handshake: expected" in caplog.text


async def test_a_header_that_does_not_end_counts_into_timeout(caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    async with asyncio.timeout(BOUND):
        async with serve(seen.handler, proxy_protocol=True, timeout=0.05) as server:
            assert await ask(server, b"PROXY TCP4 203") == b""
    assert "it took longer than 0.05 s (timeout)" in caplog.text


async def test_only_trusted_proxies_may_send_a_header_where_there_are_any(caplog):
    caplog.set_level(logging.INFO)
    seen = Seen()
    options: dict[str, Any] = {"proxy_protocol": True, "trusted_proxies": ["192.0.2.0/24"]}
    async with asyncio.timeout(BOUND), serve(seen.handler, **options) as server:
        assert await ask(server, V1 + REQUEST + b"\r\n") == b""
        await until(lambda: not clients_of(server))
    assert not seen
    assert "the peer is not in trusted_proxies" in caplog.text


async def test_a_list_has_only_these_peers_send_a_header():
    seen = Seen()
    async with asyncio.timeout(BOUND):
        async with serve(seen.handler, proxy_protocol=["192.0.2.0/24"]) as server:
            assert b" 101 " in await ask(server, REQUEST + b"\r\n")
            assert b" 400 " in await ask(server, V1 + REQUEST + b"\r\n")
        async with serve(seen.handler, proxy_protocol=LOCAL) as server:
            assert b" 101 " in await ask(server, V1 + REQUEST + b"\r\n")
    assert [client.host for client, _ in seen] == ["127.0.0.1", "203.0.113.5"]


async def test_a_probe_that_connects_and_leaves_is_not_logged_as_a_fault(caplog):
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(BOUND), serve(Seen().handler, proxy_protocol=True) as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        await until(lambda: server.handshakes == 0)
    assert "failed" not in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"trusted_proxies": "10.0.0.0/8"}, InvalidOptionType),
        ({"trusted_proxies": ["10.0.0.1/8"]}, InvalidOption),
        ({"trusted_proxies": True}, InvalidOptionType),
        ({"trusted_proxies": [], "proxy_protocol": True}, InvalidOption),
        ({"proxy_protocol": "10.0.0.0/8"}, InvalidOptionType),
        ({"proxy_protocol": ["nonsense"]}, InvalidOption),
        ({"proxy_protocol": None}, InvalidOptionType),
    ],
)
async def test_what_cannot_be_used_is_refused(options, error):
    with pytest.raises(error) as caught:
        serve(Seen().handler, **options)
    assert caught.value.option == next(iter(options))


async def test_the_certificate_of_a_client_is_in_req_tls(certificates):
    seen = []

    async def handler(req, read, write):
        seen.append(req.tls)

    async with asyncio.timeout(BOUND), serve(handler, tls=certificates.server) as server:
        async with connect(server.url, tls=certificates.client) as (_, read, _):
            await read()
    assert seen[0].version == "TLSv1.3"
    assert ssl.HAS_TLSv1_3
