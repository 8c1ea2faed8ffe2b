"""connect: one call from a URL or options to `(res, read, write)`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from ._asyncio._dial import Phase, dial
from ._asyncio._read_write import Read, Write
from ._asyncio._waiting import running_loop
from ._engine import Engine
from ._errors import ConnectError, ConnectTimeout, HandshakeError, InvalidOption
from ._handshake import ClientHandshake
from ._options import Options

if TYPE_CHECKING:
    from types import TracebackType

    from ._asyncio._pipes import Pipe
    from ._options import OptionValues
    from ._response import Response
    from ._url import URL

__all__ = ["connect"]

logger = logging.getLogger("coro_websocket.client")

Opened = tuple["Response", Read, Write]


def connect(
    url: str | URL | Options | Mapping[str, Any] | None = None,
    /,
    **options: Unpack[OptionValues],
) -> Connecting:
    """Connect to a WebSocket server (the specification's `connect`; RFC 6455 section 4.1).

    Await it for `(res, read, write)`, or enter it with `async with`, which closes the
    connection on the way out:

        res, read, write = await connect("wss://echo.example/path")

        async with connect(host="127.0.0.1", port=8000, timeout=5) as (res, read, write):
            await write("Hello There!")
            async for msg in read:
                print(msg.payload)

    Args:
        url: a `ws://`, `wss://` or `ws+unix://` URL, a `URL`, an `Options`, or a mapping
            with the names of the fields of `Options`.
        **options: the fields of `Options` as keywords; they win over `url`. Durations are
            in seconds, sizes in bytes.

    Returns:
        An awaitable (a coroutine to asyncio) and asynchronous context manager, of
        `res`, the server's Response; `read`, see Read; and `write`, see Write.

    Raises:
        NoEventLoopError: called where no event loop runs.
        InvalidURL: the URL is no WebSocket URL (RFC 6455 section 3).
        InvalidOption: an option has a value that cannot be used.
        ConnectError: the server cannot be reached (TLSError: TLS could not be set up).
        ConnectTimeout: the connection was not open within `timeout` seconds.
        HandshakeError: the server refused, with its Response as `response`, or is no
            WebSocket server (RFC 6455 section 4.1).

    The last three when awaited, the others at once.
    """
    running_loop("connect()")
    built = Options.build(url, **options)
    if built.mask is not None:
        raise InvalidOption(
            "mask is only for wrap_io: a client always masks (RFC 6455 section 5.1)", "mask"
        )
    return Connecting(built)


class Connecting(Coroutine[Any, Any, Opened]):
    """What `connect` returns: await it or enter it, once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._opening = open_connection(options)
        self._write: Write | None = None

    def __await__(self) -> Generator[Any, Any, Opened]:
        return self._opening.__await__()

    def send(self, value: Any, /) -> Any:
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        return self._opening.throw(*error)

    def close(self) -> None:
        self._opening.close()

    async def __aenter__(self) -> Opened:
        opened = await self
        self._write = opened[2]
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._write is not None
        await close_on_exit(self._write, error)

    def __repr__(self) -> str:
        return f"<connect to {self._options.url}>"


async def close_on_exit(write: Write, error: BaseException | None) -> None:
    """Close with the code that tells the peer how the block was left."""
    if error is None:
        await write.close()
    elif isinstance(error, Exception):
        await write.close(1011, "internal error")
    else:  # cancelled, or the program ends
        await write.close(1001, "going away")


async def open_connection(options: Options) -> Opened:
    """Dial, shake hands, and hand the socket over to the native connection."""
    loop = asyncio.get_running_loop()
    phase = Phase()
    try:
        async with asyncio.timeout(options.timeout) as deadline:
            pipe = await dial(loop, options, phase)
            phase.name = "handshake"
            try:
                response, handshake = await _shake_hands(pipe, options)
            except BaseException:
                pipe.close()
                raise
    except TimeoutError:
        if not deadline.expired():
            raise
        raise ConnectTimeout(
            f"{options.url} was not open within {options.timeout:g} s "
            f"(timeout); the phase that did not end: {phase.name}",
            phase.name,
        ) from None
    engine = Engine(
        True, max_message_size=options.max_message_size, extensions=handshake.extensions
    )
    connection = pipe.become_stream(engine, options, handshake.leftover)
    response._bind(socket=pipe.socket, url=options.url)
    logger.info("connected to %s, subprotocol %s", options.url, response.subprotocol)
    read = Read(connection, fragments=options.fragments, control=options.control)
    return response, read, Write(connection)


async def _shake_hands(pipe: Pipe, options: Options) -> tuple[Response, ClientHandshake]:
    url = options.url
    handshake = ClientHandshake(
        host_header=url.authority,
        pathname=url.pathname,
        headers=options.headers,
        subprotocols=options.subprotocol,
        authorization=url.authorization,
        extensions=options.extension_factories,
        max_head_size=options.max_head_size,
        max_header_lines=options.max_header_lines,
    )
    try:
        await pipe.send(handshake.request())
        response = None
        while response is None:
            response = handshake.receive(await pipe.receive())
    except HandshakeError as error:
        if error.response is not None:
            error.response._bind(url=url)
        raise
    except OSError as error:
        raise ConnectError(
            f"{url} was lost during the opening handshake: {error.strerror or error}", "handshake"
        ) from error
    return response, handshake
