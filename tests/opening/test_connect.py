"""connect: every form of the call, every option of luvit's page, and what it returns.

connect, Options, Headers and Response of luvit's coro-websocket page; RFC 6455 sections 1.9 and 4.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.conftest import Certificates
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    PONG,
    TEXT,
    answer_to,
    client_and_peer,
    echo,
    until,
    watchdog,
)
from tests.helpers.scripted_server import BOUND, Link, close_payload, no_timers_left, scripted

from coro_websocket import (
    URL,
    ConnectionClosedError,
    InvalidOption,
    InvalidOptionType,
    InvalidURL,
    NoEventLoopError,
    Options,
    Response,
    TLSError,
    TLSOptions,
    connect,
    parse_url,
    serve,
)

__all__ = ["no_timers_left", "watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left", "no_timers_left")


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """Nothing that a test awaits takes longer."""
    async with asyncio.timeout(BOUND):
        yield


async def exchange(connecting: Any) -> Response:
    """Open, send a message and get it back, close; the Response."""
    async with connecting as (res, read, write):
        await write("Hello There!")
        msg = await read()
        assert msg is not None
        assert msg.payload == "Hello There!"
    assert read.close_code == 1000
    return res


def accept(link: Link) -> None:
    """The script of a server that accepts and answers the closing handshake."""
    link.accept()
    code, reason = link.close_received()
    link.write(CLOSE, close_payload(code or 1000, reason))


def request_line(head: bytes) -> str:
    return head.split(b"\r\n")[0].decode()


def sent_headers(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


async def head_of(*url: Any, tls: ssl.SSLContext | None = None, **options: Any) -> bytes:
    """The request that connect sends with these options, to a server on a port of its own."""
    heads: list[bytes] = []

    def script(link: Link) -> None:
        accept(link)
        heads.append(link.request)

    with scripted(script, tls=tls) as server:
        async with connect(*url, port=server.port, **options):
            pass
        await until(lambda: heads)
    return heads[0].replace(str(server.port).encode(), b"PORT")


# The forms of the call


FORMS = {
    "a URL": lambda url: connect(str(url)),
    "a URL object": lambda url: connect(url),
    "Options": lambda url: connect(Options(host=url.host, port=url.port)),
    "a mapping": lambda url: connect({"host": url.host, "port": url.port}),
    "keywords": lambda url: connect(host=url.host, port=url.port),
    "keywords over a URL": lambda url: connect(str(url), pathname="/other"),
    "keywords over Options": lambda url: connect(Options(host=url.host), port=url.port),
    "keywords over a mapping": lambda url: connect({"host": url.host, "port": 1}, port=url.port),
    "a port alone, at the default host": lambda url: connect(port=url.port),
    "a URL that was made by hand": lambda url: connect(dataclasses.replace(url, pathname="/x")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_each_form_of_the_call_leads_to_the_same_place(form):
    async with serve(echo) as server:
        res = await exchange(form(parse_url(server.url)))
        assert res.code == 101


@pytest.mark.parametrize(
    "run",
    [
        lambda connecting: connecting,
        lambda connecting: asyncio.create_task(connecting),
        lambda connecting: asyncio.ensure_future(connecting),
        lambda connecting: asyncio.wait_for(connecting, BOUND),
        lambda connecting: asyncio.wait_for(connecting, None),
        lambda connecting: asyncio.gather(connecting),
        lambda connecting: asyncio.shield(connecting),
    ],
    ids=["await", "create_task", "ensure_future", "wait_for", "no timeout", "gather", "shield"],
)
async def test_connect_is_a_coroutine_to_asyncio(run):
    async with serve(echo) as server:
        opened = await run(connect(server.url))
        _, read, write = opened[0] if len(opened) == 1 else opened
        await write("x")
        assert (await read()).payload == "x"
        await write.close()
        assert await read() is None


async def test_connections_can_be_opened_in_a_task_group():
    async with serve(echo) as server:
        async with asyncio.TaskGroup() as group:
            opening = [group.create_task(connect(server.url)) for _ in range(5)]
        for task in opening:
            _, read, write = task.result()
            await write("x")
            assert (await read()).payload == "x"
            await write.close()


async def test_what_connect_returns_can_be_used_once_only():
    async with serve(echo) as server:
        connecting = connect(server.url)
        _, _, write = await connecting
        with pytest.raises(RuntimeError):
            await connecting
        await write.close()


async def test_connect_is_a_coroutine_object_that_names_its_url():
    connecting = connect("ws://user:s3cret@127.0.0.1:1/chat")
    assert isinstance(connecting, Coroutine)
    assert repr(connecting) == "<connect to ws://127.0.0.1:1/chat>"
    connecting.close()


def test_outside_an_event_loop_connect_says_so():
    with pytest.raises(NoEventLoopError, match=r"connect\(\)") as caught:
        connect("ws://127.0.0.1/")
    assert isinstance(caught.value, RuntimeError)


# The end of the block


class Thrown(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 1000), (Thrown, 1011), (asyncio.CancelledError, 1011)],
    ids=["normally", "by an exception", "by the cancellation of something else"],
)
async def test_the_peer_is_told_how_the_block_was_left_rfc_6455_7_4_1(error, code):
    closes = []

    def script(link):
        link.accept()
        closes.append(link.close_received()[0])
        link.write(CLOSE, close_payload(closes[0]))

    with scripted(script) as server:
        with pytest.raises(error) if error else contextlib.nullcontext():
            async with connect(server.url):
                if error is not None:
                    raise error
    assert closes == [code]


async def test_a_task_that_is_cancelled_in_its_block_closes_with_1001_and_ends_cancelled():
    closes = []
    inside = asyncio.Event()

    def script(link):
        link.accept()
        closes.append(link.close_received())
        link.write(CLOSE, close_payload(1001))

    async def work(url):
        async with connect(url) as (_, read, _):
            inside.set()
            await read()

    with scripted(script) as server:
        task = asyncio.create_task(work(server.url))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closes == [(1001, "going away")]


async def test_leaving_the_block_of_a_connection_that_the_peer_closed_is_quiet():
    def script(link):
        link.accept(then=link.frame(CLOSE, close_payload(1000)))

    with scripted(script) as server:
        async with connect(server.url) as (_, read, _):
            assert await read() is None


# Options: where to


async def test_the_host_is_127_0_0_1_where_only_a_port_is_given():
    head = await head_of()
    assert ("Host", "127.0.0.1:PORT") in sent_headers(head)


async def test_a_name_is_resolved_and_each_of_its_addresses_is_tried(monkeypatch):
    # localhost may have ::1 first, where nobody listens.
    def script(link):
        accept(link)
        assert ("Host", f"localhost:{server.port}") in sent_headers(link.request)

    with scripted(script) as server:
        async with connect(host="localhost", port=server.port) as (res, _, _):
            assert res.socket.getpeername()[:2] == ("127.0.0.1", server.port)


async def test_an_ipv6_address_is_connected_to_and_has_brackets_in_host():
    async def handler(req, read, write):
        await write(req.host)

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    async with serve(handler, "::1") as server:
        for connecting in (
            connect(f"ws://[::1]:{server.port}/"),
            connect(host="::1", port=server.port),
            connect(host="[::1]", port=server.port),
            connect(server.url),
        ):
            async with connecting as (_, read, _):
                assert [msg.payload async for msg in read] == [f"[::1]:{server.port}"]


@pytest.mark.parametrize("form", ["str", "bytes", "Path", "URL"])
async def test_path_is_a_unix_socket(form, tmp_path):
    path = str(tmp_path / "socket")
    where = {"str": path, "bytes": path.encode(), "Path": Path(path)}
    with scripted(accept, path=path) as server:
        connecting = connect(server.url) if form == "URL" else connect(path=where[form])  # type: ignore[arg-type]
        async with connecting as (res, _, _):
            assert res.socket.family == socket.AF_UNIX
            assert res.url.path == path


async def test_a_unix_socket_can_have_any_character_in_its_path(tmp_path):
    path = str(tmp_path / "a b%41:ü#?")
    async with serve(echo, path=path) as server:
        await exchange(connect(path=path))
        await exchange(connect(server.url))


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")
async def test_an_abstract_unix_socket_is_connected_to():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0coro-websocket-{id(listener)}")
        listener.listen()
        listener.setblocking(False)
        path = listener.getsockname().decode()
        async with serve(echo, sock=listener.dup()):
            await exchange(connect(path=path))


@pytest.mark.parametrize(
    ("pathname", "sent"),
    [
        ("/", "/"),
        ("/chat?room=1&name=x", "/chat?room=1&name=x"),
        ("chat", "/chat"),
        ("/ü?a[]=%20", "/%C3%BC?a[]=%20"),
    ],
)
async def test_pathname_is_what_is_asked_for(pathname, sent):
    head = await head_of(pathname=pathname)
    assert request_line(head) == f"GET {sent} HTTP/1.1"


async def test_the_path_and_query_of_the_url_are_asked_for():
    with scripted(accept) as server:
        async with connect(f"{server.url}a/b?c=d") as (res, _, _):
            assert res.url.pathname == "/a/b?c=d"


# Options: TLS


TLS_FORMS = {
    "an SSLContext": lambda c: c.client,
    "ca as text": lambda c: {"ca": c.ca},
    "ca as bytes": lambda c: {"ca": c.ca.encode()},
    "ca as the path of a file": lambda c: {"ca": c.ca_path},
    "ca as a Path": lambda c: TLSOptions(ca=Path(c.ca_path)),
    "ca as a list": lambda c: TLSOptions(ca=[c.ca, trustme.CA().cert_pem.bytes().decode()]),
    "insecure": lambda c: {"insecure": True},
    "protocol": lambda c: TLSOptions(ca=c.ca, protocol="TLSv1.3"),
}


@pytest.mark.parametrize("form", TLS_FORMS.values(), ids=TLS_FORMS)
async def test_tls_in_each_form(form, certificates):
    async with serve(echo, tls=certificates.server) as server:
        res = await exchange(connect(server.url, tls=form(certificates)))
        assert res.url.tls
        assert str(res.url) == server.url


async def test_tls_true_trusts_the_authorities_of_the_system(certificates, monkeypatch):
    async with serve(echo, tls=certificates.server) as server:
        with pytest.raises(TLSError):
            await connect(host="127.0.0.1", port=server.port, tls=True)
        monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_path)
        await exchange(connect(host="127.0.0.1", port=server.port, tls=True))
        await exchange(connect(server.url))


async def test_a_wss_url_is_tls_and_tls_settings_can_be_added(certificates):
    c = certificates
    async with serve(echo, tls=c.server) as server:
        assert server.url.startswith("wss://")
        await exchange(connect(server.url.replace("127.0.0.1", "localhost"), tls={"ca": c.ca}))
        await exchange(connect(parse_url(server.url), tls={"ca": c.ca}))
        await exchange(connect(Options(host="localhost", port=server.port, tls={"ca": c.ca})))


async def test_tls_runs_on_a_unix_socket_too(certificates, tmp_path):
    async with serve(echo, path=tmp_path / "s", tls=certificates.server) as server:
        assert server.url.startswith("wss+unix://")
        await exchange(connect(server.url, tls={"ca": certificates.ca}))
        await exchange(connect(path=tmp_path / "s", tls={"ca": certificates.ca}))


@pytest.mark.parametrize("form", ["text", "paths", "one file"])
async def test_cert_and_key_are_shown_to_a_server_that_asks(form, certificates, tmp_path):
    ca = trustme.CA()
    issued = ca.issue_cert("client@example.org", common_name="the client")
    cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    key = issued.private_key_pem.bytes()
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "both.pem").write_bytes(cert + key)
    shown = {
        "text": {"cert": cert.decode(), "key": key.decode()},
        "paths": {"cert": str(tmp_path / "cert.pem"), "key": tmp_path / "key.pem"},
        "one file": {"cert": str(tmp_path / "both.pem")},
    }[form]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_path, certificates.key_path)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    subjects = []

    def script(link):
        subjects.append(link.sock.getpeercert()["subject"])
        accept(link)

    with scripted(script, tls=context) as server:
        async with connect(server.url, tls={"ca": certificates.ca, **shown}):
            pass
    assert "the client" in str(subjects)


@pytest.mark.parametrize(
    ("protocol", "ciphers", "agreed"),
    [
        ("TLSv1.2", "ECDHE+AES256:!aNULL", ("TLSv1.2", "AES256")),
        ("TLSv1.2", "ECDHE+CHACHA20", ("TLSv1.2", "CHACHA20")),
        ("TLSv1.3", None, ("TLSv1.3", "TLS_")),
        ("TLS", None, ("TLSv1.3", "TLS_")),
        (None, None, ("TLSv1.3", "TLS_")),
    ],
)
async def test_protocol_and_ciphers_are_what_is_spoken(protocol, ciphers, agreed, certificates):
    spoken = []

    def script(link):
        spoken.append((link.sock.version(), link.sock.cipher()[0]))
        accept(link)

    tls = {"ca": certificates.ca, "protocol": protocol, "ciphers": ciphers}
    with scripted(script, tls=certificates.server) as server:
        async with connect(server.url, tls=tls):
            pass
    assert spoken[0][0] == agreed[0]
    assert agreed[1] in spoken[0][1]


@pytest.mark.parametrize(
    ("tls", "option"),
    [
        ({"ca": "/no/such/file.pem"}, "tls.ca"),
        ({"cert": "/no/such/file.pem"}, "tls.cert"),
        ({"key": "/no/such/file.pem"}, "tls.cert"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nnonsense\n"}, "tls.ca"),
        ({"ciphers": "NO-SUCH-CIPHER"}, "tls.ciphers"),
        ({"protocol": "SSLv3"}, "tls.protocol"),
        ({"certificate": "x"}, "certificate"),
        (7, "tls"),
    ],
)
async def test_tls_options_that_cannot_be_used_are_named(tls, option):
    with scripted(accept) as server:
        with pytest.raises(InvalidOption) as caught:
            await connect(host="127.0.0.1", port=server.port, tls=tls)
        assert caught.value.option == option
        assert server.accepted == 0  # refused before anything was opened


async def test_an_ssl_context_for_a_server_is_refused_with_the_option_named(certificates):
    with pytest.raises(InvalidOption, match="server") as caught:
        await connect("wss://127.0.0.1:1/", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert caught.value.option == "tls"


async def test_tls_settings_that_cannot_be_used_are_refused_at_once_as_connect_documents():
    """connect's docstring: what is no matter of the network is raised when it is called."""
    with pytest.raises(InvalidOption):
        connect("wss://127.0.0.1:1/", tls={"ca": "/no/such/file.pem"}).close()


