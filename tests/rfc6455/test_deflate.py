"""permessage-deflate (RFC 7692): how it is negotiated, and what it makes of messages.

The peer's compressor and decompressor are Python's zlib, used here by hand.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.raw_peer import BOUND, both_ends, client_of_echo, until
from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    answers_of,
    drain,
    encode,
    frames_of,
    split,
)
from tests.helpers.server_handshake import receive

from coro_websocket import (
    ConcurrencyError,
    ConnectionClosedError,
    Deflate,
    HandshakeError,
    InvalidOption,
    InvalidOptionType,
    LimitError,
    Message,
    Options,
    ProtocolError,
    serve,
)
from coro_websocket._http.client_handshake import ClientHandshake, request_headers
from coro_websocket._http.extension_header import parse_extensions
from coro_websocket._http.keys import accept_key
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._rfc6455.deflate import DeflateExtension
from coro_websocket._rfc6455.engine import Engine
from coro_websocket._rfc6455.messages import as_message

both_roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])

TAIL = b"\x00\x00\xff\xff"
TEXT_OF_SIZE = "It was the best of times, it was the worst of times. "
MIB = 1024 * 1024


# The peer


class Peer:
    """One direction of section 7.2, with Python's zlib."""

    def __init__(self, bits: int = 15, *, takeover: bool = True, level: int = 6) -> None:
        self.bits = bits
        self.takeover = takeover
        self.level = level
        self.deflating: Any = None
        self.inflating: Any = None

    def deflate(self, data: bytes, *, ends: bool = True) -> bytes:
        if self.deflating is None:
            self.deflating = zlib.compressobj(self.level, zlib.DEFLATED, -self.bits)
        out = self.deflating.compress(data) + self.deflating.flush(zlib.Z_SYNC_FLUSH)
        if not ends:
            return out
        if not self.takeover:
            self.deflating = None
        return out.removesuffix(TAIL) or b"\x00"

    def inflate(self, data: bytes, *, ends: bool = True) -> bytes:
        if self.inflating is None:
            self.inflating = zlib.decompressobj(-self.bits)
        out = self.inflating.decompress(data + (TAIL if ends else b""))
        assert not self.inflating.unconsumed_tail
        if ends and not self.takeover:
            self.inflating = None
        return out


def deflated(data: bytes, bits: int = 15) -> bytes:
    return Peer(bits).deflate(data)


def extension(settings: Deflate | None = None, **changes) -> DeflateExtension:
    agreed = {"send_bits": 15, "receive_bits": 15, "send_takeover": True, "receive_takeover": True}
    return DeflateExtension(settings or Deflate(threshold=0), **(agreed | changes))


def engine(client: bool, settings: Deflate | None = None, *, limit=16 * MIB, **changes) -> Engine:
    return Engine(client, max_message_size=limit, extensions=[extension(settings, **changes)])


def frame(client: bool, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 4) -> bytes:
    """The bytes of a frame that a client, or a server, may receive."""
    return encode(Frame(opcode, payload, fin, rsv, None if client else KEY))


def sent(engine: Engine, message, **how) -> list[Frame]:
    engine.send_message(as_message(message), **how)
    return frames_of(engine.data_to_send())


def received(engine: Engine, *pieces: bytes) -> list:
    for piece in pieces:
        engine.receive(piece)
    return [message.payload for message in drain(engine)]


def failure(engine: Engine, *pieces: bytes) -> ProtocolError:
    """What ends the connection, the peer having been told."""
    with pytest.raises(ProtocolError) as caught:
        received(engine, *pieces)
    (told,) = answers_of(engine)
    assert told == (CLOSE, caught.value.code.to_bytes(2, "big"))
    return caught.value


# Negotiation: what a client offers (section 7.1)


def offer(settings: Deflate) -> str:
    pairs = request_headers(host_header="h", key="k", extensions=[settings])
    return dict(pairs)["Sec-WebSocket-Extensions"]


ANY = {"server_max_window_bits": None, "client_max_window_bits": None}
AUTO = {"server_max_window_bits": "auto", "client_max_window_bits": "auto"}


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, "client_max_window_bits"),
        ({"client_max_window_bits": 10}, "client_max_window_bits=10"),
        ({"client_max_window_bits": 15}, "client_max_window_bits=15"),
        # A promise: zlib cannot compress with 8 bits (section 7.1.2.2).
        ({"client_max_window_bits": 8}, "client_max_window_bits=9"),
        (
            {"server_max_window_bits": 8, "strict": True},
            "server_max_window_bits=8; client_max_window_bits",
        ),
        # If the server may do otherwise, a second offer asks for less.
        (
            {"server_max_window_bits": 15},
            "server_max_window_bits=15; client_max_window_bits, "
            "permessage-deflate; client_max_window_bits",
        ),
        (
            {"server_no_context_takeover": True},
            "server_no_context_takeover; client_max_window_bits",
        ),
        (
            {"client_no_context_takeover": True},
            "client_no_context_takeover; client_max_window_bits",
        ),
        (
            {
                "server_no_context_takeover": True,
                "client_no_context_takeover": True,
                "server_max_window_bits": 9,
                "client_max_window_bits": 11,
                "strict": True,
            },
            "server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=9; client_max_window_bits=11",
        ),
    ],
)
def test_a_client_offers_what_it_wants_and_can_do(settings, parameters):
    assert offer(Deflate(**(ANY | settings))) == f"permessage-deflate; {parameters}"


def test_the_defaults_ask_for_nothing_and_let_the_server_choose_our_window():
    assert offer(Deflate()) == "permessage-deflate; client_max_window_bits"


# Negotiation: what a client takes for an answer


def accepted(settings: Deflate, answer: str) -> DeflateExtension:
    ((name, parameters),) = parse_extensions([answer])
    assert name == "permessage-deflate"
    made = settings.accept(parameters)
    assert isinstance(made, DeflateExtension)
    return made


