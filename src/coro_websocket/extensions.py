"""Extensions: permessage-deflate, and the interface for your own (RFC 6455 section 9).

An `ExtensionFactory` negotiates in the opening handshake, on either side; what it
agrees on becomes an `Extension`, one for each connection, which transforms payloads.
`Deflate` is the factory of permessage-deflate (RFC 7692).

    class Reverse(Extension):
        rsv = 2                                          # it marks messages with rsv2

        def encode(self, payload, *, opcode, begins, ends):
            return payload[::-1]

        def decode(self, payload, *, ends, limit):
            return payload[::-1]

    class Reversing(ExtensionFactory):
        name = "x-reverse"

        def accept(self, parameters):
            return Reverse()

        def agree(self, parameters):
            return (), Reverse()

    connect(url, extensions=[Reversing()])
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._errors import InvalidOption, InvalidOptionType, LimitError, ProtocolError

if TYPE_CHECKING:
    from ._extension_header import Parameters

__all__ = ["Deflate", "Extension", "ExtensionFactory"]

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"  # ends every message, and is not sent (RFC 7692 section 7.2.1)
EMPTY = b"\x00"  # a message without contents (section 7.2.3.6)


class Extension(ABC):
    """An extension in use on one connection: it transforms the payloads of messages.

    Attributes:
        rsv: the reserved bit that marks the messages it has transformed: 4 for rsv1, 2 for
            rsv2, 1 for rsv3 (RFC 6455 section 5.2).
    """

    rsv: int

    @abstractmethod
    def encode(self, payload: bytes, *, opcode: int, begins: bool, ends: bool) -> bytes | None:
        """Transform the payload of a frame that is to be sent.

        Args:
            payload: the payload, text as UTF-8.
            opcode: 1 or 2: what the message is.
            begins: whether the frame is the first of its message.
            ends: whether it is the last.

        Returns:
            The new payload. None, at the beginning of a message only: this message is sent
            as it is.
        """

    @abstractmethod
    def decode(self, payload: bytes, *, ends: bool, limit: int) -> bytes:
        """Undo `encode`, for a frame of a message that came with the extension's bit set.

        Args:
            payload: the payload that came.
            ends: whether the frame is the last of its message.
            limit: the most bytes that may be returned; if there are more, raise LimitError
                without making them.

        Raises:
            ProtocolError: the payload is not what the extension makes.
        """


class ExtensionFactory(ABC):
    """What is offered or accepted in opening handshakes; makes the Extension of a connection."""

    name: str

    def offers(self) -> list[Parameters]:
        """As a client: the parameters of each offer, the preferred one first."""
        return [()]

    @abstractmethod
    def accept(self, parameters: Parameters) -> Extension:
        """As a client: the server has accepted an offer with these parameters.

        Raises ValueError, which says why, if they answer no offer.
        """

    @abstractmethod
    def agree(self, parameters: Parameters) -> tuple[Parameters, Extension] | None:
        """As a server: the parameters to answer an offer with, or None to decline it.

        An offer with a parameter that is unknown, or has no valid value, must be declined.
        """


@dataclass(frozen=True, kw_only=True)
class Deflate(ExtensionFactory):
    """permessage-deflate: compressed messages (RFC 7692).

    Memory for each connection, once it has sent, or received, a compressed message: to
    compress about `2 ** (window_bits + 2) + 2 ** (memory_level + 9)` bytes, to decompress
    about `2 ** window_bits + 7 KiB`: 48 KiB in all with the defaults. Without context
    takeover it is given back after each message.

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
            Default 12. None: 15, and nothing is asked for.
        client_max_window_bits: int, 8 to 15: the client's window (section 7.1.2.2). As a
            client: use no larger one, 9 at least; as a server: ask for it, where the client
            lets us. Default 12. None: 15, and nothing is asked for.

    Raises:
        InvalidOption: a value is out of its range.
    """

    name = NAME

    level: int = 6
    memory_level: int = 5
    threshold: int = 256
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = 12
    client_max_window_bits: int | None = 12

    def __post_init__(self) -> None:
        for option, least, most in (
            ("level", 0, 9),
            ("memory_level", 1, 9),
            ("threshold", 0, None),
            ("server_max_window_bits", 8, 15),
            ("client_max_window_bits", 8, 15),
        ):
            value = getattr(self, option)
            if value is None and option.endswith("bits"):
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidOptionType(
                    f"{option} of Deflate must be int, not {type(value).__name__}", "compression"
                )
            if value < least or (most is not None and value > most):
                upper = f" to {most}" if most is not None else " or more"
                raise InvalidOption(
                    f"{option} of Deflate must be {least}{upper}, not {value}", "compression"
                )

    # As a client

    def offers(self) -> list[Parameters]:
        parameters: list[tuple[str, str | None]] = []
        if self.server_no_context_takeover:
            parameters.append(("server_no_context_takeover", None))
        if self.client_no_context_takeover:
            parameters.append(("client_no_context_takeover", None))
        if self.server_max_window_bits is not None:
            parameters.append(("server_max_window_bits", str(self.server_max_window_bits)))
        # Without a value: the server may choose (section 7.1.2.2).
        parameters.append(("client_max_window_bits", _bits_text(self.client_max_window_bits)))
        return [tuple(parameters)]

    def accept(self, parameters: Parameters) -> Extension:
        given = _values(parameters)
        if given is None:
            raise ValueError("a parameter is unknown, there twice, or has no valid value")
        server_bits = given.get("server_max_window_bits") or 15
        asked = self.server_max_window_bits
        if asked is not None and server_bits > asked:
            raise ValueError(f"server_max_window_bits={asked} was asked for")
        if self.server_no_context_takeover and "server_no_context_takeover" not in given:
            raise ValueError("server_no_context_takeover was asked for")
        if "client_max_window_bits" in given and given["client_max_window_bits"] is None:
            raise ValueError("client_max_window_bits has no value (RFC 7692 section 7.1.2.2)")
        client_bits = given.get("client_max_window_bits") or 15
        if client_bits < 9:
            raise ValueError("this side cannot compress with a window of 8 bits")
        return DeflateExtension(
            self,
            send_bits=max(9, min(client_bits, self.client_max_window_bits or 15)),
            receive_bits=server_bits,
            send_takeover=not (
                self.client_no_context_takeover or "client_no_context_takeover" in given
            ),
            receive_takeover="server_no_context_takeover" not in given,
        )

    # As a server

    def agree(self, parameters: Parameters) -> tuple[Parameters, Extension] | None:
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
        if server_bits < 15 or "server_max_window_bits" in given:
            answer.append(("server_max_window_bits", str(server_bits)))
        client_bits = 15
        if "client_max_window_bits" in given:
            client_bits = min(
                given["client_max_window_bits"] or 15, self.client_max_window_bits or 15
            )
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
        return self.server_max_window_bits or 15


def _bits_text(bits: int | None) -> str | None:
    return None if bits is None else str(bits)


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
        self.send_bits = send_bits
        self.receive_bits = receive_bits
        self.send_takeover = send_takeover
        self.receive_takeover = receive_takeover
        self._deflate: zlib._Compress | None = None
        self._inflate: zlib._Decompress | None = None

    def encode(self, payload: bytes, *, opcode: int, begins: bool, ends: bool) -> bytes | None:
        if begins and ends and len(payload) < self.settings.threshold:
            return None
        if self._deflate is None:
            self._deflate = zlib.compressobj(
                self.settings.level, zlib.DEFLATED, -self.send_bits, self.settings.memory_level
            )
        # Section 7.2.1: to a byte boundary, without the last four bytes of the message.
        encoded = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        if ends:
            encoded = encoded.removesuffix(TAIL) or EMPTY
            if not self.send_takeover:
                self._deflate = None
        return encoded

    def decode(self, payload: bytes, *, ends: bool, limit: int) -> bytes:
        try:
            decoded = self._inflated(payload, limit)
            if ends:
                decoded += self._inflated(TAIL, limit - len(decoded))
        except zlib.error as error:
            reason = str(error).rpartition(": ")[2]
            raise ProtocolError(
                f"the peer sent a message that cannot be inflated: {reason} "
                "(RFC 7692 section 7.2.2)",
                1007,
                "message that cannot be inflated",
            ) from None
        if ends and not self.receive_takeover:
            self._inflate = None
        return decoded

    def _inflated(self, data: bytes, limit: int) -> bytes:
        """Inflate, up to the limit; a final block begins a new stream (section 7.2.3.5)."""
        pieces = []
        while data:
            if self._inflate is None:
                self._inflate = zlib.decompressobj(-self.receive_bits)
            piece = self._inflate.decompress(data, limit + 1)
            limit -= len(piece)
            if limit < 0:
                raise LimitError("the message is larger once inflated")
            pieces.append(piece)
            if self._inflate.eof:
                data = self._inflate.unused_data
                self._inflate = None
            else:
                data = self._inflate.unconsumed_tail
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
