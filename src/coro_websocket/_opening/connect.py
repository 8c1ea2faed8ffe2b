"""connect: one call from a URL or options to `(res, read, write)`."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from .._connection.begin import begin_connection
from .._connection.leaving import close_on_exit
from .._connection.log import log_end
from .._connection.read_write import Read, Write
from .._errors import InvalidOption, WebSocketError
from .._http.client_handshake import ClientHandshake
from .._http.opening_errors import ConnectError, ConnectTimeout, HandshakeError
from .._http.refusal_text import refusal_text
from .._options.options import Options
from .._options.tls import client_context
from .._runtimes.current import running_loop
from .dial import dial
from .phase import Phase
from .proxies import with_proxy_context
from .redirects import is_redirect, redirected
from .tls import tls_error

if TYPE_CHECKING:
    from types import TracebackType

    from .._http.request_and_response import Response
    from .._options.options import OptionValues
    from .._options.url import URL
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe

__all__ = ["connect"]

logger = logging.getLogger("coro_websocket.client")

Opened = tuple["Response", Read, Write]

# What servers say to a request without TLS on a port for TLS.
_WANTS_TLS = re.compile(
    rb"HTTP request was sent to HTTPS|HTTP request to an HTTPS|plain HTTP to an SSL", re.IGNORECASE
)


def connect(
    url: str | URL | Options | Mapping[str, Any] | None = None,
    /,
    **options: Unpack[OptionValues],
) -> Connecting:
    """Connect to a WebSocket server (RFC 6455 section 4.1).

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
        InvalidURL: the URL is not a WebSocket URL (RFC 6455 section 3).
        InvalidOption: an option has a value that cannot be used.
        ConnectError: the server cannot be reached (TLSError: TLS could not be set up).
        ConnectTimeout: the connection was not open within `timeout` seconds.
        HandshakeError: the server refused, with its Response as `response`, or is not a
            WebSocket server (RFC 6455 section 4.1). One that hangs up without an answer is a
            ConnectError of `phase` "handshake".

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
        # Made at once, so that what cannot be used is refused here.
        context = client_context(options.tls) if options.tls else None
        options = with_proxy_context(options)
        self._options = options
        self._opening = open_connection(options, context, client_handshake(options))
        # The name under which Python warns that it was never awaited.
        self._opening.__qualname__ = "connect"  # type: ignore[attr-defined]
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
        return f"<connect to {self._options.url.redacted}>"


def client_handshake(options: Options) -> ClientHandshake:
    """The opening handshake that the options ask for."""
    url = options.url
    return ClientHandshake(
        host_header=url.authority,
        pathname=url.pathname,
        headers=options.headers,
        subprotocols=options.subprotocol,
        authorization=url.authorization,
        origin=options.origin,
        user_agent=options.user_agent,
        extensions=options.extension_factories,
        max_head_size=options.max_head_size,
        max_header_lines=options.max_header_lines,
        max_body_size=options.max_body_size,
    )


async def open_connection(
    options: Options, context: ssl.SSLContext | None, handshake: ClientHandshake
) -> Opened:
    """What `connect` awaits; the log says how it ended."""
    try:
        return await _open(options, context, handshake)
    except WebSocketError as error:
        logger.info("connecting to %s failed: %s", options.url.redacted, error)
        raise


async def _open(
    options: Options, context: ssl.SSLContext | None, handshake: ClientHandshake
) -> Opened:
    """Dial and shake hands, wherever redirects lead."""
    loop = running_loop("connect()")
    phase = Phase(loop, options)
    try:
        async with loop.limit(options.timeout) as deadline:
            redirects = 0
            while True:
                try:
                    limit = options.max_redirects if options.sock is None else 0
                    follow = limit is None or redirects < limit
                    pipe, response = await _attempt(
                        loop, options, context, handshake, phase, follow
                    )
                    break
                except HandshakeError as refusal:
                    there = _sent_to(options, refusal.response, redirects)
                    if there is None:
                        raise
                redirects += 1
                logger.info("redirected from %s to %s", options.url.redacted, there.url.redacted)
                if there.tls != options.tls:
                    context = client_context(there.tls) if there.tls else None
                options, handshake = there, client_handshake(there)
    except TimeoutError:
        if not deadline.expired():
            raise
        if handshake.refusing:
            _raise_refusal(options.url, handshake)
        raise ConnectTimeout(
            f"{options.url.redacted} was not open within {options.timeout:g} s "
            f"(timeout); the phase that did not end: {phase.in_words}",
            phase.name,
        ) from None
    connection, read, write = begin_connection(
        pipe,
        options,
        client=True,
        extensions=handshake.extensions,
        leftover=handshake.leftover,
    )
    # What TLS there is without that is a proxy's.
    ssl_object = pipe.ssl_object if options.tls else None
    response._bind(socket=pipe.socket, url=options.url, ssl_object=ssl_object)
    response._forget_names()
    logger.info("connected to %s", options.url.redacted)
    log_end(logger, f"the connection to {options.url.redacted}", connection, pipe.socket)
    return response, read, write


