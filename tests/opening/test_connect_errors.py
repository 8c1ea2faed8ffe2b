"""connect that fails: each way has its own error, and leaves nothing behind.

A task, a timer or a socket that stays is found by the fixtures; that the server sees the client
go, by its scripts. RFC 6455 sections 4.1 and 7.1.7.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from tests.conftest import TransportsOnlyLoop
from tests.helpers.raw_peer import answer_to, clients_of, echo, until, watchdog
from tests.helpers.scripted_server import (
    BOUND,
    asking_for_a_certificate,
    drip,
    no_timers_left,
    refused_port,
    scripted,
)

from coro_websocket import (
    ConnectError,
    ConnectTimeout,
    HandshakeError,
    InvalidURL,
    TLSError,
    WebSocketError,
    connect,
    serve,
    worth_retrying,
)

__all__ = ["no_timers_left", "watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left", "no_timers_left")

SHORT = 0.1  # a timeout that is the subject


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """Nothing that a test awaits takes longer."""
    async with asyncio.timeout(BOUND):
        yield


async def failure(*where: Any, **options: Any) -> Any:
    """The error that connect raises; it shows no credentials, and is what it should be."""
    with pytest.raises(WebSocketError) as caught:
        await connect(*where, **options)
    error = caught.value
    assert isinstance(error, ConnectionError)
    assert isinstance(error, OSError)
    assert "\n" not in str(error)
    return error


@pytest.fixture(params=["tcp", "tls", "unix"])
def place(request, certificates, tmp_path):
    """Where the peer listens and how to connect to it."""
    return {
        "tcp": ({}, {}),
        "tls": ({"tls": certificates.server}, {"tls": certificates.client}),
        "unix": ({"path": str(tmp_path / "socket")}, {}),
    }[request.param]


# What cannot be reached


async def test_a_host_that_cannot_be_resolved_is_a_connect_error_of_phase_resolve(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure("ws://no-such-host.invalid/")
    assert type(error) is ConnectError
    assert error.phase == "resolve"
    assert "no-such-host.invalid" in str(error)


@pytest.mark.parametrize("host", ["a" * 63 + ".invalid", "a..invalid", "x" * 250 + ".invalid"])
async def test_a_host_that_no_resolver_would_take_is_a_websocket_error(host):
    with pytest.raises(WebSocketError):
        await connect(host=host, port=1)


async def test_a_port_on_which_nobody_listens_is_a_connect_error_of_phase_connect():
    with refused_port() as port:
        error = await failure(f"ws://127.0.0.1:{port}/")
    assert type(error) is ConnectError
    assert error.phase == "connect"
    assert f"127.0.0.1 port {port}" in str(error)
    assert "refused" in str(error)


async def test_every_address_that_was_tried_is_in_the_message(monkeypatch):
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with refused_port() as port:
        found = [(*kind, (f"127.0.0.{n}", port)) for n in range(1, 4)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        error = await failure(host="three.example", port=port)
    assert f"three.example port {port}" in str(error)
    assert all(f"127.0.0.{n}: " in str(error) for n in range(1, 4))


@pytest.mark.parametrize("there", ["nothing", "a file", "a folder", "a socket without a listener"])
async def test_a_unix_socket_that_is_not_there_is_a_connect_error_with_its_path(there, tmp_path):
    path = tmp_path / "socket"
    if there == "a file":
        path.write_text("")
    elif there == "a folder":
        path.mkdir()
    elif there != "nothing":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    error = await failure(path=path)
    assert type(error) is ConnectError
    assert error.phase == "connect"
    assert str(path) in str(error)


async def test_a_unix_path_that_is_too_long_is_a_connect_error():
    error = await failure(path="/" + "x" * 200)
    assert type(error) is ConnectError
    assert error.phase == "connect"


# TLS


async def test_tls_with_a_server_that_has_none_is_a_tls_error_that_says_so():
    async with serve(echo) as server:
        error = await failure(server.url.replace("ws:", "wss:"))
        assert type(error) is TLSError
        assert error.phase == "tls"
        assert f"127.0.0.1 port {server.port}" in str(error)
        assert "does the server speak TLS on this port? If not, try ws://" in str(error)


async def test_no_tls_with_a_server_that_has_it_is_an_error_that_names_the_handshake(certificates):
    async with serve(echo, tls=certificates.server) as server:
        error = await failure(server.url.replace("wss:", "ws:"))
        assert isinstance(error, HandshakeError | ConnectError)
        assert "wss://" in str(error)


@pytest.mark.parametrize("how", ["hang up", "reset"])
async def test_a_server_that_hangs_up_on_a_request_without_tls_may_want_it(how):
    def script(link):
        link.head()
        if how == "reset":
            link.reset()

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is ConnectError
        assert "if it speaks TLS on this port, try wss://" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>",
        b"Client sent an HTTP request to an HTTPS server.",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
async def test_a_server_that_answers_without_tls_that_it_wants_tls_is_understood(body):
    def script(link):
        link.head()
        link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" + body)

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is HandshakeError
        assert "use wss://" in str(error)


async def test_a_tls_record_in_place_of_an_answer_is_recognised():
    def script(link):
        link.head()
        link.send(b"\x15\x03\x03\x00\x02\x02\x46")

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is HandshakeError
        assert "wss://" in str(error)


async def test_a_certificate_of_an_unknown_authority_is_a_tls_error(certificates):
    async with serve(echo, tls=certificates.server) as server:
        for tls in (True, {"ca": trustme.CA().cert_pem.bytes()}):
            error = await failure(host="127.0.0.1", port=server.port, tls=tls)
            assert type(error) is TLSError
            assert "certificate is not accepted" in str(error)
            assert "tls={'ca': ...}" in str(error)
            assert f"127.0.0.1 port {server.port}" in str(error)


async def test_a_certificate_that_signs_itself_may_be_trusted_by_ca():
    own = trustme.CA()  # its certificate, and no other
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with own.cert_pem.tempfile() as cert, own.private_key_pem.tempfile() as key:
        context.load_cert_chain(cert, key)
    async with serve(echo, tls=context) as server:
        error = await failure(server.url)
        assert type(error) is TLSError
        assert "tls={'ca': ...}" in str(error)


async def test_an_expired_certificate_is_no_matter_of_trust():
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    ca.issue_cert("127.0.0.1", not_after=long_ago).configure_cert(context)
    async with serve(echo, tls=context) as server:
        error = await failure(server.url, tls={"ca": ca.cert_pem.bytes()})
        assert "expired" in str(error)
        assert "'ca'" not in str(error)


async def test_a_certificate_for_another_name_is_a_tls_error(certificates):
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("other.example").configure_cert(context)
    async with serve(echo, tls=context) as server:
        error = await failure(server.url, tls={"ca": ca.cert_pem.bytes()})
        assert type(error) is TLSError
        assert "127.0.0.1" in str(error)
        assert "'ca'" not in str(error)


async def test_versions_of_tls_that_do_not_meet_are_a_tls_error(certificates):
    certificates_tls = {"cert": certificates.cert, "key": certificates.key, "protocol": "TLSv1.3"}
    async with serve(echo, tls=certificates_tls) as server:
        error = await failure(server.url, tls={"ca": certificates.ca, "protocol": "TLSv1.2"})
        assert type(error) is TLSError


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_a_client_certificate_that_is_missing_is_a_tls_error(version, certificates):
    """With TLS 1.3 the server's alert comes after the client's handshake."""
    with scripted(asking_for_a_certificate(certificates)) as server:
        url = server.url.replace("ws:", "wss:")
        error = await failure(url, tls={"ca": certificates.ca, "protocol": version})
        assert type(error) is TLSError
        assert error.phase == "tls"
        assert f"127.0.0.1 port {server.port}" in str(error)
        assert not worth_retrying(error)


@pytest.mark.parametrize("how", ["hang up", "reset", "garbage", "half a record"])
async def test_a_server_that_ends_the_tls_handshake_makes_a_tls_error(how):
    def script(link):
        link.more()
        if how == "reset":
            link.reset()
        elif how == "garbage":
            link.send(b"\x00" * 500)
            link.wait_end()
        elif how == "half a record":
            link.send(b"\x16\x03\x03\x40\x00\x02")

    with scripted(script) as server:
        error = await failure(server.url.replace("ws:", "wss:"))
        assert type(error) is TLSError
        assert error.phase == "tls"
        assert f"127.0.0.1 port {server.port}" in str(error)


# Deadlines


async def test_a_resolver_that_does_not_answer_is_left_at_the_timeout_of_phase_resolve(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(BOUND) and [])
    try:
        error = await failure("ws://slow.example/", timeout=SHORT)
        assert type(error) is ConnectTimeout
        assert isinstance(error, TimeoutError)
        assert error.phase == "resolve"
    finally:
        answered.set()


async def test_an_address_that_does_not_answer_is_left_at_the_timeout_of_phase_connect(tmp_path):
    """A unix socket whose backlog is full keeps a client waiting."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        fillers = []
        try:
            while True:
                filler = socket.socket(socket.AF_UNIX)
                filler.setblocking(False)
                fillers.append(filler)
                try:
                    filler.connect(path)
                except BlockingIOError:
                    break
            # Linux says at once that it would block, which is no answer either.
            error = await failure(path=path, timeout=SHORT)
        finally:
            for filler in fillers:
                filler.close()
    assert error.phase == "connect"
    assert isinstance(error, ConnectError)
    assert path in str(error)