# Options: what is asked for


async def test_headers_keep_their_order_their_case_and_their_duplicates():
    given = [("X-Two", "2"), ("x-one", "1"), ("X-Two", "3"), ("X-Empty", ""), ("X-Latin", "\xe9")]
    head = await head_of(headers=given)
    ours = [(name, value) for name, value in sent_headers(head) if name.lower().startswith("x-")]
    assert ours == given


async def test_headers_can_be_a_mapping_or_any_iterable_of_pairs():
    for headers in ({"X-A": "1", "X-B": "2"}, iter([["X-A", "1"], ("X-B", "2")])):
        head = await head_of(headers=headers)
        assert sent_headers(head)[-2:] == [("X-A", "1"), ("X-B", "2")]


async def test_host_and_user_agent_can_be_replaced():
    head = await head_of(headers={"Host": "virtual.example", "User-Agent": "me"})
    named = [value for name, value in sent_headers(head) if name in ("Host", "User-Agent")]
    assert named == ["virtual.example", "me"]


async def test_the_handshake_is_what_rfc_6455_4_1_asks_for():
    first, second = await head_of(), await head_of()
    headers = dict(sent_headers(first))
    assert request_line(first) == "GET / HTTP/1.1"
    assert headers["Upgrade"] == "websocket"
    assert headers["Connection"] == "Upgrade"
    assert headers["Sec-WebSocket-Version"] == "13"
    assert len(headers["Sec-WebSocket-Key"]) == 24
    assert headers["Sec-WebSocket-Key"] != dict(sent_headers(second))["Sec-WebSocket-Key"]
    assert headers["User-Agent"].startswith("coro-websocket/")
    assert "Origin" not in headers
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("subprotocol", "offered"),
    [("chat", "chat"), (["chat", "superchat"], "chat, superchat"), (("a",), "a")],
)
async def test_subprotocol_is_offered_and_the_choice_is_in_the_response(subprotocol, offered):
    def script(link):
        head = link.head()
        assert ("Sec-WebSocket-Protocol", offered) in sent_headers(head)
        link.received[:0] = head
        link.accept(b"Sec-WebSocket-Protocol: " + offered.split(", ")[-1].encode())
        link.wait_end()

    with scripted(script) as server:
        res, _, write = await connect(server.url, subprotocol=subprotocol, close_timeout=0.05)
        assert res.subprotocol == offered.split(", ")[-1]
        await write.close()


