"""Heads of HTTP/1.1, made out of a fuzzer's input and read in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence

from .source import Source


def head_of(
    source: Source, first_lines: Sequence[str], good: Sequence[str], others: Sequence[str]
) -> str:
    """A head with all that is good or a part of it, and some of the other header lines."""
    lines = [source.pick(first_lines)]
    without = source.byte()
    lines += [header for i, header in enumerate(good) if without < 160 or without >> i & 1]
    for _ in range(source.byte() % 8):
        header = source.pick(others) if source.byte() < 230 else source.text(30)
        lines.insert(1 + source.byte() % len(lines), header)
    end = "\n" if source.byte() > 240 else "\r\n"
    return end.join([*lines, "", ""])


def cut_short(source: Source, head: bytes) -> bytes:
    """The head, or seldom only a part of it."""
    if source.byte() > 250:
        return head[: source.number(2) % (len(head) + 1)]
    return head


def fields_of(lines: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What the header lines say: by lower-case name the values, and their lists' words."""
    values: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line[0] in " \t":  # a folded line belongs to the one before it
            values[name][-1] += " " + line.strip(" \t")
            continue
        name, _, value = line.partition(":")
        name = name.lower()
        values.setdefault(name, []).append(value.strip(" \t"))
    words = {
        name: [word.strip(" \t").lower() for value in found for word in value.split(",")]
        for name, found in values.items()
    }
    return values, words