async def test_a_full_backlog_is_waited_for_until_the_timeout_of_phase_connect():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        where = listener.getsockname()
        fillers = []
        try:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                fillers.append(filler)
                filler.connect_ex(where)
            await asyncio.sleep(0)
            error = await failure(host=where[0], port=where[1], timeout=SHORT)
        finally:
            for filler in fillers:
                filler.close()
    if error.phase == "handshake":
        pytest.skip("this system takes connections beyond the backlog")
    assert type(error) is ConnectTimeout
    assert error.phase == "connect"
    assert f"127.0.0.1:{where[1]}" in str(error)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_that_says_nothing_is_left_at_the_timeout(tls):
    with scripted(lambda link: link.wait_end()) as server:
        start = time.monotonic()
        error = await failure(host="127.0.0.1", port=server.port, tls=tls, timeout=SHORT)
        assert time.monotonic() - start < BOUND / 2
        assert type(error) is ConnectTimeout
        assert isinstance(error, TimeoutError)
        assert error.phase == ("tls" if tls else "handshake")
        assert f"127.0.0.1:{server.port}" in str(error)
        assert "0.1 s" in str(error)
        await until(lambda: server.ended)


async def test_an_answer_that_drips_does_not_move_the_deadline(place):
    listen, options = place

    def script(link):
        link.head()
        drip(link, b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 10_000)

    with scripted(script, **listen) as server:
        start = time.monotonic()
        error = await failure(server.url, handshake_timeout=SHORT, **options)
        assert time.monotonic() - start < BOUND / 2
        assert type(error) is ConnectTimeout
        assert error.phase == "handshake"
        await until(lambda: server.ended)


