"""reconnect: one connection after the other."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND, answer_to, read_head, until, watchdog
from tests.helpers.scripted_server import asking_for_a_certificate, linger_zero, scripted

import coro_websocket
from coro_websocket import (
    ConnectError,
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeError,
    InvalidOption,
    InvalidOptionType,
    InvalidURL,
    NoEventLoopError,
    ProxyError,
    Response,
    TLSError,
    connect,
    reconnect,
    serve,
    worth_retrying,
)
from coro_websocket._reconnect import retry_after
from coro_websocket._runtimes.asyncio_loop import AsyncioLoop

__all__ = ["watchdog"]


@pytest.fixture(autouse=True)
async def loops_that_were_left(no_tasks_left):
    """Python closes a loop that was left by `break` in a task of its own."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made; each as long as it may be, and over at once."""
    made = []

    async def sleep(_, seconds):
        if seconds:
            made.append(round(seconds, 3))
        await asyncio.sleep(0)

    monkeypatch.setattr(AsyncioLoop, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    return made


@contextlib.asynccontextmanager
async def refusing(*answers: bytes):
    """A server that gives these answers, one a connection, and is then a WebSocket server.

    b"" hangs up without an answer.
    """
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    requests: list[bytes] = []
    open_sockets = []

    async def run():
        for answer in [*answers, *[None] * 10]:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            open_sockets.append(sock)
            request, _ = await read_head(sock)
            requests.append(request)
            await loop.sock_sendall(sock, answer_to(request) if answer is None else answer)
            if answer is not None:
                sock.close()

    running = asyncio.create_task(run())
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/", requests, open_sockets
    finally:
        running.cancel()
        await asyncio.wait([running])
        for sock in open_sockets:
            sock.close()
        listener.close()


def status(line: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {line}\r\n{headers}Content-Length: 0\r\n\r\n".encode()


BUSY = status("503 Service Unavailable")


async def test_each_connection_follows_the_last():
    async def greet(req, read, write):
        await write("hello")

    seen = []
    async with serve(greet) as server:
        async for _res, read, _write in reconnect(server.url, first_delay=0.001):
            async for message in read:
                seen.append(message.payload)
            if len(seen) == 3:
                break
        assert seen == ["hello"] * 3


async def test_a_connection_that_is_lost_is_followed_by_the_next(pauses):
    async with refusing() as (url, requests, sockets):
        count = 0
        async for _, read, _ in reconnect(url, close_timeout=0.1):
            count += 1
            sockets[-1].close()
            try:
                async for _ in read:
                    pass
            except ConnectionClosedError:
                if count < 3:
                    continue
                break
        assert len(requests) == 3


async def test_a_server_that_comes_back_is_found(pauses):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))  # which refuses until it listens
    attempts = []

    async def start(attempt, error):
        attempts.append((attempt, type(error)))
        if attempt == 4:
            listener.listen()
            servers.append(await serve(lambda *_: asyncio.sleep(0), sock=listener))

    servers: list[Any] = []
    async for res, _, _ in reconnect(
        f"ws://127.0.0.1:{listener.getsockname()[1]}/", before=start, close_timeout=0.1
    ):
        assert res.code == 101
        break
    await servers[0].close()
    assert attempts == [(1, type(None)), *[(n, ConnectError) for n in (2, 3, 4)]]
    assert pauses == [0.5, 1.0, 2.0]


async def test_the_pauses_double_up_to_the_longest(pauses):
    async with refusing(*[BUSY] * 6) as (url, _, _):
        async for _ in reconnect(url, first_delay=1, max_delay=10, close_timeout=0.1):
            break
        assert pauses == [1, 2, 4, 8, 10, 10]


async def test_the_pauses_are_random():
    async with refusing(*[BUSY] * 4) as (url, requests, _):
        async for _ in reconnect(url, first_delay=0.001, max_delay=0.002, close_timeout=0.1):
            break
        assert len(requests) == 5


