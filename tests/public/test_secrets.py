"""Nothing that may be a credential gets into a log, an error, a `repr` or an answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, answer_to, clients_of, read_head, until, watchdog
from tests.helpers.scripted_server import scripted

from coro_websocket import (
    HandshakeError,
    InvalidOption,
    InvalidURL,
    Options,
    ProxyError,
    TLSOptions,
    WebSocketError,
    connect,
    parse_url,
    reconnect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

SECRET = "sesame"
ENCODED = base64.b64encode(f"user:{SECRET}".encode()).decode()
SECRETS = (SECRET, SECRET.encode().hex(), ENCODED.rstrip("="))

HEADERS = {
    "Authorization": f"Bearer {SECRET}",
    "Cookie": f"session={SECRET}",
    "X-Vault-Token": SECRET,
    "Ocp-Apim-Subscription-Key": SECRET,
    "Mine": SECRET,
}
# All that a client may be told that is nobody's business.
CLIENT: dict[str, Any] = {
    "headers": HEADERS,
    "subprotocol": ["v1", f"bearer.{SECRET}"],
    "username": "user",
    "password": SECRET,
    "pathname": f"/chat?token={SECRET}",
    "ping_message": SECRET,
}


def texts(error: BaseException | None) -> Iterator[str]:
    """What can be read of an error, with all that is behind it."""
    while error is not None:
        yield str(error)
        yield repr(error)
        yield from getattr(error, "__notes__", ())
        yield repr(getattr(error, "response", None))
        yield from texts(error.__cause__)
        error = error.__context__


def assert_no_secret(*shown: str) -> None:
    for text in shown:
        for secret in SECRETS:
            assert secret not in text


@pytest.fixture
def log(caplog):
    """The log, which in the end has no secrets and no forged lines."""
    caplog.set_level(logging.INFO)
    yield caplog
    assert_no_secret(caplog.text)
    for record in caplog.records:
        assert record.getMessage().isprintable()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Options(host=f"user:{SECRET}@h"),
        lambda: Options(host=f"{SECRET}@h"),
        lambda: Options(host=f"user:{SECRET}:@h"),
        lambda: Options(host=f"[user:{SECRET}@::1]"),
        lambda: Options(host=f"user%3A{SECRET}%40h"),
        lambda: Options(host=f"\u00fcser:{SECRET}@h"),
        lambda: parse_url(f"ws://user:{SECRET}/x@h/"),
        lambda: parse_url(f"wss:user:{SECRET}@h"),
        lambda: parse_url(f"user:{SECRET}@h"),
        lambda: parse_url(f"ws://user:{SECRET}%0A@h"),
        lambda: Options(proxy=f"http://user:{SECRET}/x@h"),
        lambda: Options(proxy=f"{SECRET}:user@h://x"),
        lambda: Options(proxy=f"ftp://user:{SECRET}@h"),
        lambda: Options(proxy=f"http://user:{SECRET}\u2100@h"),
        lambda: Options(subprotocol=f"bearer {SECRET}"),
        lambda: Options(subprotocol=["v1", f"{SECRET}="]),
        lambda: Options(subprotocol=[SECRET, SECRET]),
        lambda: Options(headers=[(f"Authorization: {SECRET}", "x")]),
        lambda: Options(headers=[("Authorization", f"{SECRET}\n")]),
        lambda: Options(headers=[("Authorization", f"{SECRET}\ud800")]),
        lambda: Options(origin=f"https://user:{SECRET}@x\n"),
        lambda: Options(user_agent=f"{SECRET}\0"),
        lambda: Options(host="h", username=f"{SECRET}:", password="x"),
        lambda: Options(host="h", username="x", password=f"{SECRET}\n"),
        lambda: Options(host="h", local_addr=f"user:{SECRET}@h"),
        lambda: Options(host="h", pathname=f"/?{SECRET} x"),
        lambda: Options(port=SECRET),  # type: ignore[arg-type]
        lambda: connect("wss://h/", tls={"cert": "-----BEGIN X", "key": SECRET}),
        lambda: connect("wss://h/", tls={"key": f"-----BEGIN PRIVATE KEY-----{SECRET}"}),
        lambda: connect("wss://h/", tls={"password": SECRET}),
        lambda: serve(print, f"user:{SECRET}@h"),
        lambda: serve(print, subprotocols=[f"bearer {SECRET}"]),
        lambda: serve(print, headers=[(f"Set-Cookie: {SECRET}", "x")]),
        lambda: serve(print, origins=[f"https://user:{SECRET}@h/"]),
    ],
)
async def test_an_option_that_cannot_be_used_is_not_shown(make):
    with pytest.raises((InvalidOption, InvalidURL)) as caught:
        make()
    assert_no_secret(*texts(caught.value))


async def test_reprs(certificates):
    options = Options(
        host="h",
        tls=TLSOptions(cert=certificates.cert, key=certificates.key),
        proxy=f"http://user:{SECRET}@p",
        **CLIENT,
    )
    connecting = connect(options)
    shown = [*map(repr, (options, options.url, options.tls, options.proxy, connecting))]
    connecting.close()
    assert_no_secret(*shown)
    assert certificates.key[60:100] not in "".join(shown)
    assert "Authorization" in shown[0]


async def test_a_connection_that_opens(log):
    requests = []

    async def handler(req, read, write):
        requests.append(req)
        await read()
        raise ValueError("of the handler")

    async with serve(handler, subprotocols=[f"bearer.{SECRET}"]) as server:
        options = Options.build(server.url, **CLIENT)
        async with connect(options) as (res, read, write):
            await write("x")
            with pytest.raises(WebSocketError) as caught:
                await read()
    assert res.subprotocol == f"bearer.{SECRET}"
    assert_no_secret(repr(res), repr(requests), *texts(caught.value))
    assert "'Sec-WebSocket-Protocol', '[hidden]'" in repr(res)


ANSWERS = [
    lambda request: request,  # an echo
    lambda request: b"HTTP/1.1 101 OK\r\n" + request,
    lambda request: request.replace(b"\r\n", b"\n"),
    lambda request: b"HTTP/1.1 200 OK\r\n" + request.partition(b"\r\n")[2],
    lambda request: b"HTTP/1.1 101 OK\r\n" + request.partition(b"\r\n")[2],
    lambda request: request[request.index(b"Authorization") :],
    lambda request: request[request.index(b"Cookie") :].replace(b"Cookie: session=", b"\n"),
    lambda request: answer_to(request)[:-2] + b"Sec-WebSocket-Protocol: sesame\r\n\r\n",
    lambda request: answer_to(request)[:-2] + b"Set-Cookie: \r\nsesame\r\n\r\n",
    lambda request: answer_to(request)[:-2] + b"Set-Cookie sesame: x\r\n\r\n",
    lambda request: answer_to(request)[:-2] + b"Set-Cookie: sesame\0\r\n\r\n",
    lambda request: answer_to(request)[:-2] + b"Set-Cookie: sesame",
    lambda request: b"HTTP/1.1 401 No\r\nSet-Cookie: sesame\r\nX: sesame\r\n\r\n",
    lambda request: b"HTTP/1.1 302 X\r\nLocation: http://user:sesame@[::1/?sesame\r\n\r\n",
    lambda request: b"HTTP/1.1 302 X\r\nLocation: http://user:sesame\xe2\x84\x80@h/\r\n\r\n",
    lambda request: b"HTTP/1.1 302 X\r\nLocation: ftp://user:sesame@h/\r\n\r\n",
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_whatever_a_server_answers(log, answer):
    with scripted(lambda link: link.send(answer(link.head()))) as server:
        with pytest.raises(WebSocketError) as caught:
            async with asyncio.timeout(BOUND):
                await connect(server.url, **CLIENT)
        with pytest.raises(WebSocketError) as again:
            async for _ in reconnect(server.url, max_attempts=1, **CLIENT):
                pass
    assert_no_secret(*texts(caught.value), *texts(again.value))


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: request,
        lambda request: b"HTTP/1.1 200 OK\r\n" + request,
        lambda request: b"HTTP/1.1 407 No\r\n" + request.partition(b"\r\n")[2],
        lambda request: b"HTTP/1.1 200 OK\r\nsesame\r\n\r\n",
        lambda request: request[request.index(b"Proxy-Auth") :],
        lambda request: b"",
    ],
)
async def test_whatever_a_proxy_answers(log, answer):
    with scripted(lambda link: link.send(answer(link.head()))) as server:
        proxy = f"http://user:{SECRET}@127.0.0.1:{server.port}"
        with pytest.raises(ProxyError) as caught:
            await connect("ws://chat.test/", proxy=proxy, **CLIENT)
    assert_no_secret(*texts(caught.value))


@pytest.mark.parametrize("scheme", ["socks5h", "socks4a"])
@pytest.mark.parametrize("answer", [b"\5\2\1\1", b"\5\xff", b"sesame", b"\0\x5d", b""])
async def test_whatever_a_socks_proxy_answers(log, scheme, answer):
    def script(link):
        link.more()
        link.send(answer)

    with scripted(script) as server:
        userinfo = f"user:{SECRET}" if scheme == "socks5h" else SECRET
        with pytest.raises(ProxyError) as caught:
            await connect("ws://h/", proxy=f"{scheme}://{userinfo}@127.0.0.1:{server.port}")
    assert_no_secret(*texts(caught.value))


LINES = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
LINES += f"Sec-WebSocket-Protocol: v1, bearer.{SECRET}\r\n"
GET = f"GET /chat?token={SECRET} HTTP/1.1\r\nHost: h\r\n"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        "\r\n\r\n\0" + GET + LINES,
        "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + GET + LINES,
        "\0" + GET + LINES,
        " " + LINES,
        LINES,
        LINES.replace("\r\n", "\n"),
        f"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{GET}{LINES}",
        GET.replace("HTTP/1.1", "HTTP/1.1 x") + LINES,
        GET.replace("/chat", f"ws://user:{SECRET}@h/chat") + LINES + UPGRADE + KEY,
        GET.replace("/chat", f"user:{SECRET}@h") + LINES + UPGRADE + KEY,
        GET.replace("GET", "POST") + LINES,
        GET.replace("Host: h", f"Host: user:{SECRET}@h") + LINES,
        GET + LINES,
        GET + LINES + UPGRADE,
        GET + LINES + "Host: h\r\n",
        GET + LINES + UPGRADE + KEY + "Origin: https://evil.example\r\n",
        GET + LINES + UPGRADE + KEY + f"Origin: https://user:{SECRET}@evil.example/?{SECRET}\r\n",
        GET + LINES + UPGRADE + KEY + f"Sec-WebSocket-Protocol: bearer {SECRET}\r\n",
        GET + LINES + UPGRADE + KEY + "Sec-WebSocket-Protocol: " + f"{SECRET}," * 200 + "\r\n",
        GET + LINES + f"\0{SECRET}\r\n",
        GET + LINES + f"{SECRET}\r\n",
        GET + f"X: a\r\n\0{SECRET}\r\n",
        GET + f"Authorization Bearer {SECRET}: x\r\n",
        GET + f"Authorization: Bearer {SECRET}\0\r\n",
        GET + "Content-Length: x\r\n" + LINES,
        GET + LINES + f"X: {SECRET * 20_000}\r\n",
    ],
)
async def test_whatever_a_client_asks_for(log, request_):
    log.set_level(logging.DEBUG)  # where plain requests are
    async with serve(print) as server, asyncio.timeout(BOUND):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write((request_ + "\r\n").encode("latin-1"))
        answer = b""
        with contextlib.suppress(ConnectionError):  # of a request that was not read to its end
            while data := await reader.read(65536):
                answer += data
        writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert_no_secret(answer.decode("latin-1"))
    assert "refused" in log.text


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no unix sockets")
async def test_the_path_of_a_client_forges_no_line_of_the_log(log, tmp_path, monkeypatch):
    ended = asyncio.get_running_loop().create_future()

    async def handler(req, read, write):
        try:
            await read()
        finally:
            ended.set_result(req.peer)

    name = "x\n2026-01-01 CRITICAL root: forged\x1b[31m"
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    async with serve(handler, path="server") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(name)
            client.connect("server")
            client.setblocking(False)
            request = f"GET / HTTP/1.1\r\nHost: h\r\n{UPGRADE}{KEY}\r\n"
            await asyncio.get_running_loop().sock_sendall(client, request.encode())
            await read_head(client)
        async with asyncio.timeout(BOUND):
            assert await ended == name
            await until(lambda: clients_of(server) == 0)
    assert r"x\n2026-01-01 CRITICAL root: forged\x1b[31m" in log.text


async def test_an_error_of_the_handshake_says_how_to_see_what_came():
    def script(link):
        link.accept(b"Sec-WebSocket-Protocol: other")

    with scripted(script) as server:
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url, subprotocol=["v1"])
    assert caught.value.response["Sec-WebSocket-Protocol"] == "other"