async def test_a_tls_handshake_that_drips_does_not_move_the_deadline():
    def script(link):
        link.more()
        drip(link, b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(10_000))

    with scripted(script) as server:
        error = await failure(server.url.replace("ws:", "wss:"), timeout=SHORT)
        assert type(error) is ConnectTimeout
        assert error.phase == "tls"
        await until(lambda: server.ended)


async def test_interim_answers_without_end_do_not_move_the_deadline_nor_pass_the_limits():
    def script(link):
        link.head()
        link.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000)
        link.wait_end()

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is HandshakeError
        assert "max_head_size" in str(error)


async def test_a_timeout_of_the_callers_own_is_not_taken_for_ours():
    with scripted(lambda link: link.wait_end()) as server:
        for opening in (
            lambda: asyncio.wait_for(connect(server.url), SHORT),
            lambda: asyncio.wait_for(connect(server.url, timeout=None), SHORT),
        ):
            with pytest.raises(TimeoutError) as caught:
                await opening()
            assert not isinstance(caught.value, WebSocketError)
        await until(lambda: server.ended == 2)


# What the server says instead of 101


async def test_a_server_that_hangs_up_at_once_is_lost_in_the_handshake(place):
    listen, options = place
    with scripted(lambda link: None, **listen) as server:
        error = await failure(server.url, **options)
        assert type(error) is ConnectError
        assert error.phase == "handshake"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/", "in the middle of its answer's head"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpg", "in the middle of its answer's head"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "after an interim 103"),
    ],
    ids=["nothing", "a start", "half a head", "an interim answer"],
)
async def test_a_server_that_hangs_up_without_an_answer_is_lost_in_the_handshake(
    answer, said, place
):
    """As one that resets the connection: a server that restarts may do either."""
    listen, options = place

    def script(link):
        link.head()
        link.send(answer)

    with scripted(script, **listen) as server:
        error = await failure(server.url, **options)
        assert type(error) is ConnectError
        assert error.phase == "handshake"
        assert server.url in str(error)
        assert said in str(error)