async def test_a_connection_that_is_closed_at_once_is_no_success(pauses):
    """No hot loop with a server that accepts everybody and keeps nobody."""
    async with refusing() as (url, _, sockets):
        count = 0
        async for _ in reconnect(url, first_delay=1, close_timeout=0.1):
            sockets[-1].close()
            count += 1
            if count == 4:
                break
        assert pauses == [1, 2, 4]


async def test_the_pauses_begin_again_once_a_connection_has_settled(pauses):
    async with refusing(BUSY, BUSY, None) as (url, _, sockets):
        count = 0
        async for _ in reconnect(url, first_delay=1, settle_time=None, close_timeout=0.1):
            sockets[-1].close()
            count += 1
            if count == 3:
                break
        assert pauses == [1, 2, 1, 1]


@pytest.mark.parametrize("line", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_retry_after_is_waited_for(pauses, line):
    async with refusing(status(line, "Retry-After: 120\r\n"), BUSY) as (url, _, _):
        async for _ in reconnect(url, close_timeout=0.1):
            break
        assert pauses == [120, 1]


def test_retry_after_in_seconds_as_a_date_or_not_at_all():
    def asked(value):
        answer = Response([("Retry-After", value)] if value is not None else [], code=503)
        return retry_after(HandshakeError("busy", answer))

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert asked("17") == 17
    assert 90 < asked(soon) <= 100
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    odd = "Wed, 21 Oct 2030 07:28:00 +99999999999999999999"
    for value in (None, "", "-1", "soon", "1e3", past, odd, "Wed, 99999999999999999999 Oct"):
        assert asked(value) == 0
    # A server cannot keep us away for years.
    for value in ("999999999", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert asked(value) == 3600
    assert retry_after(HandshakeError("no", Response([("Retry-After", "9")], code=404))) == 0
    assert retry_after(ConnectError("gone")) == 0
    assert retry_after(HandshakeError("no answer")) == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"HTTP/1.1 100 X\r\n\r\n"])
async def test_a_server_that_hangs_up_without_an_answer_is_asked_again(pauses, answer):
    """A backend that restarts, or a load balancer without one."""
    async with refusing(answer, answer) as (url, requests, _):
        async for res, _, _ in reconnect(url, close_timeout=0.1):
            assert res.code == 101
            break
        assert len(requests) == 3


@pytest.mark.parametrize("line", ["408 Request Timeout", "425 Too Early", "500 Oops"])
async def test_a_refusal_that_may_pass_is_followed_by_another_attempt(pauses, line):
    async with refusing(status(line, "Retry-After: 7\r\n")) as (url, requests, _):
        async for res, _, _ in reconnect(url, close_timeout=0.1):
            assert res.code == 101
            break
        assert len(requests) == 2
        assert pauses == [7]


@pytest.mark.parametrize("through", ["no proxy", "a proxy"])
@pytest.mark.parametrize(
    ("alert", "again"),
    [
        (0, True),  # close_notify
        (20, True),  # bad_record_mac
        (80, True),  # internal_error
        (90, True),  # user_canceled
        (40, False),  # handshake_failure
        (42, False),  # bad_certificate
        (48, False),  # unknown_ca
        (49, False),  # access_denied
        (70, False),  # protocol_version
        (112, False),  # unrecognized_name
    ],
)
async def test_alerts_of_tls_that_may_pass_are_retried(alert, again, through):
    def script(link):
        link.more()
        link.send(bytes((0x15, 3, 3, 0, 2, 2 if alert else 1, alert)))
        link.wait_end()

    with scripted(script) as server:
        url = server.url.replace("ws:", "wss:")
        options: dict[str, Any] = (
            {"proxy": url.replace("wss:", "https:")} if through == "a proxy" else {}
        )
        with pytest.raises(ConnectError) as caught:
            await connect("wss://chat.test/" if options else url, **options)
    assert type(caught.value) is (ProxyError if options else TLSError)
    assert worth_retrying(caught.value) is again


