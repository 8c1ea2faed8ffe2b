"""wrap_io: WebSocket behaviour over any pair of coroutine functions.

The pair exchanges decoded frames, as in the original; `codec.decoder` and
`codec.encoder` turn a byte-level pair into it. The engine's rules hold here too: a
frame that breaks the protocol is refused, and the connection failed.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Never

from ._advice import check_read_call, check_write_call
from ._connection.raw_pair import Channel
from ._errors import InvalidOption, InvalidOptionType
from ._options.options import Options
from ._rfc6455.close_codes import ABNORMAL, NORMAL
from ._rfc6455.messages import Message, as_message, is_fragments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from ._connection.raw_pair import FrameStream, RawRead, RawWrite
    from ._connection.stats import Stats

__all__ = ["FrameRead", "FrameWrite", "wrap_io"]


def wrap_io(
    raw_read: RawRead,
    raw_write: RawWrite,
    options: Options | Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[FrameRead, FrameWrite]:
    """Give a pair of coroutine functions WebSocket behaviour (the specification's wrapIo).

    The closing handshake, Pongs, fragments, UTF-8 and limits are seen to, as on a
    connection of `connect`. Not only for sockets: a test, a pipe, a relay.

    Whatever error the pair raises ends the connection: what has come is still read, and then
    ConnectionClosedError is raised from it. The raw writer is called by a task of ours, one
    call at a time, so that cancelling a `read()` or a `write()` interrupts no frame.

    It works on asyncio and on trio. On another event loop there is no task of ours: one task
    at a time may use the connection (whatever would have to wait for another raises
    NoEventLoopError, before anything is sent), `close_timeout` does not count, and there are
    neither `heartbeat` nor `write.ping()`.

    Args:
        raw_read: gives the next frame (a Message, or a mapping with its fields), or None
            at the end; EOFError or StopAsyncIteration is the end too. `codec.decoder` makes
            one from a function that reads bytes.
        raw_write: takes the next frame; None says that no more will come.
            `codec.encoder` makes one from a function that writes bytes.
        options: an Options or a mapping, of which these count, also as keywords:
            `mask` (True for the client's side, False, the default, for the server's:
            RFC 6455 section 5.1), `heartbeat` (seconds between unsolicited Pongs; needs
            a running event loop), `max_message_size` (bytes), `close_timeout`
            (seconds), `fragments` and `control`. What is about getting connected is left
            alone in an Options or a mapping, as it is in the original; what `wrap_io` does
            not do (`ping_interval`, `compression`, `overflow` and the like) is refused.

    Returns:
        `read` and `write`, to be used as those of `connect`, but for two things: `broadcast`
        does not take this `write`, and `write(..., compress=...)` makes no difference, as
        nothing is compressed.

    Raises:
        InvalidOption: an option has a value that cannot be used, or counts for nothing here.
        InvalidOptionType: raw_read or raw_write cannot be called; there is no such option.
        NoEventLoopError: with `heartbeat`, called where neither asyncio nor trio runs.
    """
    for name, function in (("raw_read", raw_read), ("raw_write", raw_write)):
        if not callable(function):
            raise InvalidOptionType(
                f"{name} must be a coroutine function, not {type(function).__name__}", name
            )
    built = Options.for_wrap_io(options, **more)
    _refuse_unused(options, more)
    channel = Channel(raw_read, raw_write, built)
    return FrameRead(channel, built.fragments, built.control), FrameWrite(channel)


# What counts here, and what would change how a connection behaves but is not done here.
_COUNT = frozenset(
    {"mask", "heartbeat", "max_message_size", "close_timeout", "fragments", "control"}
)
_NOT_DONE = frozenset(
    {
        "ping_interval",
        "ping_timeout",
        "ping_message",
        "read_high_water",
        "write_high_water",
        "overflow",
        "compression",
        "extensions",
    }
)


def _refuse_unused(options: Options | Mapping[str, Any] | None, more: Mapping[str, Any]) -> None:
    """Refuse what the caller expects to work and does not; None and () ask for nothing."""
    given = {name: value for name, value in more.items() if name not in _COUNT}
    if isinstance(options, Options):
        for each in fields(options):
            value = getattr(options, each.name)
            if each.name in _NOT_DONE and value != each.default:
                given.setdefault(each.name, value)
    elif options is not None:
        for name, value in options.items():
            if name in _NOT_DONE:
                given.setdefault(name, value)
    for name, value in given.items():
        if value is not None and value != ():
            raise InvalidOption(
                f"{name} makes no difference to wrap_io(): what counts is "
                + ", ".join(sorted(_COUNT)),
                name,
            )


class FrameRead:
    """`read` of a pair from `wrap_io`: used as `Read` is."""

    def __init__(self, channel: Channel, fragments: bool, control: bool) -> None:
        self._channel = channel
        self._fragments = fragments
        self._control = control

    async def __call__(
        self,
        *args: Never,
        fragments: bool | None = None,
        control: bool | None = None,
        **more: Never,
    ) -> Message | None:
        """The next message, or None once the connection has closed cleanly; see Read."""
        check_read_call(args, more)
        return await self._channel.read(
            self._fragments if fragments is None else fragments,
            self._control if control is None else control,
        )

    def __aiter__(self) -> FrameRead:
        return self

    async def __anext__(self) -> Message:
        message = await self()
        if message is None:
            raise StopAsyncIteration
        return message

    async def batch(self) -> list[Message]:
        """The next message and those that have come with it, [] once closed; see Read.batch."""
        message = await self()
        if message is None:
            return []
        return self._channel.batch(message)

    async def stream(self) -> FrameStream | None:
        """The next message, as its frames come, or None once closed; see Read.stream."""
        return await self._channel.stream()

    def fragments(self, *, control: bool | None = None) -> FrameRead:
        """A reader that gives each frame by itself; see Read.fragments."""
        return FrameRead(self._channel, True, self._control if control is None else control)

    @property
    def close_code(self) -> int | None:
        """The close code, None while the connection is open; see Read.close_code."""
        if self._channel.engine.close_code is not None:
            return self._channel.engine.close_code
        return ABNORMAL if self._channel.closed else None

    @property
    def close_reason(self) -> str:
        """The reason in the Close frame, "" if there is none."""
        return self._channel.engine.close_reason

    @property
    def stats(self) -> Stats:
        """What the connection has counted up to now. A frame counts for its encoded size."""
        return self._channel.stats

    def __repr__(self) -> str:
        return f"<read {self._channel!r}>"


class FrameWrite:
    """`write` of a pair from `wrap_io`: used as `Write` is."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def __call__(
        self, message: Any = None, *args: Never, compress: bool = True, **more: Never
    ) -> None:
        """Send a message, its fragments, or None to close; see Write.

        A write that is cancelled once the message is encoded does not take it back. compress
        makes no difference here.
        """
        check_write_call((message, *args), more)
        if message is None:
            await self._channel.close(NORMAL, "")
        elif is_fragments(message):
            await self._channel.write_fragments(message)
        else:
            await self._channel.write(as_message(message))

    def ping(self, payload: str | bytes | None = None) -> Awaitable[float]:
        """Send a Ping; an awaitable of the seconds until its Pong, for which a task must read."""
        return self._channel.ping(payload)

    async def pong(self, payload: str | bytes = b"") -> None:
        """Send a Pong that no Ping asked for (RFC 6455 section 5.5.3)."""
        await self._channel.write(Message(payload, 10))

    async def close(self, code: int | None = NORMAL, reason: str = "") -> None:
        """Close with this code and reason, and wait for the closing handshake; see Write.close."""
        await self._channel.close(code, reason)

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, for which a task must read or close."""
        await self._channel.over.wait()

    @property
    def stats(self) -> Stats:
        """What the connection has counted up to now. A frame counts for its encoded size."""
        return self._channel.stats

    def __repr__(self) -> str:
        return f"<write {self._channel!r}>"