async def test_an_answer_that_comes_before_the_request_is_given_though_that_cannot_be_sent():
    if isinstance(asyncio.get_running_loop(), TransportsOnlyLoop):
        pytest.skip("asyncio's transports drop what has come where they cannot send")
    mine, peer = socket.socketpair()
    peer.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    peer.close()
    error = await failure("ws://chat.test/", sock=mine)
    assert type(error) is HandshakeError
    assert error.response.code == 503
    mine, peer = socket.socketpair()
    peer.close()
    error = await failure("ws://chat.test/", sock=mine)
    assert type(error) is ConnectError
    assert error.phase == "handshake"


@pytest.mark.parametrize("after", [0, 1, 40], ids=["before", "after a byte", "in the head"])
async def test_a_reset_in_the_handshake_is_a_connect_error_of_phase_handshake(after):
    def script(link):
        head = link.head()
        link.send(answer_to(head)[:after])
        if after:
            gone.wait(BOUND / 5)  # what came is taken first
        link.reset()

    gone = threading.Event()
    with scripted(script) as server:
        opening = asyncio.create_task(failure(server.url))
        if after:
            for _ in range(20):
                await asyncio.sleep(0.001)
            gone.set()
        error = await opening
        assert type(error) is ConnectError
        assert error.phase == "handshake"
        assert f"127.0.0.1:{server.port}" in str(error)
        assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"220 mail.example ESMTP\r\n", "does not speak HTTP"),
        (b"\x00\xff" * 5000, "does not speak HTTP"),
        (b"\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 X\r\nno colon\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 X\r\nX: a\0b\r\n\r\n", "malformed"),
        (b"HTTP/9.9 101 X\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 101 X\r\nX: " + b"y" * 1_000_000, "max_head_size"),
        (b"HTTP/1.1 101 X\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "max_header_lines"),
        (b"HTTP/1.1 101 " + b"x" * 100_000 + b"\r\n\r\n", "max_head_size"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
async def test_an_answer_that_is_no_http_or_too_large_is_a_handshake_error(answer, said):
    def script(link):
        link.head()
        link.send(answer)

    with scripted(script) as server:
        error = await failure(server.url + "?t0ken")
        assert type(error) is HandshakeError
        assert error.phase == "handshake"
        assert str(error).startswith(f"{server.url}?...: ")
        assert said in str(error)
        assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x"), "Sec-WebSocket-Accept"),
        ((b"Sec-WebSocket-Accept: ", b"X-Accept: "), "no Sec-WebSocket-Accept"),
        ((b"Upgrade: websocket", b"Upgrade: h2c"), "Upgrade"),
        ((b"Upgrade: websocket\r\n", b""), "Upgrade"),
        ((b"Connection: Upgrade", b"Connection: close"), "Connection"),
        ((b"HTTP/1.1", b"HTTP/1.0"), "HTTP"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), "none was offered"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"), "Extensions"),
    ],
    ids=["accept", "no accept", "upgrade", "none", "connection", "1.0", "protocol", "extension"],
)
async def test_an_answer_that_is_no_handshake_carries_its_response_rfc_6455_4_1(wrong, said):
    def script(link):
        link.send(answer_to(link.head()).replace(*wrong))
        link.wait_end()

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is HandshakeError
        assert said in str(error)
        if error.response is not None:
            assert error.response.code == 101
            assert error.response.url is not None