@pytest.mark.parametrize(
    ("settings", "answer", "send_bits", "receive_bits", "send_takeover", "receive_takeover"),
    [
        ({}, "", 15, 15, True, True),
        ({}, "; server_no_context_takeover", 15, 15, True, False),
        ({}, "; client_no_context_takeover", 15, 15, False, True),
        # A server may say how small its window is without having been asked (section 7.1.2.1).
        ({}, "; server_max_window_bits=8", 15, 8, True, True),
        ({}, "; server_max_window_bits=15", 15, 15, True, True),
        ({"server_max_window_bits": 10}, "; server_max_window_bits=10", 15, 10, True, True),
        ({"server_max_window_bits": 10}, "; server_max_window_bits=9", 15, 9, True, True),
        ({"server_max_window_bits": 15}, "", 15, 15, True, True),
        # An answer to the second offer.
        ({"server_max_window_bits": 10}, "", 15, 15, True, True),
        ({"server_max_window_bits": 10}, "; server_max_window_bits=12", 15, 12, True, True),
        # What servers answer the defaults: like gorilla's, Jetty, coder's, Autobahn, websockets.
        (
            AUTO, "; server_no_context_takeover; client_no_context_takeover", 12, 15, False, False,
        ),
        (AUTO, "", 12, 15, True, True),
        (AUTO, "; client_no_context_takeover", 12, 15, False, True),
        (AUTO, "; client_max_window_bits=15", 12, 15, True, True),
        (AUTO, "; server_max_window_bits=12; client_max_window_bits=10", 10, 12, True, True),
        ({}, "; client_max_window_bits=9", 9, 15, True, True),
        ({}, '; client_max_window_bits="10"', 10, 15, True, True),
        ({}, "; client_max_window_bits=15", 15, 15, True, True),
        # The server ignores what we said: we keep to it all the same (section 7.1.2.2).
        ({"client_max_window_bits": 10}, "", 10, 15, True, True),
        ({"client_max_window_bits": 8}, "", 9, 15, True, True),
        ({"client_max_window_bits": 10}, "; client_max_window_bits=12", 10, 15, True, True),
        ({"client_max_window_bits": 10}, "; client_max_window_bits=9", 9, 15, True, True),
        ({"client_no_context_takeover": True}, "", 15, 15, False, True),
        (
            {"server_no_context_takeover": True},
            "; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=11; client_max_window_bits=12",
            12, 11, False, False,
        ),
    ],
)  # fmt: skip
def test_a_client_does_what_the_answer_says(
    settings, answer, send_bits, receive_bits, send_takeover, receive_takeover
):
    made = accepted(Deflate(**(ANY | settings)), "permessage-deflate" + answer)
    assert (made.send_bits, made.receive_bits) == (send_bits, receive_bits)
    assert (made.send_takeover, made.receive_takeover) == (send_takeover, receive_takeover)


INVALID = [
    "foo",
    "foo=1",
    "Server_no_context_takeover",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits",
    *(
        f"{side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in (0, 1, 7, 16, 100, -9, "+9", "08", "010", "9.0", "x", "0x9", "1_0", "9" * 5000)
    ),
    "server_max_window_bits=12; server_max_window_bits=12",
    "client_max_window_bits=12; client_max_window_bits=12",
    "client_max_window_bits; client_max_window_bits=12",
]


@pytest.mark.parametrize("answer", [*INVALID, "client_max_window_bits"])
def test_a_client_refuses_a_parameter_that_is_unknown_or_there_twice_or_invalid(answer):
    with pytest.raises(ValueError, match=r"parameter|value"):
        accepted(Deflate(**ANY), f"permessage-deflate; {answer}")


@pytest.mark.parametrize(
    ("settings", "answer", "what"),
    [
        ({"server_max_window_bits": 12, "strict": True}, "", "server_max_window_bits=12"),
        (
            {"server_max_window_bits": 12, "strict": True},
            "; server_max_window_bits=13",
            "server_max_window_bits=12",
        ),
        ({"server_no_context_takeover": True}, "", "server_no_context_takeover"),
        ({}, "; client_max_window_bits=8", "8 bits"),
    ],
)
def test_a_client_refuses_what_it_has_not_offered_or_cannot_do(settings, answer, what):
    with pytest.raises(ValueError, match=what):
        accepted(Deflate(**(ANY | settings)), "permessage-deflate" + answer)


def answered(extensions: list, header: str) -> ClientHandshake:
    """A client's handshake that is answered with 101 and this header."""
    handshake = ClientHandshake(host_header="h", pathname="/", extensions=extensions)
    key = handshake.request().decode().partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
    handshake.receive(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n"
        f"Sec-WebSocket-Extensions: {header}\r\n\r\n".encode()
    )
    return handshake


@pytest.mark.parametrize(
    "header",
    [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate",  # not with the window that was asked for
        "permessage-deflate; server_max_window_bits=12, permessage-deflate",
        "permessage-deflate2; server_max_window_bits=12",
        "x-permessage-deflate; server_max_window_bits=12",
        "Permessage-Deflate; server_max_window_bits=12",
        "permessage-deflate; server_max_window_bits=12; ",
        "permessage-deflate; server_max_window_bits=12, foo",
    ],
)
def test_a_client_fails_the_connection_at_an_answer_that_it_cannot_accept(header):
    with pytest.raises(HandshakeError, match="Sec-WebSocket-Extensions"):
        answered([Deflate(server_max_window_bits=12, strict=True)], header)
    good = answered(
        [Deflate(server_max_window_bits=12, strict=True)],
        "permessage-deflate; server_max_window_bits=12",
    )
    assert [type(each) for each in good.extensions] == [DeflateExtension]


def test_a_client_without_compression_refuses_it_in_the_answer():
    with pytest.raises(HandshakeError, match="none was offered"):
        answered([], "permessage-deflate")


# Negotiation: what a server answers


def agreement(settings: Deflate | None, *offers: str) -> tuple[str | None, list]:
    """The answer's header, or None if all offers are declined; and the extensions in use."""
    handshake = ServerHandshake(extensions=[settings] if settings is not None else [])
    lines = [
        "GET / HTTP/1.1", "Host: h", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
        *(f"Sec-WebSocket-Extensions: {value}" for value in offers), "", "",
    ]  # fmt: skip
    assert receive(handshake, "\r\n".join(lines).encode()) is not None
    for line in handshake.accept().decode().split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Sec-WebSocket-Extensions":
            return value, handshake.extensions
    return None, handshake.extensions


