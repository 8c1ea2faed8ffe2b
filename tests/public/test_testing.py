"""coro_websocket.testing: what users test their programs with."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from tests.helpers.raw_peer import BOUND, turns_of_the_loop, watchdog

from coro_websocket import (
    ConnectionClosedError,
    HandshakeError,
    InvalidOption,
    LimitError,
    Message,
    NoEventLoopError,
    PingTimeout,
    ProtocolError,
    connect,
    parse_url,
    reconnect,
)
from coro_websocket.codec import encode
from coro_websocket.testing import ClientGone, FakeServer, connected_pair

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


# The pair


async def closed(*writes):
    await asyncio.gather(*(write.close() for write in writes))


async def test_a_pair_talks_both_ways_and_closes():
    (res, read, write), (req, peer_read, peer_write) = connected_pair()
    assert (res.code, req.pathname, req.host) == (101, "/", "server.test")
    await write("hello")
    await write(b"\x00\x01")
    await write(["in ", "parts"])
    assert [(await peer_read()).payload for _ in range(3)] == ["hello", b"\x00\x01", "in parts"]
    await peer_write({"opcode": 1, "payload": "back"})
    assert (await read()).payload == "back"
    assert await write.ping() < 5
    closing = asyncio.create_task(write.close(4000, "bye"))
    with pytest.raises(ConnectionClosedError, match="4000"):
        await peer_read()
    await closing
    assert (peer_read.close_code, peer_read.close_reason) == (4000, "bye")
    assert await read() is None
    await closed(write, peer_write)


async def test_a_test_may_use_any_origin():
    (_, _, write), (req, _, peer_write) = connected_pair(origin="https://app.test")
    assert req.origin == "https://app.test"
    await asyncio.gather(write.close(), peer_write.close())
    async with FakeServer(lambda peer: peer.close()) as server:
        async with connect(server.url, origin="https://app.test"):
            pass
        assert server.requests[0].origin == "https://app.test"


async def test_its_handshake_is_the_real_one():
    (res, _, write), (req, _, peer_write) = connected_pair(
        "wss://user:secret@chat.test:444/room?x=1",
        subprotocol=["new", "old"],
        subprotocols=["old"],
        headers={"X-Token": "t"},
        server={"compression": None},
    )
    assert res.subprotocol == req.subprotocol == "old"
    assert (req.host, req.pathname, req["X-Token"]) == ("chat.test:444", "/room?x=1", "t")
    assert req["Authorization"].startswith("Basic ")
    assert (res.url.host, req.scheme, req.tls) == ("chat.test", "wss", None)
    assert res.extensions == ()
    await closed(write, peer_write)


async def test_its_options_are_those_of_each_side():
    (_, read, write), (_, peer_read, peer_write) = connected_pair(
        max_message_size=10, server={"max_message_size": 1000, "close_timeout": 0.1}
    )
    await write("x" * 100)
    assert (await peer_read()).len == 100
    await peer_write("x" * 100)
    with pytest.raises(LimitError):
        await read()
    await closed(write, peer_write)
    with pytest.raises(InvalidOption, match="max_message_size"):
        connected_pair(max_message_size=-1)


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_large_messages_go_through_with_backpressure(compression):
    (_, _, write), (_, peer_read, peer_write) = connected_pair(
        compression=compression, write_high_water=1000, server={"read_high_water": 1000}
    )
    message = bytes(range(256)) * 10_000
    writing = asyncio.create_task(write(message, compress=False))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    assert (await peer_read()).payload == message
    await writing
    writing = asyncio.create_task(write("text " * 100_000))
    stream = await peer_read.stream()
    assert "".join([chunk async for chunk in stream]) == "text " * 100_000  # type: ignore[misc]
    await writing
    await closed(write, peer_write)


async def test_a_side_that_shuts_its_socket_down_ends_the_connection():
    (res, read, write), (_, peer_read, peer_write) = connected_pair()
    waiting = asyncio.create_task(peer_read())
    await write("last")
    await asyncio.sleep(0)
    res.socket.shutdown()
    assert await read() is None
    with pytest.raises(ConnectionClosedError, match="without a Close"):
        if (await waiting).payload == "last":
            await peer_read()
    await closed(write, peer_write)


async def test_a_keepalive_that_is_not_answered():
    """Nobody reads on the other side, and it is told to hold everything back."""
    (_, read, write), (_, _, peer_write) = connected_pair(
        ping_interval=0.02,
        ping_timeout=0.05,
        server={"read_high_water": 1, "ping_interval": None},
    )
    await write("held back")
    with pytest.raises(PingTimeout):
        await read()
    await closed(write, peer_write)


async def test_a_cancelled_read_of_a_pair_loses_nothing():
    (_, read, write), (_, _, peer_write) = connected_pair()
    for n in range(50):
        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        if n % 2:
            waiting.cancel()
        await peer_write(str(n))
        try:
            message = await waiting
        except asyncio.CancelledError:
            message = await read()
        assert message.payload == str(n)
    await closed(write, peer_write)


def test_a_pair_needs_a_loop():
    with pytest.raises(NoEventLoopError, match=r"connected_pair\(\)"):
        connected_pair()


# The fake server


async def test_a_script_is_followed_and_recorded():
    async def script(peer):
        assert peer.request.pathname == "/"
        assert await peer.receive() == "hello"
        await peer.send("world")
        assert await peer.receive() == b"\x01"
        await peer.close(4000, "bye")

    async with FakeServer(script) as server:
        async with connect(server.url) as (_, read, write):
            await write("hello")
            assert (await read()).payload == "world"
            await write(b"\x01")
            with pytest.raises(ConnectionClosedError, match="4000") as caught:
                await read()
            assert caught.value.reason == "bye"
        assert server.peers[0].received == ["hello", b"\x01"]
        assert server.requests[0].host == server.url.removeprefix("ws://").rstrip("/")


async def test_what_a_script_expects_in_vain_is_raised():
    async def script(peer):
        assert await peer.receive() == "something else"

    with pytest.raises(AssertionError, match="hello"):
        async with FakeServer(script) as server:
            async with connect(server.url) as (_, read, write):
                await write("hello")
                with pytest.raises(ConnectionClosedError):
                    await read()


@pytest.mark.parametrize("grouped", [False, True])
async def test_what_a_script_raises_goes_before_the_broken_connection(grouped):
    async def script(peer):
        assert await peer.receive() == "something else"

    async def program(url):
        async with connect(url) as (_, read, write):
            await write("hello")
            await read()

    with pytest.raises(AssertionError, match="something else") as caught:
        async with FakeServer(script) as server:
            if grouped:
                async with asyncio.TaskGroup() as group:
                    group.create_task(program(server.url))
            else:
                await program(server.url)
    cause = caught.value.__cause__
    assert isinstance(cause.exceptions[0] if grouped else cause, ConnectionClosedError)  # type: ignore[attr-defined]


async def test_a_script_may_fail_as_pytest_does():
    async def script(peer):
        with pytest.raises(ZeroDivisionError):
            await peer.receive()

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        async with FakeServer(script) as server:
            async with connect(server.url) as (_, read, write):
                await write("hello")
                with pytest.raises(ConnectionClosedError):
                    await read()


async def test_the_programs_own_error_goes_first():
    failed = asyncio.Event()

    async def script(peer):
        failed.set()
        raise ValueError("of the script")

    with pytest.raises(ZeroDivisionError) as caught:
        async with FakeServer(script) as server:
            async with connect(server.url):
                await failed.wait()
                raise ZeroDivisionError
    assert "ValueError: of the script" in caught.value.__notes__[0]


async def test_what_several_scripts_raise_is_told():
    async def script(peer):
        raise ValueError(await peer.receive())

    with pytest.raises(ValueError, match="first") as caught:
        async with FakeServer(script) as server:
            for text in ("first", "second"):
                async with connect(server.url) as (_, read, write):
                    await write(text)
                    with pytest.raises(ConnectionClosedError):
                        await read()
    assert "ValueError: second" in caught.value.__notes__[0]


@pytest.mark.parametrize("how", ["for", "while"])
async def test_a_script_ends_where_the_client_closes(how):
    async def script(peer):
        if how == "for":
            async for message in peer:
                await peer.send(message)
        else:
            while True:
                await peer.send(await peer.receive())

    async with FakeServer(script) as server:
        async with connect(server.url) as (_, read, write):
            await write("hello")
            assert (await read()).payload == "hello"
            await write.close(4001, "enough")
        assert await read() is None
        assert read.close_code == 4001


async def test_a_script_may_end_without_an_answer_to_a_close():
    async def script(peer):
        with pytest.raises(ClientGone, match="4001") as caught:
            await peer.receive()
        assert caught.value.code == 4001
        peer.vanish()

    async with FakeServer(script) as server:
        async with connect(server.url) as (_, read, write):
            await write.close(4001)
        assert read.close_code != 4001


@pytest.mark.parametrize("script_does", ["send", "receive"])
async def test_a_script_ends_where_the_client_goes(script_does):
    async def script(peer):
        while True:
            if script_does == "send":
                await peer.send(bytes(100_000))
            else:
                await peer.receive()

    async with FakeServer(script) as server:
        res, read, write = await connect(server.url, ping_interval=None)
        res.socket.shutdown(socket.SHUT_RDWR)
        await write.close()
        await write.wait_closed()


def port_of(server: FakeServer) -> int:
    return int(server.url.rpartition(":")[2].rstrip("/"))


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end():
    sent = asyncio.Event()

    async def script(peer):
        sent.set()
        await peer.send(bytes(20_000_000))

    with socket.socket() as client:
        client.setblocking(False)
        async with FakeServer(script) as server:
            address = "127.0.0.1", port_of(server)
            await asyncio.get_running_loop().sock_connect(client, address)
            client.send(REQUEST)
            await sent.wait()
            await asyncio.sleep(0)


async def test_a_fake_server_with_tls(certificates):
    async def script(peer):
        assert peer.request.host
        async for message in peer:
            await peer.send(message)

    for tls in (certificates.server, {"cert": certificates.cert, "key": certificates.key}):
        async with FakeServer(script, tls=tls) as server:
            assert server.url.startswith("wss://127.0.0.1:")
            async with connect(server.url, tls=certificates.client) as (_, read, write):
                await write("hello")
                assert (await read()).payload == "hello"
            assert read.close_code == 1000
    with pytest.raises(InvalidOption, match="cert"):
        async with FakeServer(script, tls={}):
            pass


async def test_a_client_that_ends_its_tls_handshake_too_late_is_closed(certificates):
    loop = asyncio.get_running_loop()
    async with FakeServer(lambda peer: asyncio.sleep(0), tls=certificates.server) as server:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", parse_url(server.url).port))
        await turns_of_the_loop()  # it has been accepted
    async with asyncio.timeout(BOUND):
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=certificates.client, server_hostname="127.0.0.1"
            )
            try:
                assert await reader.read() == b""
            finally:
                writer.close()
                await writer.wait_closed()
    sock.close()
    await turns_of_the_loop()


@pytest.mark.parametrize("over", ["tcp", "tls"])
async def test_a_reset_is_one_and_vanishing_is_not(over, certificates):
    """As a client sees it that reads its socket itself."""

    async def script(peer):
        how = await peer.receive()
        (peer.reset if how == "reset" else peer.vanish)()

    tls = over == "tls"
    async with FakeServer(script, tls=certificates.server if tls else None) as server:
        for how in ("reset", "vanish"):
            port = port_of(server)
            context = certificates.client if tls else None
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            writer.write(encode(Message(how, 1, mask=True)))
            if how == "reset":
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            else:
                assert await reader.read() == b""
            writer.close()
            await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


REQUEST = b"""\
GET / HTTP/1.1\r
Host: x\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""


