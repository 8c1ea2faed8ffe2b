"""Redirects of the opening handshake."""

from __future__ import annotations

import asyncio
import base64
import socket
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, answer_to, watchdog
from tests.helpers.scripted_server import scripted

from coro_websocket import (
    ConnectTimeout,
    HandshakeError,
    InvalidOption,
    Options,
    Response,
    TLSError,
    connect,
    parse_url,
    serve,
)
from coro_websocket._opening.redirects import redirected
from coro_websocket.testing import FakeServer

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def hello(peer):
    await peer.send("hello")
    await peer.close()


def to(location: str, status: int = 302):
    return status, [("Location", location)], "moved"


def port(server) -> str:
    return server.url.rpartition(":")[2].rstrip("/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_the_response_says_where(status):
    async with FakeServer(hello, refuse=[to("/there?x=1", status)]) as server:
        async with connect(server.url + "here?y=2") as (res, read, _):
            assert (await read()).payload == "hello"
            assert res.url.pathname == "/there?x=1"
        assert [each.pathname for each in server.requests] == ["/here?y=2", "/there?x=1"]


@pytest.mark.parametrize(
    ("location", "pathname"),
    [
        ("/absolute", "/absolute"),
        ("relative", "/a/relative"),
        ("../up", "/up"),
        ("?query", "/a/b?query"),
        ("/path#fragment", "/path"),
        ("//127.0.0.1:{port}/network", "/network"),
        ("http://127.0.0.1:{port}/http", "/http"),
        ("ws://127.0.0.1:{port}/ws", "/ws"),
        (" /spaces ", "/spaces"),
        ("/\u00fc".encode().decode("latin-1"), "/%C3%BC"),  # as UTF-8
        ("/\u00e0".encode().decode("latin-1"), "/%C3%A0"),  # whose last byte is no space
        ("/\u00fc?\u00e9", "/%FC?%E9"),  # as latin-1
    ],
)
async def test_locations(location, pathname):
    refuse: list[Any] = []
    async with FakeServer(hello, refuse=refuse) as server:
        refuse.append(to(location.format(port=port(server))))
        async with connect(server.url + "a/b") as (res, _, _):
            assert res.url.pathname == pathname


async def test_a_redirect_is_followed_as_soon_as_its_head_is_here():
    """Though its body ends only with the connection, which the server keeps open."""
    heads = []

    def script(link):
        heads.append(link.head())
        if len(heads) == 1:
            link.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\nmoved")
            link.wait_end()
        else:
            link.send(answer_to(heads[-1]) + link.frame(8))

    with scripted(script) as server:
        async with asyncio.timeout(BOUND):
            async with connect(server.url, timeout=None) as (res, read, _):
                assert await read() is None
                assert res.url.pathname == "/there"


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_redirects_have_a_limit(limit):
    async with FakeServer(hello, refuse=[to(f"/{n}") for n in range(9)]) as server:
        with pytest.raises(
            HandshakeError, match="302" if limit == 0 else "max_redirects"
        ) as caught:
            await connect(server.url, max_redirects=limit)
        assert caught.value.response.code == 302
        assert caught.value.response.body == b"moved"
        assert len(server.requests) == limit + 1


async def test_without_a_limit_the_deadline_holds():
    async with FakeServer(hello, refuse=[to("/again")] * 100_000) as server:
        for timeout in (0.2, 1, 3):  # the machine may be busy
            before = len(server.requests)
            with pytest.raises(ConnectTimeout):
                await connect(server.url, max_redirects=None, timeout=timeout)
            if len(server.requests) - before > 10:
                break
        assert len(server.requests) - before > 10


async def test_credentials_stay_with_their_origin():
    headers = {"Authorization": "Bearer s", "Cookie": "c=s", "X-Api-Key": "s", "X-Mine": "s"}
    async with FakeServer(hello) as other:
        refuse = [to("/same"), to(other.url + "other")]
        async with FakeServer(hello, refuse=refuse) as server:
            async with connect(server.url, headers=headers):
                pass
            for request in server.requests:
                assert request["Authorization"] == "Bearer s"
                assert request["Cookie"] == "c=s"
                assert request["X-Mine"] == "s"
        for name in headers:
            assert name not in other.requests[0]


async def test_userinfo_stays_with_its_origin_and_that_of_a_location_is_used():
    async with FakeServer(hello) as other:
        where = other.url.replace("://", "://new:word@")
        async with FakeServer(hello, refuse=[to("/same"), to(where)]) as server:
            url = server.url.replace("://", "://user:sesame@")
            async with connect(url):
                pass
        mine = "Basic " + base64.b64encode(b"user:sesame").decode()
        assert [each["Authorization"] for each in server.requests] == [mine, mine]
        theirs = "Basic " + base64.b64encode(b"new:word").decode()
        assert other.requests[0]["Authorization"] == theirs
        async with FakeServer(hello, refuse=[to(other.url)]) as server:
            async with connect(server.url.replace("://", "://user:sesame@")):
                pass
        assert "Authorization" not in other.requests[1]


async def test_from_ws_to_wss_the_certificate_is_verified(certificates):
    async with serve(lambda *_: asyncio.sleep(0), tls=certificates.server) as secure:
        async with FakeServer(hello, refuse=[to(secure.url)]) as server:
            with pytest.raises(TLSError, match="certificate"):
                await connect(server.url)


async def test_within_wss_the_tls_options_hold_but_no_certificate_of_ours_goes_elsewhere(
    certificates,
):
    options = {
        "ca": certificates.ca,
        "cert": certificates.cert_path,
        "key": certificates.key_path,
    }

    async def handler(req, read, write):
        await write("secure")

    async with serve(handler, tls=certificates.server) as other:
        elsewhere = other.url

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.server)
        where = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connect(where, tls=options) as (res, read, _):
            assert (await read()).payload == "secure"
            assert str(res.url) == elsewhere
        server.close()
        await server.wait_closed()
    before = Options.build(where, tls=options)
    after = redirected(before, Response([("Location", elsewhere)], code=302))
    assert (after.tls.ca, after.tls.cert, after.tls.key) == (before.tls.ca, None, None)  # type: ignore[union-attr]