@pytest.mark.parametrize("line", ["404 Not Found", "401 Unauthorized", "400 Bad Request"])
async def test_a_refusal_that_stays_is_raised(pauses, line):
    async with refusing(status(line), BUSY) as (url, requests, _):
        with pytest.raises(HandshakeError, match=line[:3]) as caught:
            async for _ in reconnect(url):
                pass
        assert caught.value.response.code == int(line[:3])
        assert len(requests) == 1


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
             b"Content-Length: -1", b"Content-Length: 4, 5"],
)  # fmt: skip
async def test_the_status_counts_whatever_is_said_of_the_body(pauses, line):
    for status, again in ((b"503 Busy", True), (b"404 Not Found", False)):
        answer = b"HTTP/1.1 " + status + b"\r\n" + line + b"\r\n\r\n4\r\nbusy\r\n0\r\n\r\n"
        async with refusing(answer) as (url, requests, _):
            if again:
                async for _ in reconnect(url, close_timeout=0.001):
                    break
            else:
                with pytest.raises(HandshakeError, match="404") as caught:
                    await anext(aiter(reconnect(url)))
                assert b"busy" in caught.value.response.body
        assert len(requests) == 1 + again


async def test_what_is_no_websocket_server_is_raised(pauses):
    async with refusing(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as (url, _, _):
        with pytest.raises(HandshakeError):
            async for _ in reconnect(url):
                pass
        assert pauses == []


async def test_a_client_certificate_that_is_missing_is_raised(pauses, certificates):
    """Which with TLS 1.3 is known only once TLS is set up."""
    with scripted(asking_for_a_certificate(certificates)) as server:
        with pytest.raises(TLSError, match="certificate"):
            async for _ in reconnect(server.url.replace("ws:", "wss:"), tls=certificates.client):
                pass
    assert pauses == []


async def test_a_certificate_that_is_not_accepted_is_raised(pauses, certificates):
    async with serve(lambda *_: asyncio.sleep(0), tls=certificates.server) as server:
        with pytest.raises(TLSError, match="certificate"):
            async for _ in reconnect(server.url):
                pass
    assert pauses == []


def test_the_rule():
    def refused(code):
        return HandshakeError("refused", Response(code=code))

    lost = TLSError("lost")
    lost.__cause__ = ConnectionResetError()
    wrong = TLSError("wrong")
    wrong.__cause__ = ssl.SSLCertVerificationError()
    for error in (ConnectError("x"), ConnectTimeout("x"), lost):
        assert worth_retrying(error)
    for error in (wrong, HandshakeError("x")):  # type: ignore[assignment]
        assert not worth_retrying(error)
    for status in (408, 425, 429, 500, 501, 502, 503, 504, 529):
        assert worth_retrying(refused(status))
        assert worth_retrying(ProxyError("x", status))
    for status in (200, 302, 400, 401, 403, 404, 407, 409, 410, 421, 426):
        assert not worth_retrying(refused(status))
        assert not worth_retrying(ProxyError("x", status))
    # Of a connection that did not last.
    for code in (1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 3008, 4000, 4999):
        assert worth_retrying(ConnectionClosedError("x", code))
    for code in (1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003):
        assert not worth_retrying(ConnectionClosedError("x", code))
    # Of the hook `before`.
    for error in (  # type: ignore[assignment]
        OSError("x"),
        TimeoutError(),
        socket.gaierror(),
        ConnectionRefusedError(),
        ssl.SSLEOFError(),
    ):
        assert worth_retrying(error)
    for error in (ValueError("x"), ssl.SSLCertVerificationError(), FileNotFoundError("token")):  # type: ignore[assignment]
        assert not worth_retrying(error)


async def test_a_rule_that_must_be_awaited_is_refused(pauses):
    async def rule(error):
        return False

    with pytest.raises(InvalidOptionType, match="not a coroutine function"):
        reconnect("ws://x/", retry=rule)  # type: ignore[arg-type]
    async with refusing(BUSY, BUSY) as (url, requests, _):
        with pytest.raises(InvalidOptionType, match="not a coroutine function"):
            async for _ in reconnect(url, retry=lambda error: rule(error)):  # type: ignore[arg-type, return-value]
                pass
        assert len(requests) == 1


async def test_where_before_fails_the_rule_is_asked(pauses):
    seen = []

    async def before(attempt, error):
        seen.append((attempt, type(error)))
        if attempt < 3:
            raise ConnectionRefusedError("no token today")

    async with refusing() as (url, requests, _):
        async for _ in reconnect(url, before=before, close_timeout=0.1):
            break
        assert len(requests) == 1
    assert seen == [(1, type(None)), (2, ConnectionRefusedError), (3, ConnectionRefusedError)]
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize("error", [ConnectionRefusedError("gone"), ValueError("a mistake")])
async def test_an_error_of_before_that_is_not_retried_is_raised(pauses, error):
    def before(attempt, last):
        raise error

    with pytest.raises(type(error)) as caught:
        async for _ in reconnect("ws://unused.invalid/", before=before, max_attempts=2):
            pass
    assert caught.value is error
    assert len(pauses) == isinstance(error, OSError)


async def test_what_before_returns_is_checked():
    with pytest.raises(InvalidOptionType, match="before must return options or None, not str"):
        async for _ in reconnect("ws://unused.invalid/", before=lambda *_: "token"):  # type: ignore[arg-type]
            pass


async def test_a_rule_of_ones_own(pauses):
    async with refusing(status("404 Not Found"), BUSY) as (url, requests, _):
        errors = []

        def retry(error):
            errors.append(error.response.code)
            return error.response.code == 404

        with pytest.raises(HandshakeError, match="503"):
            async for _ in reconnect(url, retry=retry):
                pass
        assert errors == [404, 503]


async def test_attempts_have_a_limit(pauses):
    async with refusing(*[BUSY] * 5) as (url, requests, _):
        with pytest.raises(HandshakeError, match="503"):
            async for _ in reconnect(url, max_attempts=3):
                pass
        assert len(requests) == 3


async def test_the_time_without_a_connection_has_a_limit(pauses):
    async with refusing(*[BUSY] * 9) as (url, requests, _):
        with pytest.raises(HandshakeError, match="503"):
            async for _ in reconnect(url, first_delay=100, max_delay=1000, max_time=150):
                pass
        assert len(requests) == 2  # a pause of 200 s would be too long


@pytest.mark.parametrize("where", ["connecting", "before"])
async def test_an_attempt_has_only_what_is_left_of_that_time(pauses, where):
    async def before(attempt, error):
        if where == "before":
            await asyncio.Event().wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:  # which says nothing
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        expected = TimeoutError if where == "before" else ConnectTimeout
        for max_time in (0.1, 1):  # in which the server must be reached
            with pytest.raises(expected) as caught:
                async with asyncio.timeout(BOUND):
                    async for _ in reconnect(url, before=before, max_time=max_time, timeout=None):
                        pass
            if where == "before" or caught.value.phase == "handshake":  # type: ignore[attr-defined]
                break
        if where == "connecting":
            assert caught.value.phase == "handshake"  # type: ignore[attr-defined]
            assert caught.value.__notes__ == [f"max_time={max_time} left no more for this attempt"]


async def test_an_attempt_is_not_cut_short_of_that_time():
    loop = asyncio.get_running_loop()
    connections = reconnect("ws://127.0.0.1/", max_time=1)
    connections._since = loop.time() - 0.0006
    left = connections._time_left()
    assert left >= 1 - (loop.time() - connections._since)


async def test_connections_that_do_not_settle_are_attempts_that_failed(pauses):
    async with refusing() as (url, requests, sockets):
        with pytest.raises(ConnectionClosedError, match="open for only"):
            async for _ in reconnect(url, max_attempts=3, close_timeout=0.1):
                sockets[-1].close()
        assert len(requests) == 3


def closing_with(code, reason, opened=None):
    """A handler that closes at once."""

    async def handler(req, read, write):
        if opened is not None:
            opened.append(req)
        await write.close(code, reason)

    return handler


CLOSED = [(1008, "no token"), (1013, "busy"), (4001, "who are you?")]


@pytest.mark.parametrize(("code", "reason"), CLOSED)
async def test_the_rule_is_asked_about_a_connection_that_did_not_last(pauses, code, reason):
    asked = []

    def retry(error):
        asked.append(error)
        return len(asked) < 3

    async with serve(closing_with(code, reason)) as server:
        with pytest.raises(ConnectionClosedError) as caught:
            async for _, read, _ in reconnect(server.url, retry=retry, max_attempts=5):
                with contextlib.suppress(ConnectionClosedError):
                    await read()
    assert len(asked) == 3
    assert caught.value is asked[-1]
    for error in asked:
        assert (error.code, error.reason) == (code, reason)
        assert "open for only" in str(error)
        assert f"closed the connection with {code}" in str(error)
        assert reason in str(error)
        assert type(error.__cause__) is ConnectionClosedError
        assert (error.__cause__.code, error.__cause__.reason) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), CLOSED)