async def test_refusals_come_before_connections():
    async def script(peer):
        await peer.send("in at last")
        await peer.close()

    refuse = [503, (429, [("Retry-After", "0")], "slow down")]
    async with FakeServer(script, refuse=refuse) as server:  # type: ignore[arg-type]
        with pytest.raises(HandshakeError, match="503"):
            await connect(server.url)
        with pytest.raises(HandshakeError, match="429") as caught:
            await connect(server.url)
        assert caught.value.response.body == b"slow down"
        assert caught.value.response["Retry-After"] == "0"
        async with connect(server.url) as (_, read, _):
            assert (await read()).payload == "in at last"
        assert len(server.requests) == 3
        assert len(server.peers) == 1


async def test_reconnect_against_refusals():
    async def script(peer):
        await peer.send("hello")
        await peer.close()

    async with FakeServer(script, refuse=[503, 503]) as server:
        async with reconnect(server.url, first_delay=0.001) as connections:
            async for _, read, _ in connections:
                assert [message.payload async for message in read] == ["hello"]
                break
        assert len(server.requests) == 3


@pytest.mark.parametrize("how", ["vanish", "reset", "return"])
async def test_a_peer_that_is_gone(how):
    async def script(peer):
        await peer.receive()
        if how == "vanish":
            await peer.send_bytes(b"\x81\x05hel")  # mid-frame
            peer.vanish()
        elif how == "reset":
            peer.reset()

    async with FakeServer(script) as server:
        async with connect(server.url) as (_, read, write):
            await write("x")
            with pytest.raises(ConnectionClosedError) as caught:
                await read()
            assert caught.value.code == 1006


