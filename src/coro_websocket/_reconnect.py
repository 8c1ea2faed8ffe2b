"""reconnect: one connection after the other, for as long as it is worth trying."""

from __future__ import annotations

import email.utils
import inspect
import logging
import math
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from ._checks import check_int, wrong_type
from ._connection.leaving import close_on_exit
from ._errors import ConnectionClosedError, InvalidOption, InvalidOptionType, WebSocketError
from ._http.opening_errors import (
    ConnectError,
    ConnectTimeout,
    HandshakeError,
    ProxyError,
    TLSError,
    may_be_granted_later,
)
from ._opening.connect import Opened, connect
from ._options.options import Options
from ._options.rules import duration
from ._options.tls import may_succeed_later
from ._quoting import clip
from ._rfc6455.close_codes import ABNORMAL, describe
from ._runtimes.current import running_loop

if TYPE_CHECKING:
    from ._connection.read_write import Read, Write
    from ._options.options import OptionValues, Seconds
    from ._options.url import URL
    from ._runtimes.event_loop import SocketLoop

__all__ = ["Reconnecting", "reconnect", "worth_retrying"]

logger = logging.getLogger("coro_websocket.reconnect")

NOT_OF_THE_NETWORK = (ssl.SSLError, FileNotFoundError, PermissionError)

# Close codes that say that the peer, or we, would fail the connection again: a violation of the
# protocol or of a policy, data or a size that is not taken, an extension that is missing (RFC
# 6455 section 7.4.1), and IANA's "Unauthorized" and "Forbidden".
FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003})

LONGEST_RETRY_AFTER = 3600.0  # seconds: a server cannot keep us away for longer

Overrides = Mapping[str, Any] | None
Retry = Callable[[Exception], bool]
Before = Callable[[int, Exception | None], Overrides | Awaitable[Overrides]]


def worth_retrying(error: Exception) -> bool:
    """Whether another attempt may succeed where this one failed: the default rule of `reconnect`.

    Yes, if the server could not be reached, was lost during the handshake or was too slow, and if
    it, or a proxy, refused with 408, 425, 429 or 5xx, or TLS with an internal error. No, if it
    refused otherwise, is not a WebSocket server, or its TLS is not accepted (certificate, name,
    version); nor, if a proxy's error is `permanent`.

    Of a connection that ended with an error before `settle_time`: no for the close codes 1002,
    1003, 1007 to 1010, 3000 and 3003, which would come again; yes for all others, 1006 (no Close
    frame) and those of private use among them.

    Of what the hook `before` raises: yes for an OSError that the network may be the reason of,
    TimeoutError among them; no for everything else.
    """
    if not isinstance(error, WebSocketError):
        return isinstance(error, OSError) and _of_the_network(error)
    if isinstance(error, TLSError):
        return error.__cause__ is None or _of_the_network(error.__cause__)
    if isinstance(error, ProxyError):
        return not error.permanent
    if isinstance(error, HandshakeError):
        return error.response is not None and may_be_granted_later(error.response.code)
    if isinstance(error, ConnectionClosedError):
        return error.code not in FINAL_CODES
    return isinstance(error, ConnectError)


def _of_the_network(error: BaseException) -> bool:
    return not isinstance(error, NOT_OF_THE_NETWORK) or may_succeed_later(error)