async def test_of_codes_that_would_come_again_no_attempt_follows(pauses, code, reason):
    opened: list[Any] = []
    async with serve(closing_with(code, reason, opened)) as server:
        with pytest.raises(ConnectionClosedError, match=re.escape(reason)) as caught:
            async for _, read, _ in reconnect(server.url, max_attempts=3):
                with contextlib.suppress(ConnectionClosedError):
                    await read()
        assert len(opened) == (1 if code == 1008 else 3)
    assert caught.value.code == code
    assert caught.value.__cause__ is not None


async def test_a_rule_is_not_asked_about_connections_that_ended_cleanly_or_settled(pauses):
    def retry(error):
        raise AssertionError

    async with serve(closing_with(1000, "")) as server:
        count = 0
        async for _, read, _ in reconnect(server.url, retry=retry, max_attempts=5):
            assert await read() is None
            count += 1
            if count == 3:
                break
    async with serve(closing_with(1008, "expired")) as server:
        count = 0
        async for _, read, _ in reconnect(server.url, retry=retry, settle_time=None):
            with pytest.raises(ConnectionClosedError, match="expired"):
                await read()
            count += 1
            if count == 3:
                break


async def test_a_connection_that_was_reset_at_once_has_that_as_its_cause(pauses):
    async with refusing() as (url, _, sockets):
        with pytest.raises(ConnectionClosedError, match="open for only") as caught:
            async for _, read, _ in reconnect(url, max_attempts=2, close_timeout=0.1):
                linger_zero(sockets[-1])
                sockets[-1].close()
                with contextlib.suppress(ConnectionClosedError):
                    await read()
        assert caught.value.code == 1006
        assert "without a Close frame" in str(caught.value)
        assert type(caught.value.__cause__) is ConnectionClosedError


