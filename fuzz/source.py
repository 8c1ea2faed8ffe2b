"""Decisions out of a fuzzer's input: each takes the next byte or bytes of it.

The rule: the same input makes the same decisions, everywhere and for ever, as the corpus is
replayed without a fuzzer. Decisions are taken from the front, one after the other, so that a
small change of the input is a small change of the case. After its end all bytes are 0.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

Value = TypeVar("Value")


class Source:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def byte(self) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def number(self, size: int) -> int:
        return int.from_bytes(bytes(self.byte() for _ in range(size)), "big")

    def flag(self) -> bool:
        return self.byte() % 2 == 1

    def pick(self, values: Sequence[Value]) -> Value:
        return values[self.byte() % len(values)]

    def bytes(self, at_most: int) -> bytes:
        """As many bytes as the next one says, of those that are here."""
        size = min(self.byte(), at_most, self.left)
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        found = self._data[self._at :]
        self._at = len(self._data)
        return found

    def text(self, at_most: int) -> str:
        """Text that may have anything in it, lone surrogates too."""
        raw = self.bytes(at_most)
        kind = self.byte() % 4
        if kind == 0:
            return raw.decode("latin-1")
        if kind == 1:
            return raw.decode("utf-8", "replace")
        if kind == 2:
            return raw.decode("utf-8", "surrogateescape")
        return "".join(self.pick(CHARACTERS) for _ in raw)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """data in pieces: whole, byte by byte, or cut in places that follow from the input."""
        kind, seed = self.byte() % 4, self.byte()
        if kind == 0:
            yield data
            return
        if kind == 1 and len(data) <= 1024:
            for i in range(len(data)):
                yield data[i : i + 1]
            return
        generator = random.Random(seed)
        largest = (2, 16, 200, 20000)[seed % 4] if len(data) < 4096 else (500, 70000)[seed % 2]
        at = 0
        while at < len(data):
            size = generator.randint(1, largest)
            yield data[at : at + size]
            at += size


# Of one to four bytes in UTF-8, with the first and the last of each length.
CHARACTERS = "a\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff\u00e9\u20ac\U0001f600"
