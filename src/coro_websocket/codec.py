"""Frames and opening handshakes by themselves, for those who need only these.

The counterpart of luvit's websocket-codec: `decode`, `encode`, `accept_key`,
`handshake` and `handle_handshake`, and the adapters `decoder` and `encoder`, which
turn a byte-level pair of coroutine functions into the frame-level pair that
`wrap_io` takes:

    read, write = wrap_io(decoder(read_bytes), encoder(write_bytes), mask=True)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from ._checks import check_int, check_names, is_int, wrong_type
from ._errors import InvalidOption, InvalidOptionType
from ._http.answers import response_headers
from ._http.client_handshake import check_response, request_headers
from ._http.extension_agreement import accept_extensions
from ._http.headers import Headers
from ._http.keys import accept_key as _accept_key
from ._http.keys import new_key
from ._http.opening_errors import HandshakeError
from ._http.origins import Origins, check_origins
from ._http.request_and_response import Request, Response
from ._http.request_rules import check_request
from ._options.header_rules import check_pathname, check_subprotocols, normalise_headers
from ._options.options import Options
from ._options.url import default_port
from ._rfc6455.frames import decode_frame, encode_frame
from ._rfc6455.messages import Message, as_message

__all__ = [
    "accept_key",
    "decode",
    "decoder",
    "encode",
    "encoder",
    "handle_handshake",
    "handshake",
]

MAX_SIZE = 16 * 1024 * 1024


def decode(
    data: bytes | bytearray | memoryview, index: int = 0, *, max_size: int | None = MAX_SIZE
) -> tuple[Message, int] | None:
    """Decode the frame that begins at `index` (RFC 6455 section 5.2).

    Args:
        data: received bytes.
        index: where in them the frame begins.
        max_size: the largest payload to accept, in bytes; None for any.

    Returns:
        The frame, unmasked, with `payload` as bytes and `mask` as it was sent, and the
        index of the first byte after it; None if the frame is not complete.

    Raises:
        ProtocolError: the header breaks the protocol: a reserved opcode, a length that is
            not in its shortest encoding, a fragmented or too long control frame.
        LimitError: the payload is larger than `max_size`.
        InvalidOption: an argument is of a type or has a value that cannot be used.
        IndexError: `index` is negative.
    """
    if not isinstance(data, bytes):
        try:
            view = memoryview(data)
        except TypeError:
            raise wrong_type("data", "bytes-like", data) from None
        if not view.c_contiguous or view.itemsize != 1:
            raise InvalidOption("data must be contiguous bytes", "data")
        data = view.cast("B")
    if type(index) is not int and not is_int(index):  # as usual, without a call
        raise wrong_type("index", "int", index)
    if index < 0:
        raise IndexError("index is 0 or more")
    if max_size is not MAX_SIZE:
        _check_max_size(max_size)
    return decode_frame(data, index, max_size)


def _check_max_size(max_size: object) -> None:
    if max_size is not None:
        check_int("max_size", max_size, 0, or_none=True)


def _check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise wrong_type(name, "a function", value)


def encode(message: str | bytes | bytearray | memoryview | Message | Mapping[str, Any]) -> bytes:
    """Encode one frame with the shortest length (RFC 6455 section 5.2).

    Args:
        message: str (a text frame), bytes-like (a binary frame), a Message, or a mapping
            with its fields; with `mask` set it is masked with a fresh unpredictable key.

    Raises:
        InvalidMessage: the fields do not make a frame that a peer would accept.
    """
    return encode_frame(as_message(message))


RawRead = Callable[[], Awaitable[Any]]
RawWrite = Callable[[Any], Awaitable[Any]]


def decoder(
    read: Callable[[], Awaitable[bytes | bytearray | memoryview | None]],
    *,
    max_size: int | None = MAX_SIZE,
) -> Callable[[], Awaitable[Message | None]]:
    """Turn a coroutine function that reads bytes into one that reads frames.

    Args:
        read: gives the next bytes; b"" or None at the end of the stream.
        max_size: the largest payload of a frame to accept, in bytes; None for any.

    Returns:
        A coroutine function that gives the next frame, or None at the end of the stream
        (also in the middle of a frame: what is missing will never come). It raises as
        `decode` does.
    """
    _check_callable("read", read)
    _check_max_size(max_size)
    buffer = bytearray()
    parsed = 0  # the frame that is wanted begins here

    async def read_frame() -> Message | None:
        nonlocal parsed
        while True:
            found = decode_frame(buffer, parsed, max_size)
            if found is not None:
                message, parsed = found
                return message
            del buffer[:parsed]
            parsed = 0
            data = await read()
            if not data:
                return None
            buffer.extend(data)

    return read_frame


def encoder(
    write: Callable[[bytes | None], Awaitable[object]],
) -> Callable[[Message | Mapping[str, Any] | None], Awaitable[None]]:
    """Turn a coroutine function that writes bytes into one that writes frames.

    Args:
        write: takes bytes; None says that no more will come.

    Returns:
        A coroutine function that takes a frame as `encode` does, or None.
    """
    _check_callable("write", write)

    async def write_frame(message: Message | Mapping[str, Any] | None) -> None:
        await write(None if message is None else encode(message))

    return write_frame


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` that answers a key (RFC 6455 section 4.2.2, item 5.4).

    Args:
        key: the value of `Sec-WebSocket-Key`.

    Raises:
        InvalidOption: `key` is not a str, or not ASCII.
    """
    if not isinstance(key, str):
        raise wrong_type("key", "str", key)
    if not key.isascii():
        raise InvalidOption("key must be ASCII (RFC 6455 section 4.1)", "key")
    return _accept_key(key)