def reconnect(
    url: str | URL | Options | Mapping[str, Any] | None = None,
    /,
    *,
    retry: Retry = worth_retrying,
    before: Before | None = None,
    first_delay: Seconds = 0.5,
    max_delay: Seconds = 60.0,
    settle_time: Seconds = 5.0,
    max_attempts: int | None = None,
    max_time: Seconds = None,
    **options: Unpack[OptionValues],
) -> Reconnecting:
    """Connect again and again: iterate over it for one connection after the other.

        async for res, read, write in reconnect("wss://feed.example/"):
            try:
                await write("subscribe")
                async for msg in read:
                    print(msg.payload)
            except ConnectionClosedError:
                pass  # lost: the loop goes on with the next connection

    The next connection is opened when the body ends or continues; the last one is closed then,
    and also when the loop is left. An error that leaves the body leaves the loop. After `break`
    Python closes it a moment later, in a task of its own; so that it is closed before the program
    goes on, write

        async with reconnect("wss://feed.example/") as connections:
            async for res, read, write in connections:
                break

    which also tells the peer how the block was left, as that of `connect` does: 1011 after an
    error, 1001 when cancelled. The loop alone cannot know, and always closes with 1000.

    Between attempts there is a random pause of at most `first_delay` seconds, which doubles with
    each attempt that fails up to `max_delay`, so that many clients do not come back at once. It is
    `first_delay` again once a connection has been open for `settle_time`; one that was not counts
    as an attempt that failed. The `Retry-After` (RFC 9110 section 10.2.3) of a server or a proxy
    with 408, 425, 429 or 5xx is waited for, up to an hour.

    Args:
        url: as for `connect`.
        retry: a function of the error, of an attempt or of `before`, that says whether to try
            again, by default `worth_retrying`. All others are raised from the loop. It is also
            asked about a connection that ended with an error before `settle_time`: that is a
            ConnectionClosedError.
        before: called before each attempt with its number (1, and 1 again after a connection) and
            the error of the last one or None; a function or a coroutine function. It may return
            options that win over the others, such as `headers` with a fresh token, and `url`.
            Where it raises, the attempt has failed.
        first_delay: seconds of the longest pause after the first failure. Default 0.5.
        max_delay: seconds of the longest pause at all; None: it goes on doubling. Default 60.
        settle_time: seconds after which a connection counts as a success. Default 5.
        max_attempts: how many attempts in a row may fail. Default None: any number.
        max_time: how many seconds there may be without a connection that settles. Default None:
            any number. An attempt has what is left of it, if that is less than `timeout`.
            Whichever is crossed first, the last error is raised.
        **options: as for `connect`.

    Raises:
        NoEventLoopError: called where no event loop runs.
        InvalidURL, InvalidOption: something given cannot be used.

    Iterating raises what `connect` raises, where that is not retried.
    """
    loop = running_loop("reconnect()")
    Options.build(url, **options)  # refused here, and not at each attempt
    for name, function in (("retry", retry), ("before", before)):
        if not callable(function) and not (name == "before" and function is None):
            raise wrong_type(name, "a function", function)
    if inspect.iscoroutinefunction(retry):
        raise _retry_is_awaitable()
    if max_attempts is not None:
        check_int("max_attempts", max_attempts, 1, or_none=True)
    first = duration("first_delay", first_delay)
    if first is None:
        raise InvalidOption("first_delay cannot be None: there must be pauses", "first_delay")
    longest = duration("max_delay", max_delay)
    pauses = Pauses(
        first,
        math.inf if longest is None else longest,
        duration("settle_time", settle_time) or 0.0,
    )
    limits = Limits(max_attempts, duration("max_time", max_time))
    return Reconnecting(loop, url, options, retry, before, pauses, limits)


def _retry_is_awaitable() -> InvalidOptionType:
    return InvalidOptionType(
        "retry must be a function that returns bool, not a coroutine function", "retry"
    )


class Pauses:
    """How long to wait before the next attempt: exponential backoff with full jitter."""

    def __init__(self, first: float, most: float, settle_time: float) -> None:
        self.first = first
        self.most = max(first, most)
        self.settle_time = settle_time
        self.longest = first

    def next(self) -> float:
        pause = random.uniform(0, self.longest)
        self.longest = min(self.longest * 2, self.most)
        return pause

    def settled(self, seconds: float) -> bool:
        """Whether a connection open for so long is a success; the pauses then begin again."""
        if seconds < self.settle_time:
            return False
        self.longest = self.first
        return True


class Limits:
    """When to give up."""

    def __init__(self, attempts: int | None, seconds: float | None) -> None:
        self.attempts = attempts
        self.seconds = seconds

    def crossed(self, attempts: int, seconds: float) -> bool:
        return (self.attempts is not None and attempts >= self.attempts) or (
            self.seconds is not None and seconds >= self.seconds
        )


