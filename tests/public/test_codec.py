"""The codec: frames and opening handshakes by themselves. RFC 6455 sections 4 and 5."""

from __future__ import annotations  # noqa: I001

import array
import asyncio
from typing import Any

import pytest
from tests.conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.raw_peer import Frame, frame, head, parse, watchdog

from coro_websocket import (
    HandshakeError,
    InvalidMessage,
    InvalidMessageType,
    InvalidOption,
    LimitError,
    Message,
    Options,
    ProtocolError,
    Request,
    Response,
    codec,
)
import contextlib

__all__ = ["watchdog"]

data_frames = st.builds(
    Message,
    st.binary(max_size=300) | st.sampled_from([bytes(65535), bytes(65536)]),
    st.sampled_from([0, 1, 2]),
    fin=st.booleans(),
    rsv1=st.booleans(),
    rsv2=st.booleans(),
    rsv3=st.booleans(),
    mask=st.booleans(),
)
control_frames = st.builds(
    Message, st.binary(max_size=125), st.sampled_from([8, 9, 10]), mask=st.booleans()
)
frames = data_frames | control_frames


def split(data: bytes, sizes: list[int]):
    """A read function that gives the data in pieces of these sizes, then b""."""
    at = n = 0

    async def read():
        nonlocal at, n
        size = sizes[n % len(sizes)]
        piece = data[at : at + size]
        at += size
        n += 1
        return piece

    return read


def run(coroutine):
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def collect(read):
    got = []
    while (message := await read()) is not None:
        got.append(message)
    return got


# decode and encode


@given(frames)
def test_what_is_encoded_decodes_to_itself(message):
    data = codec.encode(message)
    assert codec.decode(data) == (message, len(data))


@given(frames)
def test_another_implementation_reads_the_same(message):
    data = codec.encode(message)
    rsv = message.rsv1 * 4 + message.rsv2 * 2 + message.rsv3
    found, size = parse(data)
    assert size == len(data)
    assert found == Frame(message.opcode, message.payload, message.fin, rsv)
    assert found.masked is message.mask


@given(frames, st.binary(max_size=9), st.binary(max_size=9))
def test_the_index_says_where_to_begin_and_where_it_ended(message, before, after):
    data = codec.encode(message)
    assert codec.decode(before + data + after, len(before)) == (message, len(before) + len(data))


@settings(max_examples=examples(50))
@given(frames)
def test_a_partial_frame_is_none(message):
    data = codec.encode(message)
    for end in {*range(min(len(data), 20)), len(data) - 1}:
        assert codec.decode(data[:end]) is None
    assert codec.decode(data, len(data)) is None
    assert codec.decode(data, len(data) + 100) is None


@given(st.binary(max_size=64), st.integers(0, 70))
def test_random_bytes_never_crash(data, index):
    try:
        found = codec.decode(data, index)
    except ProtocolError:
        return
    if found is not None:
        message, end = found
        assert index < end <= len(data)
        assert message.len == len(message.payload)