async def test_no_subprotocol_is_asked_for_or_found_by_default():
    assert b"Sec-WebSocket-Protocol" not in await head_of()
    async with serve(echo, subprotocols=["chat"]) as server:
        assert (await exchange(connect(server.url))).subprotocol is None
        assert (await exchange(connect(server.url, subprotocol="other"))).subprotocol is None
        assert (await exchange(connect(server.url, subprotocol="chat"))).subprotocol == "chat"


@pytest.mark.parametrize("in_url", [True, False])
async def test_userinfo_becomes_basic_authentication_rfc_7617(in_url):
    def script(link):
        accept(link)
        assert ("Authorization", "Basic dXNlcjpww6Rzcw==") in sent_headers(link.request)

    with scripted(script) as server:
        if in_url:
            connecting = connect(f"ws://user:p%C3%A4ss@127.0.0.1:{server.port}/")
        else:
            connecting = connect(server.url, username="user", password="päss")
        async with connecting:
            pass


# Options: durations, limits, what is shown


@pytest.mark.parametrize("value", [5, 7.5, timedelta(seconds=5), None])
async def test_timeout_does_not_outlive_the_opening(value):
    async with serve(echo) as server:
        await exchange(connect(server.url, timeout=value))


@pytest.mark.parametrize("value", [0.02, timedelta(milliseconds=20)])
async def test_heartbeat_sends_unasked_pongs_rfc_6455_5_5_3(value):
    seen: list[Any] = []

    def script(link):
        link.accept()
        seen.extend(link.read() for _ in range(3))
        link.write(CLOSE)

    with scripted(script) as server:
        async with connect(server.url, heartbeat=value, ping_interval=None) as (_, read, _):
            assert await read() is None
    assert [(each.opcode, each.payload) for each in seen] == [(PONG, b"")] * 3


