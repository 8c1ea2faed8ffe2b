"""Opening handshakes that never end, are far too large, or come a byte at a time.

RFC 6455 section 10.4: a limit on size, a deadline, and time that is linear in what came.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from tests.helpers.raw_peer import BOUND, answer_to, clients_of, read_head, until, watchdog
from tests.helpers.server_handshake import receive

from coro_websocket import ConnectTimeout, HandshakeError, connect, serve
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.server_handshake import ServerHandshake

from .bounds import KIB, MIB, assert_linear, measured

__all__ = ["watchdog"]

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

ENDLESS = {
    "headers": lambda n: b"X-Header: value\r\n" * (n // 17),
    "one header's value": lambda n: b"X-Header: " + b"v" * n,
    "one header's name": lambda n: b"X" * n,
    "spaces": lambda n: b"X-Header: " + b" " * n,
    "folded lines": lambda n: b"X-Header: v\r\n" + b" v\r\n" * (n // 4),
    "one header often": lambda n: b"Connection: Upgrade\r\n" * (n // 21),
}

# The server, attacked by clients


async def unused(req, read, write):
    raise AssertionError("no handshake was to succeed")


@contextlib.asynccontextmanager
async def attacked(**options):
    """A server, and a client's plain socket that is connected to it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(BOUND):
        async with serve(unused, **options) as server:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", server.port))
                yield server, sock


async def send_all(sock, data: bytes) -> bool:
    """Send, unless the other end hangs up; whether all was sent."""
    try:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    except ConnectionError:
        return False
    return True


async def rest_of(sock) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(sock, 65536):
            received += data
    return received


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_request_that_does_not_end_is_refused_at_the_limit(kind):
    data = REQUEST + ENDLESS[kind](2 * MIB)
    async with attacked(timeout=6) as (server, sock):
        with measured() as cost:
            await send_all(sock, data)
            with contextlib.suppress(OSError):  # the reset may be here already
                sock.shutdown(socket.SHUT_WR)
            answer = await rest_of(sock)
            await until(lambda: clients_of(server) == 0)
        # The answer may be lost to the reset that ends a connection with bytes unread.
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
        assert cost.memory < MIB
        assert cost.seconds < 2


@pytest.mark.parametrize(
    "lines",
    [
        b"".join(b"X-%d: value\r\n" % i for i in range(10_000)),
        b"X-Header: " + b"v" * MIB + b"\r\n",
        b"Cookie: " + b"a=b; " * 200_000 + b"\r\n",
    ],
    ids=["10,000 headers", "a line of 1 MiB", "a cookie of 1 MiB"],
)
async def test_a_request_that_is_too_large_is_refused_with_431(lines):
    data = REQUEST + lines + b"\r\n"
    async with attacked(timeout=6) as (server, sock):
        with measured() as cost:
            sending = asyncio.ensure_future(send_all(sock, data))
            head, _ = await read_head(sock)
            await sending
        assert head.startswith(b"HTTP/1.1 431 ")
        assert cost.memory < MIB
        assert cost.seconds < 1


@pytest.mark.parametrize("drip", [b"X", REQUEST], ids=["a name", "a request"])
async def test_a_request_that_drips_ends_with_the_deadline(drip):
    async with attacked(timeout=0.3) as (server, sock):
        start = time.monotonic()
        with measured() as cost:
            for i in range(400):
                if not await send_all(sock, drip[i % len(drip) :][:1]):
                    break
                await asyncio.sleep(0.01)  # this is the attack
                if clients_of(server) == 0 and i > 5:
                    break
        assert 0.2 < time.monotonic() - start < BOUND / 2
        assert cost.memory < MIB
        assert cost.seconds < 2
        assert clients_of(server) == 0


@pytest.mark.parametrize("data", [b"", b"GET", REQUEST])
async def test_a_request_that_stops_ends_with_the_deadline(data):
    async with attacked(timeout=0.1) as (server, sock):
        with measured() as cost:
            assert await send_all(sock, data)
            assert await rest_of(sock) == b""
        assert clients_of(server) == 0
        assert cost.memory < MIB
        assert cost.seconds < 1


async def test_tls_that_does_not_get_ahead_ends_with_the_deadline(certificates):
    async with attacked(timeout=0.1, tls=certificates.server) as (server, sock):
        with measured() as cost:
            await send_all(sock, b"\x16\x03\x01\x02\x00\x01")
            await rest_of(sock)
            await until(lambda: clients_of(server) == 0)
        assert cost.memory < MIB
        assert cost.seconds < 1


