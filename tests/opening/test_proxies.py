"""Which proxy a connection goes through, and proxies that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest
from tests.helpers.raw_peer import watchdog
from tests.opening.test_dial import unanswered

from coro_websocket import (
    ConnectTimeout,
    InvalidOption,
    InvalidOptionType,
    Options,
    ProxyError,
    connect,
    parse_url,
    serve,
    worth_retrying,
)
from coro_websocket._options.proxy import Proxy, proxy_from_environment
from coro_websocket._reconnect import retry_after
from coro_websocket.testing import FakeServer

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def hello(peer):
    await peer.send("hello")
    await peer.close()


@contextlib.asynccontextmanager
async def proxy(answer: bytes | None, *, pieces: int = 1, tls=None, lines: bytes = b"Via: test"):
    """A proxy that answers with these bytes, or, with None, connects to the server.

    lines: the header lines of its answer in that case.
    """
    requests = []
    tasks = set()

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head)
        if answer is None:
            host, _, port = head.split()[1].decode().rpartition(":")
            up, down = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n" + lines + b"\r\n\r\n")
            await asyncio.gather(pump(reader, down), pump(up, writer))
            down.close()
        for i in range(pieces if answer is not None else 0):
            size = -(-len(answer) // pieces)
            writer.write(answer[i * size : (i + 1) * size])
            await writer.drain()
            await asyncio.sleep(0)
        if answer != b"":
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()
        for _ in range(3):
            await asyncio.sleep(0)
        tasks.discard(None)
        if tasks:
            await asyncio.wait(tasks)


async def test_connect_is_asked_for_with_credentials_and_only_those_of_the_proxy():
    async with FakeServer(hello) as server, proxy(None) as (url, requests):
        mine = server.url.replace("://", "://me:mine@")
        through = url.replace("://", "://user:p%40ss@")
        async with connect(mine, proxy=through, user_agent="mine/1") as (_, read, _):
            assert (await read()).payload == "hello"
        where = server.url.removeprefix("ws://").rstrip("/").encode()
        lines = requests[0].split(b"\r\n")
        assert lines[0] == b"CONNECT " + where + b" HTTP/1.1"
        assert b"Host: " + where in lines
        assert b"User-Agent: mine/1" in lines
        assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in lines
        assert not any(line.startswith(b"Authorization") for line in lines)
        assert "Proxy-Authorization" not in server.requests[0]
        assert "Authorization" in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "said", "status"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 .*user name", 407),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 'Forbidden'", 403),
        (b"HTTP/1.0 502 \r\n\r\n", "502", 502),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP", None),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "bytes after its answer", None),
        (b"HTTP/1.1 200 OK\r\nX: ", "closed the connection without", None),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "max_head_size", None),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "max_header_lines", None),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
async def test_what_a_proxy_should_not_answer(answer, said, status, pieces):
    async with proxy(answer, pieces=pieces) as (url, _):
        with pytest.raises(ProxyError, match=said) as caught:
            await connect("ws://chat.test/?t=t0ken", proxy=url.replace("://", "://u:sesame@"))
        assert caught.value.status == status
        assert caught.value.phase == "proxy"
        for secret in ("sesame", "t0ken"):
            assert secret not in str(caught.value)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_under_tls(certificates, secure):
    async def handler(req, read, write):
        async for message in read:
            await write(message.payload)

    tls = certificates.server if secure else None
    async with (
        proxy(None, tls=certificates.server) as (url, requests),
        serve(handler, tls=tls, ping_interval=None) as server,
    ):
        options = {"proxy": url, "proxy_tls": certificates.client}
        if secure:
            options["tls"] = certificates.client
        async with connect(server.url, **options) as (res, read, write):
            for message in ("through two", bytes(300_000)):
                await write(message)
                assert (await read()).payload == message
            assert res.code == 101
        assert requests[0].startswith(b"CONNECT 127.0.0.1:")


async def test_the_certificate_of_a_proxy_is_verified(certificates):
    async with proxy(None, tls=certificates.server) as (url, requests):
        with pytest.raises(
            ProxyError, match=r"TLS with the proxy https://127.*: the proxy's certificate"
        ) as caught:
            await connect("ws://chat.test/", proxy=url)
        assert caught.value.phase == "proxy"
        assert caught.value.permanent
        assert requests == []


async def test_a_proxy_under_tls_that_refuses(certificates):
    answer = b"HTTP/1.1 407 No\r\n\r\n"
    async with proxy(answer, tls=certificates.server) as (url, _):
        with pytest.raises(ProxyError, match="407"):
            await connect("wss://chat.test/", proxy=url, proxy_tls=certificates.client)


@pytest.mark.parametrize(("scheme", "named"), [("socks4", b""), ("socks4a", b"localhost")])
async def test_socks4(scheme, named):
    """Resolved here, or named to the proxy, which is then given an address that is none."""
    asked = []

    async def serve_socks(reader, writer):
        request = await reader.readexactly(8)
        await reader.readuntil(b"\0")
        asked.append((await reader.readuntil(b"\0"))[:-1] if request[4:7] == bytes(3) else b"")
        port = int.from_bytes(request[2:4], "big")
        up, down = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\x5a" + bytes(6))

        async def pump(source, target):
            while data := await source.read(65536):
                target.write(data)
            target.write_eof()

        with contextlib.suppress(OSError):
            await asyncio.gather(pump(reader, down), pump(up, writer))
        down.close()
        writer.close()
        done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(serve_socks, "127.0.0.1", 0)
    async with FakeServer(hello) as target:
        url = target.url.replace("127.0.0.1", "localhost")
        through = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(url, proxy=through) as (_, read, _):
            assert (await read()).payload == "hello"
            assert await read() is None
        await done.wait()
    server.close()
    assert asked == [named]


@contextlib.asynccontextmanager
async def socks(*answers: bytes, granted: bytes = b""):
    """A SOCKS proxy that gives these answers; with `granted`, the last of them, it connects on.

    Where it leads is what `asked` then holds; b"" hangs up.
    """
    asked = []
    tasks = set()
    target: list[Any] = []

    async def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
            sink.write_eof()

    async def serve_socks(reader, writer):
        tasks.add(asyncio.current_task())
        for answer in answers:
            asked.append(await reader.read(1000))
            writer.write(answer)
        if granted:
            asked.append(await reader.read(1000))
            up, down = await asyncio.open_connection("127.0.0.1", target[0])
            writer.write(granted)
            await asyncio.gather(pump(reader, down), pump(up, writer))
            down.close()
        writer.close()

    server = await asyncio.start_server(serve_socks, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked, target
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks)


@pytest.mark.parametrize(
    "userinfo",
    ["", "user", "user:", ":sesame", "u" * 256 + ":sesame", "user:" + "s" * 256, "%ff:s"],
)
def test_credentials_that_socks5_cannot_carry(userinfo):
    if not userinfo:
        assert Options(proxy="socks5://p").proxy == Proxy.parse("socks5://p")
        return
    with pytest.raises(InvalidOption, match=r"1 to 255 bytes|UTF-8") as caught:
        Options(proxy=f"socks5://{userinfo}@p")
    assert "sesame" not in str(caught.value)


def test_credentials_that_other_proxies_cannot_carry():
    for wrong in (
        "socks4://u:sesame@p",
        "socks4a://u%00@p",
        "http://u%3Av:sesame@p",
        "http://u:se%0Asame@p",
    ):
        with pytest.raises(InvalidOption, match=r"^proxy: ") as caught:
            Options(proxy=wrong)
        assert "same" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:pass/w@p:1", "http://u:pa[ss@p:1", "http://u:p#ass@p:9"])
def test_an_error_has_nothing_of_a_password_in_its_context(url):
    with pytest.raises(InvalidOption) as caught:
        Options(proxy=url)
    assert caught.value.__context__ is None
    assert "pa" not in str(caught.value).replace("password", "").replace("path", "")


async def test_socks_credentials_are_utf8_and_never_shown():
    async with FakeServer(hello) as server:
        granted = b"\5\0\0\1" + bytes(6)
        async with socks(b"\5\2", b"\1\0", granted=granted) as (where, asked, target):
            target.append(int(server.url.rstrip("/").rpartition(":")[2]))
            async with connect(server.url, proxy=f"socks5h://j%C3%BCrgen:ses%C3%A4me@{where}") as (
                _,
                read,
                _,
            ):
                assert (await read()).payload == "hello"
            assert asked[1] == b"\1\x07j\xc3\xbcrgen\x07ses\xc3\xa4me"
    async with socks(b"\5\2", b"\1\1") as (where, *_):
        with pytest.raises(ProxyError, match="rejects the user name and password") as caught:
            await connect("ws://chat.test/", proxy=f"socks5h://j%C3%BCrgen:ses%C3%A4me@{where}")
        assert caught.value.permanent
        assert not worth_retrying(caught.value)
        assert caught.value.__cause__ is None
        assert "ses" not in str(caught.value)


async def test_socks_that_refuses_or_is_no_socks():
    for answer, permanent in (
        (b"\0\x5b" + bytes(6), False),
        (b"HTTP/1.1 400 Bad\r\n\r\n", True),
        (b"", False),
    ):
        async with socks(answer) as (where, *_):
            with pytest.raises(
                ProxyError, match=r"did not connect to chat\.test port 80"
            ) as caught:
                await connect("ws://chat.test/", proxy=f"socks4a://{where}")
            assert caught.value.permanent is permanent
            assert worth_retrying(caught.value) is not permanent


async def test_socks5_tries_the_addresses_of_the_server_in_turn():
    async def resolver(host):
        return ["192.0.2.1", "2001:db8::1"]

    async with socks(b"\5\0", b"\5\4\0\1" + bytes(6)) as (where, asked, _):
        with pytest.raises(
            ProxyError, match=r"192\.0\.2\.1: host .*; 2001:db8::1: host "
        ) as caught:
            await connect("ws://chat.test/", proxy=f"socks5://{where}", resolver=resolver)
        assert [each[3] for each in asked[1::2]] == [1, 4]
        assert worth_retrying(caught.value)
    async with socks(b"\5\0", b"\5\2\0\1" + bytes(6)) as (where, asked, _):
        with pytest.raises(ProxyError, match="rules do not allow it") as caught:
            await connect("ws://chat.test/", proxy=f"socks5://{where}", resolver=resolver)
        assert len(asked) == 2
        assert not worth_retrying(caught.value)
    async with socks(b"\0\x5b" + bytes(6)) as (where, asked, _):
        with pytest.raises(ProxyError, match=r"192\.0\.2\.1: rejected"):
            await connect("ws://chat.test/", proxy=f"socks4://{where}", resolver=resolver)
        assert len(asked) == 1  # SOCKS4 has no IPv6
        with pytest.raises(ProxyError, match="no IPv6"):
            await connect("ws://[2001:db8::1]/", proxy=f"socks4://{where}")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_is_dialled_as_a_server_is(scheme):
    """The resolver, the several addresses and `family` hold for it."""
    asked = []

    async def resolver(host):
        asked.append(host)
        return ["::1", "127.0.0.1"]

    answer = b"HTTP/1.1 403 No\r\n\r\n" if scheme == "http" else b"\5\xff"
    async with socks(answer) as (where, *_):
        through = f"{scheme}://proxy.test:{where.rpartition(':')[2]}"
        with pytest.raises(ProxyError, match=r"refused|user name"):
            await connect("ws://chat.test/", proxy=through, resolver=resolver)
        with pytest.raises(ProxyError, match="cannot be reached"):
            await connect(
                "ws://chat.test/", proxy=through, resolver=resolver, family=socket.AF_INET6
            )
    assert asked == ["proxy.test"] * 2


LENGTHS = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity\r\nContent-Length: 0",
    b"Content-Length: 42",
    b"Content-Length: -1",
    b"Content-Length: 1, 2\r\nContent-Length: x",
]


@pytest.mark.parametrize("lines", LENGTHS)
@pytest.mark.parametrize("secure", [False, True])
async def test_length_headers_mean_nothing_in_the_answer_that_opens_a_tunnel_rfc_9110_9_3_6(
    certificates, lines, secure
):
    options: dict[str, Any] = {"proxy_tls": {"ca": certificates.ca}} if secure else {}
    tls = certificates.server if secure else None
    async with FakeServer(hello) as server, proxy(None, tls=tls, lines=lines) as (url, _):
        async with connect(server.url, proxy=url, **options) as (_, read, _):
            assert (await read()).payload == "hello"


@pytest.mark.parametrize("lines", LENGTHS)
async def test_a_proxy_s_refusal_keeps_its_status_whatever_it_says_of_a_body(lines):
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n" + lines + b"\r\n\r\nbody"
    async with proxy(answer) as (url, _):
        with pytest.raises(ProxyError, match="503 'Busy'") as caught:
            await connect("ws://chat.test/", proxy=url)
    error = caught.value
    assert (error.status, error.response["retry-after"]) == (503, "7")
    assert worth_retrying(error)


async def test_what_is_no_header_is_refused_in_the_answer_that_opens_a_tunnel():
    for lines in (b"Content-Length : 1", b"Content-Length: \0", b" Transfer-Encoding: chunked"):
        async with proxy(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n") as (url, _):
            with pytest.raises(ProxyError, match="malformed"):
                await connect("ws://chat.test/", proxy=url)


async def test_an_interim_answer_is_passed_over():
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n"
    async with proxy(answer) as (url, _):
        with pytest.raises(ProxyError, match="403"):
            await connect("ws://chat.test/", proxy=url)


async def test_a_proxy_that_says_nothing_has_a_deadline():
    async with proxy(b"") as (url, _):
        # Within `timeout` the proxy must be reached too: the machine may be busy.
        for option, durations in (("proxy_timeout", [0.05]), ("timeout", [0.05, 2])):
            for seconds in durations:
                with pytest.raises(ConnectTimeout) as caught:
                    await connect("ws://chat.test/", proxy=url, **{option: seconds})  # type: ignore[arg-type]
                if caught.value.phase == "proxy":
                    break
            assert caught.value.phase == "proxy"
            assert f"at the proxy {url}" in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks4a", "socks5"])
async def test_socks_that_says_nothing_has_a_deadline(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        through = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectTimeout, match="proxy_timeout") as caught:
            await connect("ws://192.0.2.1/", proxy=through, proxy_timeout=0.05)
        assert caught.value.phase == "proxy"


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5h"])
@pytest.mark.parametrize("option", ["connect_timeout", "timeout"])
async def test_a_proxy_that_does_not_answer_is_named(monkeypatch, scheme, option):
    with unanswered() as (host, port):
        through = (
            f"{scheme}://u@{host}:{port}" if scheme == "socks4" else f"{scheme}://{host}:{port}"
        )
        monkeypatch.setenv("http_proxy", through)
        with pytest.raises(ConnectTimeout) as caught:
            await connect("ws://192.0.2.1/", **{option: 0.05})  # type: ignore[arg-type]
        assert caught.value.phase == "connect"
        assert f"at the proxy {scheme}://{host}:{port} (from http_proxy)" in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_proxys_name_is_resolved_within_resolve_timeout(scheme):
    async def never(host):
        await asyncio.Event().wait()

    with pytest.raises(ConnectTimeout, match=r"resolve, at the proxy \w+://proxy\.test") as caught:
        await connect(
            "ws://192.0.2.1/",
            proxy=f"{scheme}://proxy.test",
            resolver=never,
            resolve_timeout=0.05,
        )
    assert caught.value.phase == "resolve"


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_is_not_there(scheme):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ProxyError, match="cannot be reached") as caught:
            await connect("ws://chat.test/", proxy=url)
        assert worth_retrying(caught.value)


async def test_the_environment_is_asked_and_none_turns_it_off(monkeypatch):
    async with proxy(b"HTTP/1.1 403 No\r\n\r\n") as (url, requests):
        monkeypatch.setenv("http_proxy", url)
        with pytest.raises(ProxyError):
            await connect("ws://chat.test/")
        assert len(requests) == 1
        async with FakeServer(hello) as server:
            async with connect(server.url):  # this machine needs no proxy
                pass
            url = f"ws://chat.test:{server.url.rpartition(':')[2]}"

            async def resolver(host):
                return ["127.0.0.1"]

            async with connect(url, proxy=None, resolver=resolver):
                pass
        assert len(requests) == 1


@pytest.mark.parametrize(
    ("environment", "url", "host"),
    [
        ({"http_proxy": "http://p:1"}, "ws://x/", "p"),
        ({"http_proxy": "http://p:1"}, "wss://x/", None),
        ({"https_proxy": "http://p:1"}, "wss://x/", "p"),
        ({"all_proxy": "socks5://s"}, "wss://x/", "s"),
        ({"all_proxy": "http://a", "http_proxy": "p"}, "ws://x/", "p"),
        ({"http_proxy": "http://p:1", "no_proxy": "x"}, "ws://x/", None),
        ({"http_proxy": "http://p:1", "no_proxy": ".test"}, "ws://chat.test/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "ws://x/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "y"}, "ws://x/", "p"),
        ({"http_proxy": "http://p:1", "no_proxy": "2001:db8::1"}, "ws://[2001:db8::1]/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "[2001:db8::1]"}, "ws://[2001:db8::1]/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "[2001:db8::1]:80"}, "ws://[2001:db8::1]/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "[2001:db8::2]"}, "ws://[2001:db8::1]/", "p"),
        ({"http_proxy": "http://p:1", "no_proxy": "chat.test"}, "ws://chat.test./", None),
        ({"http_proxy": "http://p:1", "no_proxy": "chat.test."}, "ws://chat.test/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "chat.test:81"}, "ws://chat.test/", "p"),
        ({"http_proxy": "http://p:1", "no_proxy": "chat.test:80"}, "ws://chat.test/", None),
        ({"http_proxy": "http://p:1"}, "ws://localhost./", None),
        ({"all_proxy": "socks://s:1080"}, "wss://x/", "s"),
        ({"http_proxy": "http://p:1"}, "ws://localhost/", None),
        ({"http_proxy": "http://p:1"}, "ws://127.9.9.9/", None),
        ({"http_proxy": "http://p:1"}, "ws://[::1]/", None),
        ({"http_proxy": "http://p:1"}, "ws+unix:///run/x:/", None),
        ({"http_proxy": ""}, "ws://x/", None),
    ],
)
def test_which_proxy_the_environment_names(monkeypatch, environment, url, host):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_from_environment(parse_url(url))
    assert (found and found.host) == host


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_a_bad_proxy_of_the_environment_is_named(monkeypatch, name):
    monkeypatch.setenv(name, "ftp://u:sesame@p")
    with pytest.raises(InvalidOption, match=f"^{name}: the scheme of a proxy must be ") as caught:
        await connect("ws://chat.test/")
    assert "sesame" not in str(caught.value)


def test_socks_without_a_version_is_socks5h_in_the_environment_only(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks://s:1080/")  # as GNOME sets it
    assert proxy_from_environment(parse_url("wss://x/")) == Proxy("socks5h", "s", 1080)
    with pytest.raises(InvalidOption, match="the scheme of a proxy must be"):
        Options(proxy="socks://s:1080/")


async def test_a_proxy_tls_that_is_broken_is_refused_at_once():
    for wrong, said in (
        ({"ca": "/nowhere/tls/ca.pem"}, r"^proxy_tls\.ca .*'/nowhere/tls/ca\.pem'"),
        ({"key": "-----BEGIN"}, r"^proxy_tls\.key is given without proxy_tls\.cert"),
        ({"protocol": "SSLv3"}, r"^proxy_tls\.protocol"),
        ({"insecure": 1}, r"^proxy_tls\.insecure must be"),
        (7, r"^proxy_tls must be"),
        (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), "^proxy_tls is an ssl"),
    ):
        with pytest.raises(InvalidOption, match=said) as caught:
            connect("ws://chat.test/", proxy="https://p", proxy_tls=wrong)  # type: ignore[arg-type]
        assert caught.value.option.startswith("proxy_tls")


async def test_407_says_whether_credentials_were_rejected():
    async with proxy(b"HTTP/1.1 407 No\r\n\r\n") as (url, _):
        with pytest.raises(ProxyError, match="asks for a user name"):
            await connect("ws://chat.test/", proxy=url)
        with pytest.raises(ProxyError, match="rejects the user name and password"):
            await connect("ws://chat.test/", proxy=url.replace("://", "://u:sesame@"))


async def test_a_proxy_may_say_when_to_come_back():
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n"
    async with proxy(answer) as (url, _):
        with pytest.raises(ProxyError) as caught:
            await connect("ws://chat.test/", proxy=url)
    error = caught.value
    assert (error.status, error.response.code, error.response["retry-after"]) == (503, 503, "7")
    assert worth_retrying(error)
    assert retry_after(error) == 7


def test_urls_of_proxies():
    assert Proxy.parse("http://p") == Proxy("http", "p", 80)
    assert Proxy.parse("p.test:3128") == Proxy("http", "p.test", 3128)
    assert Proxy.parse("socks5h://u:p%3Aw@[::1]:9") == Proxy("socks5h", "::1", 9, "u", "p:w")
    assert Proxy.parse("socks4a://p/").port == 1080
    assert "sesame" not in repr(Proxy.parse("http://u:sesame@p"))
    assert "sesame" not in repr(Options(host="x", proxy="http://u:sesame@p"))
    for wrong in ("ftp://p", "http://", "http://p:x", "http://p:0", "http://p/path", "http://p?q"):
        with pytest.raises(InvalidOption, match=r"^proxy: "):
            Options(proxy=wrong.replace("://", "://u:sesame@") if "://" in wrong else wrong)
    with pytest.raises(InvalidOptionType):
        Options(proxy=7)  # type: ignore[arg-type]
    assert Options(proxy=None).proxy is Options(proxy=False).proxy is None
    assert Proxy.parse("https://p").port == 443
    with pytest.raises(InvalidOption, match="proxy_tls cannot be False"):
        Options(proxy_tls=False)


def test_a_proxy_that_refuses_is_retried_only_where_that_may_help():
    assert worth_retrying(ProxyError("gone"))
    assert worth_retrying(ProxyError("busy", 503))
    assert not worth_retrying(ProxyError("who are you", 407))
    assert not worth_retrying(ProxyError("bad certificate", permanent=True))