@pytest.mark.parametrize("mask", [True, False])
async def test_mask_is_only_for_wrap_io_as_in_luvit(mask):
    with pytest.raises(InvalidOption, match="wrap_io") as caught:
        connect("ws://127.0.0.1/", mask=mask)
    assert caught.value.option == "mask"


async def test_fragments_and_control_change_what_read_gives():
    async with client_and_peer(fragments=True, control=True) as (end, peer):
        await peer.write(TEXT, "a", fin=False)
        await peer.write(PONG, b"x")
        await peer.write(0, "b")
        shown = [await end.read() for _ in range(3)]
        assert [(msg.opcode, msg.fin, msg.payload) for msg in shown] == [
            (TEXT, False, "a"),
            (PONG, True, b"x"),
            (0, True, "b"),
        ]


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"headers": [("X", "a\r\nInjected: 1")]}, "headers"),
        ({"headers": {"X\r\nInjected": "a"}}, "headers"),
        ({"headers": {"X": "a\0"}}, "headers"),
        ({"headers": [("Upgrade", "h2c")]}, "headers"),
        ({"headers": [("Sec-WebSocket-Key", "x")]}, "headers"),
        ({"subprotocol": "a\r\nb"}, "subprotocol"),
        ({"subprotocol": ["a", "a"]}, "subprotocol"),
        ({"pathname": "/\r\nInjected: 1"}, "pathname"),
        ({"pathname": "/#fragment"}, "pathname"),
        ({"username": "a:b"}, "username"),
        ({"password": "b"}, "password"),
        ({"host": "a\r\nb"}, "host"),
        ({"host": "a/b"}, "host"),
        ({"host": "user@host"}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "80"}, "port"),
        ({"port": True}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"heartbeat": -1}, "heartbeat"),
        ({"path": "/tmp/s"}, "path"),
        ({"path": ""}, "path"),
        ({"max_message_size": 0}, "max_message_size"),
        ({"fragments": 1}, "fragments"),
        ({"open_timeout": 1}, "open_timeout"),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused_at_once_and_named(options, option):
    with pytest.raises(InvalidOption) as caught:
        connect(**{"port": 1, **options}).close()
    assert caught.value.option == option
    assert isinstance(caught.value, ValueError)