@pytest.mark.deep("transports", "uvloop")
async def test_a_client_that_stays_after_its_refusal_is_left_at_the_deadline():
    async with attacked(timeout=2) as (server, sock):
        with measured() as cost:
            await send_all(sock, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            head, _ = await read_head(sock)
            assert head.startswith(b"HTTP/1.1 426 ")
            while clients_of(server):  # it goes on sending and does not close
                if not await send_all(sock, b"more" * 1000):
                    break
                await asyncio.sleep(0.01)
            await until(lambda: clients_of(server) == 0)
        assert cost.memory < MIB
        assert cost.seconds < 2


async def test_many_slow_clients_do_not_keep_others_out():
    loop = asyncio.get_running_loop()

    async def handler(req, read, write):
        await write("served")

    async with asyncio.timeout(BOUND):
        async with serve(handler, timeout=6) as server:
            slow = [socket.socket() for _ in range(100)]
            try:
                with measured() as cost:
                    for sock in slow:
                        sock.setblocking(False)
                        await loop.sock_connect(sock, ("127.0.0.1", server.port))
                        await send_all(sock, REQUEST)
                    async with connect(server.url) as (_, read, _):
                        assert (await read()).payload == "served"
                assert cost.memory < 100 * 64 * KIB
                assert cost.seconds < 2
            finally:
                for sock in slow:
                    sock.close()
            await until(lambda: clients_of(server) == 0)


def served(request: bytes, **limits) -> ServerHandshake:
    handshake = ServerHandshake(subprotocols=["chat", "superchat"], **limits)
    with contextlib.suppress(HandshakeError):
        receive(handshake, request)
    return handshake


LISTS = {
    "commas": lambda n: b"," * n,
    "spaces": lambda n: b" " * n + b"chat",
    "names": lambda n: b"a, " * (n // 3) + b"chat",
    "different names": lambda n: b", ".join(b"p%x" % i for i in range(n // 7)),
    "parameters": lambda n: b"x" + b"; a=b" * (n // 5),
    "quotes": lambda n: b"x; a=" + b'"' * n,
    "an open quote": lambda n: b'x; a="' + b"\\" * n,
    "escapes": lambda n: b'x; a="' + b"\\a" * (n // 2) + b'"',
    "deflate": lambda n: b"permessage-deflate; server_max_window_bits=99, " * (n // 47),
    "equals": lambda n: b"x; a" + b"=" * n,
}


@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_in_a_request_cost_linear_time(header, kind):
    unlimited = {"max_head_size": None, "max_header_lines": None}

    def attack(n: int) -> None:
        value = LISTS[kind](n)
        served(REQUEST + header.encode() + b": " + value + b"\r\n\r\n", **unlimited)

    assert_linear(attack, 16_000)


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_in_two_thousand_headers_costs_linear_time(kind):
    def attack(n: int) -> None:
        line = b"Sec-WebSocket-Extensions: " + LISTS[kind](50) + b"\r\n"
        served(REQUEST + line * n + b"\r\n", max_head_size=None, max_header_lines=None)

    assert_linear(attack, 250)


@pytest.mark.parametrize("piece", [b"://", b"a://b@", b"@", b"http://a.", b":1", b"?", b"a."])
@pytest.mark.parametrize("origins", ["same", ["https://*.example.com:*"]])
def test_an_origin_that_is_refused_costs_linear_time(piece, origins):
    def attack(n: int) -> None:
        value = piece * (n // len(piece))
        handshake = ServerHandshake(origins=origins, max_head_size=None)
        handshake.receive(REQUEST + b"Origin: " + value + b"\r\n\r\n")
        with pytest.raises(HandshakeError):
            handshake.check_origin()

    assert_linear(attack, 16_000)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("chat", "chat"),
        ("superchat", "superchat"),
        ("superchat, chat", "chat"),  # the server's favourite
        ("chatter, xchat, chat2, Chat, CHAT, cha", None),
        ("supercha, uperchat, super chat", None),
        ("chat;q=1", None),
        ('"chat"', None),
        ("a,b,,chat", "chat"),
    ],
)
def test_a_subprotocol_is_matched_by_its_whole_name(offered, chosen):
    handshake = ServerHandshake(subprotocols=["chat", "superchat"])
    try:
        request = receive(
            handshake, REQUEST + b"Sec-WebSocket-Protocol: " + offered.encode() + b"\r\n\r\n"
        )
    except HandshakeError:
        assert chosen is None
        return
    assert request.subprotocol == chosen


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_request_in_pieces_costs_linear_time(kind):
    def attack(n: int) -> None:
        handshake = ServerHandshake(max_head_size=None, max_header_lines=None)
        data = REQUEST + ENDLESS[kind](n)
        with contextlib.suppress(HandshakeError):
            for at in range(0, len(data), 100):
                handshake.receive(data[at : at + 100])

    assert_linear(attack, 100 * KIB)


# The client, attacked by servers


@contextlib.asynccontextmanager
async def evil_server(act):
    """The port of a server that reads the request and then does what `act` does."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)

        async def accept():
            sock, _ = await loop.sock_accept(listener)
            with sock:
                sock.setblocking(False)
                request, _ = await read_head(sock)
                with contextlib.suppress(ConnectionError):
                    await act(sock, request)

        serving = asyncio.ensure_future(accept())
        try:
            async with asyncio.timeout(BOUND):
                yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def sending(data: bytes):
    async def act(sock, request):
        await asyncio.get_running_loop().sock_sendall(sock, data)
        while await asyncio.get_running_loop().sock_recv(sock, 65536):
            pass

    return act


@pytest.mark.parametrize("status", [ANSWER, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n"])
@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_answer_that_does_not_end_is_refused_at_the_limit(status, kind):
    data = status + ENDLESS[kind](2 * MIB)
    async with evil_server(sending(data)) as url:
        with measured() as cost:
            with pytest.raises(HandshakeError, match="max_head") as caught:
                await connect(url, timeout=6)
        assert len(str(caught.value)) < 1000
        assert cost.memory < MIB
        assert cost.seconds < 2


@pytest.mark.parametrize(
    "lines",
    [
        b"".join(b"X-%d: value\r\n" % i for i in range(10_000)),
        b"X-Header: " + b"v" * MIB + b"\r\n",
        b"Set-Cookie: " + b"a=b; " * 200_000 + b"\r\n",
    ],
    ids=["10,000 headers", "a line of 1 MiB", "a cookie of 1 MiB"],
)
async def test_an_answer_that_is_too_large_is_refused(lines):
    async def act(sock, request):
        answer = answer_to(request)[:-2] + lines + b"\r\n"
        await asyncio.get_running_loop().sock_sendall(sock, answer)

    async with evil_server(act) as url:
        with measured() as cost:
            with pytest.raises(HandshakeError, match="max_head"):
                await connect(url, timeout=6)
        assert cost.memory < 4 * MIB  # the answer of 1 MiB, made here, included
        assert cost.seconds < 2


async def test_interim_answers_without_end_are_refused_at_the_limit():
    async with evil_server(sending(b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000)) as url:
        with measured() as cost:
            with pytest.raises(HandshakeError, match="max_head"):
                await connect(url, timeout=6)
        assert cost.memory < MIB
        assert cost.seconds < 3


async def test_a_refusal_with_an_endless_body_is_kept_to_the_limit():
    data = b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"b" * 4 * MIB
    async with evil_server(sending(data)) as url:
        with measured() as cost:
            with pytest.raises(HandshakeError, match="403") as caught:
                await connect(url, timeout=6)
        assert len(caught.value.response.body) <= 65536
        assert cost.memory < MIB
        assert cost.seconds < 2


@pytest.mark.parametrize("drip", [b"H", ANSWER], ids=["a name", "an answer"])
async def test_an_answer_that_drips_ends_with_the_timeout(drip):
    async def act(sock, request):
        for i in range(1000):
            await asyncio.get_running_loop().sock_sendall(sock, drip[i % len(drip) :][:1])
            await asyncio.sleep(0.01)  # this is the attack

    async with evil_server(act) as url:
        start = time.monotonic()
        with measured() as cost:
            with pytest.raises((ConnectTimeout, HandshakeError)):
                await connect(url, timeout=0.3)
        assert time.monotonic() - start < BOUND / 2
        assert cost.memory < MIB
        assert cost.seconds < 2


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"])
def test_lists_in_an_answer_cost_linear_time(header, kind):
    def attack(n: int) -> None:
        handshake = ClientHandshake(
            host_header="h", pathname="/", max_head_size=None, max_header_lines=None
        )
        value = LISTS[kind](n)
        answer = answer_to(handshake.request())[:-2] + header.encode() + b": " + value + b"\r\n\r\n"
        with contextlib.suppress(HandshakeError):
            handshake.receive(answer)

    assert_linear(attack, 16_000)
