"""permessage-deflate with zlib-ng in zlib's place: what one makes, the other reads."""

from __future__ import annotations

import random
import sys
import zlib

import pytest

from coro_websocket import Deflate, InvalidOption, ProtocolError, connect, serve
from coro_websocket._rfc6455.deflate import DeflateExtension

TAIL = b"\x00\x00\xff\xff"

WORDS = ["alpha ", "beta ", "gamma ", "{", "}", "12345 ", "世界 ", "\n"]


def messages() -> list[bytes]:
    rng = random.Random(7)
    texts = ["".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3000))) for _ in range(30)]
    return [b"", *(text.encode() for text in texts), rng.randbytes(70_000), bytes(1_000_000)]


def extension(bits: int, takeover: bool) -> DeflateExtension:
    pytest.importorskip("zlib_ng")
    return DeflateExtension(
        Deflate(library="zlib-ng", threshold=0),
        send_bits=bits,
        receive_bits=bits,
        send_takeover=takeover,
        receive_takeover=takeover,
    )


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_zlib_reads_what_zlib_ng_makes(bits, takeover):
    ours = extension(bits, takeover)
    theirs = zlib.decompressobj(-bits)
    for message in messages():
        encoded = ours.encode(message, opcode=2, begins=True, ends=True)
        assert theirs.decompress(encoded + TAIL) == message
        if not takeover:
            theirs = zlib.decompressobj(-bits)


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_zlib_ng_reads_what_zlib_makes(bits, takeover):
    ours = extension(bits, takeover)
    theirs = zlib.compressobj(6, zlib.DEFLATED, -bits)
    for message in messages():
        encoded = theirs.compress(message) + theirs.flush(zlib.Z_SYNC_FLUSH)
        payload = encoded.removesuffix(TAIL) or b"\x00"
        assert ours.decode(payload, ends=True, limit=2**24) == message
        if not takeover:
            theirs = zlib.compressobj(6, zlib.DEFLATED, -bits)


def test_what_cannot_be_inflated_is_a_violation():
    with pytest.raises(ProtocolError) as caught:
        extension(12, True).decode(b"\xff\xff\xff", ends=True, limit=1000)
    assert caught.value.code == 1007


async def test_both_sides_of_a_connection_may_use_it():
    pytest.importorskip("zlib_ng")
    deflate = Deflate(library="zlib-ng")

    async def echo(req, read, write):
        async for msg in read:
            await write(msg.payload)

    async with (
        serve(echo, compression=deflate) as server,
        connect(server.url, compression=deflate) as (_, read, write),
    ):
        for message in messages():
            await write(message)
            assert (await read()).payload == message


@pytest.mark.parametrize("library", ["isal", "", None, 7])
def test_another_library_is_refused(library):
    with pytest.raises(InvalidOption, match="'zlib' or 'zlib-ng'"):
        Deflate(library=library)


def test_where_it_is_not_installed_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    with pytest.raises(InvalidOption, match=r"pip install 'coro-websocket\[zlib-ng\]'"):
        Deflate(library="zlib-ng")