@pytest.mark.parametrize(
    ("answer", "code", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 301, b""),
        (
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwhy?",
            401,
            b"why?",
        ),
        (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403, b""),
    ],
    ids=["200", "chunked", "HTTP/1.0", "204", "301", "401", "503", "100 and 403"],
)
async def test_a_refusal_carries_the_whole_response(answer, code, body, place):
    listen, options = place

    def script(link):
        link.head()
        link.send(answer)
        if b"HTTP/1.0" not in answer:
            link.wait_end()

    with scripted(script, **listen) as server:
        error = await failure(server.url, max_redirects=0, **options)
        assert type(error) is HandshakeError
        assert str(code) in str(error)
        assert (error.response.code, error.response.body) == (code, body)
        assert not error.response.body_truncated
        assert str(error.response.url) == server.url
        assert error.response.socket is None
        if code == 401:
            assert error.response["www-authenticate"] == "Basic"
        if code == 301:
            assert error.response["location"] == "/x"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/plain", b"no such room\nsecond line", "'no such room'"),
        (
            "text/plain; charset=utf-8",
            "kein Zutritt für Sie".encode(),
            r"'kein Zutritt f\xfcr Sie'",
        ),
        ("text/plain; charset=iso-8859-1", b"f\xfcr", r"'f\xfcr'"),
        (None, b"Client is too old", "'Client is too old'"),
        ("application/json", b'{\n  "error": "quota"\n}\n', """'{ "error": "quota" }'"""),
        ("application/problem+json", b'{"title":"gone"}', """'{"title":"gone"}'"""),
        ("text/plain", b"\r\n\r\n  indented", "'indented'"),
        ("text/plain", b"x" * 1000, "'" + "x" * 100 + "'..."),
        ("text/html", b"<title>Forbidden</title>", None),
        ("text/plain", b"<html>", None),
        ("text/plain", b"a\x1b[31mred", None),
        ("text/plain", b"", None),
        ("text/plain; charset=punycode", b"abc-def", None),
        ("application/octet-stream", b"abc", None),
        ("text/plain\r\nContent-Encoding: gzip", b"abc", None),
    ],
)
async def test_the_first_line_of_a_refusals_body_is_in_the_message(kind, body, said):
    header = f"Content-Type: {kind}\r\n" if kind else ""

    def script(link):
        link.head()
        link.send(f"HTTP/1.1 403 No\r\n{header}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with scripted(script) as server:
        error = await failure(server.url)
        assert error.response.body == body
        if said is None:
            assert "it says" not in str(error)
        else:
            assert str(error).endswith(f"it says {said}")


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": "Bearer tok-1234567890"}},
        {"headers": {"Authorization": "tok-1234567890"}},
        {"headers": {"X-Whatever": "tok-1234567890"}},
        {"headers": {"Authorization": 'Token token="TOK-1234567890"'}},
        {"headers": {"Cookie": "theme=dark; session=tok-1234567890"}},
        {"subprotocol": ["chat", "tok-1234567890"]},
        {"pathname": "/?a=b&token=tok-1234567890"},
        {"pathname": "/?token=%74ok-1234567890"},
        {"username": "me", "password": "tok-1234567890"},
        {"username": "tok-1234567890", "password": ""},
    ],
)
@pytest.mark.parametrize("shown", ["tok-1234567890", "tok-12345...", "...4567890"])
async def test_a_refusal_that_echoes_what_we_have_sent_is_not_quoted(options, shown, caplog):
    caplog.set_level(logging.INFO)

    def script(link):
        link.head()
        link.send(b"HTTP/1.1 401 No\r\n\r\nnot valid: " + shown.encode())

    with scripted(script) as server:
        error = await failure(host="127.0.0.1", port=server.port, **options)
    assert type(error) is HandshakeError
    assert shown not in str(error) + caplog.text
    assert shown.encode() in error.response.body


