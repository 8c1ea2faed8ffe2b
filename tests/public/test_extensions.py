"""Extensions of a user's own: negotiated, used and refused. RFC 6455 section 9."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import shown
from tests.helpers.raw_peer import BOUND, both_ends, client_of_echo, echo
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    TEXT,
    Frame,
    drain,
    encode,
    frames_of,
)
from tests.helpers.server_handshake import receive

from coro_websocket import (
    ConnectionClosedError,
    Deflate,
    HandshakeError,
    InvalidOption,
    InvalidOptionType,
    LimitError,
    Message,
    Options,
    ProtocolError,
    connect,
    serve,
)
from coro_websocket._http.client_handshake import ClientHandshake
from coro_websocket._http.keys import accept_key
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.extension import Parameters
from coro_websocket._rfc6455.messages import as_message
from coro_websocket.extensions import Extension, ExtensionFactory

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


class Shift(Extension):
    """Adds a number to every byte, and marks what it has done so with rsv2."""

    rsv = 2

    def __init__(self, by: int = 1) -> None:
        self.by = by
        self.calls: list[tuple[Any, ...]] = []

    def encode(self, payload, *, opcode, begins, ends):
        self.calls.append((payload, opcode, begins, ends))
        if begins and payload == b"leave":
            return None
        return bytes((byte + self.by) % 256 for byte in payload)

    def decode(self, payload, *, ends, limit):
        self.calls.append((payload, ends, limit))
        if b"\x00" in payload:
            raise ProtocolError("the peer sent a zero", 1008, "a zero")
        return bytes((byte - self.by) % 256 for byte in payload)


class Shifting(ExtensionFactory):
    """Offers several shifts; a server does only those up to 9."""

    def __init__(self, *shifts: str, name: str = "x-shift", rsv: int = 2) -> None:
        self.name = name
        self.shifts = shifts
        self.rsv = rsv

    def made(self, by: str | None) -> Shift:
        extension = Shift(int(by or 1))
        extension.rsv = self.rsv
        return extension

    def offers(self) -> list[Parameters]:
        return [(("by", shift),) for shift in self.shifts] or [()]

    def accept(self, parameters: Parameters) -> Extension:
        by = dict(parameters).get("by")
        if self.shifts and by not in self.shifts:
            raise ValueError(f"by={by} was not offered")
        return self.made(by)

    def agree(self, parameters: Parameters) -> tuple[Parameters, Extension] | None:
        by = dict(parameters).get("by")
        if by is not None and int(by) > 9:
            return None
        return parameters, self.made(by)


def frame(client: bool, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 2) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    return encode(Frame(opcode, payload, fin, rsv, None if client else KEY))


# Options


class Nameless(Shifting):
    name = None

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "extensions",
    [5, "x-shift", Shifting(), [Shift()], [object()], [Shifting], {"x": Shifting()}, [None]],
    ids=shown,
)
def test_extensions_are_a_sequence_of_factories(extensions):
    with pytest.raises(InvalidOptionType) as caught:
        Options(extensions=extensions)
    assert caught.value.option == "extensions"
    with pytest.raises(InvalidOptionType, match="must hold ExtensionFactory objects, not int"):
        Options(extensions=[7])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a;b", "a\r\nX: y", "é", 'a"', None, 5, b"x"])
def test_the_name_of_an_extension_is_a_token(name):
    factory = Shifting(name=name)
    with pytest.raises(InvalidOption) as caught:
        Options(extensions=[factory])
    assert caught.value.option == "extensions"
    with pytest.raises(InvalidOption):
        Options(extensions=[Nameless()])


def test_an_extension_is_there_once():
    with pytest.raises(InvalidOption, match="twice"):
        Options(extensions=[Shifting(), Shifting("2")])
    assert len(Options(extensions=[Shifting(), Shifting(name="x-other")]).extensions) == 2


def test_an_extension_has_the_methods_that_are_called():
    with pytest.raises(TypeError, match="abstract"):
        Extension()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        ExtensionFactory()  # type: ignore[abstract]


# The opening handshake


def offered(*factories: ExtensionFactory) -> str | None:
    handshake = ClientHandshake(host_header="h", pathname="/", extensions=factories)
    for line in handshake.request().decode().split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Sec-WebSocket-Extensions":
            return value
    return None


def test_offers_are_made_in_order_of_preference():
    assert offered() is None
    assert offered(Shifting()) == "x-shift"
    assert offered(Shifting("10", "2"), Shifting(name="y")) == "x-shift; by=10, x-shift; by=2, y"


def test_an_extension_that_makes_no_offer_is_not_named_and_not_accepted():
    class Silent(Shifting):
        def offers(self):
            return []

    assert offered(Silent()) is None
    assert offered(Silent(name="s"), Shifting()) == "x-shift"


@pytest.mark.parametrize(
    "parameters",
    [
        (("by", "1\r\nX-Injected: yes"),),
        (("by", "1; other"),),
        (("by", "1, permessage-deflate"),),
        (("by\x00", "1"),),
        (("by", 1),),
        ("by",),
        "by",
        None,
    ],
)
def test_an_offer_that_is_not_made_of_tokens_is_not_sent(parameters):
    class Injecting(Shifting):
        def offers(self):
            return [(), parameters]

    with pytest.raises(InvalidOption) as caught:
        offered(Injecting())
    assert caught.value.option == "extensions"


def answered(header: str, *factories: ExtensionFactory) -> list[Extension]:
    """The extensions of a client that is answered so."""
    handshake = ClientHandshake(host_header="h", pathname="/", extensions=factories)
    key = handshake.request().decode().partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
    handshake.receive(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n"
        f"Sec-WebSocket-Extensions: {header}\r\n\r\n".encode()
    )
    return handshake.extensions


def test_what_the_server_accepts_is_used_in_its_order():
    factories = (Shifting("3", "2"), Shifting(name="y", rsv=1))
    first, second = answered("y, x-shift; by=2", *factories)
    assert (first.rsv, second.rsv, second.by) == (1, 2, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("x-shift; by=4", "by=4 was not offered"),
        ("x-shift; by=2, x-shift; by=2", "at most once"),
        ("x-Shift; by=2", "at most once"),
        ("x-shift2; by=2", "at most once"),
        ("shift", "at most once"),
        ("y, x-shift; by=2", "same reserved bit"),
        ("x-shift; by", "was not offered"),
    ],
)
def test_an_answer_that_is_none_to_the_offers_is_refused(header, why):
    with pytest.raises(HandshakeError, match=why):
        answered(header, Shifting("2", "3"), Shifting(name="y"))


def agreed(factories: Sequence[ExtensionFactory], offers: str) -> tuple[str, list[Extension]]:
    """What a server answers to these offers; and the extensions it uses."""
    handshake = ServerHandshake(extensions=factories)
    request = (
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Extensions: {offers}\r\n\r\n"
    )
    assert receive(handshake, request.encode()) is not None
    answer = handshake.accept().decode()
    header = answer.partition("Sec-WebSocket-Extensions: ")[2].partition("\r\n")[0]
    return header, handshake.extensions


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("x-shift", "x-shift"),
        ("x-shift; by=10, x-shift; by=3, x-shift", "x-shift; by=3"),
        ("x-shift; by=10", ""),
        ("z, y", "y"),
        # Two that use the same bit cannot be combined (section 9.1): the first counts.
        ("y, x-shift", "y"),
        ("x-shift, y", "x-shift"),
        ("x-shift; by=11, y", "y"),
        ("w, y, x-shift", "w, y"),
        ("X-SHIFT, x-shif, x-shift2", ""),
    ],
)
def test_a_server_agrees_on_the_first_offers_that_go_together(offers, answer):
    factories = [Shifting(), Shifting(name="y"), Shifting(name="w", rsv=1)]
    header, made = agreed(factories, offers)
    assert header == answer
    assert len(made) == len([each for each in answer.split(",") if each])


# Factories that do what they should not


class Faulty(Shifting):
    """Does what it is told in the place of one of its methods."""

    def __init__(self, method: str, act: Callable[[], Any]) -> None:
        super().__init__()
        setattr(self, method, lambda *_: act())


def raising(error: BaseException) -> Callable[[], Any]:
    def act():
        raise error

    return act


def with_rsv(rsv: Any) -> Extension:
    made = Shift()
    made.rsv = rsv
    return made


class NoBit(Extension):
    def encode(self, payload, *, opcode, begins, ends):
        return payload

    def decode(self, payload, *, ends, limit):
        return payload


NO_EXTENSIONS = [
    lambda: None,
    lambda: "extension",
    lambda: object(),
    lambda: NoBit(),
    *(lambda rsv=rsv: with_rsv(rsv) for rsv in (0, 3, 8, -1, 2**70, True, "2", None, 4.5)),
]


@pytest.mark.parametrize("act", NO_EXTENSIONS, ids=[str(n) for n in range(len(NO_EXTENSIONS))])
def test_what_is_no_extension_is_refused_with_the_name_of_its_factory(act):
    with pytest.raises(InvalidOptionType, match="x-shift"):
        answered("x-shift", Faulty("accept", act))
    with pytest.raises(HandshakeError, match="x-shift' has failed") as caught:
        agreed([Faulty("agree", lambda: ((), act()))], "x-shift")
    assert isinstance(caught.value.__cause__, InvalidOptionType)


@pytest.mark.parametrize(
    "act",
    [
        raising(RuntimeError("secret")),
        raising(KeyError("secret")),
        raising(ValueError("secret")),
        raising(StopIteration("secret")),
        lambda: 5,
        lambda: Shift(),
        lambda: (),
        lambda: ((), Shift(), None),
        lambda: (None, Shift()),
        lambda: ((("by", 1),), Shift()),
        lambda: ((("by", "secret\r\nX-Injected: yes"),), Shift()),
        lambda: ((("by", "1, permessage-deflate"),), Shift()),
    ],
)
def test_a_server_whose_extension_fails_to_agree_answers_500_and_says_no_more(act):
    handshake = ServerHandshake(extensions=[Faulty("agree", act)])
    with pytest.raises(HandshakeError, match="x-shift' has failed") as caught:
        receive(
            handshake,
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: x-shift\r\n\r\n",
        )
    assert caught.value.__cause__ is not None
    answer = handshake.refusal()
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"secret" not in answer


async def test_a_client_learns_of_a_failed_agreement_and_the_server_logs_it_and_goes_on(caplog):
    failures = [RuntimeError("the reason")]

    class Sometimes(Shifting):
        def agree(self, parameters):
            if failures:
                raise failures.pop()
            return super().agree(parameters)

    async with asyncio.timeout(BOUND):
        async with serve(echo, extensions=[Sometimes()]) as server:
            with caplog.at_level(logging.ERROR, "coro_websocket.server"):
                with pytest.raises(HandshakeError, match="500") as caught:
                    await connect(server.url, extensions=[Shifting()])
            assert "the reason" not in str(caught.value) + repr(caught.value.response.body)
            assert "the reason" in caplog.text
            async with connect(server.url, extensions=[Shifting()]) as (res, read, write):
                assert res.extensions[0][0] == "x-shift"
                await write("and on")
                assert (await read()).payload == "and on"


@pytest.mark.parametrize("method", ["offers", "accept"])
async def test_what_a_client_s_factory_raises_comes_out_of_connect(method):
    async with asyncio.timeout(BOUND):
        async with serve(echo, extensions=[Shifting()]) as server:
            with pytest.raises(RuntimeError, match="mine"):
                await connect(
                    server.url, extensions=[Faulty(method, raising(RuntimeError("mine")))]
                )


# In use


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_an_extension_transforms_both_directions_and_goes_with_compression(compression):
    factory = Shifting("7")
    async with client_of_echo(
        extensions=[factory],
        compression=compression,
        server_options={"extensions": [Shifting()], "compression": compression},
    ) as end:
        names = [name for name, _ in end.response.extensions]
        assert names == ["x-shift"] + (["permessage-deflate"] if compression else [])
        for message in ("text ✓" * 100, b"\x00\xff" * 500, "", "leave", "x" * 2_000_000):
            await end.write(message)
            assert (await end.read()).payload == message
        await end.write(["frag", "ment", "ed" * 300])
        assert (await end.read()).payload == "fragment" + "ed" * 300


@both_roles
def test_what_an_extension_is_told_of_each_frame(client):
    shift = Shift()
    engine = Engine(client, extensions=[shift])
    for message in (
        "é",
        Message(b"a", BINARY, fin=False),
        Message(b"", CONT, fin=False),
        Message(b"c", CONT, fin=True),
    ):
        engine.send_message(as_message(message))
    assert shift.calls == [
        ("é".encode(), TEXT, True, True),
        (b"a", BINARY, True, False),
        (b"", BINARY, False, False),
        (b"c", BINARY, False, True),
    ]
    frames = frames_of(engine.data_to_send())
    assert [frame.rsv for frame in frames] == [2, 2, 0, 0]  # the first of each message
    assert [frame.payload for frame in frames[1:]] == [b"b", b"", b"d"]
    shift.calls.clear()

    engine.receive(
        frame(client, BINARY, b"bc", fin=False)
        + frame(client, CONT, b"d", rsv=0)
        + frame(client, TEXT, b"plain", rsv=0)
    )
    assert [message.payload for message in drain(engine)] == [b"abc", "plain"]
    most = 16 * 1024 * 1024
    assert shift.calls == [(b"bc", False, most), (b"d", True, most - 2)]


@both_roles
def test_a_message_that_an_extension_leaves_alone_is_not_marked(client):
    engine = Engine(client, extensions=[Shift()])
    for message in ("leave", Message("leave", TEXT, fin=False), Message("leave", CONT, fin=True)):
        engine.send_message(as_message(message))
    frames = frames_of(engine.data_to_send())
    assert [(frame.rsv, frame.payload) for frame in frames] == [(0, b"leave")] * 3


@both_roles
def test_extensions_are_applied_in_their_order_and_undone_in_reverse(client):
    class Append(Shift):
        def __init__(self, rsv: int, mark: bytes) -> None:
            super().__init__()
            self.rsv = rsv
            self.mark = mark

        def encode(self, payload, *, opcode, begins, ends):
            return payload + self.mark

        def decode(self, payload, *, ends, limit):
            assert payload.endswith(self.mark)
            return payload.removesuffix(self.mark)

    engine = Engine(client, extensions=[Append(2, b"-first"), Append(1, b"-second")])
    engine.send_message(as_message("text"))
    (sent,) = frames_of(engine.data_to_send())
    assert (sent.rsv, sent.payload) == (3, b"text-first-second")
    engine.receive(
        frame(client, TEXT, b"both-first-second", rsv=3)
        + frame(client, TEXT, b"one-first", rsv=2)
        + frame(client, TEXT, b"other-second", rsv=1)
    )
    assert [message.payload for message in drain(engine)] == ["both", "one", "other"]


@both_roles
def test_an_extension_s_own_bit_is_accepted_and_no_other(client):
    for rsv, opcode, fin in ((4, TEXT, True), (1, TEXT, True), (6, TEXT, True), (2, 9, True)):
        engine = Engine(client, extensions=[Shift()])
        engine.receive(frame(client, opcode, b"b", fin=fin, rsv=rsv))
        with pytest.raises(ProtocolError, match="reserved bits"):
            engine.next_message()
        assert engine.error.code == 1002


@both_roles
def test_an_extension_s_protocol_error_fails_the_connection_with_its_code(client):
    engine = Engine(client, extensions=[Shift()])
    engine.receive(frame(client, BINARY, b"bc") + frame(client, BINARY, b"\x00"))
    assert engine.next_message().payload == b"ab"
    with pytest.raises(ProtocolError, match="a zero"):
        engine.next_message()
    (close,) = frames_of(engine.data_to_send())
    assert (close.opcode, close.payload) == (CLOSE, (1008).to_bytes(2, "big") + b"a zero")


@both_roles
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_more_than_the_limit_is_refused_whoever_measures_it(client, whole):
    class Measuring(Shift):
        def decode(self, payload, *, ends, limit):
            if limit < 1000:
                raise LimitError("too much")
            return payload * 1000

    class Growing(Shift):
        def decode(self, payload, *, ends, limit):
            return payload * 1000

    for extension in (Measuring(), Growing()):
        engine = Engine(client, max_message_size=999, extensions=[extension])
        engine.receive(frame(client, BINARY, b"x", fin=whole))
        with pytest.raises(LimitError) as caught:
            engine.next_message()
        assert (caught.value.code, caught.value.limit) == (1009, "max_message_size")


async def test_fragments_can_be_read_one_by_one_through_an_extension():
    shifting = {"extensions": [Shifting()], "compression": None}
    async with both_ends(server_options=shifting, **shifting) as (client, server):
        await client.write(["ab", "", "cd"])
        seen = []
        async for fragment in server.read.fragments():
            seen.append((fragment.payload, fragment.fin, fragment.rsv2))
            if fragment.fin:
                break
        assert seen == [("ab", False, False), ("", False, False), ("cd", True, False)]


async def test_write_without_compression_uses_no_extension_for_that_message():
    factory = Shifting()
    shifting = {"extensions": [factory], "compression": "deflate"}
    async with both_ends(server_options=shifting, **shifting) as (client, server):
        await client.write("as it is", compress=False)
        await client.write("transformed")
        assert (await server.read()).payload == "as it is"
        assert (await server.read()).payload == "transformed"


# The examples in docs/compression.md


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (
            "extension",
            "('x-checksum', (('algorithm', 'crc32'),))\nchecked both ways\nfragments too\n",
        ),
        (
            "compression",
            "(('permessage-deflate', (('client_max_window_bits', '12'),)),)\n"
            "()\n"
            "(('permessage-deflate', (('server_max_window_bits', '9'), "
            "('client_max_window_bits', '9'))),)\n",
        ),
    ],
)
def test_an_example_in_the_documents_runs_as_printed(name, printed):
    text = (Path(__file__).parents[2] / "docs/compression.md").read_text()
    code = text.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed


# Extensions that fail in use: nothing may hang, nothing may escape from a callback


class Failing(Shift):
    """Fails at payloads that say so."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(0)
        self.act = act

    def encode(self, payload, *, opcode, begins, ends):
        return self.act() if b"fail to encode" in payload else payload

    def decode(self, payload, *, ends, limit):
        return self.act() if b"fail to decode" in payload else payload


