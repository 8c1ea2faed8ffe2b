"""What passes between us and the peers while a connection is open."""

from __future__ import annotations

import asyncio
import fcntl
import random
import termios
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from coro_websocket import Message, Read, Request, Write, serve

from .conftest import PEERS
from .peers import BOUND, Ours, Pairing, Peer, Place, Terms, Theirs, our_client

# What the loop changes is shown with our own peers, on every loop.
pytestmark = pytest.mark.deep("transports", "uvloop")

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])
two_loops = pytest.mark.asyncio(loop_factories=["asyncio", "transports"])
every_place = pytest.mark.parametrize("place", ["tcp", "tls", "unix"], indirect=True)
fragmenting_peers = pytest.mark.parametrize(
    "peer", [name for name, peer in PEERS.items() if peer.fragments], indirect=True
)

EURO = "€".encode()
SIZES = [1, 125, 126, 127, 65535, 65536]  # where the header of a frame changes (section 5.2)
SMALL: list[str | bytes] = [
    "",
    "Hello",
    "Grüße, 世界 🌍 \0",
    b"",
    b"\x00\xff\x80",
    *("x" * size for size in SIZES),
    *(random.Random(size).randbytes(size) for size in SIZES),
]
MIB = 1024 * 1024
LARGE: list[str | bytes] = ["é" * (MIB // 2), random.Random(5).randbytes(5 * MIB)]


async def payload(ours: Ours) -> str | bytes:
    """The next message's; it has the type that its opcode says."""
    message = await ours.read()
    assert isinstance(message, Message)
    assert message.fin
    assert isinstance(message.payload, str if message.opcode == 1 else bytes)
    return message.payload


@every_place
async def test_a_message_arrives_as_it_was_sent_both_ways(
    pairing: Pairing, no_tasks_left: None
) -> None:
    async with pairing.connected() as (ours, theirs):
        for message in SMALL:
            await ours.write(message)
            assert await theirs.receive() == message
            await theirs.send(message)
            assert await payload(ours) == message


@pytest.mark.deep("uvloop", "unix")
@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
@every_place
async def test_megabytes_arrive_as_they_were_sent_both_ways_at_once(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        for message in LARGE:
            written = asyncio.create_task(ours.write(message))
            sent = asyncio.create_task(theirs.send(message))
            received = asyncio.create_task(theirs.receive())
            assert await payload(ours) == message
            assert await received == message
            await written
            await sent


# Fragments (RFC 6455 section 5.4)


def generated(pieces: Iterable[str | bytes]) -> Iterator[str | bytes]:
    yield from pieces


async def generated_asynchronously(pieces: Iterable[str | bytes]) -> AsyncIterator[str | bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("iterable", [list, generated, generated_asynchronously])
@two_loops
async def test_what_we_send_in_pieces_they_receive_whole(pairing: Pairing, iterable) -> None:
    async with pairing.connected() as (ours, theirs):
        for pieces in (["Grüße, ", "", "世界"], [b"\x00", b"", b"\xff" * 70000], ["one"], [""]):
            await ours.write(iterable(pieces))
            assert await theirs.receive() == type(pieces[0])().join(pieces)  # type: ignore[arg-type]


@fragmenting_peers
async def test_what_they_send_in_fragments_we_read_whole_or_each(pairing: Pairing) -> None:
    fragments = [b"one ", b"", EURO[:1], EURO[1:] + b" three"]
    async with pairing.connected() as (ours, theirs):
        await theirs.send_fragments(fragments, text=True, pings=False)
        assert await payload(ours) == "one € three"
        await theirs.send_fragments(fragments, text=False, pings=False)
        assert await payload(ours) == "one € three".encode()
        frames = ours.read.fragments()
        await theirs.send_fragments(fragments, text=False, pings=False)
        opcode = 2
        for fragment in fragments:
            frame = await frames()
            assert frame is not None
            assert (frame.payload, frame.opcode) == (fragment, opcode)
            opcode = 0
        while not frame.fin:  # how they end it is theirs to choose
            frame = await frames()
            assert frame is not None
            assert frame.payload == b""
        await theirs.send_fragments(fragments, text=True, pings=False)
        read = ""
        fin = False
        while not fin:
            frame = await frames()
            assert frame is not None
            read, fin = read + frame.payload, frame.fin
        assert read == "one € three"


@fragmenting_peers
@two_loops
async def test_pings_between_their_fragments_are_answered(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):
        sending = asyncio.create_task(
            theirs.send_fragments([b"one ", b"two ", b"three"], text=True, pings=True)
        )
        assert await payload(ours) == "one two three"
        await sending


@two_loops
async def test_pings_between_our_fragments_are_answered(pairing: Pairing) -> None:
    async with pairing.connected() as (ours, theirs):

        async def pieces() -> AsyncIterator[str]:
            for piece in ("one ", "two ", "three"):
                yield piece
                await ours.write.ping()

        async with reading(ours):
            await ours.write(pieces())
            assert await theirs.receive() == "one two three"


# Ping and Pong (RFC 6455 sections 5.5.2 and 5.5.3)


@asynccontextmanager
async def reading(ours: Ours) -> AsyncIterator[None]:
    """A task reads all the while, as in most programs."""
    task = asyncio.create_task(ours.read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@every_place
async def test_each_side_answers_the_others_pings_whether_or_not_a_task_reads(
    pairing: Pairing,
) -> None:
    async with pairing.connected() as (ours, theirs):
        assert 0 < await ours.write.ping() < BOUND
        assert 0 < await ours.write.ping("payload") < BOUND
        await theirs.ping(b"are you there?")
        async with reading(ours):
            assert 0 < await ours.write.ping(b"") < BOUND
            await theirs.ping(b"")
            await theirs.ping(bytes(range(125)))


@one_loop
async def test_with_control_we_see_their_pings_and_their_pongs(pairing: Pairing) -> None:
    async with pairing.connected(control=True) as (ours, theirs):
        pinging = asyncio.create_task(theirs.ping(b"theirs"))
        assert await ours.read() == Message(b"theirs", 9, mask=pairing.we_serve)
        await pinging
        rtt = ours.write.ping(b"ours")
        assert await ours.read() == Message(b"ours", 10, mask=pairing.we_serve)
        await rtt
        await ours.write.pong(b"unasked")  # nothing answers it
        await ours.write("text")
        assert await theirs.receive() == "text"


# Many


async def test_many_messages_in_flight_keep_their_order_and_their_frames_apart(
    pairing: Pairing,
) -> None:
    writers, messages = 10, 50
    async with pairing.connected() as (ours, theirs), theirs.echoing():

        async def write(writer: int) -> None:
            for number in range(messages):
                text = f"{writer} {number} " + "x" * (number * 40)
                await ours.write(text if number % 2 else [text[:5], text[5:]])

        async with asyncio.TaskGroup() as tasks:
            for writer in range(writers):
                tasks.create_task(write(writer))
            seen: dict[int, list[int]] = {writer: [] for writer in range(writers)}
            for _ in range(writers * messages):
                text = await payload(ours)
                assert isinstance(text, str)
                writer, number, filler = text.split(" ")  # type: ignore[assignment]
                assert filler == "x" * (int(number) * 40)
                seen[int(writer)].append(int(number))
        assert all(numbers == list(range(messages)) for numbers in seen.values())


@every_place
@one_loop
async def test_both_sides_may_flood_each_other(pairing: Pairing) -> None:
    messages = [bytes([number % 256]) * number for number in range(1000)]

    async with pairing.connected() as (ours, theirs):

        async def flood() -> None:
            for message in messages:
                await theirs.send(message)

        async def drain() -> None:
            for message in messages:
                assert await theirs.receive() == message

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flood())
            tasks.create_task(drain())
            tasks.create_task(write_all(ours, messages))
            for message in messages:
                assert await payload(ours) == message


async def write_all(ours: Ours, messages: Iterable[bytes]) -> None:
    for message in messages:
        await ours.write(message)


async def test_a_reader_who_is_late_finds_everything(pairing: Pairing) -> None:
    """More than we take while nobody reads: the peer has to wait for us."""
    messages = [bytes([number]) * 50000 for number in range(60)]
    async with pairing.connected(Terms(compress=False), read_high_water=65536) as (ours, theirs):

        async def flood() -> None:
            for message in messages:
                await theirs.send(message)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flood())
            while waiting_in_the_system(ours) < 16384:
                await asyncio.sleep(0.001)
            for message in messages:
                assert await payload(ours) == message


def waiting_in_the_system(ours: Ours) -> int:
    """How many bytes have come that we have not taken."""
    size = array("i", [0])
    fcntl.ioctl(ours.head.socket, termios.FIONREAD, size)
    return size[0]


@every_place
async def test_a_server_has_many_connections_at_once(pairing: Pairing) -> None:
    connections = 25
    async with pairing.connected_many(connections) as pairs:
        assert len(pairs) == connections

        async def exchange(number: int, ours: Ours, theirs: Theirs) -> None:
            for count in range(10):
                text = f"{number}: {count}"
                await ours.write(text)
                assert await theirs.receive() == text
                await theirs.send(text.encode())
                assert await payload(ours) == text.encode()

        async with asyncio.TaskGroup() as tasks:
            for number, pair in enumerate(pairs):
                tasks.create_task(exchange(number, *pair))


# What a server sends at once


@every_place
async def test_what_a_peer_sends_right_after_its_handshake_is_read(
    peer: Peer, place: Place
) -> None:
    terms = Terms(greeting=["first", "second"])
    async with asyncio.timeout(BOUND), peer.serve(place, terms) as server:
        async with our_client(server.place) as ours:
            assert [await payload(ours), await payload(ours)] == ["first", "second"]


@asynccontextmanager
async def relay(place: Place, until: bytes) -> AsyncIterator[Place]:
    """What the server says comes in one segment with everything before `until`."""
    relayed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", place.port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        up = asyncio.create_task(pass_on(reader, to_server))
        writer.write(await from_server.readuntil(until))
        await pass_on(from_server, writer)
        await up
        await to_server.wait_closed()
        await writer.wait_closed()
        relayed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield replace(place, port=server.sockets[0].getsockname()[1])
        await relayed.wait()
    finally:
        server.close()
        await server.wait_closed()


async def test_frames_in_one_segment_with_their_handshake_are_read(
    peer: Peer, place: Place
) -> None:
    terms = Terms(greeting=["first", "second", "the last"], compress=False)
    async with asyncio.timeout(BOUND), peer.serve(place, terms) as server:
        async with relay(server.place, until=b"the last") as relayed:
            async with our_client(relayed) as ours:
                texts = [await payload(ours) for _ in range(3)]
                assert texts == ["first", "second", "the last"]
                await ours.write("Hello")
                theirs = await server.accepted.get()
                assert await theirs.receive() == "Hello"


@two_loops
async def test_what_we_send_right_after_our_handshake_reaches_them(
    peer: Peer, place: Place
) -> None:
    async def greet(_: Request, read: Read, write: Write) -> None:
        await write("first")
        await write(b"second")
        await read()

    async with asyncio.timeout(BOUND), serve(greet, path=place.path) as server:
        async with peer.connect(replace(place, port=server.port), Terms()) as theirs:
            assert [await theirs.receive(), await theirs.receive()] == ["first", b"second"]
            await theirs.close(1000, "")