async def test_subprotocols_stay_with_their_origin():
    async with FakeServer(hello, subprotocols=["b"]) as other:
        refuse = [to("/same"), to(other.url)]
        async with FakeServer(hello, refuse=refuse, subprotocols=["b"]) as server:
            async with connect(server.url, subprotocol=["bearer.sesame", "b"]) as (res, _, _):
                assert res.subprotocol is None
        assert [each.subprotocols for each in server.requests] == [("bearer.sesame", "b")] * 2
    assert "Sec-WebSocket-Protocol" not in other.requests[0]
    async with FakeServer(hello, refuse=[to("/same")], subprotocols=["b"]) as server:
        async with connect(server.url, subprotocol=["bearer.sesame", "b"]) as (res, _, _):
            assert res.subprotocol == "b"


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
@pytest.mark.parametrize("port", [":80", ":443", ":8443", ""])
def test_what_is_the_users_own_goes_to_the_same_scheme_host_and_port_only(scheme, port):
    mine: dict[str, Any] = {
        "headers": {"X": "s"},
        "subprotocol": "s",
        "username": "s",
        "password": "s",
    }
    kept: dict[str, Any] = {
        "origin": "https://app.test",
        "user_agent": "me/1",
        "ping_message": "hello",
    }
    before = Options.build("ws://chat.test:80/", **mine, **kept)
    location = f"{scheme}://chat.test{port}/there"
    after = redirected(before, Response([("Location", location)], code=302))
    assert after.pathname == "/there"
    same = scheme in ("ws", "http") and port in ("", ":80")
    assert (after.headers == before.headers) is same
    for name in ("subprotocol", "username", "password"):
        assert (getattr(after, name) == getattr(before, name)) is same
    assert {name: getattr(after, name) for name in kept} == kept


