"""The extensions' header, and permessage-deflate's negotiation between our own two sides."""

from __future__ import annotations

import re

from coro_websocket._errors import InvalidOption
from coro_websocket._http.extension_header import format_extensions, parse_extensions
from coro_websocket._rfc6455.deflate import Deflate, DeflateExtension

from ..source import Source

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
WORDS = ("permessage-deflate", "x-a", "client_max_window_bits", "server_max_window_bits", "8", "15")
WORDS += ("client_no_context_takeover", "server_no_context_takeover", ";", ",", "=", " ", "\t")
WORDS += ('"', "\\", '"15"', '"1\\5"', '""', '"a b"', "\x00", "\u00e9", "=10", "; ", ", ")


def run(data: bytes) -> None:
    source = Source(data)
    if source.flag():
        negotiate(source)
        return
    values = []
    for _ in range(1 + source.byte() % 3):
        count = source.byte() % 24
        values.append("".join(source.pick(WORDS) for _ in range(count)) + source.text(20))
    try:
        found = parse_extensions(values)
    except ValueError:
        assert expected(values) is None, values
        return
    assert found == expected(values), values
    assert parse_extensions([format_extensions(found)]) == found


def expected(values: list[str]) -> tuple[object, ...] | None:
    """RFC 6455 section 9.1, with empty elements as in RFC 9110; None for what is no list."""
    found = []
    for value in values:
        for element in outside_quotes(value, ","):
            if not element.strip(" \t"):
                continue
            name, *rest = outside_quotes(element, ";")
            if not TOKEN.fullmatch(name.strip(" \t")):
                return None
            parameters = []
            for part in rest:
                key, *given = outside_quotes(part, "=")
                text = unquoted(given[0].strip(" \t")) if given else None
                if not TOKEN.fullmatch(key.strip(" \t")) or len(given) > 1:
                    return None
                if given and (text is None or not TOKEN.fullmatch(text)):
                    return None
                parameters.append((key.strip(" \t"), text))
            found.append((name.strip(" \t"), tuple(parameters)))
    return tuple(found)


def outside_quotes(text: str, mark: str) -> list[str]:
    parts, quoted, escaped = [""], False, False
    for character in text:
        if character == mark and not quoted:
            parts.append("")
            continue
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        parts[-1] += character
    return parts


def unquoted(text: str) -> str | None:
    if not text.startswith('"'):
        return text
    inner = text[1:-1]
    plain, i = "", 0
    if len(text) < 2 or not text.endswith('"'):
        return None
    while i < len(inner):
        if inner[i] == '"':
            return None
        if inner[i] == "\\":
            i += 1
            if i == len(inner):
                return None
        plain += inner[i]
        i += 1
    return plain


def negotiate(source: Source) -> None:
    """What our client and our server agree on, each must be able to do."""
    client, server = settings(source), settings(source)
    if client is None or server is None:
        return
    for offered in client.offers():
        parameters = list(offered)
        if source.flag():  # as another client might have it
            parameters = [p for p in parameters if source.flag()]
            if source.flag():
                parameters.append((source.pick(WORDS), source.pick((None, "8", "9", "15", "16"))))
        agreed = server.agree(tuple(parameters))
        if agreed is None:
            continue
        answer, ours = agreed
        assert isinstance(ours, DeflateExtension)
        assert 9 <= ours.send_bits <= 15
        assert 8 <= ours.receive_bits <= 15
        asked = dict(parameters)
        assert len(asked) == len(parameters)
        for name, value in answer:
            if name == "client_max_window_bits":
                assert name in asked
            if value is not None and asked.get(name) is not None:
                assert int(value) <= int(asked[name] or 15)
        assert ("server_no_context_takeover" in asked) <= (
            "server_no_context_takeover" in dict(answer)
        )
        assert ("server_max_window_bits" in asked) <= ("server_max_window_bits" in dict(answer))
        if tuple(parameters) != offered:
            continue
        theirs = client.accept(answer)
        assert isinstance(theirs, DeflateExtension)
        assert ours.send_bits <= theirs.receive_bits
        assert theirs.send_bits <= ours.receive_bits
        assert ours.send_takeover <= theirs.receive_takeover
        assert theirs.send_takeover <= ours.receive_takeover
        for one, other in ((ours, theirs), (theirs, ours)):
            converse(one, other, source)


def settings(source: Source) -> Deflate | None:
    bits = source.byte()
    try:
        return Deflate(
            level=source.byte() % 10,
            memory_level=1 + source.byte() % 9,
            threshold=0,
            server_no_context_takeover=bits & 1 != 0,
            client_no_context_takeover=bits & 2 != 0,
            strict=bits & 4 != 0,
            server_max_window_bits=source.pick((None, 7, 8, 9, 10, 11, 12, 13, 14, 15, "auto")),
            client_max_window_bits=source.pick((None, 7, 8, 9, 10, 11, 12, 13, 14, 15, "auto")),
        )
    except InvalidOption:
        return None


def converse(one: DeflateExtension, other: DeflateExtension, source: Source) -> None:
    unit = source.bytes(40) or b"-"
    for payload in (unit * 40, b"", unit * 40 + unit[::-1] * 20):
        encoded = one.encode(payload, opcode=2, begins=True, ends=True)
        assert encoded is not None
        assert other.decode(encoded, ends=True, limit=len(payload)) == payload