class Reconnecting:
    """What `reconnect` returns: iterate over it with `async for`."""

    def __init__(
        self,
        loop: SocketLoop,
        url: str | URL | Options | Mapping[str, Any] | None,
        options: OptionValues,
        retry: Retry,
        before: Before | None,
        pauses: Pauses,
        limits: Limits,
    ) -> None:
        self._loop = loop
        self._url = url
        self._options = options
        self._retry = retry
        self._before = before
        self._pauses = pauses
        self._limits = limits
        self._write: Write | None = None  # of the connection that is open
        self._ended = False
        # Since the last connection that settled
        self._attempts = 0
        self._since = 0.0

    def __aiter__(self) -> AsyncIterator[Opened]:
        return self._connections()

    async def __aenter__(self) -> Reconnecting:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self._end(error)

    async def aclose(self) -> None:
        """Close the connection that is open, with 1000; no other follows."""
        await self._end(None)

    async def _end(self, error: BaseException | None) -> None:
        self._ended = True
        if self._write is not None:
            await close_on_exit(self._write, error)

    async def _connections(self) -> AsyncIterator[Opened]:
        loop = self._loop
        self._attempts, self._since = 0, loop.time()
        pause = 0.0
        lost: ConnectionClosedError | None = None
        while not self._ended:
            opened = await self._next(pause, lost)
            _, read, self._write = opened
            if self._ended:  # while it was opened
                await close_on_exit(self._write, None)
                return
            began = loop.time()
            try:
                yield opened
            finally:
                open_for = loop.time() - began
                await close_on_exit(opened[2], None)
            logger.info(
                "the connection to %s ended with %s %s after %.1f s",
                "the server" if opened[0].url is None else opened[0].url.redacted,
                read.close_code or ABNORMAL,
                clip(read.close_reason),
                open_for,
            )
            if self._pauses.settled(open_for):
                self._attempts, self._since = 0, loop.time()
            else:
                lost = _too_short(read, open_for)
                if lost.__cause__ and not self._ended and not self._worth_retrying(lost):
                    raise lost
            pause = self._pauses.next()

    async def _next(self, pause: float, error: Exception | None) -> Opened:
        """The next connection, after as many attempts as it takes.

        error: why the last connection counts as a failure, where it does.
        """
        loop = self._loop
        attempt = 0
        last: Exception | None = None
        while True:
            if error is not None and self._attempts:
                elapsed = loop.time() - self._since
                if self._limits.crossed(self._attempts, elapsed + pause):
                    raise error
                logger.info("attempt failed, the next in %.1f s: %s", pause, error)
            if pause:
                await loop.sleep(pause)
            attempt += 1
            self._attempts += 1
            try:
                given = await self._ask_before(attempt, last)
            except Exception as raised:  # whatever the user's hook raises
                error = last = raised
            else:
                try:
                    return await self._connect(given)
                except (ConnectError, HandshakeError) as raised:
                    error = last = raised
            if not self._worth_retrying(error):
                raise error
            pause = max(self._pauses.next(), retry_after(error))

    def _time_left(self) -> float | None:
        """How many seconds `max_time` leaves for an attempt; None: any number."""
        if self._limits.seconds is None:
            return None
        elapsed = self._loop.time() - self._since
        return max(math.ceil((self._limits.seconds - elapsed) * 1000) / 1000, 0.001)

    async def _ask_before(self, attempt: int, error: Exception | None) -> Mapping[str, Any]:
        if self._before is None:
            return {}
        given = self._before(attempt, error)
        if inspect.isawaitable(given):
            async with self._loop.limit(self._time_left()):
                given = await given
        if given is not None and not isinstance(given, Mapping):
            kind = type(given).__name__
            raise InvalidOptionType(f"before must return options or None, not {kind}", "before")
        return given or {}

    async def _connect(self, given: Mapping[str, Any]) -> Opened:
        options: Any = {**self._options, **given}
        built = Options.build(options.pop("url", self._url), **options)
        left = self._time_left()
        if left is None or (built.timeout is not None and built.timeout <= left):
            return await connect(built)
        try:
            return await connect(built, timeout=left)
        except ConnectTimeout as error:
            error.add_note(f"max_time={self._limits.seconds:g} left no more for this attempt")
            raise

    def _worth_retrying(self, error: Exception) -> bool:
        verdict = self._retry(error)
        if inspect.isawaitable(verdict):
            if inspect.iscoroutine(verdict):
                verdict.close()  # which would be warned of
            raise _retry_is_awaitable() from error
        return verdict


def _too_short(read: Read, seconds: float) -> ConnectionClosedError:
    """The error of a connection that was open for so long only.

    How the connection ended is its cause, where that was not cleanly.
    """
    code = read.close_code or ABNORMAL
    cause = read._end_error()
    how = cause or "it was closed with " + describe(code, read.close_reason)
    error = ConnectionClosedError(
        f"the connection was open for only {seconds:.1f} s: {how}", code, read.close_reason
    )
    error.__cause__ = cause
    return error


def retry_after(error: Exception) -> float:
    """The seconds that server or proxy ask to wait, 0 if none does (RFC 9110 section 10.2.3)."""
    response = error.response if isinstance(error, (HandshakeError, ProxyError)) else None
    if response is None or not may_be_granted_later(response.code):
        return 0.0
    value = (response.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - datetime.now(UTC)).total_seconds()), LONGEST_RETRY_AFTER)