class FailingFactory(Shifting):
    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act

    def made(self, by):
        return Failing(self.act)


class Unlucky(Exception):
    pass


FAILURES = {
    "raises": raising(Unlucky("no luck")),
    "raises StopIteration": raising(StopIteration("no luck")),
    "raises ConnectionError": raising(ConnectionResetError("no luck")),
    "returns str": lambda: "text",
    "returns bytearray": lambda: bytearray(b"x"),
    "returns int": lambda: 5,
}

failures = pytest.mark.parametrize("act", FAILURES.values(), ids=FAILURES.keys())


@pytest.fixture
async def no_callback_fails():
    """What a callback of ours lets escape comes here, and is an error."""
    escaped: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    yield
    assert escaped == []


class Forgetful(ProtocolError):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ProtocolError("x", 1002, None), 1002, ""),
        (ProtocolError("x", 1008, b"bytes"), 1008, ""),  # type: ignore[arg-type]
        (ProtocolError("x", None, 5), 1011, ""),  # type: ignore[arg-type]
        (ProtocolError("x", 1007, "ü" * 100), 1007, "ü" * 61),
        (Forgetful(), 1011, ""),
    ],
    ids=["None", "bytes", "int", "long", "forgotten"],
)
async def test_a_violation_with_any_code_and_reason_is_told_rfc_6455_7_1_7(
    error, code, reason, no_callback_fails
):
    ours = {"extensions": [FailingFactory(raising(error))], "compression": None}
    theirs = {"extensions": [Shifting("0")], "compression": None}
    async with both_ends(server_options=ours, **theirs) as (client, server), asyncio.timeout(BOUND):
        reading = asyncio.ensure_future(server.read())
        await server.settle()
        await client.write("fail to decode")
        with pytest.raises(ProtocolError) as caught:
            await reading
        assert caught.value is error
        with pytest.raises(ConnectionClosedError) as caught:  # type: ignore[assignment]
            await client.read()
        assert (caught.value.code, caught.value.reason) == (code, reason)