def _sent_to(options: Options, response: Response | None, redirects: int) -> Options | None:
    """The options for where a refusal sends us; None where it sends us nowhere.

    Raises HandshakeError where there were too many redirects already.
    """
    there = redirected(options, response) if options.max_redirects != 0 else None
    if there is not None and redirects == options.max_redirects:
        raise HandshakeError(
            f"redirected more than {redirects} times (max_redirects), at last from "
            f"{options.url.redacted} to {there.url.redacted}",
            response,
        ) from None
    return there


async def _attempt(
    loop: SocketLoop,
    options: Options,
    context: ssl.SSLContext | None,
    handshake: ClientHandshake,
    phase: Phase,
    follow: bool,
) -> tuple[Pipe, Response]:
    """One server: dial it, and shake hands with it. follow: do not wait for a redirect's body."""
    pipe = await dial(loop, options, context, phase)
    try:
        async with phase.of("handshake"):
            return pipe, await _shake_hands(pipe, options.url, handshake, follow)
    except ConnectTimeout:
        pipe.close()
        if handshake.refusing:
            _raise_refusal(options.url, handshake)
        raise
    except BaseException:
        pipe.close()
        raise


async def _shake_hands(pipe: Pipe, url: URL, handshake: ClientHandshake, follow: bool) -> Response:
    data: bytes | None = None
    answered = False
    unsent: ConnectionError | None = None
    try:
        try:
            await pipe.send(handshake.request())
        except ConnectionError as error:  # a server that does not wait for it may have answered
            unsent = error
        response = None
        while response is None:
            data = await pipe.receive()
            answered = answered or data != b""
            if unsent is not None and not data and not handshake.refusing:
                raise unsent
            response = handshake.receive(data)
            if follow and is_redirect(handshake.refusal):
                handshake.give_up()
    except HandshakeError as error:
        if data == b"" and error.response is None:
            raise _lost(url, error, answered) from None
        raise _located(error, url, handshake) from None
    except OSError as error:
        if handshake.refusing:
            _raise_refusal(url, handshake)
        if isinstance(error, ssl.SSLError):
            # With TLS 1.3 a server refuses our certificate when TLS is set up for us already
            # (RFC 8446 section 2).
            raise tls_error(f"{url.host} port {url.port}", error) from error
        raise _lost(url, error.strerror or error, answered) from error
    return response


def _lost(url: URL, why: object, answered: bool) -> ConnectError:
    hint = ""
    if not answered and not url.tls and url.path is None:
        hint = "; if it speaks TLS on this port, try wss://"
    return ConnectError(
        f"{url.redacted} was lost during the opening handshake: {why}{hint}", "handshake"
    )


def _raise_refusal(url: URL, handshake: ClientHandshake) -> NoReturn:
    """Raise the server's refusal, with as much of its body as came."""
    try:
        handshake.give_up()
    except HandshakeError as error:
        raise _located(error, url, handshake) from None


def _located(error: HandshakeError, url: URL, handshake: ClientHandshake) -> HandshakeError:
    said = ""
    if error.response is not None:
        error.response._bind(url=url)
        if (text := refusal_text(error.response, handshake.request())) != "":
            said = f"; it says {text}"
        if not url.tls and _WANTS_TLS.search(error.response.body, 0, 4096):
            said += "; it speaks TLS on this port: use wss://"
    return HandshakeError(f"{url.redacted}: {error}{said}", error.response)