async def handshake(
    options: Options | Mapping[str, Any],
    request: Callable[[Request], Response | Awaitable[Response]],
) -> Response:
    """Make a client's opening handshake over any way to send a request (section 4.1).

    Args:
        options: an Options, as for `connect`, or a mapping of `host` (a host, or the value of
            the Host header; needed), `port` and `tls` (for the Host header too: no port where
            it is the default), `pathname` (or `path`; "/" by default), `subprotocol` (or
            `protocol`: a name or several, optional) and `headers` (more (name, value) pairs,
            optional). No extension is offered.
        request: takes the Request, sends it, and returns the Response; a function or a
            coroutine function.

    Returns:
        The Response, checked, with the `subprotocol` that the server chose.

    Raises:
        InvalidOption: the options do not make a request, or `request` cannot be called or returns
            something else.
        HandshakeError: the response does not complete the handshake.
    """
    _check_callable("request", request)
    more: dict[str, Any]
    if isinstance(options, Options):
        url = options.url
        pathname, subprotocols = url.pathname, options.subprotocol
        more = {
            "host_header": url.authority,
            "headers": options.headers,
            "authorization": url.authorization,
            "origin": options.origin,
            "user_agent": options.user_agent,
        }
    elif isinstance(options, Mapping):
        check_names(options, _HANDSHAKE_OPTIONS, "option of handshake")
        subprotocols = _subprotocols(_either(options, "subprotocol", "protocol"))
        given = _either(options, "pathname", "path")
        if given is not None and not isinstance(given, str):
            raise wrong_type("pathname", "str", given)
        pathname = "/" if given is None else given
        more = {"host_header": _host_header(options), "headers": options.get("headers")}
    else:
        raise wrong_type("options", "Options or a mapping of options", options)
    key = new_key()
    pairs = request_headers(key=key, subprotocols=subprotocols, **more)
    result = request(Request(pairs, pathname=check_pathname(pathname)))
    response = await result if inspect.isawaitable(result) else result
    if response is None:
        raise HandshakeError("there was no response to the opening handshake")
    if not isinstance(response, Response):
        raise InvalidOptionType(
            f"request must return a Response, not {type(response).__name__}", "request"
        )
    chosen = check_response(response, key=key, subprotocols=subprotocols)
    accept_extensions(response)  # none was offered
    return response._bind(subprotocol=chosen)


_HANDSHAKE_OPTIONS = (
    "host",
    "port",
    "tls",
    "pathname",
    "path",
    "subprotocol",
    "protocol",
    "headers",
)


def _either(options: Mapping[str, Any], name: str, original: str) -> Any:
    """An option that luvit's codec has under another name."""
    ours, theirs = options.get(name), options.get(original)
    if ours is not None and theirs is not None:
        raise InvalidOption(f"give one of {name} and {original}, which mean the same", original)
    return theirs if ours is None else ours


def _subprotocols(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        return check_subprotocols((given,))
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        raise wrong_type("subprotocol", "str or several of them", given)
    return check_subprotocols(tuple(given))


def _host_header(options: Mapping[str, Any]) -> str:
    """The value of the Host header (RFC 9110 section 7.2): the port unless it is the default."""
    host, port = options.get("host"), options.get("port")
    if host is None or host == "":
        headers = options.get("headers") or ()
        if any(name.lower() == "host" for name, _ in normalise_headers(headers)):
            return ""  # that one is used
        raise InvalidOption("host is missing: the Host header needs it", "host")
    if not isinstance(host, str):
        raise wrong_type("host", "str", host)
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    if port is None:
        return host
    port = check_int("port", port, 1, 65535)
    if ":" in host.rpartition("]")[2]:
        raise InvalidOption("port is given, but host has a port already", "port")
    return host if port == default_port(bool(options.get("tls"))) else f"{host}:{port}"


def handle_handshake(
    head: Request | Iterable[tuple[str, str]] | Mapping[str, str],
    subprotocol: str | Iterable[str] | None = None,
    *,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
    origins: Origins = "same",
) -> Response:
    """The response that completes a client's opening handshake (RFC 6455 section 4.2).

    Args:
        head: the request: a Request, or its header pairs or a mapping of them (of a GET under
            HTTP/1.1).
        subprotocol: those that the server speaks, favourite first; a name or several.
        headers: more headers for the response.
        origins: which `Origin` to let in, as for `serve`: by default that of the host and port in
            `Host`, and requests without one; None: any.

    Returns:
        The Response to send: code 101 with its headers and the subprotocol chosen.

    Raises:
        HandshakeError: the request cannot be accepted; `response` is what to answer.
        InvalidOption: an argument is of a type or has a value that cannot be used.
    """
    request = head if isinstance(head, Request) else Request(Headers(_pairs(head)))
    chosen = check_request(
        request, subprotocols=_subprotocols(subprotocol), origins=check_origins(origins)
    )
    request._bind(subprotocol=chosen)
    return Response(
        response_headers(request, headers),
        code=101,
        reason="Switching Protocols",
        subprotocol=chosen,
    )


def _pairs(head: object) -> tuple[tuple[str, str], ...]:
    """Header pairs as they were received: any value, but of the right types."""
    if isinstance(head, Mapping):
        head = head.items()
    if isinstance(head, (str, bytes, bytearray)) or not isinstance(head, Iterable):
        raise wrong_type("head", "a Request or its (name, value) header pairs", head)
    pairs = tuple(head)
    for pair in pairs:
        if (
            not isinstance(pair, Sequence)
            or len(pair) != 2
            or not all(isinstance(each, str) for each in pair)
            or isinstance(pair, str)
        ):
            raise InvalidOptionType("head must hold (name, value) pairs of str", "head")
    return pairs
