"""IPv6 zones: `fe80::1%eth0` is an address behind one of this machine's network interfaces.

RFC 4007 section 11, RFC 6874. The zone is for our own system: no server, proxy or certificate
hears of it.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
from tests.helpers.raw_peer import watchdog
from tests.opening.test_proxies import proxy

from coro_websocket import (
    URL,
    ConnectError,
    ConnectTimeout,
    InvalidOption,
    InvalidURL,
    Options,
    ProxyError,
    ServeError,
    connect,
    parse_url,
    serve,
)
from coro_websocket._http.request_and_response import Response
from coro_websocket._opening import happy_eyeballs as _happy_eyeballs
from coro_websocket._opening.redirects import redirected
from coro_websocket._options.proxy import Proxy, proxy_from_environment
from coro_websocket._runtimes import lookup as _lookup
from coro_websocket._runtimes.lookup import host_with_zone, scoped

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

INTERFACE = socket.if_indextoname(1)  # the loopback's
NOWHERE = "this machine has no network interface 'nowhere0'"


# URLs and options


@pytest.mark.parametrize(
    ("text", "host", "written"),
    [
        ("ws://[fe80::1%25eth0]/", "fe80::1%eth0", "ws://[fe80::1%25eth0]/"),
        ("ws://[FE80:0::1%25Eth0]:8080/x", "fe80::1%Eth0", "ws://[fe80::1%25Eth0]:8080/x"),
        ("wss://[fe80::1%254]:443/", "fe80::1%4", "wss://[fe80::1%254]/"),
        ("ws://[fe80::1%25br-lan_0.1~]/", "fe80::1%br-lan_0.1~", "ws://[fe80::1%25br-lan_0.1~]/"),
        ("ws://[fe80::1%25eth%30]/", "fe80::1%eth0", "ws://[fe80::1%25eth0]/"),
        ("ws://[::1%25lo]/", "::1%lo", "ws://[::1%25lo]/"),
        ("ws://[fe80::1%2525]/", "fe80::1%25", "ws://[fe80::1%2525]/"),
    ],
)
def test_the_zone_follows_25_in_a_url_rfc_6874(text, host, written):
    url = parse_url(text)
    assert url.host == host
    assert str(url) == url.redacted == written
    assert parse_url(str(url)) == url
    assert Options.build(url).url == url == Options.build(text).url
    assert Options.build(host=host, port=url.port, tls=url.tls).host == host
    assert "%" not in url.authority
    address = host.partition("%")[0]
    assert url.authority == f"[{address}]" + (":8080" if url.port == 8080 else "")


@pytest.mark.parametrize(
    "literal",
    [
        "fe80::1%",
        "fe80::1%25",
        "fe80::1%eth0",
        "fe80::1%25a%25b",
        "fe80::1%25a%2Fb",
        "fe80::1%25a%0Ab",
        "fe80::1%25a%FFb",
        "fe80::1%25a%zz",
        "fe80::1%25ü",
    ],
)
def test_what_is_no_zone_is_refused_and_named(literal):
    with pytest.raises(InvalidURL, match="zone") as caught:
        parse_url(f"ws://[{literal}]/")
    assert caught.value.part == "host"


@pytest.mark.parametrize("host", ["fe80::1%eth0", "[fe80::1%eth0]", "FE80::0:1%eth0"])
def test_the_option_host_takes_a_zone_as_it_is(host):
    options = Options(host=host, port=8080)
    assert options.host == "fe80::1%eth0"
    assert str(options.url) == "ws://[fe80::1%25eth0]:8080/"
    assert options.url.authority == "[fe80::1]:8080"


@pytest.mark.parametrize("host", ["fe80::1%", "fe80::1%a b", "fe80::1%a/b", "1.2.3.4%lo", "x%lo"])
def test_a_host_with_what_is_no_zone_is_refused(host):
    with pytest.raises(InvalidOption):
        Options(host=host, port=8080)


def test_a_zone_in_a_url_and_in_host_must_be_the_same():
    url = "ws://[fe80::1%25eth0]/"
    assert Options.build(url, host="fe80::1%eth0").host == "fe80::1%eth0"
    with pytest.raises(InvalidOption, match="leave one out"):
        Options.build(url, host="fe80::1%eth1")


def test_userinfo_and_zone_are_kept_apart():
    url = parse_url("ws://u:p%25@[fe80::1%25eth0]/")
    assert (url.password, url.host) == ("p%", "fe80::1%eth0")
    assert url.with_userinfo() == "ws://u:p%25@[fe80::1%25eth0]/"


# Socket addresses


@pytest.mark.parametrize("zone", [INTERFACE, "1"])
def test_the_zone_becomes_the_scope_id(zone):
    assert scoped((f"fe80::1%{zone}", 80, 0, 0)) == ("fe80::1", 80, 0, 1)
    assert scoped((f"fe80::1%{zone}", 80)) == ("fe80::1", 80, 0, 1)
    assert host_with_zone(("fe80::1", 80, 0, 1)) == f"fe80::1%{INTERFACE}"


@pytest.mark.parametrize("address", [("::1", 80, 0, 0), ("fe80::1", 80, 0, 7), ("127.0.0.1", 80)])
def test_an_address_without_a_zone_stays_as_it_is(address):
    assert scoped(address) is address


@pytest.mark.parametrize(
    "zone", ["nowhere0", "4294967295", "0", "9" * 40, "9" * 5000, "²", "a\0b", "\ud800", "%", "a b"]
)
def test_an_interface_that_is_not_there_is_an_error(zone):
    with pytest.raises(OSError, match="this machine has no network interface '"):
        scoped((f"fe80::1%{zone}", 80, 0, 0))


def test_the_zone_of_an_interface_that_has_gone_is_its_number():
    assert host_with_zone(("fe80::1", 80, 0, 4294967)) == "fe80::1%4294967"
    assert host_with_zone(("fe80::1", 80, 0, 0)) == "fe80::1"
    assert host_with_zone(("127.0.0.1", 80)) == "127.0.0.1"


# Connecting


@pytest.fixture
def asked_of_the_system(monkeypatch):
    """What was to be bound and connected to; it is made ::1, for which no zone is needed."""
    asked = []

    def on_loopback(address):
        asked.append(scoped(address))
        return ("::1", *asked[-1][1:])

    monkeypatch.setattr(_happy_eyeballs, "scoped", on_loopback)
    return asked


async def hello(req, read, write):
    await write(req["Host"])


async def resolver(host):
    return [f"fe80::7%{INTERFACE}"]


@pytest.mark.parametrize("how", ["url", "host", "resolver"])
async def test_the_system_gets_the_zone_and_the_server_does_not(
    how, asked_of_the_system, certificates
):
    for tls in (None, certificates.server):
        async with serve(hello, "::1", tls=tls) as server:
            options: dict[str, Any] = {
                "tls": certificates.client if tls else False,
                "port": server.port,
            }
            if how == "url":
                options["host"] = None
                scheme = "wss" if tls else "ws"
                where = [f"{scheme}://[::1%25{INTERFACE}]:{server.port}/"]
                options = {"tls": certificates.client} if tls else {}
            elif how == "host":
                where = []
                options["host"] = f"::1%{INTERFACE}"
            else:
                where = []
                options |= {"host": "localhost", "resolver": resolver}
            async with connect(*where, **options) as (res, read, _):
                host = (await read()).payload
            address = "fe80::7" if how == "resolver" else "::1"
            assert asked_of_the_system.pop() == (address, server.port, 0, 1)
            name = "localhost" if how == "resolver" else "[::1]"
            assert host == f"{name}:{server.port}"
            if how != "resolver":
                assert res.url.redacted.endswith(f"://[::1%25{INTERFACE}]:{server.port}/")


async def test_a_refused_connection_to_an_address_with_a_zone_is_told_as_any():
    with socket.socket(socket.AF_INET6) as closed:
        closed.bind(("::1", 0))  # on which nobody listens
        port = closed.getsockname()[1]
        with pytest.raises(ConnectError, match=r"::1%1: Connection refused"):
            await connect(f"ws://[::1%251]:{port}/")


async def test_an_attempt_with_a_zone_can_be_cancelled_and_leaves_nothing():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.bind(("::1", 0))
        listener.listen(0)
        for _ in range(4):  # its backlog is full
            filler = stack.enter_context(socket.socket(socket.AF_INET6))
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        url = f"ws://[::1%251]:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectTimeout, match="connect_timeout"):
            await connect(url, connect_timeout=0.1)


async def test_a_zone_may_be_given_without_rewriting():
    async with (
        serve(hello, "::1") as server,
        connect(f"ws://[::1%251]:{server.port}/") as (_, read, _),
    ):
        assert (await read()).payload == f"[::1]:{server.port}"


@pytest.mark.parametrize("how", ["url", "host", "resolver", "local_addr"])
async def test_a_zone_that_does_not_exist_is_a_connect_error_that_says_so(how):
    async def nowhere(host):
        return ["fe80::1%nowhere0"]

    cases: dict[str, dict[str, Any]] = {
        "url": {"url": "ws://[fe80::1%25nowhere0]:8080/"},
        "host": {"host": "fe80::1%nowhere0", "port": 8080},
        "resolver": {"host": "chat.test", "resolver": nowhere},
        "local_addr": {"host": "::1", "port": 8080, "local_addr": "fe80::1%nowhere0"},
    }
    where = cases[how]
    with pytest.raises(ConnectError, match=NOWHERE) as caught:
        await connect(where.pop("url", None), **where)
    assert caught.value.phase == "connect"


async def test_a_link_local_address_without_a_zone_is_told_to_need_one():
    with pytest.raises(ConnectError, match=r"fe80::1: .*\(a link-local address needs a zone"):
        await connect("ws://[fe80::1]:8080/")


async def test_other_addresses_are_tried_where_a_zone_does_not_exist():
    async def both(host):
        return ["fe80::1%nowhere0", "::1"]

    async with (
        serve(hello, "::1") as server,
        connect(host="localhost", port=server.port, resolver=both) as (_, read, _),
    ):
        assert await read()


async def test_local_addr_takes_a_zone(asked_of_the_system):
    async with serve(hello, "::1") as server:
        for local in (f"fe80::2%{INTERFACE}", (f"fe80::2%{INTERFACE}", 0)):
            async with connect(server.url, local_addr=local) as (_, read, _):
                assert await read()
            assert asked_of_the_system == [("fe80::2", 0, 0, 1), ("::1", server.port, 0, 0)]
            asked_of_the_system.clear()


# Proxies


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_a_proxy_may_have_a_zone(scheme):
    found = Proxy.parse(f"{scheme}://u:p@[fe80::1%25eth0]:3128")
    assert (found.host, found.port, found.username) == ("fe80::1%eth0", 3128, "u")
    assert found.where == f"{scheme}://[fe80::1%25eth0]:3128"
    assert Proxy.parse(found.where) == Proxy.parse(f"{scheme}://[fe80::1%25eth0]:3128")


@pytest.mark.parametrize("host", ["[fe80::1%eth0]", "[fe80::1%25]", "[fe80::1%25a%20b]"])
def test_a_proxy_with_what_is_no_zone_is_refused(host):
    with pytest.raises(InvalidOption, match="host or port cannot be used"):
        Proxy.parse(f"http://{host}:3128")


async def test_a_proxy_with_a_zone_that_does_not_exist_cannot_be_reached():
    with pytest.raises(ProxyError, match=NOWHERE):
        await connect("ws://chat.test/", proxy="http://[fe80::1%25nowhere0]:3128")


async def test_a_proxy_does_not_hear_of_the_zone(certificates, monkeypatch):
    async with (
        serve(hello, "::1", tls=certificates.server) as server,
        proxy(None) as (url, requests),
        connect(
            f"wss://[::1%25{INTERFACE}]:{server.port}/", proxy=url, tls=certificates.client
        ) as (_, read, _),
    ):
        assert await read()
    assert requests[0].startswith(b"CONNECT [::1]:")
    assert b"%" not in requests[0]


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("fe80::1", True),
        ("[fe80::1]", True),
        ("fe80::1%eth0", True),
        ("[fe80::1%25eth0]", True),
        ("[fe80::1]:80", True),
        ("fe80::1%eth1", False),
        ("fe80::2", False),
        ("*", True),
    ],
)
def test_no_proxy_names_an_address_with_or_without_its_zone(monkeypatch, no_proxy, direct):
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    found = proxy_from_environment(parse_url("ws://[fe80::1%25eth0]/"))
    assert (found is None) is direct


def test_loopback_addresses_with_a_zone_go_through_no_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://p:1")
    assert proxy_from_environment(parse_url("ws://[::1%25lo]/")) is None


# Redirects


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("/new", "ws://[fe80::1%25eth0]:8080/new"),
        ("http://[fe80::1]:8080/new", "ws://[fe80::1%25eth0]:8080/new"),
        ("ws://[fe80::1]:9000/new", "ws://[fe80::1%25eth0]:9000/new"),
        ("ws://[fe80::2]:8080/new", "ws://[fe80::2]:8080/new"),
    ],
)
def test_a_redirect_to_the_same_address_keeps_the_zone(location, there):
    options = Options.build("ws://u:p@[fe80::1%25eth0]:8080/")
    followed = redirected(options, Response([("Location", location)], code=302))
    assert str(followed.url) == there
    assert (followed.username == "u") is ("8080/new" in there and "::1" in there)


# Servers


class LinkLocal(socket.socket):
    """A listener whose address the system says to be link-local."""

    def getsockname(self):
        return ("fe80::1", super().getsockname()[1], 0, 1)


async def test_the_url_of_a_server_has_the_zone():
    listener = LinkLocal(socket.AF_INET6)
    listener.bind(("::1", 0))
    listener.listen()
    async with serve(hello, sock=listener) as server:
        assert server.url == f"ws://[fe80::1%25{INTERFACE}]:{server.port}/"
        assert parse_url(server.url) == URL(f"fe80::1%{INTERFACE}", server.port, False, "/")


@pytest.mark.parametrize("zone", [INTERFACE, "1"])
async def test_a_server_listens_at_an_address_with_a_zone(zone, monkeypatch):
    bound = []

    def on_loopback(address):
        bound.append(scoped(address))
        return bound[-1]

    monkeypatch.setattr(_lookup, "scoped", on_loopback)
    async with (
        serve(hello, f"::1%{zone}") as server,
        connect(server.url) as (_, read, _),
    ):
        assert (await read()).payload == f"[::1]:{server.port}"
    assert bound == [("::1", 0, 0, 1)]


async def test_a_server_says_that_a_zone_does_not_exist():
    with pytest.raises(ServeError, match=NOWHERE):
        await serve(hello, "fe80::1%nowhere0")