@pytest.mark.parametrize(
    ("settings", "offered", "answer", "send", "receive"),
    [
        # (window bits, context takeover) of what is sent and what is received
        ({}, "", "", (15, True), (15, True)),
        ({}, "; server_no_context_takeover", "; server_no_context_takeover", (15, False), (15, True)),
        ({}, "; client_no_context_takeover", "; client_no_context_takeover", (15, True), (15, False)),
        ({}, "; server_max_window_bits=9", "; server_max_window_bits=9", (9, True), (15, True)),
        ({}, "; server_max_window_bits=15", "; server_max_window_bits=15", (15, True), (15, True)),
        ({}, '; server_max_window_bits="12"', "; server_max_window_bits=12", (12, True), (15, True)),
        ({}, "; client_max_window_bits", "", (15, True), (15, True)),
        ({}, "; client_max_window_bits=8", "; client_max_window_bits=8", (15, True), (8, True)),
        ({}, "; client_max_window_bits=15", "", (15, True), (15, True)),
        # What the server wants for itself needs no asking (section 7.1.2.1).
        ({"server_max_window_bits": 11}, "", "", (11, True), (15, True)),
        (AUTO, "", "", (12, True), (15, True)),
        (AUTO, "; client_max_window_bits", "; client_max_window_bits=12", (12, True), (12, True)),
        (
            {"server_max_window_bits": 11}, "; server_max_window_bits=10",
            "; server_max_window_bits=10", (10, True), (15, True),
        ),
        (
            {"server_max_window_bits": 11}, "; server_max_window_bits=14",
            "; server_max_window_bits=11", (11, True), (15, True),
        ),
        (
            {"server_no_context_takeover": True}, "",
            "; server_no_context_takeover", (15, False), (15, True),
        ),
        (
            {"client_no_context_takeover": True}, "",
            "; client_no_context_takeover", (15, True), (15, False),
        ),
        # Only a client that offers client_max_window_bits can be told its window (7.1.2.2).
        ({"client_max_window_bits": 10}, "", "", (15, True), (15, True)),
        (
            {"client_max_window_bits": 10}, "; client_max_window_bits",
            "; client_max_window_bits=10", (15, True), (10, True),
        ),
        # zlib clients cannot do 8: only one that offers it is asked for it.
        (
            {"client_max_window_bits": 8}, "; client_max_window_bits",
            "; client_max_window_bits=9", (15, True), (9, True),
        ),
        (
            {"client_max_window_bits": 8}, "; client_max_window_bits=8",
            "; client_max_window_bits=8", (15, True), (8, True),
        ),
        (
            {"client_max_window_bits": 10}, "; client_max_window_bits=9",
            "; client_max_window_bits=9", (15, True), (9, True),
        ),
        (
            {"client_max_window_bits": 10}, "; client_max_window_bits=14",
            "; client_max_window_bits=10", (15, True), (10, True),
        ),
        (
            {}, "; client_max_window_bits=13; server_max_window_bits=14; "
            "client_no_context_takeover; server_no_context_takeover",
            "; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=14; client_max_window_bits=13", (14, False), (13, False),
        ),
    ],
)  # fmt: skip
def test_a_server_honours_every_parameter_of_an_offer(settings, offered, answer, send, receive):
    header, (made,) = agreement(Deflate(**(ANY | settings)), f"permessage-deflate{offered}")
    assert header == f"permessage-deflate{answer}"
    assert (made.send_bits, made.send_takeover) == send
    assert (made.receive_bits, made.receive_takeover) == receive


@pytest.mark.parametrize("offered", INVALID)
def test_a_server_declines_an_offer_with_an_invalid_parameter_and_takes_the_next(offered):
    assert agreement(Deflate(**ANY), f"permessage-deflate; {offered}") == (None, [])
    header, (made,) = agreement(
        Deflate(**ANY),
        f"permessage-deflate; {offered}, permessage-deflate; server_max_window_bits=9",
    )
    assert header == "permessage-deflate; server_max_window_bits=9"
    assert made.send_bits == 9


def test_a_server_declines_a_window_of_8_bits_which_zlib_cannot_do():
    assert agreement(Deflate(), "permessage-deflate; server_max_window_bits=8") == (None, [])


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        # The first that can be done counts (section 5.1), however they are spread over headers.
        (
            ["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            ["permessage-deflate", "permessage-deflate; server_no_context_takeover"],
            "permessage-deflate",
        ),
        (
            ["foo, permessage-deflate; x", "permessage-deflate; client_no_context_takeover, bar"],
            "permessage-deflate; client_no_context_takeover",
        ),
        (["permessage-deflate; a, permessage-deflate; b"], None),
        # A name is matched whole and in its case.
        (["permessage-deflate-2, xpermessage-deflate, PERMESSAGE-DEFLATE, deflate"], None),
        (["x; permessage-deflate, y; a=permessage-deflate"], None),
        ([], None),
    ],
)
def test_a_server_takes_the_first_offer_that_it_can(offers, answer):
    header, made = agreement(Deflate(**ANY), *offers)
    assert header == answer
    assert len(made) == (answer is not None)


def test_a_server_without_compression_declines_every_offer():
    assert agreement(None, "permessage-deflate; client_max_window_bits") == (None, [])


BITS = (None, 8, 9, 12, 15)


@pytest.mark.parametrize("ours", list(itertools.product(BITS, BITS)), ids=str)
def test_two_of_ours_agree_on_what_both_want_and_understand_each_other(ours):
    for theirs in itertools.product(BITS, BITS):
        for flags in itertools.product((False, True), repeat=4):
            client = Deflate(
                server_max_window_bits=ours[0],
                client_max_window_bits=ours[1],
                server_no_context_takeover=flags[0],
                client_no_context_takeover=flags[1],
            )
            server = Deflate(
                server_max_window_bits=theirs[0],
                client_max_window_bits=theirs[1],
                server_no_context_takeover=flags[2],
                client_no_context_takeover=flags[3],
            )
            header, made = agreement(server, offer(client))
            (at_server,) = made  # zlib cannot do 8 bits, but there is a second offer
            at_client = accepted(client, header)
            assert at_client.send_bits <= at_server.receive_bits
            assert at_server.send_bits <= at_client.receive_bits
            assert at_server.send_bits <= (15 if ours[0] == 8 else ours[0] or 15)
            assert at_client.send_bits <= max(9, theirs[1] or 15)
            # Whoever keeps the context, the other keeps it too.
            assert at_client.send_takeover <= at_server.receive_takeover
            assert at_server.send_takeover <= at_client.receive_takeover
            assert at_client.send_takeover is not (flags[1] or flags[3])
            assert at_server.send_takeover is not (flags[0] or flags[2])


# Settings


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("level", (-1, 10)),
        ("memory_level", (0, 10)),
        ("threshold", (-1,)),
        ("server_max_window_bits", (7, 16, 0)),
        ("client_max_window_bits", (7, 16, 0)),
    ],
)
def test_a_setting_out_of_its_range_is_refused(option, values):
    for value in values:
        with pytest.raises(InvalidOption, match=f"{option} of Deflate must be") as caught:
            Deflate(**{option: value})
        assert caught.value.option == "compression"
    for value in ("6", 6.0, True):
        with pytest.raises(InvalidOptionType, match="must be int"):
            Deflate(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["level", "memory_level", "threshold"])
def test_only_window_bits_may_be_none(option):
    with pytest.raises(InvalidOptionType):
        Deflate(**{option: None})


@pytest.mark.parametrize("value", ["gzip", "", True, 5, {}])
def test_compression_is_deflate_or_none(value):
    with pytest.raises(InvalidOption) as caught:
        Options(compression=value)
    assert caught.value.option == "compression"