@failures
@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "fragments"])
async def test_what_fails_to_decode_ends_the_connection_with_1011(act, pieces, no_callback_fails):
    ours = {"extensions": [FailingFactory(act)], "compression": None}
    theirs = {"extensions": [Shifting("0")], "compression": None}
    async with both_ends(server_options=ours, **theirs) as (client, server):
        await client.write("goes through")
        assert (await server.read()).payload == "goes through"
        reading = asyncio.ensure_future(server.read())
        await server.settle()
        await client.write(["fail to decode"] * pieces if pieces > 1 else "fail to decode")
        with pytest.raises(ConnectionClosedError, match="Failing") as caught:
            await reading
        assert caught.value.code == 1011
        with pytest.raises(ConnectionClosedError) as caught:  # and so it stays
            await server.read()
        assert caught.value.code == 1011
        with pytest.raises(ConnectionClosedError) as caught:
            await client.read()
        assert caught.value.code == 1011


@failures
async def test_what_fails_to_decode_where_nobody_reads_is_told_to_the_next_reader(
    act, no_callback_fails
):
    ours = {"extensions": [FailingFactory(act)], "compression": None}
    theirs = {"extensions": [Shifting("0")], "compression": None}
    async with both_ends(server_options=ours, **theirs) as (client, server):
        await client.write("first")
        await client.write("fail to decode")
        await server.settle()
        assert (await server.read()).payload == "first"
        with pytest.raises(ConnectionClosedError) as caught:
            await server.read()
        assert caught.value.code == 1011


