"""The client's half of the opening handshake.

The rule: a connection is a WebSocket only after an answer that RFC 6455 section 4.1 accepts in
every point; anything else raises HandshakeError, which says what was expected and what came.
Bytes in, bytes out: neither a socket nor a clock is touched. The checks are pure functions, which
the handshake objects only feed. The server's half is `server_handshake`.

RFC 6455 sections 4.1 and 11.3; RFC 9110; RFC 9112.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeAlias

import h11

from .._errors import InvalidOption
from .._options.header_rules import (
    check_pathname,
    check_subprotocols,
    check_value,
    is_host,
    normalise_headers,
    refuse_reserved,
)
from .._quoting import clip
from .._version import version
from .extension_agreement import accept_extensions
from .extension_header import format_extensions
from .headers import has_option, parse_token_list, too_long_list
from .keys import accept_key, new_key
from .opening_errors import HandshakeError
from .parsing import HeadBuffer, body_reader, parse_answer, redacted_start
from .request_and_response import Response
from .usual_heads import usual_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._rfc6455.extension import Extension, ExtensionFactory

__all__ = [
    "ClientHandshake",
    "check_response",
    "request_headers",
]

Pairs: TypeAlias = tuple[tuple[str, str], ...]

# Headers that a caller cannot set in a request, and why.
_RESERVED = {
    "connection": "the handshake sets it",
    "upgrade": "the handshake sets it",
    "sec-websocket-key": "the handshake draws a fresh one for every connection",
    "sec-websocket-version": "the handshake sets it",
    "sec-websocket-extensions": "only extensions that are implemented may be offered",
    "sec-websocket-protocol": "name subprotocols in the option subprotocol",
    "sec-websocket-accept": "only a server sends it",
    "content-length": "an opening handshake has no body",
    "transfer-encoding": "an opening handshake has no body",
}


# What the client asks.


def request_headers(
    *,
    host_header: str,
    key: str,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
    subprotocols: Sequence[str] = (),
    authorization: str | None = None,
    extensions: Sequence[ExtensionFactory] = (),
    origin: str | None = None,
    user_agent: str | None = "",
) -> Pairs:
    """The headers of a client's opening handshake, in the order to send them.

    A `Host`, `Authorization`, `Origin` or `User-Agent` among `headers` takes the place of ours.
    The headers that make the handshake what it is cannot be set: InvalidOption says why.

    RFC 6455 section 4.1, items 4 to 12 of the client's requirements.
    """
    given = normalise_headers(headers)
    refuse_reserved(given, _RESERVED)
    names = [name.lower() for name, _ in given]
    hosts = [value for name, value in given if name.lower() == "host"]
    if len(hosts) > 1:
        raise InvalidOption("the header 'Host' is given twice (RFC 9112 section 3.2)", "headers")
    host = hosts[0] if hosts else host_header
    if not is_host(host):
        option = "headers" if hosts else "host"
        raise InvalidOption(f"{clip(host)} is not a Host header (RFC 9110 section 7.2)", option)
    offered = check_subprotocols(subprotocols)

    pairs = [] if hosts else [("Host", host)]
    pairs += [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if offered:
        pairs.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    offers = [
        (factory.name, parameters) for factory in extensions for parameters in factory.offers()
    ]
    if offers:
        pairs.append(("Sec-WebSocket-Extensions", format_extensions(offers)))
    if authorization is not None and "authorization" not in names:
        pairs += normalise_headers([("Authorization", authorization)], "authorization")
    if origin is not None and "origin" not in names:
        pairs.append(("Origin", check_value(origin, "origin", "origin")))
    if user_agent is not None and "user-agent" not in names:
        named = check_value(user_agent, "user_agent", "user_agent")
        pairs.append(("User-Agent", named or f"coro-websocket/{version()}"))
    return (*pairs, *given)


def encode_request(pathname: str, headers: Pairs) -> bytes:
    """The request as it goes on the wire, `Host` first (RFC 9110 section 7.2).

    Both were checked: `pathname` by `check_pathname`, `headers` by `request_headers`.
    """
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    lines.sort(key=_is_not_host)
    return "".join([f"GET {pathname} HTTP/1.1\r\n", *lines, "\r\n"]).encode("latin-1")


def _is_not_host(line: str) -> bool:
    return line[:5].lower() != "host:"


# What the server answers.


def check_response(response: Response, *, key: str, subprotocols: Sequence[str] = ()) -> str | None:
    """The subprotocol that `response` agrees on, or None, if it completes the handshake.

    `key` is the `Sec-WebSocket-Key` that was sent, `subprotocols` what was offered.

    Raises:
        HandshakeError: the answer is not what RFC 6455 section 4.1 asks for. The error carries
            `response`.
    """

    def refused(expected: str, header: str) -> HandshakeError:
        values = response.get_all(header)
        came = f"{header}: {clip(', '.join(values))}" if values else f"no {header} header"
        return incomplete(f"expected {expected}, received {came}")

    def incomplete(why: str) -> HandshakeError:
        return HandshakeError(
            f"the server's answer does not complete the handshake: {why} (RFC 6455 section 4.1)",
            response,
        )

    if response.code != 101:
        raise HandshakeError(
            "the server refused the handshake: expected 101 'Switching Protocols', "
            f"received {response.code} {clip(response.reason)} (RFC 6455 section 4.1)",
            response,
        )
    # An upgrade is a thing of HTTP/1.1 (RFC 9110 section 7.8).
    if not 1.1 <= response.version < 2:
        raise incomplete(f"expected HTTP/1.1, received HTTP/{response.version}")
    if (too_long := too_long_list(response)) is not None:
        raise incomplete(too_long)
    # "websocket" and nothing else: a second protocol in an answer would be spoken on top of it.
    if {name.lower() for name in parse_token_list(response.get_all("Upgrade"))} != {"websocket"}:
        raise refused("Upgrade: 'websocket'", "Upgrade")
    if not has_option(response.get_all("Connection"), "upgrade"):
        raise refused("'Upgrade' among the options in Connection", "Connection")
    accept = accept_key(key)
    if [value.strip() for value in response.get_all("Sec-WebSocket-Accept")] != [accept]:
        raise refused(f"one Sec-WebSocket-Accept: {accept!r}", "Sec-WebSocket-Accept")
    chosen = response.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or not set(chosen) <= set(subprotocols):
        # Not their names: bearer tokens travel there.
        raise incomplete(
            f"expected at most one of the {len(subprotocols)} subprotocols that were offered, "
            "received another or several in Sec-WebSocket-Protocol"
            if subprotocols
            else "expected no subprotocol, as none was offered, received Sec-WebSocket-Protocol"
        )
    return chosen[0] if chosen else None


# The two together.


class ClientHandshake:
    """One opening handshake from the client's side.

    Send `request()`, then pass what comes from the server to `receive` until it returns the
    Response or raises. `leftover` then has the frames that came in the same piece as the head,
    and `extensions` the extensions to use.

    Args:
        host_header: the value of `Host`: the host, with the port unless it is the default.
        pathname: the path and query, from the first "/" on, percent-encoded.
        headers: more headers to send, in this order and case.
        subprotocols: the subprotocols to offer, favourite first.
        authorization: a whole `Authorization` value, from the URL's userinfo.
        origin: the value of `Origin`; None: none is sent.
        user_agent: the value of `User-Agent`; "": the library's; None: none is sent.
        extensions: the extensions to offer, the preferred one first.
        max_head_size: the most bytes of the answer's head, interim responses included.
        max_header_lines: the most header lines of it.
        max_body_size: the most bytes of a refusal's body to wait for and keep, as sent.

    Each limit may be None, for no limit. Anything that cannot be sent raises InvalidOption here.
    """

    def __init__(
        self,
        *,
        host_header: str,
        pathname: str,
        headers: Iterable[tuple[str, str]] | Mapping[str, str] | None = (),
        subprotocols: Sequence[str] = (),
        authorization: str | None = None,
        origin: str | None = None,
        user_agent: str | None = "",
        extensions: Sequence[ExtensionFactory] = (),
        max_head_size: int | None = 65536,
        max_header_lines: int | None = 128,
        max_body_size: int | None = 65536,
    ) -> None:
        self._key = new_key()
        self._subprotocols = check_subprotocols(subprotocols)
        pairs = request_headers(
            host_header=host_header,
            key=self._key,
            headers=headers,
            subprotocols=self._subprotocols,
            authorization=authorization,
            extensions=extensions,
            origin=origin,
            user_agent=user_agent,
        )
        self._offered = tuple(extensions)
        self.extensions: list[Extension] = []
        self._request = encode_request(check_pathname(pathname), pairs)
        self._http: h11.Connection | None = None  # not needed if the answer is the usual one
        # What the server sends: heads, then frames after a 101 or the body of a refusal.
        self._heads = HeadBuffer("the server's answer", max_head_size, max_header_lines)
        self._interim: Response | None = None
        self._response: Response | None = None
        self._error: HandshakeError | None = None
        self._refusal: Response | None = None  # its head
        self._body_reader: h11.Connection | None = None
        self._body = bytearray()
        self._body_whole = True
        self._body_room = max_body_size

    def request(self) -> bytes:
        """The request, whole, as it is to be sent."""
        return self._request

    @property
    def refusing(self) -> bool:
        """Whether the server has begun to refuse: the head of its answer is here."""
        return self._refusal is not None

    @property
    def refusal(self) -> Response | None:
        """The head of a refusal, as soon as it is here."""
        return self._refusal

    @property
    def leftover(self) -> bytes:
        """What came after the head of the answer: the first bytes of frames."""
        return self._heads.rest

    def receive(self, data: bytes) -> Response | None:
        """Take bytes from the server; `b""` says that no more will come.

        Returns None while more is needed and the Response once the handshake is complete.

        Raises:
            HandshakeError: the answer is not a handshake, or none came. If it could be parsed,
                `response` has it, with its body.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._receive(data)
        except HandshakeError as error:
            self._error = error
            raise

    def give_up(self) -> NoReturn:
        """Wait for no more of a refusal: raise it, with as much of its body as came."""
        assert self._refusal is not None
        self._body_whole = False
        try:
            self._refuse(self._refusal)
        except HandshakeError as error:
            self._error = error
            raise

    def _receive(self, data: bytes) -> Response | None:
        if self._refusal is not None:
            self._receive_body(self._refusal, data, end=not data)
            return None
        self._heads.feed(data)
        if self._response is not None:
            return self._response
        while (head := self._next_head()) is not None:
            answer = self._parse(head)
            if answer.code >= 200:
                self._refusal = answer
                self._body_reader = body_reader(answer)
                self._receive_body(answer, self._heads.rest, end=not data)
                return None
            if answer.code == 101:
                self._response = self._checked(answer)
                return self._response
            self._interim = answer
        if not data:
            raise HandshakeError(f"the server closed the connection {self._progress()}")
        return None

    def _next_head(self) -> bytes | None:
        start = self._heads.start(5)
        if not b"HTTP/".startswith(start):
            raise HandshakeError(
                "the server does not speak HTTP: expected a line such as "
                "'HTTP/1.1 101 Switching Protocols', received "
                + (
                    "a TLS record: use wss:// (tls=True)"
                    if start[0] in range(20, 24) and start[1:2] == b"\x03"
                    else redacted_start(self._heads.start(200))
                )
                + " (RFC 9112 section 4)"
            )
        return self._heads.next_head()

    def _parse(self, head: bytes) -> Response:
        usual = usual_answer(head)
        if usual is not None:
            reason, headers = usual
            return Response(headers, code=101, reason=reason)
        if self._http is None:
            self._http = h11.Connection(h11.CLIENT)
            headers_of_upgrade = [("Host", ""), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
            self._http.send(h11.Request(method="GET", target="/", headers=headers_of_upgrade))
            self._http.send(h11.EndOfMessage())
        return parse_answer(self._http, head, "the server's answer")

    def _progress(self) -> str:
        came = self._heads.rest
        if came:
            line = redacted_start(came, 100)
            return f"in the middle of its answer's head, after {len(came)} bytes: {line}"
        if self._interim is not None:
            return f"after an interim {self._interim.code}, before its answer"
        return "without an answer"

    def _receive_body(self, refusal: Response, data: bytes, *, end: bool) -> None:
        """Take some of a refusal's body; raise the refusal at its end."""
        reader = self._body_reader
        assert reader is not None
        if self._body_room is not None:
            data = data[: self._body_room]
            self._body_room -= len(data)
        if data:
            reader.receive_data(data)
        ended = self._take_body(reader)
        if end and not ended:
            reader.receive_data(b"")
            ended = self._take_body(reader)
        if self._body_room == 0 and not ended:
            ended, self._body_whole = True, False
        if ended:
            self._refuse(refusal)

    def _take_body(self, reader: h11.Connection) -> bool:
        """Take what is here of a refusal's body; True at its end."""
        try:
            while isinstance(event := reader.next_event(), h11.Data):
                self._body += event.data
        except h11.RemoteProtocolError:  # it ended early, or goes on with what is not a body
            self._body_whole = False
            return True
        return event is not h11.NEED_DATA

    def _refuse(self, refusal: Response) -> NoReturn:
        whole = Response(
            refusal,
            code=refusal.code,
            reason=refusal.reason,
            version=refusal.version,
            body=bytes(self._body),
            body_truncated=not self._body_whole,
        )
        check_response(whole, key=self._key, subprotocols=self._subprotocols)
        raise AssertionError("a refusal is a HandshakeError")

    def _checked(self, response: Response) -> Response:
        chosen = check_response(response, key=self._key, subprotocols=self._subprotocols)
        accepted = accept_extensions(response, self._offered)
        self.extensions = [extension for _, _, extension in accepted]
        agreed = tuple((name, parameters) for name, parameters, _ in accepted)
        return response._bind(subprotocol=chosen, extensions=agreed)