async def test_a_refusal_that_echoes_nothing_of_ours_is_quoted_beside_credentials():
    def script(link):
        link.head()
        link.send(b"HTTP/1.1 401 No\r\n\r\nBearer token has expired")

    with scripted(script) as server:
        error = await failure(server.url, headers={"Authorization": "Bearer SECRET-1234567890"})
    assert str(error).endswith("it says 'Bearer token has expired'")


@pytest.mark.parametrize("end", ["silence", "reset", "hanging up"])
async def test_a_refusal_whose_body_does_not_end_is_still_a_handshake_error(end):
    """The status is what the user needs: neither a deadline nor a reset may hide it."""

    def script(link):
        link.head()
        link.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000\r\n\r\nthe start")
        if end == "silence":
            link.wait_end()
        else:
            taken.wait(BOUND / 5)
            link.reset() if end == "reset" else link.hang_up()

    taken = threading.Event()
    with scripted(script) as server:
        opening = asyncio.create_task(
            failure(server.url, timeout=1 if end == "silence" else BOUND / 2)
        )
        for _ in range(20):
            await asyncio.sleep(0.001)
        taken.set()
        error = await opening
        assert type(error) is HandshakeError
        assert (error.response.code, error.response.body) == (401, b"the start")
        assert error.response.body_truncated


