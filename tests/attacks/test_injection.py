"""CR, LF and NUL in every option that reaches the wire: no line of a head can be forged.

RFC 9110 section 5.5 and RFC 9112 section 11.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import Any
from urllib.parse import quote

import pytest
from tests.helpers.raw_peer import BOUND, answer_to, read_head, watchdog
from tests.helpers.server_handshake import receive

from coro_websocket import InvalidOption, InvalidURL, Options, codec, connect, parse_url, serve
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._opening.connect import client_handshake
from coro_websocket._opening.http_tunnel import Tunnel
from coro_websocket._opening.socks import SocksTunnel
from coro_websocket.extensions import Extension, ExtensionFactory

from .bounds import KIB, measured

__all__ = ["watchdog"]

INJECTIONS = [
    "\r\nX-Injected: yes",
    "\nX-Injected: yes",
    "\rX-Injected: yes",
    "\r\n\r\nGET /second HTTP/1.1\r\nX-Injected: yes",
    "\x00",
    "\x0b",
    "\x0c",
    "\x1f",
    "\x7f",
    "\u010d\u010aX-Injected: yes",  # CR and LF once cut to eight bits
    "\u2028X-Injected: yes",
    "\x85X-Injected: yes",
    "\ud800",
]

TEXTS = [text for bad in INJECTIONS for text in (bad, f"a{bad}", f"{bad}a", f"a{bad}b")]

LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ ][\t\x20-\x7e\x80-\xff]*")


def check_head(head: bytes) -> None:
    """Whether a head is made of proper lines, and none of them is forged."""
    assert head.endswith(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    assert re.fullmatch(rb"[\x20-\x7e\x80-\xff]+", first), first
    for line in lines:
        assert LINE.fullmatch(line), line
        assert not line.lower().startswith(b"x-injected")


class Named(ExtensionFactory):
    """An extension that says what it is told to say, as client and as server."""

    def __init__(self, name: str, *parameters: tuple[str, str | None]) -> None:
        self.name = name
        self.parameters = parameters

    def offers(self):
        return [self.parameters]

    def accept(self, parameters):
        return Nothing()

    def agree(self, parameters):
        return self.parameters, Nothing()


class Nothing(Extension):
    rsv = 1

    def encode(self, payload, *, opcode, begins, ends):
        return None

    def decode(self, payload, *, ends, limit):
        return payload


# What a client sends

CLIENT: dict[str, Any] = {
    "header value": lambda text: {"headers": [("X-Header", text)]},
    "header name": lambda text: {"headers": [(text, "value")]},
    "header of a mapping": lambda text: {"headers": {"X-Header": text}},
    "Host": lambda text: {"headers": [("Host", text)]},
    "Origin": lambda text: {"headers": [("Origin", text)]},
    "origin": lambda text: {"origin": text},
    "user_agent": lambda text: {"user_agent": text},
    "User-Agent": lambda text: {"headers": {"User-Agent": text}},
    "Authorization": lambda text: {"headers": [("Authorization", text)]},
    "Cookie": lambda text: {"headers": [("Cookie", text)]},
    "pathname": lambda text: {"pathname": "/" + text},
    "query": lambda text: {"pathname": "/?q=" + text},
    "username": lambda text: {"username": text, "password": "p"},
    "password": lambda text: {"username": "u", "password": text},
    "subprotocol": lambda text: {"subprotocol": text},
    "subprotocols": lambda text: {"subprotocol": ["chat", text]},
    "extension": lambda text: {"extensions": [Named(text)]},
    "parameter": lambda text: {"extensions": [Named("x", (text, None))]},
    "parameter's value": lambda text: {"extensions": [Named("x", ("p", text))]},
}


@pytest.mark.parametrize("option", CLIENT)
def test_no_option_of_a_client_forges_a_line_of_its_request(option):
    refused = 0
    for text in TEXTS:
        try:
            options = Options(host="127.0.0.1", port=1, **CLIENT[option](text))
            handshake = client_handshake(options)
        except (InvalidOption, InvalidURL) as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            check_head(handshake.request())
    assert refused  # not all of it can be sent in another form


def test_a_host_with_such_characters_is_refused():
    for text in TEXTS:
        with pytest.raises(InvalidOption):
            Options(host=text, port=1)


@pytest.mark.parametrize(
    "url",
    [
        "{bad}ws://127.0.0.1/",
        "ws{bad}://127.0.0.1/",
        "ws://127.0.0.1{bad}/",
        "ws://127.0.0.1:80{bad}/",
        "ws://127.0.0.1{bad}",
        "ws://u{bad}:p@127.0.0.1/",
        "ws://u:p{bad}@127.0.0.1/",
        "ws://127.0.0.1/{bad}",
        "ws://127.0.0.1/?{bad}",
        "ws://[::1{bad}]/",
        "ws://127.0.0.1/%0d%0aX-Injected:%20yes{bad}",
        "ws://%0d%0aX-Injected:yes{bad}@127.0.0.1/",
    ],
)
def test_no_url_forges_a_line_of_the_request(url):
    for bad in INJECTIONS:
        try:
            parsed = parse_url(url.format(bad=bad))
            handshake = ClientHandshake(
                host_header=parsed.authority,
                pathname=parsed.pathname,
                authorization=parsed.authorization,
            )
        except (InvalidOption, InvalidURL) as error:
            assert "\n" not in str(error)
        else:
            check_head(handshake.request())


# What a client sends to a proxy

PROXIES = ["{}127.0.0.1", "127.0.0.1{}", "127.0.0.1:1{}", "u{}:p@127.0.0.1", "u:p{}@127.0.0.1"]


@pytest.mark.parametrize("percent", [False, True], ids=["as it is", "percent-encoded"])
@pytest.mark.parametrize("url", PROXIES)
def test_no_proxy_s_url_forges_a_line_of_its_request(url, percent):
    refused = 0
    for bad in INJECTIONS:
        text = quote(bad, errors="surrogatepass") if percent else bad
        try:
            options = Options(host="h", port=1, proxy="http://" + url.format(text))
            tunnel = Tunnel(options.proxy, "h", 1, "agent", None, None)  # type: ignore[arg-type]
        except InvalidOption as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            check_head(tunnel.request)
    assert refused


def test_no_user_agent_forges_a_line_of_the_request_to_a_proxy():
    refused = 0
    for text in TEXTS:
        try:
            options = Options(host="h", port=1, proxy="http://127.0.0.1", user_agent=text)
        except InvalidOption:
            refused += 1
        else:
            check_head(Tunnel(options.proxy, "h", 1, options.user_agent, None, None).request)  # type: ignore[arg-type]
    assert refused


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_a_user_name_ends_where_its_field_ends_in_a_request_to_a_socks_proxy(scheme):
    name, given = b"host.example", 0
    for text in TEXTS:
        secret = "" if "4" in scheme else ":p"
        userinfo = quote(text, errors="surrogatepass") + secret
        try:
            options = Options(host="h", port=1, proxy=f"{scheme}://{userinfo}@127.0.0.1")
        except InvalidOption:
            continue
        given += 1
        user = text.encode()
        tunnel = SocksTunnel(options.proxy, name.decode(), 443)  # type: ignore[arg-type]
        if "4" in scheme:
            # SOCKS4A: what it reads up to NUL, and the name behind it
            assert tunnel.request == b"\4\1\1\xbb\0\0\0\1" + user + b"\0" + name + b"\0"
            assert b"\0" not in user
        else:
            tunnel.receive(b"\5\2")
            assert tunnel.request == b"\1" + bytes([len(user)]) + user + b"\1p"
    assert given


@pytest.mark.parametrize("option", CLIENT)
async def test_connect_sends_nothing_or_a_proper_head(option):
    bad = INJECTIONS[0]
    loop = asyncio.get_running_loop()
    received = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)

        async def answer():
            sock, _ = await loop.sock_accept(listener)
            with sock:
                sock.setblocking(False)
                with contextlib.suppress(AssertionError):  # the client sends nothing
                    head, rest = await read_head(sock)
                    received.append((head, rest))
                    await loop.sock_sendall(sock, answer_to(head))
                    await loop.sock_recv(sock, 65536)

        answering = asyncio.ensure_future(answer())
        with measured() as cost:
            try:
                port = listener.getsockname()[1]
                await connect(host="127.0.0.1", port=port, timeout=3, **CLIENT[option]("a" + bad))
            except (InvalidOption, InvalidURL):
                assert received == []
            except ConnectionError:
                pass  # an extension that was not accepted, and the like
            else:
                raise AssertionError(f"{option} was accepted") from None
        answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering
    for head, rest in received:
        check_head(head + b"\r\n\r\n")
        assert rest == b""
    assert cost.memory < 512 * KIB
    assert cost.seconds < 2


@pytest.mark.parametrize("option", ["host", "pathname", "subprotocol", "header", "value"])
async def test_the_codec_s_handshake_makes_no_forged_line(option):
    requests: list[Any] = []

    def request(made):
        requests.append(made)
        return codec.handle_handshake(made)

    for text in TEXTS:
        cases: dict[str, dict[str, Any]] = {
            "host": {"host": text},
            "pathname": {"host": "h", "pathname": "/" + text},
            "subprotocol": {"host": "h", "subprotocol": text},
            "header": {"host": "h", "headers": [(text, "value")]},
            "value": {"host": "h", "headers": [("X-Header", text)]},
        }
        requests.clear()
        try:
            await codec.handshake(cases[option], request)
        except InvalidOption:
            assert requests == []
            continue
        (made,) = requests
        lines = [f"{name}: {value}" for name, value in made]
        check_head("\r\n".join([f"GET {made.pathname} HTTP/1.1", *lines, "", ""]).encode("latin-1"))


# What a server sends

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x\r\n\r\n"
)

SERVER = {
    "header value": lambda made, text: made.accept([("X-Header", text)]),
    "header name": lambda made, text: made.accept([(text, "value")]),
    "cookie": lambda made, text: made.accept({"Set-Cookie": text}),
    "refusal's header": lambda made, text: made.reject(403, headers=[("X-Header", text)]),
    "refusal's header name": lambda made, text: made.reject(403, headers=[(text, "v")]),
    "refusal's reason": lambda made, text: made.reject(403, text),
}


@pytest.mark.parametrize("option", SERVER)
def test_no_option_of_a_server_forges_a_line_of_its_answer(option):
    refused = 0
    for text in TEXTS:
        handshake = ServerHandshake(subprotocols=["chat"])
        receive(handshake, REQUEST)
        try:
            answer = SERVER[option](handshake, text)
        except InvalidOption as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            check_head(answer)
    assert refused


@pytest.mark.parametrize("where", ["name", "value"])
def test_no_parameter_of_a_server_s_extension_forges_a_line_of_its_answer(where):
    for text in TEXTS:
        factory = Named("x", (text, None) if where == "name" else ("p", text))
        handshake = ServerHandshake(extensions=[factory])
        with pytest.raises(ConnectionError, match="has failed"):
            receive(handshake, REQUEST)
        check_head(handshake.refusal().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


async def test_serve_says_at_once_what_cannot_be_sent():
    async def handler(req, read, write):
        raise AssertionError("there is no connection")

    for text in TEXTS:
        for options in (
            {"headers": [(text, "value")]},
            {"subprotocols": [text]},
            {"subprotocols": ["chat", text]},
            {"extensions": [Named(text)]},
        ):
            with pytest.raises(InvalidOption):
                serve(handler, **options)
        if "\x85" not in text:  # which a value may have
            with pytest.raises(InvalidOption):
                serve(handler, headers={"X-Header": text})


async def test_serve_takes_headers_once_for_all_connections():
    async def handler(req, read, write):
        pass

    headers = (pair for pair in [("X-Header", "value")])
    async with asyncio.timeout(BOUND):
        async with serve(handler, headers=headers) as server:
            for _ in range(2):
                async with connect(server.url) as (res, _, _):
                    assert res["X-Header"] == "value"


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("Connection", "close")]},
        {"headers": {"Sec-WebSocket-Accept": "x"}},
        {"headers": "X-Header: value"},
        {"subprotocols": "chat"},
        {"subprotocols": b"chat"},
        {"origins": "https://example.com"},
        {"origins": ["example.com"]},
    ],
    ids=str,
)
async def test_serve_refuses_at_once_what_it_could_never_answer_with(options):
    async def handler(req, read, write):
        pass

    with pytest.raises(InvalidOption):
        serve(handler, **options)


@pytest.mark.parametrize(
    "header", ["Sec-WebSocket-Version", "Upgrade", "Sec-WebSocket-Key", "Origin"]
)
def test_what_a_client_sends_is_not_forged_into_its_refusal(header):
    for bad in INJECTIONS:
        handshake = ServerHandshake(origins=["https://example.com"])
        request = f"GET /{bad} HTTP/1.1\r\nHost: h\r\n{header}: {bad}\r\n\r\n"
        with pytest.raises(ConnectionError):
            receive(handshake, request.encode("latin-1", "replace"))
        head, _, body = handshake.refusal().partition(b"\r\n\r\n")
        check_head(head + b"\r\n\r\n")
        assert b"\r" not in body
        assert b"\x00" not in body