async def test_a_context_that_may_hold_a_certificate_is_not_used_at_another_origin(certificates):
    tls = certificates.server
    async with FakeServer(hello, tls=tls) as other:
        refuse = [to("/same"), to(other.url + "x?t=t0ken")]
        async with FakeServer(hello, tls=tls, refuse=refuse) as server:
            with pytest.raises(HandshakeError, match="may hold a client certificate") as caught:
                await connect(server.url + "?t=t0ken", tls=certificates.client)
            assert len(server.requests) == 2  # to the same origin it is used
        assert other.requests == []
    assert "t0ken" not in str(caught.value)
    assert caught.value.response.code == 302
    async with FakeServer(hello, tls=tls, refuse=[to("wss://x.test")]) as server:
        with pytest.raises(HandshakeError, match="received 302"):
            await connect(server.url, tls=certificates.client, max_redirects=0)


async def test_a_relative_location_stays_on_a_unix_socket(tmp_path):
    heads = []

    def script(link):
        heads.append(link.head())
        if len(heads) == 1:
            link.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n")
        else:
            link.send(answer_to(heads[-1]) + link.frame(8))

    with scripted(script, path=str(tmp_path / "socket")) as server:
        async with connect(server.url) as (res, _, _):
            assert res.url == parse_url(f"{server.url}there")


async def test_wss_to_ws_is_refused(certificates):
    seen = []

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/x?t=s\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.server)
    where = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    with pytest.raises(HandshakeError, match="without TLS, which is not followed") as caught:
        await connect(where, tls=certificates.client)
    assert "t=s" not in str(caught.value)
    server.close()
    await server.wait_closed()


async def test_what_is_no_websocket_url_is_an_error():
    for location in (
        "ws+unix:///run/x.sock:/",
        "ftp://127.0.0.1/",
        "http://[::1/",
        "ws://user@/",
        "mailto:me",
    ):
        async with FakeServer(hello, refuse=[to(location)]) as server:
            with pytest.raises(HandshakeError, match="is not a WebSocket URL"):
                await connect(server.url)


def test_a_location_may_have_8192_characters():
    here = Options.build("ws://chat.test/")
    longest = "/" + "x" * 8191
    after = redirected(here, Response([("Location", longest)], code=302))
    assert after.pathname == longest
    for location in (longest + "x", "/" + "\xff" * 60_000):
        with pytest.raises(HandshakeError, match="at most 8192 are followed") as caught:
            redirected(here, Response([("Location", location)], code=302))
        assert caught.value.response.code == 302


async def test_a_location_with_a_password_and_no_name():
    async with FakeServer(hello) as other:
        where = other.url.replace("://", "://:word@")
        async with FakeServer(hello, refuse=[to(where)]) as server:
            async with connect(server.url):
                pass
        expected = "Basic " + base64.b64encode(b":word").decode()
        assert other.requests[0]["Authorization"] == expected


async def test_a_redirect_without_a_location_is_a_refusal():
    async with FakeServer(hello, refuse=[302]) as server:
        with pytest.raises(HandshakeError, match="302"):
            await connect(server.url)


async def test_what_is_refused_after_a_redirect_names_where_that_was():
    async with FakeServer(hello, refuse=[to("/there?t=s"), 403]) as server:
        with pytest.raises(HandshakeError, match="received 403") as caught:
            await connect(server.url + "here")
        assert str(caught.value).startswith(f"{server.url}there?...: ")
        assert caught.value.response.url.pathname == "/there?t=s"


async def test_with_a_socket_of_ones_own_nothing_is_followed():
    async with FakeServer(hello, refuse=[to("/there")]) as server:
        mine = socket.create_connection(("127.0.0.1", int(port(server))))
        with pytest.raises(HandshakeError, match="302") as caught:
            await connect(server.url, sock=mine)
        assert caught.value.response.body == b"moved"


def test_the_option():
    assert Options(max_redirects=0).max_redirects == 0
    with pytest.raises(InvalidOption, match="max_redirects must be 0 or more"):
        Options(max_redirects=-1)