async def test_how_long_closing_takes_is_no_success(pauses):
    """The peer never answers our Close."""
    async with refusing() as (url, _, _):
        count = 0
        async for _ in reconnect(url, first_delay=1, settle_time=0.1, close_timeout=0.15):
            count += 1
            if count == 3:
                break
        assert pauses == [1, 2]


async def test_async_with_tells_the_peer_of_an_error():
    codes = []

    async def handler(req, read, write):
        with contextlib.suppress(ConnectionClosedError):
            await read()
        codes.append(read.close_code)

    async with serve(handler) as server:
        with pytest.raises(ZeroDivisionError):
            async with reconnect(server.url) as connections:
                async for opened in connections:
                    kept = opened
                    raise ZeroDivisionError
        assert kept[1].close_code is not None
    assert codes == [1011]


async def test_before_may_change_what_is_asked_for(pauses):
    async with refusing(BUSY) as (url, requests, _):

        async def token(attempt, error):
            return {"url": f"{url}{attempt}", "headers": {"Authorization": f"Bearer {attempt}"}}

        async for res, _, _ in reconnect("ws://unused.invalid/", before=token, close_timeout=0.1):
            assert res.url.pathname == "/2"
            break
        assert [request.split()[1] for request in requests] == [b"/1", b"/2"]
        assert b"Authorization: Bearer 2" in requests[1]


