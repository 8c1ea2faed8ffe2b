"""Opening handshakes with the peers: what is agreed on, and what is refused."""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from tests.conftest import Certificates

from coro_websocket import ConnectionClosedError, HandshakeError, TLSError
from coro_websocket.extensions import Deflate

from .conftest import PEERS
from .peer_ws import NodeError
from .peers import (
    BOUND,
    Pairing,
    Peer,
    Place,
    Refusal,
    Refused,
    Terms,
    our_client,
    our_server,
)
from .test_messages import every_place, one_loop, payload, two_loops

# What the loop changes is shown with our own peers, on every loop.
pytestmark = pytest.mark.deep("transports", "uvloop")

# Subprotocols (RFC 6455 section 1.9)


@one_loop
async def test_a_subprotocol_that_both_speak_is_agreed_on(pairing: Pairing) -> None:
    terms = Terms(subprotocols=["superchat", "chat"])
    spoken = ["chat", "soap"]
    options: dict[str, Any] = (
        {"subprotocols": spoken} if pairing.we_serve else {"subprotocol": spoken}
    )
    async with pairing.connected(terms, **options) as (ours, theirs):
        assert ours.head.subprotocol == theirs.subprotocol == "chat"


@one_loop
async def test_our_servers_favourite_subprotocol_wins(peer: Peer, place: Place) -> None:
    pairing = Pairing(peer, True, place)
    terms = Terms(subprotocols=["b", "x", "a"])
    async with pairing.connected(terms, subprotocols=["a", "b"]) as (ours, theirs):
        assert ours.request.subprotocols == ("b", "x", "a")
        assert ours.request.subprotocol == theirs.subprotocol == "a"


@one_loop
async def test_without_an_offer_no_subprotocol_is_agreed_on(pairing: Pairing) -> None:
    if not pairing.we_serve:
        connecting = pairing.connected(Terms())
    else:
        connecting = pairing.connected(Terms(), subprotocols=["chat"])
    async with connecting as (ours, theirs):
        assert ours.head.subprotocol is theirs.subprotocol is None


@one_loop
async def test_their_server_may_choose_none_of_our_subprotocols(peer: Peer, place: Place) -> None:
    pairing = Pairing(peer, False, place)
    connecting = pairing.connected(Terms(subprotocols=["chat"]), subprotocol="soap")
    if peer.name == "websockets":  # refuses
        with pytest.raises(HandshakeError) as raised:
            await connecting.__aenter__()
        assert raised.value.response is not None
        assert raised.value.response.code == 400
    else:
        async with connecting as (ours, theirs):
            assert ours.response.subprotocol is theirs.subprotocol is None
            await ours.write("Hello")
            assert await theirs.receive() == "Hello"


@two_loops
async def test_our_server_may_choose_none_of_their_subprotocols(peer: Peer, place: Place) -> None:
    async with asyncio.timeout(BOUND), our_server(place, subprotocols=["chat"]) as server:
        connecting = peer.connect(server.place, Terms(subprotocols=["soap"]))
        if peer.name == "ws":  # hangs up
            with pytest.raises(NodeError, match="no subprotocol"):
                await connecting.__aenter__()
            ours = await server.accepted.get()
            with pytest.raises(ConnectionClosedError) as raised:
                await ours.read()
            assert raised.value.code == 1006
        else:
            async with connecting as theirs:
                ours = await server.accepted.get()
                assert ours.request.subprotocol is theirs.subprotocol is None
                await ours.write("Hello")
                assert await theirs.receive() == "Hello"


# Headers and paths


@every_place
@one_loop
async def test_headers_and_paths_come_as_they_were_given(pairing: Pairing) -> None:
    terms = Terms(headers={"X-Theirs": "from them"}, pathname="/a%20path?q=%C3%A9&r")
    options: dict[str, Any] = {"headers": {"X-Ours": "from us"}}
    if not pairing.we_serve:
        options["pathname"] = terms.pathname
    async with pairing.connected(terms, **options) as (ours, theirs):
        assert theirs.headers["x-ours"] == "from us"
        assert ours.head["x-theirs"] == "from them"
        target = ours.request.pathname if pairing.we_serve else theirs.target
        assert target == terms.pathname
        if not pairing.we_serve:
            assert ours.response.code == 101
            assert theirs.headers["host"].startswith("localhost")
        elif pairing.peer.name != "ws" or pairing.place.path is None:
            assert ours.request.host.startswith("localhost")
        assert ours.head.socket is not None