def test_the_examples_of_rfc_6455_5_7():
    hello = bytes([0x81, 0x05]) + b"Hello"
    assert codec.encode("Hello") == hello
    assert codec.decode(hello) == (Message(b"Hello", 1), 7)
    masked = bytes([0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58])
    assert codec.decode(masked) == (Message(b"Hello", 1, mask=True), 11)
    assert codec.decode(b"\x01\x03Hel\x80\x02lo") == (Message(b"Hel", 1, fin=False), 5)
    assert codec.decode(b"\x01\x03Hel\x80\x02lo", 5) == (Message(b"lo", 0), 9)
    assert codec.encode(bytes(256))[:4] == b"\x82\x7e\x01\x00"
    assert codec.encode(bytes(65536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_decoded(kind):
    assert codec.decode(kind(b"\x81\x02hi")) == (Message(b"hi", 1), 4)


def test_a_view_with_gaps_is_refused_or_decoded_but_not_misread():
    data = memoryview(b"".join(bytes([b, 0]) for b in b"\x81\x02hi"))[::2]
    with contextlib.suppress(ValueError, BufferError):
        assert codec.decode(data) == (Message(b"hi", 1), 4)


def test_a_negative_index_is_refused():
    with pytest.raises(IndexError):
        codec.decode(b"\x81\x02hi", -4)


@pytest.mark.parametrize(
    ("data", "section"),
    [
        (b"\x83\x00", "5.2"),
        (b"\x8b\x00", "5.2"),
        (b"\x09\x00", "5.4"),
        (b"\x89\x7e\x00\x7e", "5.5"),
        (b"\x82\x7e\x00\x7d", "5.2"),
        (b"\x82\x7f" + bytes(6) + b"\xff\xff", "5.2"),
        (b"\x82\x7f\x80" + bytes(7), "5.2"),
    ],
)
def test_a_bad_header_is_refused_as_soon_as_it_shows(data, section):
    with pytest.raises(ProtocolError, match=f"section {section}\\b") as caught:
        codec.decode(data)
    assert caught.value.code == 1002


def test_a_frame_over_max_size_is_refused_by_its_header():
    data = codec.encode(bytes(1001))
    with pytest.raises(LimitError, match="max_size is 1000") as caught:
        codec.decode(data[:4], max_size=1000)
    assert (caught.value.limit, caught.value.value, caught.value.actual) == ("max_size", 1000, 1001)
    assert codec.decode(data, max_size=1001) is not None
    assert codec.decode(head(0x82, 2**62, False), max_size=None) is None
    with pytest.raises(LimitError):
        codec.decode(head(0x82, 17 * 1024 * 1024, False))


def test_encode_takes_what_write_takes_for_one_frame():
    assert codec.encode("é") == b"\x81\x02\xc3\xa9"
    assert codec.encode(b"\xff") == b"\x82\x01\xff"
    assert codec.encode(bytearray(b"a")) == b"\x82\x01a"
    assert codec.encode(memoryview(b"abc")[::2]) == b"\x82\x02ac"
    assert codec.encode({"payload": "x"}) == b"\x82\x01x"
    assert codec.encode({"payload": "x", "opcode": 0, "fin": False}) == b"\x00\x01x"
    assert codec.encode(Message(b"p", 9)) == b"\x89\x01p"


@pytest.mark.parametrize(
    "message",
    [
        {"opcode": 3},
        {"opcode": 15},
        {"opcode": 9, "payload": bytes(126)},
        {"opcode": 9, "fin": False},
        {"opcode": 16},
        "\ud800",
    ],
)
def test_encode_refuses_what_is_no_frame(message):
    with pytest.raises(InvalidMessage):
        codec.encode(message)


@pytest.mark.parametrize("message", [None, 5, ["a"], {"nonsense": 1}, {"payload": 1}])
def test_encode_refuses_what_is_no_message(message):
    with pytest.raises(InvalidMessageType):
        codec.encode(message)


def test_masking_keys_are_fresh():
    keys = {codec.encode(Message(b"x", mask=True))[2:6] for _ in range(100)}
    assert len(keys) == 100


# decoder and encoder


@settings(max_examples=examples(60))
@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 70_000), min_size=1, max_size=8))
def test_frames_in_a_stream_split_anywhere_come_as_they_were(messages, sizes):
    stream = b"".join(codec.encode(message) for message in messages)
    assert run(collect(codec.decoder(split(stream, sizes)))) == messages


@pytest.mark.parametrize("end", [b"", None])
def test_the_end_of_the_stream_is_none_also_inside_a_frame(end):
    pieces = [b"\x81\x02h", end, end]

    async def read():
        return pieces.pop(0)

    decode = codec.decoder(read)
    assert run(decode()) is None
    assert run(decode()) is None


@pytest.mark.parametrize("at", range(1, 15))
@pytest.mark.parametrize("masked", [False, True])
def test_the_decoder_refuses_a_length_over_max_size_however_the_header_is_split(at, masked):
    """It must not begin to collect what it will refuse."""
    stream = head(0x82, 2**40, masked) + b"mask" + bytes(10_000)
    read = split(stream, [at, 1_000_000])
    with pytest.raises(LimitError):
        run(codec.decoder(read, max_size=1000)())