def test_deflate_by_name_is_deflate_with_the_defaults():
    assert Options(compression="deflate").compression == Deflate() == Options().compression
    assert Options(compression=None).extension_factories == ()


def test_permessage_deflate_cannot_be_an_extension_and_the_compression_too():
    with pytest.raises(InvalidOption, match="given twice"):
        Options(extensions=[Deflate(level=9)])
    assert Options(extensions=[Deflate()], compression=None).extension_factories == (Deflate(),)


# What is sent (section 7.2.1)


@both_roles
@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_what_is_sent_can_be_inflated_with_the_window_agreed_on(client, bits, level):
    data = random.Random(bits).randbytes(3000) * 12
    sending = engine(client, Deflate(threshold=0, level=level, memory_level=1), send_bits=bits)
    peer = Peer(bits)
    for message in (data, data[:100], b"", data[50:]):
        (frame,) = sent(sending, message)
        assert (frame.opcode, frame.fin, frame.rsv) == (BINARY, True, 4)
        assert not frame.payload.endswith(TAIL)
        assert peer.inflate(frame.payload) == message


def test_a_small_window_does_not_reach_back_further_than_it_is_large():
    data = random.Random(0).randbytes(600)
    sizes = {}
    for bits in (9, 15):
        sending = engine(True, send_bits=bits)
        sent(sending, data)
        (again,) = sent(sending, data)
        sizes[bits] = len(again.payload)
    assert sizes[9] >= 600
    assert sizes[15] < 60


@both_roles
def test_with_context_takeover_a_message_can_refer_to_the_one_before(client):
    data = random.Random(1).randbytes(500)
    sending = engine(client)
    (first,) = sent(sending, data)
    (second,) = sent(sending, data)
    assert len(second.payload) < 50 < len(first.payload)
    peer = Peer()
    assert (peer.inflate(first.payload), peer.inflate(second.payload)) == (data, data)


@both_roles
def test_without_context_takeover_each_message_stands_alone_rfc_7692_7_1_1(client):
    data = random.Random(1).randbytes(500)
    sending = engine(client, send_takeover=False)
    (first,) = sent(sending, data)
    (second,) = sent(sending, data)
    assert first.payload == second.payload
    assert Peer().inflate(second.payload) == data


def test_without_context_takeover_the_fragments_of_a_message_share_a_context():
    data = random.Random(1).randbytes(500)
    sending = engine(True, send_takeover=False)
    pieces = []
    for i, fin in enumerate((False, False, True)):
        (frame,) = sent(sending, Message(data, 0 if i else BINARY, fin=fin))
        pieces.append(frame.payload)
    assert len(pieces[1]) < 50
    assert len(pieces[2]) < 50
    assert Peer().inflate(b"".join(pieces)) == data * 3
    (alone,) = sent(sending, data)
    assert Peer().inflate(alone.payload) == data


def test_a_higher_level_makes_messages_smaller():
    data = (" ".join(str(n * n) for n in range(5000))).encode()
    sizes = [len(sent(engine(True, Deflate(level=level)), data)[0].payload) for level in (0, 1, 9)]
    assert sizes[0] > len(data) > sizes[1] > sizes[2]


def test_level_window_and_memory_level_are_what_zlib_is_told(monkeypatch):
    class Recording:
        def __getattr__(self, name):
            return getattr(zlib, name)

        def compressobj(self, *arguments):
            made.append(arguments)
            return zlib.compressobj(*arguments)

    made: list[Any] = []
    monkeypatch.setattr("coro_websocket._rfc6455.deflate.zlib", Recording())
    sent(engine(True, Deflate(threshold=0, level=3, memory_level=7), send_bits=11), b"data")
    assert made == [(3, zlib.DEFLATED, -11, 7)]


@pytest.mark.parametrize(("size", "rsv"), [(0, 0), (9, 0), (10, 4), (11, 4)])
def test_a_message_shorter_than_the_threshold_is_not_compressed(size, rsv):
    sending = engine(True, Deflate(threshold=10))
    (frame,) = sent(sending, "a" * size)
    assert frame.rsv == rsv
    assert (Peer().inflate(frame.payload) if rsv else frame.payload) == b"a" * size


def test_the_threshold_counts_bytes_not_characters():
    (frame,) = sent(engine(True, Deflate(threshold=10)), "€€€€")
    assert frame.rsv == 4


def test_a_fragment_is_compressed_whatever_its_size_as_more_may_follow():
    sending = engine(True, Deflate(threshold=1000))
    first, last = (
        *sent(sending, Message("a", TEXT, fin=False)),
        *sent(sending, Message("b", CONT, fin=True)),
    )
    assert (first.rsv, last.rsv) == (4, 0)
    assert Peer().inflate(first.payload + last.payload) == b"ab"


@both_roles
def test_an_uncompressed_message_among_others_leaves_the_context_as_it_is(client):
    sending = engine(client)
    peer = Peer()
    for compress in (True, False, True, False, False, True):
        (frame,) = sent(sending, TEXT_OF_SIZE, transform=compress)
        assert frame.rsv == (4 if compress else 0)
        payload = peer.inflate(frame.payload) if compress else frame.payload
        assert payload == TEXT_OF_SIZE.encode()


def test_the_choice_for_a_fragmented_message_is_made_with_its_first_frame():
    sending = engine(True)
    frames = [
        *sent(sending, Message("a" * 99, TEXT, fin=False), transform=False),
        *sent(sending, Message("b" * 99, CONT, fin=True), transform=True),
        *sent(sending, Message("c" * 99, TEXT, fin=False), transform=True),
        *sent(sending, Message("d" * 99, CONT, fin=True), transform=False),
    ]
    assert [frame.rsv for frame in frames] == [0, 0, 4, 0]
    assert frames[1].payload == b"b" * 99
    assert Peer().inflate(frames[2].payload + frames[3].payload) == b"c" * 99 + b"d" * 99


@both_roles
def test_an_empty_message_is_a_single_zero_byte_rfc_7692_7_2_3_6(client):
    sending = engine(client)
    peer = Peer()
    for _ in range(3):
        (frame,) = sent(sending, b"")
        assert (frame.rsv, frame.payload) == (4, b"\x00")
        assert peer.inflate(frame.payload) == b""


def test_empty_fragments_can_be_inflated_wherever_they_stand():
    sending = engine(True)
    peer = Peer()
    for pieces in (["", "", ""], ["a", "", ""], ["", "a", ""], ["", "", "a"], ["a", "", "b"]):
        last = len(pieces) - 1
        inflated = b""
        for i, piece in enumerate(pieces):
            (frame,) = sent(sending, Message(piece, 0 if i else TEXT, fin=i == last))
            inflated += peer.inflate(frame.payload, ends=i == last)
        assert inflated == "".join(pieces).encode()