@one_loop
async def test_a_user_and_a_password_reach_them(peer: Peer, place: Place) -> None:
    pairing = Pairing(peer, False, place)
    async with pairing.connected(username="user", password="é:word") as (_, theirs):
        assert theirs.headers["authorization"] == aiohttp.encode_basic_auth(
            "user", "é:word", encoding="utf-8"
        )


# Refusals


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(401, "Who are you? é", {"WWW-Authenticate": 'Basic realm="here"'}),
        Refusal(403, "Nobody may.\n", {"X-Why": "because"}),
        Refusal(200, "<p>This is a web server.</p>", {}),
    ],
    ids=lambda refusal: str(refusal.status),
)
@every_place
@two_loops
async def test_a_refusal_of_theirs_is_raised_with_the_whole_answer(
    peer: Peer, place: Place, refusal: Refusal, no_tasks_left: None
) -> None:
    async with asyncio.timeout(BOUND), peer.serve(place, Terms(refusal=refusal)) as server:
        with pytest.raises(HandshakeError, match=str(refusal.status)) as raised:
            await our_client(server.place).__aenter__()
        response = raised.value.response
        assert response is not None
        assert response.code == refusal.status
        assert response.body.decode() == refusal.body
        for name, value in refusal.headers.items():
            assert response[name] == value


@every_place
@two_loops
async def test_our_server_lets_in_only_the_origins_it_knows(
    peer: Peer, place: Place, no_tasks_left: None
) -> None:
    good, evil = "https://good.example", "https://evil.example"
    async with asyncio.timeout(BOUND), our_server(place, origins=[good]) as server:
        for origin in (evil, None):
            with pytest.raises(Refused) as raised:
                await peer.connect(server.place, Terms(origin=origin)).__aenter__()
            assert raised.value.status == 403
            if raised.value.body is not None:
                assert "origin is not allowed" in raised.value.body
        assert server.accepted.empty()
        async with peer.connect(server.place, Terms(origin=good)) as theirs:
            ours = await server.accepted.get()
            assert ours.request.origin == good
            await theirs.send("Hello")
            assert await payload(ours) == "Hello"


@every_place
@two_loops
async def test_a_web_client_is_told_that_we_are_a_websocket_server(
    place: Place, no_tasks_left: None
) -> None:
    async with asyncio.timeout(BOUND), our_server(place) as server:
        connector = aiohttp.UnixConnector(place.path) if place.path else aiohttp.TCPConnector()
        url = server.place.url().replace("ws", "http", 1)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(url, ssl=place.certificates.client) as response:
                assert response.status == 426
                assert response.headers["Upgrade"] == "websocket"
                assert "WebSocket" in await response.text()


# TLS


@pytest.mark.parametrize("place", ["tls"], indirect=True)
@two_loops
async def test_we_do_not_talk_to_a_peer_whose_certificate_nobody_vouches_for(
    peer: Peer, place: Place, no_tasks_left: None
) -> None:
    async with asyncio.timeout(BOUND), peer.serve(place, Terms()) as server:
        with pytest.raises(TLSError):
            await our_client(server.place, tls=True).__aenter__()
        assert server.accepted.empty()
        async with our_client(server.place) as ours:
            theirs = await server.accepted.get()
            await theirs.send("Hello")
            assert await payload(ours) == "Hello"


@pytest.mark.parametrize("place", ["tls"], indirect=True)
async def test_a_peer_that_does_not_trust_us_does_us_no_harm(
    peer: Peer, place: Place, no_tasks_left: None
) -> None:
    async with asyncio.timeout(BOUND), our_server(place) as server:
        with pytest.raises((ssl.SSLError, aiohttp.ClientSSLError, NodeError)):
            await peer.connect(server.place, Terms(trust=False)).__aenter__()
        assert server.accepted.empty()
        async with peer.connect(server.place, Terms()) as theirs:
            ours = await server.accepted.get()
            assert ours.request.tls
            await theirs.send("Hello")
            assert await payload(ours) == "Hello"