async def test_an_error_in_the_body_leaves_the_loop_and_closes():
    ended = asyncio.Event()

    async def handler(req, read, write):
        await read()
        ended.set()

    async with serve(handler) as server:
        with pytest.raises(ZeroDivisionError):
            async for _ in reconnect(server.url):
                raise ZeroDivisionError
        await ended.wait()


async def test_break_closes_the_connection():
    ended = asyncio.Event()

    async def handler(req, read, write):
        await read()
        ended.set()

    async with serve(handler) as server:
        async for _ in reconnect(server.url):
            break
        await ended.wait()


async def test_async_with_closes_it_before_the_program_goes_on(pauses):
    async with refusing() as (url, _, _):
        async with reconnect(url, close_timeout=0.1) as connections:
            async for opened in connections:
                reads = [opened[1]]
                break
        assert reads[0].close_code is not None


async def test_aclosing_closes_it_too():
    codes = []

    async def handler(req, read, write):
        await read()
        codes.append(read.close_code)

    async with serve(handler) as server:
        async with contextlib.aclosing(reconnect(server.url)) as connections:
            async for opened in connections:  # noqa: B007
                break
        assert opened[1].close_code is not None
        assert [each async for each in connections] == []
    assert codes == [1000]


async def test_a_loop_whose_connections_are_closed_from_outside_ends(pauses):
    count = 0
    async with serve(lambda req, read, write: read()) as server:
        connections = reconnect(server.url)
        async for _, read, _ in connections:
            count += 1
            closing = asyncio.create_task(connections.aclose())
            assert await read() is None
            await closing
    assert count == 1


@pytest.mark.parametrize("where", ["pause", "connecting", "body"])
async def test_cancellation_leaves_nothing(where):
    answers = [BUSY] * 50 if where == "pause" else []
    async with refusing(*answers) as (url, requests, _):
        if where == "connecting":
            listener = socket.create_server(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        inside = []

        async def run():
            async for _, read, _ in reconnect(url, first_delay=600, close_timeout=0.1):
                inside.append(1)
                await read()

        task = asyncio.create_task(run())
        if where == "connecting":
            listener.setblocking(False)
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        else:
            await until(lambda: inside if where == "body" else requests)
        task.cancel()
        if where == "connecting":
            sock.close()
            listener.close()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_what_cannot_be_used_is_refused_at_once():
    with pytest.raises(InvalidURL):
        reconnect("http://x/")
    with pytest.raises(InvalidOption, match="first_delay"):
        reconnect("ws://x/", first_delay=-1)
    with pytest.raises(InvalidOption, match="first_delay cannot be None"):
        reconnect("ws://x/", first_delay=None)
    with pytest.raises(InvalidOption, match="max_attempts must be 1 or more"):
        reconnect("ws://x/", max_attempts=0)
    with pytest.raises(InvalidOptionType, match="max_attempts must be int or None, not str"):
        reconnect("ws://x/", max_attempts="3")  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionType, match="retry must be a function, not bool"):
        reconnect("ws://x/", retry=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionType, match="before must be a function, not dict"):
        reconnect("ws://x/", before={})  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionType, match="nonsense"):
        reconnect("ws://x/", nonsense=1)  # type: ignore[call-arg]


def test_outside_a_running_loop():
    with pytest.raises(NoEventLoopError, match=r"reconnect\(\)"):
        reconnect("ws://127.0.0.1/")


def test_it_is_public():
    assert {"reconnect", "worth_retrying"} <= set(coro_websocket.__all__)
