"""Frames and opening handshakes by themselves, for those who need only these.

The counterpart of luvit's websocket-codec: `decode`, `encode`, `accept_key`,
`handshake` and `handle_handshake`, and the adapters `decoder` and `encoder`, which
turn a byte-level pair of coroutine functions into the frame-level pair that
`wrap_io` takes:

    read, write = wrap_io(decoder(read_bytes), encoder(write_bytes), mask=True)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ._errors import HandshakeError
from ._frames import decode_frame, encode_frame
from ._handshake import (
    accept_extensions,
    accept_key,
    check_pathname,
    check_response,
    check_subprotocols,
    new_key,
    request_headers,
)
from ._handshake_server import check_request, response_headers
from ._headers import Headers
from ._messages import Message, as_message
from ._response import Request, Response

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
        index of the first byte behind it; None if the frame is not all there.

    Raises:
        ProtocolError: the header breaks the protocol: a reserved opcode, a length that is
            not in its shortest encoding, a fragmented or too long control frame.
        LimitError: the payload is larger than `max_size`.
    """
    if index < 0:
        raise IndexError("index is 0 or more")
    return decode_frame(data, index, max_size)


def encode(message: str | bytes | bytearray | memoryview | Message | Mapping[str, Any]) -> bytes:
    """Encode one frame with the shortest length (RFC 6455 section 5.2).

    Args:
        message: str (a text frame), bytes-like (a binary frame), a Message, or a mapping
            with its fields; with `mask` set it is masked with a fresh unpredictable key.

    Raises:
        InvalidMessage: the fields make up no frame that a peer would accept.
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

    async def write_frame(message: Message | Mapping[str, Any] | None) -> None:
        await write(None if message is None else encode(message))

    return write_frame


async def handshake(
    options: Mapping[str, Any],
    request: Callable[[Request], Response | Awaitable[Response]],
) -> Response:
    """Make a client's opening handshake over any way to send a request (section 4.1).

    Args:
        options: `host` (the value of the Host header), `pathname` (or `path`; "/" by
            default), `subprotocol` (or `protocol`: a name or several, optional) and
            `headers` (more (name, value) pairs, optional).
        request: takes the Request, sends it, and returns the Response; a function or a
            coroutine function.

    Returns:
        The Response, checked, with the `subprotocol` that the server chose.

    Raises:
        InvalidOption: the options make up no request.
        HandshakeError: the response does not complete the handshake.
    """
    offered = options.get("subprotocol", options.get("protocol")) or ()
    subprotocols = check_subprotocols((offered,) if isinstance(offered, str) else tuple(offered))
    key = new_key()
    pairs = request_headers(
        host_header=options.get("host", ""),
        key=key,
        headers=options.get("headers", ()),
        subprotocols=subprotocols,
    )
    pathname = check_pathname(options.get("pathname", options.get("path", "/")))
    result = request(Request(pairs, pathname=pathname))
    response = await result if inspect.isawaitable(result) else result
    if response is None:
        raise HandshakeError("there was no response to the opening handshake")
    chosen = check_response(response, key=key, subprotocols=subprotocols)
    accept_extensions(response)  # none was offered
    return response._bind(subprotocol=chosen)


def handle_handshake(
    head: Request | Iterable[tuple[str, str]],
    subprotocol: str | Iterable[str] | None = None,
    *,
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
) -> Response:
    """The response that completes a client's opening handshake (RFC 6455 section 4.2).

    Args:
        head: the request: a Request, or its header pairs (of a GET under HTTP/1.1).
        subprotocol: those that the server speaks, favourite first; a name or several.
        headers: more headers for the response.

    Returns:
        The Response to send: code 101 with its headers and the subprotocol chosen.

    Raises:
        HandshakeError: the request is none to accept; `response` is what to answer.
    """
    request = head if isinstance(head, Request) else Request(Headers(head))
    names = (subprotocol,) if isinstance(subprotocol, str) else tuple(subprotocol or ())
    chosen = check_request(request, subprotocols=check_subprotocols(names))
    request._bind(subprotocol=chosen)
    return Response(
        response_headers(request, headers),
        code=101,
        reason="Switching Protocols",
        subprotocol=chosen,
    )