@pytest.mark.parametrize(
    "peer", [name for name, peer in PEERS.items() if peer.tls_over_unix], indirect=True
)
@pytest.mark.parametrize("place", ["tls over unix"], indirect=True)
async def test_tls_runs_over_a_unix_socket_too(
    pairing: Pairing, certificates: Certificates
) -> None:
    async with pairing.connected() as (ours, theirs):
        await ours.write("Hello")
        assert await theirs.receive() == "Hello"
        await theirs.send(b"Hello")
        assert await payload(ours) == b"Hello"


# permessage-deflate (RFC 7692)

COMPRESSIBLE: list[str | bytes] = [
    "",
    "short",
    "Grüße, 世界 🌍 " * 5000,
    bytes(100_000),
    random.Random(7).randbytes(100_000),
    "again and again " * 100_000,
    "Grüße, 世界 🌍 " * 5000,
]


async def exchange(pairing: Pairing, compressed: bool, terms: Terms, **options: Any) -> None:
    """Messages of all kinds, whole and in fragments, both ways at once."""
    async with pairing.connected(terms, **options) as (ours, theirs):
        assert theirs.compressed == compressed
        header = ours.head if not pairing.we_serve else theirs.headers
        agreed = header.get("Sec-WebSocket-Extensions" if not pairing.we_serve else EXTENSIONS, "")
        assert ("permessage-deflate" in agreed) == compressed

        async def send() -> None:
            for message in COMPRESSIBLE:
                await theirs.send(message)
                if pairing.peer.fragments:
                    data = message if isinstance(message, bytes) else message.encode()
                    pieces = [data[:10], data[10:5000], b"", data[5000:]]
                    text = isinstance(message, str)
                    await theirs.send_fragments(pieces, text=text, pings=False)

        async def write() -> None:
            for message in COMPRESSIBLE:
                await ours.write(message)
                await ours.write([message[:10], message[10:5000], message[:0], message[5000:]])
                await ours.write(message, compress=False)

        async def receive() -> None:
            for message in COMPRESSIBLE:
                for _ in range(3):
                    assert await theirs.receive() == message

        async with asyncio.TaskGroup() as tasks:
            for each in (send, write, receive):
                tasks.create_task(each())
            for message in COMPRESSIBLE:
                for _ in range(1 + pairing.peer.fragments):
                    assert await payload(ours) == message
        stats = ours.read.stats
        for ratio in (stats.compression_in, stats.compression_out):
            assert (ratio is not None and ratio < 1) if compressed else ratio is None


EXTENSIONS = "sec-websocket-extensions"


@pytest.mark.parametrize("they_compress", [True, False], ids=["they do", "they do not"])
@pytest.mark.parametrize("compression", ["deflate", None], ids=["we do", "we do not"])
@one_loop
async def test_messages_are_compressed_if_both_sides_want_it(
    pairing: Pairing, compression: str | None, they_compress: bool
) -> None:
    compressed = they_compress and compression is not None
    await exchange(pairing, compressed, Terms(compress=they_compress), compression=compression)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_defaults_of_both_sides_fit_each_other(pairing: Pairing) -> None:
    await exchange(pairing, pairing.peer_compresses, Terms())


@pytest.mark.parametrize(
    "deflate",
    [
        Deflate(server_no_context_takeover=True),
        Deflate(client_no_context_takeover=True),
        Deflate(server_max_window_bits=None, client_max_window_bits=None),
        Deflate(server_max_window_bits=9, client_max_window_bits=9, memory_level=1),
        Deflate(threshold=0, level=9),
    ],
    ids=["server forgets", "client forgets", "large windows", "small windows", "all"],
)
@one_loop
async def test_each_setting_of_compression_is_understood(
    pairing: Pairing, deflate: Deflate
) -> None:
    await exchange(pairing, True, Terms(compress=True), compression=deflate)


@pytest.mark.parametrize("role", ["we connect", "we serve"])
@one_loop
async def test_a_peer_whose_compression_we_refuse_works_all_the_same(
    peer: Peer, place: Place, role: str
) -> None:
    """As the peers come; see above for more."""
    pairing = Pairing(peer, role == "we serve", replace(place))
    async with pairing.connected(compression=None) as (ours, theirs):
        assert not theirs.compressed
        await ours.write("Hello " * 1000)
        assert await theirs.receive() == "Hello " * 1000
        await theirs.send(b"Hello " * 1000)
        assert await payload(ours) == b"Hello " * 1000
