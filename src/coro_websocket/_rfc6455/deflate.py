"""permessage-deflate (RFC 7692): what is agreed on, and one connection's contexts.

The rule: what is inflated is bounded while it is made, in bytes by the limit and in time by what
has come.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .._checks import check_int
from .._errors import InvalidOption, LimitError, ProtocolError
from .extension import Extension, ExtensionFactory, Parameters

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Deflate", "DeflateExtension"]

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"  # ends every message, and is not sent (RFC 7692 section 7.2.1)
NO_BYTE = 256
Z_MEM_ERROR = -4
DEFAULT_BITS = 12
EMPTY = b"\x00"  # a message without contents (section 7.2.3.6)

# Bytes to inflate at once: a part of the limit, but not too few.
STEPS = 16
LEAST_STEP = 65536

# Bytes to give zlib at once: those behind a final block it copies, for each of them.
SLICE = 65536
AFTER_FINAL = 1024

# What takes time and yields nothing. A final block makes a new stream: each frame, and each KiB
# inflated, allows one more. Blocks may be empty: so many bytes may be there for each that is
# inflated, which is what flushing after every byte takes, and some for each frame. Either
# allowance can be saved up to a limit.
MOST_FINALS = 256
MOST_IDLE = 65536
IDLE_PER_BYTE = 8
IDLE_PER_FRAME = 32


@dataclass(frozen=True, kw_only=True)
class Deflate(ExtensionFactory):
    """permessage-deflate: compressed messages (RFC 7692).

    Memory for each connection, once it has sent, or received, a compressed message: to
    compress about `2 ** (window_bits + 2) + 2 ** (memory_level + 9)` bytes, to decompress
    about `2 ** window_bits + 7 KiB`. With the defaults that is 50 KiB in all for a server whose
    clients let it choose their window, as browsers do, and up to 80 KiB for a client, whose
    server chooses its own. Without context takeover it is given back after each message.

    Attributes:
        level: int, 0 to 9: from fast to small. Default 6.
        memory_level: int, 1 to 9: memory for compressing. Default 5.
        threshold: int, bytes: shorter messages are not compressed. Default 256.
        server_no_context_takeover: bool: the server compresses each message by itself
            (section 7.1.1.1). As a client: ask for it; as a server: do it. Default False.
        client_no_context_takeover: bool: the client compresses each message by itself
            (section 7.1.1.2). As a client: do it; as a server: ask for it. Default False.
        server_max_window_bits: int, 8 to 15: the server's window, as a power of two (section
            7.1.2.1). As a client: ask for it; as a server: use no larger one, 9 at least.
            Default "auto": as a client, nothing is asked for; as a server, 12. None: 15, and
            nothing is asked for.
        client_max_window_bits: int, 8 to 15: the client's window (section 7.1.2.2). As a
            client: use no larger one, 9 at least; as a server: ask for it, where the client
            lets us, for 8 only if it offers that. Default "auto": 12, and as a client the
            server may ask for less. None: 15, and nothing is asked for.
        strict: bool: as a client, fail the handshake with a server that compresses but does not
            keep to `server_max_window_bits`. Default False: a second offer goes without it, as
            many servers know only the largest window.
        library: str, "zlib" or "zlib-ng": what compresses. zlib-ng takes about three quarters
            of the time, and about 100 KiB more memory for each connection that has sent a
            compressed message; it comes with the extra `zlib-ng`. Default "zlib".

    Raises:
        InvalidOption: a value is out of its range, or the library is not installed.
    """

    name = NAME

    level: int = 6
    memory_level: int = 5
    threshold: int = 256
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | Literal["auto"] | None = "auto"
    client_max_window_bits: int | Literal["auto"] | None = "auto"
    strict: bool = False
    library: str = "zlib"

    def __post_init__(self) -> None:
        _library(self.library)
        for option, least, most in (
            ("level", 0, 9),
            ("memory_level", 1, 9),
            ("threshold", 0, None),
            ("server_max_window_bits", 8, 15),
            ("client_max_window_bits", 8, 15),
        ):
            value = getattr(self, option)
            if value in (None, "auto") and option.endswith("bits"):
                continue
            check_int(f"{option} of Deflate", value, least, most, option="compression")

    # As a client

    def offers(self) -> list[Parameters]:
        """As a client: the parameters of each offer, the preferred one first."""
        parameters: list[tuple[str, str | None]] = []
        if self.server_no_context_takeover:
            parameters.append(("server_no_context_takeover", None))
        if self.client_no_context_takeover:
            parameters.append(("client_no_context_takeover", None))
        # Without a value the server may choose; one is a promise, which zlib cannot keep for 8
        # (section 7.1.2.2).
        bits = self.client_max_window_bits
        value = str(max(9, bits)) if isinstance(bits, int) else None
        parameters.append(("client_max_window_bits", value))
        asked = self.server_max_window_bits
        if not isinstance(asked, int):
            return [tuple(parameters)]
        # Many servers have but one window, and decline what asks for another (section 7.1.2.1).
        asking = (*parameters[:-1], ("server_max_window_bits", str(asked)), parameters[-1])
        return [asking] if self.strict else [asking, tuple(parameters)]

    def accept(self, parameters: Parameters) -> Extension:
        """As a client: the server has accepted an offer with these parameters.

        Raises ValueError, which says why, if they answer no offer.
        """
        given = _values(parameters)
        if given is None:
            raise ValueError("a parameter is unknown, given twice, or has an invalid value")
        for name in ("server_max_window_bits", "client_max_window_bits"):
            if name in given and given[name] is None:
                raise ValueError(f"{name} has no value (RFC 7692 section 7.1.2)")
        server_bits = given.get("server_max_window_bits") or 15
        asked = self.server_max_window_bits
        if self.strict and isinstance(asked, int) and server_bits > asked:
            raise ValueError(f"server_max_window_bits={asked} was asked for")
        if self.server_no_context_takeover and "server_no_context_takeover" not in given:
            raise ValueError("server_no_context_takeover was asked for")
        client_bits = given.get("client_max_window_bits") or 15
        if client_bits < 9:
            raise ValueError("this side cannot compress with a window of 8 bits")
        return DeflateExtension(
            self,
            send_bits=max(9, min(client_bits, self._client_bits)),
            receive_bits=server_bits,
            send_takeover=not (
                self.client_no_context_takeover or "client_no_context_takeover" in given
            ),
            receive_takeover="server_no_context_takeover" not in given,
        )

    # As a server

    def agree(self, parameters: Parameters) -> tuple[Parameters, Extension] | None:
        """As a server: the parameters to answer an offer with, or None to decline it.

        An offer with a parameter that is unknown, or has an invalid value, must be declined.
        """
        given = _values(parameters)
        if given is None or given.get("server_max_window_bits", 15) is None:
            return None
        answer: list[tuple[str, str | None]] = []
        server_no_takeover = (
            self.server_no_context_takeover or "server_no_context_takeover" in given
        )
        if server_no_takeover:
            answer.append(("server_no_context_takeover", None))
        # A client may always be asked for this: any client can do it (section 7.1.1.2).
        client_no_takeover = (
            self.client_no_context_takeover or "client_no_context_takeover" in given
        )
        if client_no_takeover:
            answer.append(("client_no_context_takeover", None))
        server_bits = min(given.get("server_max_window_bits") or 15, max(9, self._server_bits))
        if server_bits < 9:
            return None  # zlib cannot compress with so small a window
        # Otherwise the smaller window is our own affair: a client need not know of it.
        if "server_max_window_bits" in given:
            answer.append(("server_max_window_bits", str(server_bits)))
        client_bits = 15
        if "client_max_window_bits" in given:
            client_bits = min(given["client_max_window_bits"] or 15, max(9, self._client_bits))
            if client_bits < 15:
                answer.append(("client_max_window_bits", str(client_bits)))
        return tuple(answer), DeflateExtension(
            self,
            send_bits=server_bits,
            receive_bits=client_bits,
            send_takeover=not server_no_takeover,
            receive_takeover=not client_no_takeover,
        )

    @property
    def _server_bits(self) -> int:
        bits = self.server_max_window_bits
        return DEFAULT_BITS if bits == "auto" else bits or 15

    @property
    def _client_bits(self) -> int:
        bits = self.client_max_window_bits
        return DEFAULT_BITS if bits == "auto" else bits or 15


def _library(name: str) -> ModuleType:
    """What compresses: Python's zlib, or a module that is used like it."""
    if name == "zlib":
        return zlib
    if name != "zlib-ng":
        raise InvalidOption(
            f"library of Deflate must be 'zlib' or 'zlib-ng', not {name!r}", "compression"
        )
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        raise InvalidOption(
            "library='zlib-ng' of Deflate needs a package that is not installed: "
            "pip install 'coro-websocket[zlib-ng]'",
            "compression",
        ) from None
    module: ModuleType = zlib_ng
    return module