@failures
@pytest.mark.parametrize("size", [0, 1024 * 1024], ids=["small", "large"])
async def test_what_fails_to_encode_is_the_writer_s_error_and_sends_nothing(
    act, size, no_callback_fails
):
    ours = {"extensions": [FailingFactory(act)], "compression": None}
    theirs = {"extensions": [Shifting("0")], "compression": None}
    async with both_ends(server_options=ours, **theirs) as (client, server):

        async def write(message: Any) -> None:
            await server.write(message)

        failing = asyncio.ensure_future(write("fail to encode" + "x" * size))
        later = asyncio.ensure_future(write("later"))
        (error,) = await asyncio.gather(failing, return_exceptions=True)
        assert isinstance(error, BaseException)
        assert "no luck" in str(error) or "encode() " in str(error)
        await later
        assert (await client.read()).payload == "later"


@failures
@pytest.mark.parametrize("size", [0, 1024 * 1024], ids=["small", "large"])
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_fragment_that_fails_to_encode_breaks_its_message_off(
    act, size, at, no_callback_fails
):
    ours = {"extensions": [FailingFactory(act)], "compression": None}
    theirs = {"extensions": [Shifting("0")], "compression": None}
    fragments = ["fine", "fine", "fine"]
    fragments[at] = "fail to encode" + "x" * size
    async with both_ends(server_options=ours, **theirs) as (client, server):

        async def write(message: Any) -> None:
            await server.write(message)

        failing = asyncio.ensure_future(write(fragments))
        await server.settle(1)
        later = asyncio.ensure_future(write("later"))
        first, second = await asyncio.gather(failing, later, return_exceptions=True)
        assert isinstance(first, BaseException)
        if at == 0:  # nothing had been sent
            assert second is None
            assert (await client.read()).payload == "later"
        else:
            assert isinstance(second, ConnectionClosedError)
            with pytest.raises(ConnectionClosedError) as caught:
                await client.read()
            assert caught.value.code == 1011


def test_deflate_has_the_settings_of_its_factory_and_is_one():
    assert isinstance(Deflate(), ExtensionFactory)
    assert Deflate.name == "permessage-deflate"