@pytest.mark.parametrize("limit", [0, 7, 100_000])
async def test_a_refusals_body_is_cut_at_max_body_size(limit):
    def script(link):
        link.head()
        link.send(b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        link.wait_end()

    with scripted(script) as server:
        error = await failure(server.url, max_body_size=limit)
        assert len(error.response.body) == limit
        assert error.response.body_truncated is (limit < 100_000)
        error = await failure(server.url, max_body_size=None)
        assert len(error.response.body) == 100_000
        assert not error.response.body_truncated


async def test_a_refusals_body_without_end_is_cut():
    def script(link):
        link.head()
        link.send(b"HTTP/1.1 500 No\r\n\r\n")
        while True:
            link.send(b"x" * 65536)

    with scripted(script) as server:
        error = await failure(server.url)
        assert type(error) is HandshakeError
        assert len(error.response.body) == 65536
        assert error.response.body_truncated
        assert "(truncated)" in repr(error.response)


# Credentials


ENDS = {
    "refused": None,
    "hangs up": lambda link: None,
    "hangs up in the head": lambda link: link.send(b"HTTP/1.1 1"),
    "says nothing": lambda link: link.wait_end(),
    "garbage": lambda link: link.send(b"garbage\r\n\r\n"),
    "401": lambda link: link.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
    "reflects the request": lambda link: link.send(
        b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(link.request) + link.request
    ),
    "reflects the request as a head": lambda link: link.send(b"HTTP/1.1 101 X\r\n" + link.request),
    "resets": lambda link: link.reset(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_credentials_are_in_no_message_and_no_log(end, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = ("s3cret", "czNjcmV0", "dXNlcjpzM2NyZXQ=", "t0ken")

    def script(link):
        link.head()
        end(link)

    with scripted(script) as server, refused_port() as refused:
        port = server.port if end is not None else refused
        connecting = connect(
            f"ws://user:s3cret@127.0.0.1:{port}/", headers={"Cookie": "t0ken"}, timeout=SHORT
        )
        shown = repr(connecting)
        with pytest.raises(WebSocketError) as caught:
            await connecting
        error: BaseException | None = caught.value
        while error is not None:
            shown += f"{error} {error!r} {getattr(error, 'response', None)!r}"
            error = error.__cause__ or error.__context__
    shown += caplog.text
    assert not [secret for secret in secrets if secret in shown]


async def test_credentials_of_a_connection_that_works_are_in_no_log(caplog, certificates):
    caplog.set_level(logging.DEBUG)
    async with serve(echo, tls=certificates.server) as server:
        url = server.url.replace("//", "//user:s3cret@")
        async with connect(url, tls=certificates.client):
            pass
    assert "connected to" in caplog.text
    assert "s3cret" not in caplog.text
    assert "dXNlcjpzM2NyZXQ=" not in caplog.text


async def test_credentials_of_a_url_that_is_refused_are_not_shown():
    for url in (
        "ws://user:s3cret@host:99999/",
        "ws://user:s3cret@/",
        "ws://user:s3cret@ho st/",
        "http://user:s3cret@host/",
        "ws://user:s3cret@[::/",
        "ws://user:s3/cret@host/",
    ):
        with pytest.raises(InvalidURL) as caught:
            connect(url).close()
        assert "cret" not in str(caught.value) + repr(caught.value)


# Cancelling


async def cancelled(connecting: Any, reached: Any) -> None:
    task = asyncio.create_task(connecting)
    await until(reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connecting_can_be_cancelled_before_it_began():
    task = asyncio.create_task(connect(port=1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connecting_can_be_cancelled_while_resolving(monkeypatch):
    asked, answered = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        asked.set()
        answered.wait(BOUND)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        await cancelled(connect("ws://slow.example/"), asked.is_set)
    finally:
        answered.set()


@pytest.mark.parametrize(
    "phase", ["tls", "tls begun", "handshake", "answer begun", "refusal begun"]
)
async def test_connecting_can_be_cancelled_in_each_phase_and_the_server_sees_it_go(phase):
    reached = threading.Event()

    def script(link):
        if phase == "tls":
            link.more()
        elif phase == "tls begun":
            link.more()
            link.send(b"\x16\x03\x03\x40\x00\x02")
        else:
            head = link.head()
            if phase == "answer begun":
                link.send(answer_to(head)[:-2])
            elif phase == "refusal begun":
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        reached.set()
        link.wait_end()

    with scripted(script) as server:
        url = server.url.replace("ws:", "wss:") if "tls" in phase else server.url
        await cancelled(connect(url), reached.is_set)
        await until(lambda: server.ended)


async def test_connecting_can_be_cancelled_at_any_turn_of_the_loop(certificates, place):
    """However far it has come, either it is open or nothing is left."""
    listen, options = place
    async with serve(echo, **listen) as server:
        for turns in range(40):
            task = asyncio.create_task(connect(server.url, **options))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                _, read, write = await task
            except asyncio.CancelledError:
                continue
            await write("x")
            assert (await read()).payload == "x"
            await write.close()
        await until(lambda: clients_of(server) == 0)


async def test_many_clients_that_are_cancelled_at_once_leave_nothing():
    with scripted(lambda link: link.wait_end()) as server:
        tasks = [asyncio.create_task(connect(server.url)) for _ in range(50)]
        await until(lambda: server.accepted == 50)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        await until(lambda: server.ended == 50)


async def test_a_failure_does_not_keep_the_next_connection_from_opening():
    turns = []

    def script(link):
        turns.append(link)
        if len(turns) == 1:
            return
        link.accept(then=link.frame(1, "second") + link.frame(8))
        link.close_received()

    with scripted(script) as server:
        await failure(server.url)
        async with connect(server.url) as (_, read, _):
            assert [msg.payload async for msg in read] == ["second"]