@both_roles
def test_control_frames_are_never_compressed_rfc_7692_5(client):
    sending = engine(client)
    sending.send_message(Message("a" * 100, TEXT, fin=False))
    sending.send_ping(b"p" * 100)
    sending.send_pong(b"q" * 100)
    sending.send_message(Message("b" * 100, CONT, fin=True))
    sending.send_close(1000, "r" * 100)
    frames = frames_of(sending.data_to_send())
    assert [(frame.opcode, frame.rsv) for frame in frames] == [
        (TEXT, 4), (PING, 0), (PONG, 0), (CONT, 0), (CLOSE, 0),
    ]  # fmt: skip
    assert frames[1].payload == b"p" * 100
    assert frames[4].payload[2:] == b"r" * 100


# What is received (section 7.2.2)


@both_roles
def test_the_examples_of_rfc_7692_7_2_3_are_understood(client):
    for payload in (
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",  # 7.2.3.1: one block
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # 7.2.3.3: without compression
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",  # 7.2.3.4: a block with BFINAL set
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",  # 7.2.3.5: two blocks
    ):
        assert received(engine(client), frame(client, TEXT, payload)) == ["Hello"]
    # 7.2.3.2: the second refers to the first.
    assert received(
        engine(client),
        frame(client, TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        frame(client, TEXT, b"\xf2\x00\x11\x00\x00"),
    ) == ["Hello", "Hello"]
    # 7.2.3.1: in two frames.
    assert received(
        engine(client),
        frame(client, TEXT, b"\xf2\x48\xcd", fin=False),
        frame(client, CONT, b"\xc9\xc9\x07\x00", rsv=0),
    ) == ["Hello"]


@both_roles
@pytest.mark.parametrize("bits", range(8, 16))
def test_what_a_peer_compresses_with_the_window_agreed_on_is_understood(client, bits):
    data = random.Random(bits).randbytes(300) * 300
    peer = Peer(max(bits, 9))
    if bits == 8:  # which zlib cannot compress with: nothing is referred to
        peer = Peer(level=0)
    receiving = engine(client, receive_bits=bits)
    for message in (data, data[:100], b"", data):
        assert received(receiving, frame(client, BINARY, peer.deflate(message))) == [message]


def test_a_peer_that_reaches_back_further_than_its_window_is_refused():
    data = random.Random(0).randbytes(2000)
    peer = Peer(15)
    receiving = engine(True, receive_bits=9)
    assert received(receiving, frame(True, BINARY, peer.deflate(data))) == [data]
    error = failure(receiving, frame(True, BINARY, peer.deflate(data)))
    assert error.code == 1007
    assert "too far back" in str(error)


@both_roles
def test_without_context_takeover_a_peer_may_not_refer_to_the_last_message(client):
    peer = Peer()
    first, second = (peer.deflate(b"Hello, hello, hello!" * 5) for _ in range(2))
    receiving = engine(client, receive_takeover=False)
    assert received(receiving, frame(client, BINARY, first)) == [b"Hello, hello, hello!" * 5]
    assert failure(receiving, frame(client, BINARY, second)).code == 1007


@both_roles
def test_a_message_that_is_not_marked_is_taken_as_it_is_and_leaves_the_context(client):
    peer = Peer()
    receiving = engine(client)
    for _ in range(2):
        assert received(
            receiving,
            frame(client, TEXT, peer.deflate(b"compressed")),
            frame(client, TEXT, b"plain", rsv=0),
            frame(client, TEXT, b"pl", rsv=0, fin=False),
            frame(client, CONT, b"ain", rsv=0),
        ) == ["compressed", "plain", "plain"]


@both_roles
def test_an_empty_message_is_understood_in_each_of_its_forms(client):
    receiving = engine(client)
    for payload in (
        b"\x00",  # section 7.2.3.6
        b"\x02\x00",  # after an empty block of another type
        b"\x00\x00\x00\xff\xff\x00",  # after one of the same
        b"\x03\x00\x00",  # after a final block
        b"\x01",  # a final block that is empty itself
    ):
        assert received(receiving, frame(client, TEXT, payload)) == [""]
        assert received(receiving, frame(client, BINARY, payload)) == [b""]
    assert received(receiving, frame(client, BINARY, deflated(b"goes on"))) == [b"goes on"]


@both_roles
@pytest.mark.parametrize(("opcode", "payload"), [(TEXT, ""), (BINARY, b"")])
def test_all_fragments_of_a_message_may_inflate_to_nothing(client, opcode, payload):
    receiving = engine(client)
    first = frame(client, opcode, b"", fin=False)
    assert received(receiving, first, frame(client, CONT, b"\x00", rsv=0)) == [payload]


@both_roles
def test_a_message_may_have_any_number_of_final_blocks_rfc_7692_7_2_1(client):
    def final(data: bytes) -> bytes:
        one = zlib.compressobj(6, zlib.DEFLATED, -15)
        return one.compress(data) + one.flush(zlib.Z_FINISH)

    data = [random.Random(n).randbytes(n * 700) for n in (1, 5, 2, 0, 3)]
    for takeover in (True, False):
        receiving = engine(client, receive_takeover=takeover)
        for _ in range(2):
            payload = b"".join(map(final, data)) + b"\x00"
            assert received(receiving, frame(client, BINARY, payload)) == [b"".join(data)]
            assert received(
                receiving,
                frame(client, BINARY, payload[:3000], fin=False),
                frame(client, CONT, payload[3000:], rsv=0),
            ) == [b"".join(data)]


@both_roles
def test_control_frames_may_stand_between_compressed_fragments(client):
    payload = deflated(TEXT_OF_SIZE.encode())
    receiving = engine(client)
    assert received(
        receiving,
        frame(client, TEXT, payload[:9], fin=False),
        frame(client, PING, b"one", rsv=0),
        frame(client, CONT, payload[9:15], fin=False, rsv=0),
        frame(client, PING, b"two", rsv=0),
        frame(client, PONG, b"unasked", rsv=0),
        frame(client, CONT, b"", fin=False, rsv=0),
        frame(client, CONT, payload[15:], rsv=0),
    ) == [TEXT_OF_SIZE]
    assert answers_of(receiving) == [(PONG, b"one"), (PONG, b"two")]


@both_roles
@pytest.mark.parametrize("fragments", [False, True])
def test_a_reader_of_fragments_gets_what_has_been_inflated_of_each(client, fragments):
    peer = Peer()
    receiving = engine(client)
    pieces = [peer.deflate(b"ab", ends=False), peer.deflate(b"", ends=False), peer.deflate(b"cd")]
    receiving.receive(frame(client, BINARY, pieces[0], fin=False))
    receiving.receive(frame(client, CONT, pieces[1], fin=False, rsv=0))
    receiving.receive(frame(client, CONT, pieces[2], rsv=0))
    seen = [
        (message.opcode, message.payload, message.fin, message.rsv1)
        for message in drain(receiving, fragments=fragments)
    ]
    if fragments:
        assert seen == [
            (BINARY, b"ab", False, False), (CONT, b"", False, False), (CONT, b"cd", True, False),
        ]  # fmt: skip
    else:
        assert seen == [(BINARY, b"abcd", True, False)]


@both_roles
@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b"", False, 4), (CONT, b"", True, 4)],
        [(TEXT, b"", False, 0), (CONT, b"", True, 4)],
        [(PING, b"", True, 4)],
        [(PONG, b"", True, 4)],
        [(CLOSE, b"", True, 4)],
        [(TEXT, b"", False, 4), (PING, b"", True, 4)],
        # Bits that nobody has agreed on.
        [(TEXT, b"", True, 2)],
        [(TEXT, b"", True, 1)],
        [(TEXT, b"", True, 6)],
        [(TEXT, b"", True, 7)],
    ],
)
def test_rsv1_on_a_continuation_or_a_control_frame_is_refused_rfc_7692_6(client, frames):
    receiving = engine(client)
    pieces = [frame(client, o, p, fin=fin, rsv=rsv) for o, p, fin, rsv in frames]
    error = failure(receiving, *pieces)
    assert (error.code, "reserved bits" in str(error)) == (1002, True)


