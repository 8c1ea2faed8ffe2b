"""Who the client is, by what trusted proxies say: `Forwarded` and `X-Forwarded-For`.

The rule: each proxy adds whom it was connected to at the end of a list, so only what stands right
of the first address that is not a trusted proxy's is believed. What stands left of it the client
may have sent itself. Whatever cannot be read ends the list: the last proxy that was reached is
then all that is known of the client.

RFC 7239 sections 4 to 6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .client_address import ClientAddress, ip_address_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .client_address import Networks
    from .headers import Headers

__all__ = ["Hop", "Seen", "find_client", "forwarded_hops", "x_forwarded_hops"]

MAX_HOPS = 32  # proxies in succession; a list that goes on ends there
OPTIONAL_WHITESPACE = " \t"

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

# parameter=token, or parameter="quoted"; of other values, those which some proxies fail to quote.
# Whitespace is matched once (`*+`): tried in every way, it would take the square of its length.
_PAIR = re.compile(
    r"""[ \t]*+(?:([\w!#$%&'*+\-.^`|~]+)=(?:([^\s",;\\]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*+(?:;|\Z)""",
    re.ASCII | re.DOTALL,
)
_MARK = re.compile(r'[",]')
_NODE = re.compile(
    r"(?:\[([0-9a-f:.]+)\]|([^\s:\[\]]+))(?::(?:([0-9]{1,5})|_[a-z0-9._\-]+))?", re.IGNORECASE
)
_HIDDEN = re.compile(r"_[A-Za-z0-9._\-]+")  # section 6.3


class Hop(NamedTuple):
    """What one proxy says of who was connected to it."""

    address: ClientAddress | None  # None: it cannot be known
    proto: str | None = None  # as sent


class Seen(NamedTuple):
    """Who the client is, as far as that is known."""

    client: ClientAddress | None
    scheme: str | None  # "ws" or "wss", by which the client has come; None: nobody says
    contradicted: bool = False  # whether the headers name different clients


def find_client(headers: Headers, peer: ClientAddress | None, trusted: Networks) -> Seen:
    """The client whose request has these headers and came from `peer`.

    Where both headers come and do not name the same client, the proxy adds to one of them and
    passes the other on as the client has sent it, and nothing says which: the peer is then all
    that is known.
    """
    if not trusted.has(peer):
        return Seen(peer, None)
    forwarded = headers.get_all("Forwarded")
    addresses = headers.get_all("X-Forwarded-For")
    protos = headers.get_all("X-Forwarded-Proto")
    found = []
    if forwarded:
        found.append(_follow(forwarded_hops(forwarded), peer, trusted))
    if addresses:
        found.append(_follow(x_forwarded_hops(addresses, protos), peer, trusted))
    elif protos:
        found.append(Seen(found[0].client if found else peer, _last_scheme(protos)))
    return _agreed(found, peer)


def _agreed(found: Sequence[Seen], peer: ClientAddress | None) -> Seen:
    """What all that was found says; what one leaves open, another may say."""
    clients = [seen.client for seen in found] or [peer]
    if len({each.host if each is not None else None for each in clients}) > 1:
        return Seen(peer, None, True)
    schemes = {seen.scheme for seen in found if seen.scheme is not None}
    scheme = schemes.pop() if len(schemes) == 1 else None
    return Seen(next((each for each in clients if each and each.port), clients[0]), scheme)


def _last_scheme(protos: Sequence[str]) -> str | None:
    return _scheme(next(_from_the_end(protos), None))


def _follow(hops: Iterator[Hop], peer: ClientAddress | None, trusted: Networks) -> Seen:
    """Go from the peer to who was connected to it, and so on, while proxies can be trusted."""
    client, proto = peer, None
    for _, hop in zip(range(MAX_HOPS), hops, strict=False):
        proto = hop.proto
        if hop.address is None:
            break
        client = hop.address
        if not trusted.has(client):
            break
    return Seen(client, _scheme(proto))


def _scheme(proto: str | None) -> str | None:
    return _SCHEMES.get(proto.lower()) if proto is not None else None


# Forwarded


def forwarded_hops(lines: Sequence[str]) -> Iterator[Hop]:
    """What the lines of `Forwarded` say, from the last proxy to the first."""
    for line in reversed(lines):
        for element in _elements_from_the_end(line):
            if element.strip(OPTIONAL_WHITESPACE):
                yield _hop(element)


def _elements_from_the_end(line: str) -> Iterator[str]:
    """The elements of a list, the last one first.

    From its end, as a quote that a client has left open would swallow what its proxy adds. Read
    so, each element that is well-formed is found as it was added, whatever stands before it.
    """
    end = len(line)
    quoted = False
    for mark in reversed(list(_MARK.finditer(line))):
        at = mark.start()
        if line[at] == '"':
            if not (quoted and _is_escaped(line, at)):
                quoted = not quoted
        elif not quoted:
            yield line[at + 1 : end]
            end = at
    yield line[:end]


def _is_escaped(line: str, at: int) -> bool:
    before = at
    while before > 0 and line[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _hop(element: str) -> Hop:
    pairs: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None:
            return Hop(None)
        at = match.end()
        name, token, quoted = match.groups()
        if name is None:
            continue
        name = name.lower()
        if name in pairs:  # section 4: each at most once
            return Hop(None)
        pairs[name] = token if token is not None else re.sub(r"(?s)\\(.)", r"\1", quoted)
    return Hop(_address(pairs.get("for", "unknown")), pairs.get("proto"))


# X-Forwarded-For


def x_forwarded_hops(lines: Sequence[str], protos: Sequence[str] = ()) -> Iterator[Hop]:
    """What the lines of `X-Forwarded-For` say, from the last proxy to the first.

    protos: the lines of `X-Forwarded-Proto`. Proxies add to it as to the other header, or set it
    to the one by which their own client has come: then there is only one.
    """
    addresses = _from_the_end(lines)
    words = list(_from_the_end(protos))
    several = len(words) > 1
    for number, address in enumerate(addresses):
        proto = words[min(number, len(words) - 1) if several else 0] if words else None
        yield Hop(_address(address), proto)


def _from_the_end(lines: Iterable[str]) -> Iterator[str]:
    for line in reversed(list(lines)):
        for part in reversed(line.split(",")):
            if word := part.strip(OPTIONAL_WHITESPACE):
                yield word


def _address(node: str) -> ClientAddress | None:
    """The address of a node (RFC 7239 section 6); None if it is unknown, or not an address."""
    if node == "unix:":  # what nginx calls a peer that has connected to a unix socket
        return ClientAddress(node)
    if "%" in node:  # a zone of another machine
        return None
    bare = ip_address_of(node)
    if bare is not None:
        return ClientAddress(str(bare))
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    ipv6, name, digits = match.groups()
    port = int(digits) if digits is not None else None
    if port is not None and port > 65535:
        return None
    if ipv6 is None and _HIDDEN.fullmatch(name):
        return ClientAddress(name, port)
    ip = ip_address_of(ipv6 or name)
    return ClientAddress(str(ip), port) if ip is not None else None