@pytest.mark.parametrize("at", range(1, 15))
def test_the_decoder_refuses_a_bad_length_however_the_header_is_split(at):
    stream = b"\x82\xff" + b"\xff" * 8 + b"mask" + bytes(100)
    with pytest.raises(ProtocolError):
        run(codec.decoder(split(stream, [at, 1000]))())


def test_a_large_frame_in_small_pieces_costs_linear_time():
    stream = codec.encode(bytes(4_000_000))
    assert run(codec.decoder(split(stream, [100]))()).len == 4_000_000


def test_many_small_frames_in_one_piece_cost_linear_time():
    stream = codec.encode("x") * 200_000
    assert len(run(collect(codec.decoder(split(stream, [len(stream)]))))) == 200_000


async def test_a_cancelled_decoder_loses_nothing():
    incoming: asyncio.Queue = asyncio.Queue()
    decode = codec.decoder(incoming.get)
    for piece in (b"\x81", b"\x02h"):
        incoming.put_nowait(piece)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(decode(), 0.01)
    incoming.put_nowait(b"i")
    assert await decode() == Message(b"hi", 1)


def test_the_encoder_writes_frames_and_passes_the_end_on():
    written = []

    async def write(data):
        written.append(data)

    encode = codec.encoder(write)
    run(encode(Message("x", 1)))
    run(encode({"payload": b"y"}))
    run(encode(None))
    assert written == [b"\x81\x01x", b"\x82\x01y", None]


# Handshakes


def test_the_key_of_rfc_6455_1_3():
    assert codec.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
async def test_a_handshake_with_its_own_other_half(kind):
    requests = []

    def answer(request):
        requests.append(request)
        return codec.handle_handshake(request, ["superchat", "chat"], headers=[("Server", "me")])

    async def answer_later(request):
        await asyncio.sleep(0)
        return answer(request)

    response = await codec.handshake(
        {
            "host": "example.com",
            "pathname": "/chat?x=1",
            "subprotocol": ["chat", "superchat"],
            "headers": [("Origin", "http://example.com")],
        },
        answer if kind == "function" else answer_later,
    )
    assert (response.code, response.subprotocol) == (101, "superchat")
    assert response["server"] == "me"
    request = requests[0]
    assert (request.method, request.pathname) == ("GET", "/chat?x=1")
    assert request["Host"] == "example.com"
    assert request["Origin"] == "http://example.com"
    assert request["Sec-WebSocket-Version"] == "13"
    assert request.subprotocol == "superchat"


async def test_the_original_names_of_options_are_taken_too():
    def answer(request):
        assert request.pathname == "/p"
        return codec.handle_handshake(list(request), "chat")

    response = await codec.handshake({"host": "h", "path": "/p", "protocol": "chat"}, answer)
    assert response.subprotocol == "chat"


async def test_a_handshake_without_a_common_subprotocol_has_none():
    response = await codec.handshake(
        {"host": "h", "subprotocol": "a"}, lambda request: codec.handle_handshake(request, "b")
    )
    assert response.subprotocol is None


