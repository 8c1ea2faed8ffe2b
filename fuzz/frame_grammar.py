"""Streams of frames out of a fuzzer's input: mostly what a peer may send, and what it may not.

It keeps in mind which message is open, so that long valid conversations are likely, and lets the
input break each rule on purpose: opcode, fin, reserved bits, masking, length, UTF-8, deflate.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from tests.helpers.reference_frames import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    encode,
    header,
)

from .source import CHARACTERS, Source

LENGTHS = (0, 1, 124, 125, 126, 127, 1000, 16383, 16384, 16385, 65535, 65536, 70000)
CODES = (1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1009, 1011, 1014, 1015, 1016)
CODES += (2999, 3000, 4999, 5000, 0, 999, 65535)
KEYS = (KEY, b"\0\0\0\0", b"\xff\0\xff\0")


@dataclass
class Peer:
    """The side that sends, as far as it must know what it has sent."""

    masks: bool
    window: int | None  # permessage-deflate's, or None: it is not in use
    takeover: bool
    open: int = CONT  # the opcode of the message that has begun
    compressed: bool = False
    large: int = 1  # so many more payloads may be large: the reference decoder is slow
    deflate: zlib._Compress | None = None

    def stream(self, source: Source, at_most: int = 60) -> bytes:
        pieces = []
        while source.left and len(pieces) < at_most:
            pieces.append(self.piece(source))
        return b"".join(pieces)

    def piece(self, source: Source) -> bytes:
        """One frame, or something like it."""
        kind = source.byte()
        action = kind % 16
        if action < 3:
            return self.data(source, fin=True, kind=kind)
        if action < 7:
            return self.data(source, fin=False, kind=kind)
        if action < 9:
            return self.frame(source, PING, source.bytes(125))
        if action == 9:
            return self.frame(source, PONG, source.bytes(125))
        if action == 10:
            return self.close(source)
        if action == 11:  # any header that there can be, and what it announces or less
            length = source.pick((*LENGTHS, 2**16 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1))
            first = source.byte()
            least = 0 if length < 126 else 2 if length < 65536 else 8
            size = source.pick([size for size in (least, 2, 8) if size >= least])
            key = KEY if self.masks is not (source.byte() > 250) else None
            start = header(0, length, key=key, length_size=size)
            return bytes([first]) + start[1:] + source.bytes(255)
        if action == 12:
            return source.bytes(255)
        if action == 13:  # breaks the rules of fragments
            opcode = CONT if self.open == CONT else source.pick((TEXT, BINARY))
            return self.frame(source, opcode, source.bytes(40), fin=source.flag())
        if action == 14:
            return self.frame(source, source.byte() % 16, source.bytes(126), rsv=source.byte() % 8)
        return b"".join(self.frame(source, PING, b"%d" % i) for i in range(source.byte() % 32))

    def data(self, source: Source, *, fin: bool, kind: int) -> bytes:
        """The next data frame of a message that is open, or the first of one."""
        begins = self.open == CONT
        opcode = source.pick((TEXT, BINARY)) if begins else self.open
        payload = self.payload(source, opcode, kind)
        rsv = 0
        if begins:
            self.compressed = self.window is not None and kind & 64 != 0
            rsv = 4 if self.compressed else 0
        if self.compressed and kind & 128 == 0:  # else: as the input has it, likely no deflate
            payload = self.deflated(payload, fin, source)
        self.open = CONT if fin else opcode
        return self.frame(source, opcode if begins else CONT, payload, fin=fin, rsv=rsv)

    def payload(self, source: Source, opcode: int, kind: int) -> bytes:
        if kind & 48 == 48 and self.large:
            self.large -= 1
            size = source.pick(LENGTHS)
            unit = (CHARACTERS if opcode == TEXT else "x").encode("utf-8", "surrogatepass")
            return (unit * (size // len(unit) + 1))[:size]  # may end within a character
        if opcode == TEXT and kind & 16:
            return source.text(60).encode("utf-8", "replace")
        return source.bytes(255)

    def deflated(self, payload: bytes, fin: bool, source: Source) -> bytes:
        assert self.window is not None
        how = source.byte()
        if self.deflate is None:
            level = (0, 1, 6, 9)[how % 4]
            self.deflate = zlib.compressobj(level, zlib.DEFLATED, -max(9, self.window), 1 + how % 9)
        out = self.deflate.compress(payload)
        if how & 32:  # a final block (RFC 7692 section 7.2.3.5)
            out += self.deflate.flush(zlib.Z_FINISH)
            self.deflate = None
            return out + (b"\0" if fin else b"")
        out += self.deflate.flush(zlib.Z_FULL_FLUSH if how & 64 else zlib.Z_SYNC_FLUSH)
        if fin:
            out = out.removesuffix(b"\0\0\xff\xff") or b"\0"
            if not self.takeover:
                self.deflate = None
        return out

    def close(self, source: Source) -> bytes:
        how = source.byte() % 8
        if how == 0:
            return self.frame(source, CLOSE, b"")
        if how == 1:
            return self.frame(source, CLOSE, source.bytes(125))
        code = source.pick(CODES).to_bytes(2, "big")
        reason = source.text(41).encode("utf-8", "replace") if how < 7 else source.bytes(123)
        return self.frame(source, CLOSE, (code + reason)[:125])

    def frame(
        self, source: Source, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0
    ) -> bytes:
        return encode(Frame(opcode, payload, fin, rsv, source.pick(KEYS) if self.masks else None))