def _out_of_memory(error: BaseException) -> bool:
    """Whether this is zlib's error for our having no memory, which is not a fault of the data."""
    return str(error).startswith(f"Error {Z_MEM_ERROR} ")


def _values(parameters: Parameters) -> dict[str, int | None] | None:
    """The parameters by name, window bits as numbers; None if one is not as section 7.1 has it."""
    values: dict[str, int | None] = {}
    for name, value in parameters:
        if name in values:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
            values[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value is None:
                values[name] = None
            elif value in ("8", "9", "10", "11", "12", "13", "14", "15"):
                values[name] = int(value)
            else:
                return None
        else:
            return None
    return values


class DeflateExtension(Extension):
    """permessage-deflate on one connection; its contexts are made when they are first used."""

    rsv = 4

    def __init__(
        self,
        settings: Deflate,
        *,
        send_bits: int,
        receive_bits: int,
        send_takeover: bool,
        receive_takeover: bool,
    ) -> None:
        self.settings = settings
        self._zlib = _library(settings.library)
        self.send_bits = send_bits
        self.receive_bits = receive_bits
        self.send_takeover = send_takeover
        self.receive_takeover = receive_takeover
        self._deflate: zlib._Compress | None = None
        self._inflate: zlib._Decompress | None = None
        self._last = NO_BYTE  # of the message that is being received
        self._finals = float(MOST_FINALS)  # final blocks that may come
        self._idle = MOST_IDLE  # bytes that may come and yield nothing

    def encode(self, payload: bytes, *, opcode: int, begins: bool, ends: bool) -> bytes | None:
        if begins and ends and len(payload) < self.settings.threshold:
            return None
        if self._deflate is None:
            self._deflate = self._new_deflate(self.send_bits)
        # Section 7.2.1: to a byte boundary, without the last four bytes of the message.
        try:
            encoded = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        except BaseException as error:
            self._deflate = None  # what it has seen is never sent: nothing may refer to it
            if _out_of_memory(error):
                raise MemoryError(str(error)) from None
            raise
        if ends:
            encoded = encoded.removesuffix(TAIL) or EMPTY
            if not self.send_takeover:
                self._deflate = None
        return encoded

    def compress_alone(self, payload: bytes, bits: int) -> bytes:
        """A whole message for any peer with a window of so many bits: it refers to no other.

        `forget_sent` is for each connection to call that it is sent over.
        """
        try:
            deflate = self._new_deflate(bits)
            encoded = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        except self._zlib.error as error:
            if _out_of_memory(error):
                raise MemoryError(str(error)) from None
            raise
        return encoded.removesuffix(TAIL) or EMPTY

    def forget_sent(self) -> None:
        """Refer to nothing that was sent before: a message of another compressor's is next."""
        self._deflate = None

    def _new_deflate(self, bits: int) -> zlib._Compress:
        compressor: zlib._Compress = self._zlib.compressobj(
            self.settings.level, zlib.DEFLATED, -bits, self.settings.memory_level
        )
        return compressor

    def decode(self, payload: bytes, *, ends: bool, limit: int) -> bytes:
        if payload:
            self._last = payload[-1]
        if self._finals < MOST_FINALS:
            self._finals = min(self._finals + 1, MOST_FINALS)
        if self._idle < MOST_IDLE:
            self._idle = min(self._idle + IDLE_PER_FRAME, MOST_IDLE)
        try:
            decoded = self._inflated(payload, limit)
            if ends and not self._ends_well():
                raise self._zlib.error("it does not end with an empty block without compression")
        except self._zlib.error as error:
            if _out_of_memory(error):
                raise MemoryError(str(error)) from None
            reason = str(error).rpartition(": ")[2]
            raise ProtocolError(
                f"the peer sent a message that cannot be inflated: {reason} "
                "(RFC 7692 section 7.2.2)",
                1007,
                "message that cannot be inflated",
            ) from None
        if ends:
            self._last = NO_BYTE
            if not self.receive_takeover:
                self._inflate = None
        return decoded

    def _ends_well(self) -> bool:
        """Give zlib the tail: whether the message ended where it belongs (section 7.2.1).

        What is before the tail is the header of the block that it ends: three bits, and zeros
        up to the end of the byte. Elsewhere the tail is taken for a part of the message; that
        can nearly always be seen.
        """
        inflate = self._inflate
        if self._last >= 0x40 or inflate is None or inflate.decompress(TAIL, 1):
            return False
        if inflate.eof:
            self._inflate = None
            try:
                self._inflated(inflate.unused_data, 0)
            except LimitError:
                return False
        return True

    def _inflated(self, data: bytes, limit: int) -> bytes:
        """Inflate, up to the limit; a final block begins a new stream (section 7.2.1).

        In steps of a part of the limit: what is beyond it costs no more memory than that.
        """
        if not data:  # which begins no stream
            return b""
        step = max(limit // STEPS, LEAST_STEP)
        inflated = bytearray()
        at = 0
        size = SLICE
        while True:
            inflate = self._inflate
            if inflate is None:
                inflate = self._inflate = self._zlib.decompressobj(-self.receive_bits)
            given = data if at == 0 and len(data) <= size else data[at : at + size]
            most = step if step <= limit else limit + 1
            piece = inflate.decompress(given, most)
            made = len(piece)
            limit -= made
            if limit < 0:
                raise LimitError("the message is larger once inflated")
            final = inflate.eof
            if given is data and not final and made < most:  # nearly always: all of it at once
                self._spend(len(given), made, final=False)
                return piece
            begin = at
            at += len(given)
            if final:
                at -= len(inflate.unused_data)
                self._inflate = None
                size = AFTER_FINAL
                more = at < len(data)
            else:
                at -= len(inflate.unconsumed_tail)
                size = min(size * 2, SLICE)
                more = at < len(data) or made == step
            self._spend(at - begin, made, final=final)
            if not more and not inflated:
                return piece
            inflated += piece
            if not more:
                return bytes(inflated)

    def _spend(self, taken: int, made: int, *, final: bool) -> None:
        """Take what a step has cost off the allowances; ProtocolError if it is too much."""
        if (
            not final
            and taken <= made * IDLE_PER_BYTE
            and self._idle == MOST_IDLE
            and self._finals == MOST_FINALS
        ):
            return
        self._idle = min(self._idle - taken + made * IDLE_PER_BYTE, MOST_IDLE)
        self._finals = min(self._finals - final + made / 1024, MOST_FINALS)
        if self._idle < 0 or self._finals < 0:
            what = "final blocks" if self._finals < 0 else "blocks"
            raise ProtocolError(
                f"the peer sent a message of too many {what} that inflate to next to nothing "
                "(RFC 7692 section 8)",
                1008,
                f"too many {what} with next to nothing in them",
            )