async def test_frames_and_nonsense():
    async def script(peer):
        await peer.ping(b"are you there")
        frame = await peer.receive_frame()
        assert (frame.opcode, frame.payload) == (10, b"are you there")
        await peer.send(Message(opcode=1, payload="one ", fin=False))
        await peer.send({"opcode": 0, "payload": "two"})
        await peer.send_bytes(b"\x83\x00")
        with pytest.raises(EOFError, match="1002"):
            await peer.receive()

    async with FakeServer(script) as server:
        async with connect(server.url) as (_, read, _):
            assert (await read()).payload == "one two"
            with pytest.raises(ProtocolError, match="opcode"):
                await read()


async def test_subprotocols_and_headers():
    async def script(peer):
        await peer.close()

    async with FakeServer(script, subprotocols=["chat"], headers=[("X-Server", "fake")]) as server:
        async with connect(server.url, subprotocol="chat") as (res, read, _):
            assert (res.subprotocol, res["X-Server"]) == ("chat", "fake")
            assert await read() is None


async def test_a_client_that_is_no_websocket_client_is_an_error_of_the_test():
    async def script(peer):
        pass

    with pytest.raises(HandshakeError):
        async with FakeServer(script) as server:
            host, port = server.url.removeprefix("ws://").rstrip("/").split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 4")
            writer.close()
            await writer.wait_closed()


async def test_scripts_that_wait_are_ended_with_the_server():
    async def script(peer):
        await asyncio.Event().wait()

    async with FakeServer(script) as server:
        _, read, write = await connect(server.url, close_timeout=0.1)
    with pytest.raises(ConnectionClosedError):
        await read()
    await write.close()


async def test_a_script_that_lets_a_cancelled_error_out_fails_the_test():
    """It was not cancelled: something that it waited for was."""

    async def script(peer):
        waiting = asyncio.get_running_loop().create_future()
        waiting.cancel()
        await waiting

    with pytest.raises(RuntimeError, match="CancelledError") as caught:
        async with FakeServer(script) as server, asyncio.timeout(BOUND):
            _, read, _ = await connect(server.url)
            with pytest.raises(ConnectionClosedError):
                await read()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