async def test_what_does_not_say_where_to_connect_is_refused_at_once():
    for call in (connect, lambda: connect({}), lambda: connect(Options()), lambda: connect(None)):
        with pytest.raises(InvalidOption, match="where to connect"):
            call()
    for wrong in (7, b"ws://127.0.0.1/", ["ws://127.0.0.1/"]):
        with pytest.raises(InvalidOptionType):
            connect(wrong)  # type: ignore[arg-type]
    for url in ("http://127.0.0.1/", "127.0.0.1", "", "ws://127.0.0.1/#x"):
        with pytest.raises(InvalidURL) as caught:
            connect(url)
        assert isinstance(caught.value, ValueError)


async def test_options_that_contradict_the_url_are_refused_at_once():
    for options in ({"host": "other"}, {"port": 2}, {"path": "/s"}, {"tls": True}):
        with pytest.raises(InvalidOption):
            connect("ws://127.0.0.1:1/", **options).close()
    with pytest.raises(InvalidOption):
        connect("wss://127.0.0.1:1/", tls=False).close()


# The Response


async def test_the_response_has_every_field_of_luvits_page():
    def script(link):
        link.accept(b"Server: by hand", b"Set-Cookie: a=1", b"set-cookie: b=2")
        link.wait_end()

    with scripted(script) as server:
        res, _, write = await connect(f"{server.url}chat", close_timeout=0.05)
        assert isinstance(res, Response)
        assert (res.code, res.reason, res.version) == (101, "Switching Protocols", 1.1)
        assert res.keep_alive is False
        assert (res.subprotocol, res.extensions, res.body) == (None, (), b"")
        assert res.url == URL("127.0.0.1", server.port, False, "/chat")
        assert res.socket.getpeername() == ("127.0.0.1", server.port)
        # Header pairs by index, in the order in which they came, and by name in any case.
        assert res[0] == ("Upgrade", "websocket")
        assert list(res)[-3:] == [
            ("Server", "by hand"),
            ("Set-Cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]
        assert res[-1] == ("set-cookie", "b=2")
        assert len(res) == 6
        assert res["SERVER"] == "by hand"
        assert res.get("x-none") is None
        assert list(res.get_all("set-cookie")) == ["a=1", "b=2"]
        assert "server" in res
        await write.close()


async def test_the_response_does_not_show_credentials_that_the_url_has():
    with scripted(accept) as server:
        async with connect(f"ws://user:s3cret@127.0.0.1:{server.port}/") as (res, _, _):
            assert "s3cret" not in repr(res) + repr(res.url) + str(res.url)


# Frames in the segment of the answer's head


@pytest.fixture(params=["tcp", "tls", "unix"])
def place(request, certificates: Certificates, tmp_path):
    """Where the peer listens and how to connect to it."""
    return {
        "tcp": ({}, {}),
        "tls": ({"tls": certificates.server}, {"tls": certificates.client}),
        "unix": ({"path": str(tmp_path / "socket")}, {}),
    }[request.param]


async def test_frames_in_the_segment_of_the_answers_head_are_delivered(place):
    listen, options = place

    def script(link):
        early = link.frame(TEXT, "early") + link.frame(BINARY, b"x") + link.frame(CLOSE)
        link.accept(then=early)
        link.close_received()

    with scripted(script, **listen) as server:
        async with connect(server.url, **options) as (_, read, _):
            assert [msg.payload async for msg in read] == ["early", b"x"]
            assert read.close_code == 1005


async def test_part_of_a_frame_in_the_segment_of_the_answers_head_is_kept(place):
    listen, options = place

    def script(link):
        message = link.frame(BINARY, bytes(300))
        link.accept(then=message[:3])
        link.send(message[3:100])
        link.send(message[100:] + link.frame(CLOSE, close_payload(1000)))

    with scripted(script, **listen) as server:
        async with connect(server.url, **options) as (_, read, _):
            assert [msg.payload async for msg in read] == [bytes(300)]


async def test_frames_with_the_head_are_delivered_though_the_peer_has_gone_already(place):
    """Everything comes at once: the answer, messages, the end of the stream without a Close."""
    listen, options = place

    def script(link):
        link.accept(then=link.frame(TEXT, "a") + link.frame(TEXT, "b"))
        link.hang_up()

    with scripted(script, **listen) as server:
        _, read, write = await connect(server.url, **options)
        await until(lambda: server.ended)
        assert (await read()).payload == "a"
        assert (await read()).payload == "b"
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
        assert caught.value.code == 1006
        await write.close()


async def test_many_frames_with_the_head_are_delivered(place):
    """More than the handshake receives at once."""
    listen, options = place
    messages = [bytes([n % 256]) * 5000 for n in range(60)]

    def script(link):
        early = b"".join(link.frame(BINARY, message) for message in messages)
        link.accept(then=early + link.frame(CLOSE, close_payload(1000)))

    with scripted(script, **listen) as server:
        async with connect(server.url, **options) as (_, read, _):
            assert [msg.payload async for msg in read] == messages


async def test_a_violation_with_the_head_fails_the_connection_rfc_6455_7_1_7(place):
    listen, options = place
    closes = []

    def script(link):
        link.accept(then=link.frame(TEXT, "fine") + link.frame(3, "no such opcode"))
        closes.append(link.close_received()[0])
        link.wait_end()

    with scripted(script, **listen) as server:
        _, read, write = await connect(server.url, **options)
        assert (await read()).payload == "fine"
        with pytest.raises(ConnectionClosedError) as caught:
            await read()
        assert caught.value.code == 1002
        await write.close()
    assert closes == [1002]


async def test_an_answer_that_comes_a_byte_at_a_time_is_taken(place):
    listen, options = place

    def script(link):
        for byte in answer_to(link.head()) + link.frame(TEXT, "x"):
            link.send(bytes([byte]))
        link.write(CLOSE)

    with scripted(script, **listen) as server:
        async with connect(server.url, **options) as (_, read, _):
            assert [msg.payload async for msg in read] == ["x"]


# The socket, and the example of luvit's page


ENDS = {
    "shutdown()": lambda sock: sock.shutdown(),
    "shutdown(SHUT_RDWR)": lambda sock: sock.shutdown(socket.SHUT_RDWR),
    "shutdown(SHUT_WR)": lambda sock: sock.shutdown(socket.SHUT_WR),
    "shutdown(SHUT_RD)": lambda sock: sock.shutdown(socket.SHUT_RD),
    "close()": lambda sock: sock.close(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_the_example_of_luvits_page_ends_its_loop_without_an_error(end, place):
    listen, options = place
    async with serve(echo, close_timeout=1, **listen) as server:
        res, read, write = await connect(server.url, close_timeout=1, **options)
        await write({"payload": "Hello There!"})
        responses = []
        async for msg in read:
            responses.append(msg.payload)
            end(res.socket)  # Stop listening and close the connection
        assert responses == [b"Hello There!"]
        assert await read() is None
        await write.close()
        with pytest.raises(ConnectionClosedError):
            await write("too late")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_ending_the_socket_ends_a_read_that_waits(end, place):
    listen, options = place
    async with serve(echo, close_timeout=1, **listen) as server:
        res, read, write = await connect(server.url, close_timeout=1, **options)
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        end(res.socket)
        assert await reading is None
        await write.close()


async def test_the_server_sees_the_end_when_the_client_ends_its_socket(place):
    listen, options = place
    ended = asyncio.get_running_loop().create_future()

    async def handler(req, read, write):
        try:
            ended.set_result(await read())
        except ConnectionClosedError as error:
            ended.set_result(error.code)

    async with serve(handler, close_timeout=1, **listen) as server:
        res, _, write = await connect(server.url, **options)
        res.socket.shutdown()
        assert await ended == 1006
        await write.close()


@pytest.mark.parametrize("end", [ENDS["shutdown()"], ENDS["close()"]], ids=["shutdown", "close"])
async def test_ending_the_socket_twice_or_after_the_connection_is_harmless(end, place):
    """The example shuts the socket down whatever the peer has done meanwhile."""
    listen, options = place

    def script(link):
        link.accept(then=link.frame(TEXT, "x") + link.frame(CLOSE, close_payload(1000)))

    with scripted(script, **listen) as server:
        res, read, write = await connect(server.url, **options)
        try:
            async for _ in read:
                end(res.socket)
                end(res.socket)
            await write.close()
            end(res.socket)
        finally:
            await write.close()


async def test_shutting_down_after_an_echo_server_that_closes_after_one_message():
    """The example at a server which closes at once: the connection is over before the loop is."""

    async def once(req, read, write):
        await write((await read()).payload)

    async with serve(once) as server:
        res, read, write = await connect(server.url)
        await write({"payload": "Hello There!"})
        async for _ in read:
            await until(lambda: res.socket.fileno() < 0)
            res.socket.shutdown()
        await write.close()


async def test_the_socket_is_that_of_the_connection_and_can_be_looked_at(place):
    listen, options = place
    with scripted(accept, **listen) as server:
        async with connect(server.url, **options) as (res, _, _):
            assert isinstance(res.socket, socket.socket)
            assert res.socket.fileno() >= 0
            assert res.socket.type & socket.SOCK_STREAM
            res.socket.getsockname()
            res.socket.getpeername()
            res.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert res.socket.fileno() == -1


async def test_a_tcp_connection_does_not_wait_to_send_small_messages():
    with scripted(accept) as server:
        async with connect(server.url) as (res, _, _):
            assert res.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