@both_roles
def test_rsv1_is_refused_where_compression_was_not_agreed_on(client):
    receiving = Engine(client)
    assert failure(receiving, frame(client, TEXT, deflated(b"Hello"))).code == 1002


@both_roles
@pytest.mark.parametrize(
    "payload",
    [
        b"\x06",  # a block of a type that there is not
        b"\xff" * 20,
        b"\x00\x05\x00\x00\x00Hello\x00",  # a stored block whose lengths differ
        # What does not end with an empty block, so that the tail would be a part of it:
        b"",
        b"\xf2\x48\xcd\xc9",
        b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00",  # a final block
        b"\x00\x05\x00\xfa\xff\x00",  # a stored block, of which four bytes are missing
        # A block in whose code the tail's zeros are 2064 bytes.
        bytes.fromhex("ecc081000000008020d6fd2516a900"),
    ],
)
def test_what_cannot_be_inflated_fails_the_connection_with_1007(client, payload):
    whole = [frame(client, BINARY, payload)]
    before_an_empty_fragment = [
        frame(client, BINARY, payload, fin=False),
        frame(client, CONT, b"", rsv=0),
    ]
    for frames in (whole, before_an_empty_fragment):
        error = failure(engine(client), *frames)
        assert error.code == 1007
        assert "7692" in str(error)
        assert error.__cause__ is None


@both_roles
def test_text_must_be_utf8_once_inflated(client):
    peer = Peer()
    assert received(engine(client), frame(client, TEXT, peer.deflate("é€😀".encode()))) == ["é€😀"]
    assert failure(engine(client), frame(client, TEXT, deflated(b"\xff"))).code == 1007
    assert failure(engine(client), frame(client, TEXT, deflated("é".encode()[:1]))).code == 1007
    # A character may be cut by a frame's end, but not by the message's.
    peer = Peer()
    receiving = engine(client)
    assert received(
        receiving,
        frame(client, TEXT, peer.deflate("€".encode()[:2], ends=False), fin=False),
        frame(client, CONT, peer.deflate("€".encode()[2:]), rsv=0),
    ) == ["€"]
    # On the first impossible byte, not only at the end of the message.
    assert failure(
        engine(client), frame(client, TEXT, Peer().deflate(b"\xff", ends=False), fin=False)
    ).code == 1007  # fmt: skip


# Limits


@both_roles
def test_the_limit_is_of_what_is_inflated_and_exact(client):
    for size, fits in ((1000, True), (1001, False)):
        payload = deflated(b"a" * size)
        receiving = engine(client, limit=1000)
        if fits:
            assert received(receiving, frame(client, BINARY, payload)) == [b"a" * size]
            continue
        error = failure(receiving, frame(client, BINARY, payload))
        assert isinstance(error, LimitError)
        assert (error.code, error.limit, error.value) == (1009, "max_message_size", 1000)


@both_roles
def test_a_message_of_the_limit_is_taken_though_compression_makes_it_larger(client):
    data = random.Random(2).randbytes(100_000)
    for peer in (Peer(), Peer(level=0), Peer(9, level=1)):
        payload = peer.deflate(data)
        assert len(payload) > len(data)
        receiving = engine(client, limit=len(data))
        assert received(receiving, frame(client, BINARY, payload)) == [data]


@both_roles
def test_a_compressed_frame_far_larger_than_the_limit_is_refused_by_its_header(client):
    receiving = engine(client, limit=1000)
    start = frame(client, BINARY, b"\x00" * 2000)[:10]
    assert failure(receiving, start).code == 1009


@both_roles
def test_the_limit_counts_all_fragments_together(client):
    peer = Peer()
    receiving = engine(client, limit=1000)
    pieces = [peer.deflate(b"a" * 400, ends=False) for _ in range(3)]
    assert received(receiving, frame(client, BINARY, pieces[0], fin=False)) == []
    assert received(receiving, frame(client, CONT, pieces[1], fin=False, rsv=0)) == []
    error = failure(receiving, frame(client, CONT, pieces[2], fin=False, rsv=0))
    assert error.code == 1009