@pytest.mark.parametrize(
    "change",
    [
        lambda r: Response(list(r), code=200, reason="OK"),
        lambda r: Response([h for h in r if h[0].lower() != "upgrade"], code=101),
        lambda r: Response([h for h in r if h[0].lower() != "connection"], code=101),
        lambda r: Response([h for h in r if "Accept" not in h[0]], code=101),
        lambda r: Response([*r, ("Sec-WebSocket-Protocol", "never-offered")], code=101),
        lambda r: Response([*r, ("Sec-WebSocket-Extensions", "never-offered")], code=101),
        lambda r: Response(
            [(n, "AAAA" if "Accept" in n else v) for n, v in r],
            code=101,
        ),
        lambda r: None,
    ],
)
async def test_a_response_that_does_not_complete_the_handshake_is_refused_rfc_6455_4_1(change):
    def answer(request):
        return change(codec.handle_handshake(request))

    with pytest.raises(HandshakeError):
        await codec.handshake({"host": "h"}, answer)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "h", "headers": [("X", "a\r\nInjected: 1")]},
        {"host": "h", "headers": [("X\r\n", "a")]},
        {"host": "h\r\nInjected: 1"},
        {"host": "h", "headers": [("X", "a\0b")]},
        {"host": "h", "subprotocol": "two words"},
        {"host": "h", "subprotocol": ["twice", "twice"]},
        {"host": "h", "pathname": "/\r\nInjected: 1"},
        {"host": "h", "pathname": "/a b"},
        {"host": "h", "pathname": "no-slash"},
    ],
)
async def test_options_that_make_up_no_request_are_refused_before_it_is_made(options):
    def never(request):
        raise AssertionError("a request was made")

    with pytest.raises(InvalidOption):
        await codec.handshake(options, never)


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({"host": "h"}, "h"),
        ({"host": "h", "port": 80}, "h"),
        ({"host": "h", "port": 8080}, "h:8080"),
        ({"host": "h", "port": 443, "tls": True}, "h"),
        ({"host": "h", "port": 80, "tls": True}, "h:80"),
        ({"host": "h:8080"}, "h:8080"),
        ({"host": "::1", "port": 8080}, "[::1]:8080"),
        ({"host": "[::1]", "port": 8080}, "[::1]:8080"),
        ({"headers": {"Host": "of the headers"}}, None),
        ({"headers": [("host", "theirs")]}, "theirs"),
        (Options(host="h", port=8080), "h:8080"),
        (Options(host="::1", tls=True), "[::1]"),
    ],
)
async def test_the_host_header_has_the_port_unless_it_is_the_default_rfc_6455_4_1(options, host):
    def answer(request):
        assert request.get_all("Host") == [host]
        return codec.handle_handshake(request)

    if host is None:
        with pytest.raises(InvalidOption):
            await codec.handshake(options, answer)
    else:
        assert (await codec.handshake(options, answer)).code == 101


async def test_a_handshake_takes_the_options_of_connect():
    def answer(request):
        seen.update(request)
        seen["pathname"] = request.pathname
        return codec.handle_handshake(request, "chat", origins=["http://o"])

    seen: dict[Any, Any] = {}
    options = Options.build(
        "ws://user:pass@h/p?q", subprotocol="chat", headers={"X-A": "1"}, origin="http://o"
    )
    assert (await codec.handshake(options, answer)).subprotocol == "chat"
    assert (seen["pathname"], seen["X-A"], seen["Origin"]) == ("/p?q", "1", "http://o")
    assert seen["Authorization"].startswith("Basic ")
    assert "Sec-WebSocket-Extensions" not in seen


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (None, "options"),
        (5, "options"),
        ({}, "host"),
        ({"host": 5}, "host"),
        ({"host": ""}, "host"),
        ({"host": "h", "hedaers": []}, "hedaers"),
        ({"host": "h", "port": "80"}, "port"),
        ({"host": "h", "port": 0}, "port"),
        ({"host": "h:1", "port": 2}, "port"),
        ({"host": "h", "pathname": 5}, "pathname"),
        ({"host": "h", "pathname": "/a", "path": "/b"}, "path"),
        ({"host": "h", "subprotocol": 5}, "subprotocol"),
        ({"host": "h", "subprotocol": b"x"}, "subprotocol"),
        ({"host": "h", "headers": 5}, "headers"),
        (Options(), "host"),
    ],
)
async def test_options_of_a_wrong_name_or_type_are_named(options, name):
    with pytest.raises(InvalidOption) as caught:
        await codec.handshake(options, lambda request: codec.handle_handshake(request))
    assert caught.value.option == name