@pytest.mark.parametrize("limit", [1, 65535, 65536, 65537, 2 * MIB])
def test_inflating_in_steps_gives_the_message_whole(limit):
    data = random.Random(limit).randbytes(limit // 7 + 1) * 7
    for size in {0, 1, limit // 2, limit - 1, limit}:
        payload = deflated(data[:size])
        assert received(engine(True, limit=limit), frame(True, BINARY, payload)) == [data[:size]]
    for size in (limit + 1, 2 * limit):
        over = frame(True, BINARY, deflated((data + data)[:size]))
        assert failure(engine(True, limit=limit), over).code == 1009


# Anything, anyhow, between ours and zlib

messages = st.lists(
    st.tuples(
        st.sampled_from((TEXT, BINARY)),
        st.lists(st.text("aé€😀", max_size=300), min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(
    messages, st.booleans(), st.integers(9, 15), st.booleans(), st.randoms(use_true_random=False)
)
def test_what_zlib_compresses_is_understood_wherever_it_is_split(
    given_messages, client, bits, takeover, source
):
    peer = Peer(bits, takeover=takeover)
    receiving = engine(client, receive_bits=bits, receive_takeover=takeover)
    stream = b""
    for opcode, pieces, compressed in given_messages:
        data = "".join(pieces).encode()
        payload = peer.deflate(data) if compressed else data
        cuts = sorted(source.randrange(len(payload) + 1) for _ in pieces[1:])
        for i, (a, b) in enumerate(itertools.pairwise((0, *cuts, len(payload)))):
            stream += frame(
                client,
                0 if i else opcode,
                payload[a:b],
                fin=i == len(cuts),
                rsv=4 if compressed and not i else 0,
            )
    seen = []
    for piece in split(stream, iter(lambda: source.choice((1, 2, 7, 100)), None)):
        seen += received(receiving, piece)
    assert seen == [
        "".join(pieces) if opcode == TEXT else "".join(pieces).encode()
        for opcode, pieces, _ in given_messages
    ]


@settings(deadline=None)
@given(
    messages, st.booleans(), st.integers(9, 15), st.booleans(), st.integers(0, 9), st.integers(1, 9)
)
def test_what_is_compressed_is_understood_by_zlib_however_it_is_fragmented(
    given_messages, client, bits, takeover, level, memory_level
):
    sending = engine(
        client,
        Deflate(threshold=5, level=level, memory_level=memory_level),
        send_bits=bits,
        send_takeover=takeover,
    )
    peer = Peer(bits, takeover=takeover)
    for opcode, pieces, compress in given_messages:
        seen = b""
        for i, piece in enumerate(pieces):
            ends = i == len(pieces) - 1
            message = Message(piece, 0 if i else opcode, fin=ends)
            (frame,) = sent(sending, message, transform=compress)
            if not i:
                marked = frame.rsv == 4
            assert frame.rsv == (4 if marked and not i else 0)
            seen += peer.inflate(frame.payload, ends=ends) if marked else frame.payload
        assert marked is (compress and (len(pieces) > 1 or len("".join(pieces).encode()) >= 5))
        assert seen == "".join(pieces).encode()


# Over a connection


@pytest.fixture
async def no_tasks_left():
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


async def test_compression_is_on_by_default_in_both_directions(no_tasks_left):
    async with client_of_echo() as end:
        ((name, parameters),) = end.response.extensions
        assert name == "permessage-deflate"
        assert ("client_max_window_bits", "12") in parameters
        for message in ("", TEXT_OF_SIZE, TEXT_OF_SIZE * 100, b"", b"\x00" * 100_000):
            await end.write(message)
            assert (await end.read()).payload == message


@pytest.mark.parametrize(
    ("options", "server_options"),
    [
        ({"compression": None}, {}),
        ({}, {"compression": None}),
        ({"compression": None}, {"compression": None}),
    ],
)
async def test_none_on_either_side_turns_it_off(options, server_options):
    async with client_of_echo(server_options=server_options, **options) as end:
        assert end.response.extensions == ()
        await end.write(TEXT_OF_SIZE * 100)
        assert (await end.read()).payload == TEXT_OF_SIZE * 100


async def raw_client(server):
    """A client by hand of a server that compresses: its reader and writer after the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in answer
    return reader, writer


async def next_frame(reader) -> Frame:
    start = await reader.readexactly(2)
    size = {126: 2, 127: 8}.get(start[1], 0)
    more = await reader.readexactly(size)
    length = int.from_bytes(more, "big") if size else start[1]
    payload = await reader.readexactly(length)
    return Frame(start[0] & 15, payload, start[0] >= 128, start[0] >> 4 & 7)


async def written_by(handler, count: int) -> list[Frame]:
    """The first frames of what a server's handler writes."""
    async with asyncio.timeout(20):
        async with serve(handler, compression=Deflate(server_max_window_bits=None)) as server:
            reader, writer = await raw_client(server)
            try:
                return [await next_frame(reader) for _ in range(count)]
            finally:
                writer.close()
                await writer.wait_closed()


async def test_compress_false_sends_one_message_as_it_is():
    async def handler(req, read, write):
        await write(TEXT_OF_SIZE * 20)
        await write(TEXT_OF_SIZE * 20, compress=False)
        await write([TEXT_OF_SIZE, TEXT_OF_SIZE], compress=False)
        await write(TEXT_OF_SIZE * 20, compress=True)

    frames = await written_by(handler, 5)
    assert [frame.rsv for frame in frames] == [4, 0, 0, 0, 4]
    assert frames[1].payload == (TEXT_OF_SIZE * 20).encode()
    assert frames[2].payload + frames[3].payload == (TEXT_OF_SIZE * 2).encode()
    peer = Peer()
    assert peer.inflate(frames[0].payload) == peer.inflate(frames[4].payload) == frames[1].payload


LARGE = random.Random(3).randbytes(MIB // 2) * 4  # larger than what is compressed on the loop


async def test_messages_of_64_kib_are_compressed_in_another_thread_and_keep_their_order(
    monkeypatch, no_tasks_left
):
    threads = {}
    encode_here = DeflateExtension.encode

    def watched(self, payload, **how):
        threads[len(payload)] = threading.current_thread() is threading.main_thread()
        return encode_here(self, payload, **how)

    monkeypatch.setattr(DeflateExtension, "encode", watched)

    async def handler(req, read, write):
        await asyncio.gather(
            write("first" * 100),
            write(LARGE),
            write("third" * 100),
            write(LARGE[:-1]),
            write("fifth" * 100, compress=False),
            write(LARGE[:MIB]),
        )

    frames = await written_by(handler, 6)
    peer = Peer()
    payloads = [peer.inflate(f.payload) if f.rsv else f.payload for f in frames]
    expected = [b"first" * 100, LARGE, b"third" * 100, LARGE[:-1], b"fifth" * 100, LARGE[:MIB]]
    assert payloads == expected
    assert threads == {500: True, len(LARGE): False, len(LARGE) - 1: False, MIB: False}


class Gate:
    """Holds the thread that compresses a large message until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self.inside = threading.Event()
        self.open = threading.Event()
        encode_here = DeflateExtension.encode

        def encode(extension, payload, **how):
            if threading.current_thread() is not threading.main_thread():
                self.inside.set()
                assert self.open.wait(10)
            return encode_here(extension, payload, **how)

        monkeypatch.setattr(DeflateExtension, "encode", encode)


async def test_the_event_loop_goes_on_while_a_large_message_is_compressed(monkeypatch):
    gate = Gate(monkeypatch)
    async with both_ends() as (client, server):
        writing = asyncio.ensure_future(server.write(LARGE))
        await until(gate.inside.is_set)
        later = asyncio.ensure_future(server.write("later"))
        await server.write.ping()  # control frames and what is received do not wait
        await client.write("meanwhile")
        assert (await server.read()).payload == "meanwhile"
        assert not writing.done()
        assert not later.done()
        gate.open.set()
        assert (await client.read()).payload == LARGE
        assert (await client.read()).payload == "later"
        await writing
        await later


async def test_the_event_loop_runs_while_128_kib_are_compressed():
    async with both_ends() as (client, server):
        ran: list[Any] = []
        writing = asyncio.ensure_future(server.write(LARGE[: 128 * 1024]))
        await asyncio.sleep(0)  # it has begun
        asyncio.get_running_loop().call_soon(ran.append, "a callback")
        small = asyncio.ensure_future(server.write("small"))
        while not writing.done():
            ran.append("a turn of the loop")
            await asyncio.sleep(0)
        assert "a callback" in ran
        assert (await client.read()).payload == LARGE[: 128 * 1024]
        assert (await client.read()).payload == "small"
        await small


async def test_a_large_message_whose_writer_is_cancelled_is_sent_and_others_after_it(monkeypatch):
    gate = Gate(monkeypatch)
    async with both_ends() as (client, server):
        writing = asyncio.ensure_future(server.write(LARGE))
        await until(gate.inside.is_set)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        later = asyncio.ensure_future(server.write("later"))
        gate.open.set()
        assert (await client.read()).payload == LARGE
        assert (await client.read()).payload == "later"
        await later


async def test_a_large_message_that_a_close_overtakes_is_not_said_to_have_been_sent(monkeypatch):
    gate = Gate(monkeypatch)
    refused = asyncio.get_running_loop().create_future()

    async def handler(req, read, write):
        writing = asyncio.ensure_future(write(LARGE))
        await until(gate.inside.is_set)
        closing = asyncio.ensure_future(write.close(1000))
        gate.open.set()
        try:
            await writing
        except ConnectionClosedError as error:
            refused.set_result(str(error))
        else:
            refused.set_result("sent")
        await closing

    async with asyncio.timeout(10):
        async with serve(handler) as server:
            reader, writer = await raw_client(server)
            assert (await next_frame(reader)).opcode == CLOSE
            assert await refused == "cannot send: the connection is being closed"  # no answer yet
            writer.close()
            await writer.wait_closed()


async def test_a_large_fragment_broken_off_ends_the_connection_and_holds_nobody_up(monkeypatch):
    gate = Gate(monkeypatch)
    async with both_ends() as (client, server):
        writing = asyncio.ensure_future(server.write([LARGE, b"the last fragment"]))
        await until(gate.inside.is_set)
        waiting = asyncio.ensure_future(server.write("waits for its turn"))
        await server.settle()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with pytest.raises(ConnectionClosedError):
            await waiting
        gate.open.set()
        with pytest.raises(ConnectionClosedError) as caught:
            await client.read()
        assert caught.value.code == 1011
        with pytest.raises(ConnectionClosedError):
            await server.write("too late")


async def test_the_last_large_fragment_is_sent_though_its_writer_is_cancelled(monkeypatch):
    gate = Gate(monkeypatch)
    async with both_ends() as (client, server):
        writing = asyncio.ensure_future(server.write([b"small", LARGE]))
        await until(gate.inside.is_set)
        waiting = asyncio.ensure_future(server.write("next"))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        gate.open.set()
        assert (await client.read()).payload == b"small" + LARGE
        assert (await client.read()).payload == "next"
        await waiting


async def test_fragments_of_1_mib_are_one_message_between_other_tasks_messages():
    async with both_ends() as (client, server):
        fragmented = asyncio.ensure_future(server.write([LARGE, LARGE[:MIB], b"end"]))
        await server.settle(1)
        writing = asyncio.gather(fragmented, server.write("other"), server.write(LARGE))
        seen = [(await client.read()).payload for _ in range(3)]
        assert seen == [LARGE + LARGE[:MIB] + b"end", "other", LARGE]
        await writing


async def test_a_large_first_fragment_keeps_the_turn_for_its_own_task():
    async with both_ends() as (client, server):

        async def write_other():
            await server.write("other")

        await server.write(Message(LARGE, BINARY, fin=False))
        other = asyncio.ensure_future(write_other())
        await server.settle()
        assert not other.done()
        with pytest.raises(ConcurrencyError):
            await server.write("a new message of the same task")
        await server.write(Message(b"end", CONT, fin=True))
        assert (await client.read()).payload == LARGE + b"end"
        assert (await client.read()).payload == "other"
        await other


async def test_a_connection_that_is_lost_while_a_large_message_is_compressed_ends_its_write(
    monkeypatch,
):
    gate = Gate(monkeypatch)
    async with both_ends() as (client, server):
        writing = asyncio.ensure_future(server.write(LARGE))
        await until(gate.inside.is_set)
        client.socket.shutdown()  # type: ignore[call-arg]
        with pytest.raises(ConnectionClosedError):
            await server.read()
        gate.open.set()
        with pytest.raises(ConnectionClosedError, match="lost"):
            await writing


async def test_text_that_is_no_utf8_is_refused_before_it_is_compressed():
    async with both_ends() as (client, server):
        for message in ("\ud800" * 500, Message(b"\xff" * MIB, TEXT), Message(b"\xff" * 500, TEXT)):
            with pytest.raises(ValueError, match="UTF-8"):
                await server.write(message)
        await server.write(TEXT_OF_SIZE * 9)
        assert (await client.read()).payload == TEXT_OF_SIZE * 9


async def test_what_cannot_be_inflated_is_told_to_the_peer_and_to_the_reader():
    errors = []

    async def handler(req, read, write):
        try:
            await read()
        except ProtocolError as error:
            errors.append(error)

    async with asyncio.timeout(BOUND):
        async with serve(handler) as server:
            reader, writer = await raw_client(server)
            writer.write(frame(False, TEXT, b"\x06"))
            told = await next_frame(reader)
            assert (told.opcode, told.payload[:2]) == (CLOSE, (1007).to_bytes(2, "big"))
            writer.close()
            await writer.wait_closed()
    assert [error.code for error in errors] == [1007]


# Memory (what docs/compression.md says)


def test_without_context_takeover_nothing_is_kept_between_messages():
    made = extension(send_takeover=False, receive_takeover=False)
    data = made.encode(b"a" * 1000, opcode=BINARY, begins=True, ends=True)
    assert made.decode(data, ends=True, limit=1000) == b"a" * 1000
    gc.collect()
    assert [o for o in gc.get_referents(made.__dict__) if "ompress" in type(o).__name__] == []


def test_contexts_are_made_only_when_they_are_used():
    made = extension(Deflate())
    assert made.encode(b"short", opcode=TEXT, begins=True, ends=True) is None
    assert [o for o in gc.get_referents(made.__dict__) if "ompress" in type(o).__name__] == []