@pytest.mark.parametrize("response", [5, "x", []])
async def test_what_is_no_response_is_refused(response):
    with pytest.raises(InvalidOption, match="must return a Response"):
        await codec.handshake({"host": "h"}, lambda _: response)
    with pytest.raises(InvalidOption, match="request must be"):
        await codec.handshake({"host": "h"}, response)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: codec.decode("text"), "data"),  # type: ignore[arg-type]
        (lambda: codec.decode(None), "data"),
        (lambda: codec.decode(array.array("I", [1])), "data"),  # type: ignore[arg-type]
        (lambda: codec.decode(b"\x81\x00", "0"), "index"),  # type: ignore[arg-type]
        (lambda: codec.decode(b"\x81\x00", max_size="1"), "max_size"),  # type: ignore[arg-type]
        (lambda: codec.decode(b"\x81\x00", max_size=-1), "max_size"),
        (lambda: codec.accept_key(b"key"), "key"),  # type: ignore[arg-type]
        (lambda: codec.accept_key(5), "key"),  # type: ignore[arg-type]
        (lambda: codec.accept_key("\ud800"), "key"),
        (lambda: codec.decoder(5), "read"),  # type: ignore[arg-type]
        (lambda: codec.decoder(print, max_size="1"), "max_size"),  # type: ignore[arg-type]
        (lambda: codec.encoder(None), "write"),
        (lambda: codec.handle_handshake(5), "head"),  # type: ignore[arg-type]
        (lambda: codec.handle_handshake("GET / HTTP/1.1\r\n\r\n"), "head"),  # type: ignore[arg-type]
        (lambda: codec.handle_handshake([("Host",)]), "head"),  # type: ignore[list-item]
        (lambda: codec.handle_handshake([("Host", 5)]), "head"),  # type: ignore[list-item]
        (lambda: codec.handle_handshake(["ab"]), "head"),  # type: ignore[list-item]
        (lambda: codec.handle_handshake(GOOD, 5), "subprotocol"),  # type: ignore[arg-type, has-type]
        (lambda: codec.handle_handshake(GOOD, headers=5), "headers"),  # type: ignore[arg-type, has-type]
    ],
)
def test_arguments_of_a_wrong_type_are_named(call, name):
    with pytest.raises(InvalidOption) as caught:
        call()
    assert caught.value.option == name


GOOD = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_a_request_of_header_pairs_is_answered_rfc_6455_4_2():
    response = codec.handle_handshake(GOOD)
    assert list(response) == list(codec.handle_handshake(GOOD.items()))
    assert response.code == 101
    assert response["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_request_that_misses_a_header_is_refused_with_an_answer_to_send(missing):
    pairs = [(name, value) for name, value in GOOD.items() if name != missing]
    with pytest.raises(HandshakeError) as caught:
        codec.handle_handshake(pairs)
    assert caught.value.response is not None
    assert 400 <= caught.value.response.code < 500


def test_a_page_of_another_host_is_let_in_only_where_that_is_asked_for_rfc_6455_10_2():
    same = {**GOOD, "Origin": "https://example.com"}
    other = {**GOOD, "Origin": "https://evil.example"}
    assert codec.handle_handshake(same).code == 101
    for origins in (None, ["https://evil.example"]):
        assert codec.handle_handshake(other, origins=origins).code == 101
    cases: list[tuple[dict[str, str], Any]] = [
        (other, "same"),
        (same, ["https://evil.example"]),
    ]
    for pairs, origins in cases:
        with pytest.raises(HandshakeError) as caught:
            codec.handle_handshake(pairs, origins=origins)
        assert caught.value.response.code == 403
    with pytest.raises(InvalidOption) as wrong:
        codec.handle_handshake(same, origins="https://example.com")
    assert wrong.value.option == "origins"


def test_a_version_that_is_not_13_is_told_which_is_rfc_6455_4_4():
    with pytest.raises(HandshakeError) as caught:
        codec.handle_handshake({**GOOD, "Sec-WebSocket-Version": "8"}.items())
    assert caught.value.response.code == 426
    assert caught.value.response["Sec-WebSocket-Version"] == "13"


def test_only_get_is_a_handshake_rfc_6455_4_2_1():
    with pytest.raises(HandshakeError):
        codec.handle_handshake(Request(GOOD.items(), method="POST"))


def test_headers_of_the_answer_cannot_inject_others():
    with pytest.raises(InvalidOption):
        codec.handle_handshake(GOOD.items(), headers=[("X", "a\r\nB: c")])


def test_the_frames_of_the_tests_are_the_frames_of_the_codec():
    assert frame(1, "x", masked=False) == codec.encode("x")
