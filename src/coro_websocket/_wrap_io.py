"""wrap_io: WebSocket behaviour over any pair of coroutine functions.

The pair exchanges decoded frames, as in the original; `codec.decoder` and
`codec.encoder` turn a byte-level pair into it. The engine's rules hold here too: a
frame that breaks the protocol is refused, and the connection failed.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ._connection.begin import begin_connection
from ._errors import InvalidOption, InvalidOptionType
from ._options.options import Options
from ._runtimes.current import current_loop
from ._streams.raw_pair import RawPair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._connection.read_write import Read, Write
    from ._streams.raw_pair import RawRead, RawWrite

__all__ = ["wrap_io"]


def wrap_io(
    raw_read: RawRead,
    raw_write: RawWrite,
    options: Options | Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[Read, Write]:
    """Give a pair of coroutine functions WebSocket behaviour (wrapIo of luvit's coro-websocket).

    What it gives is used as what `connect` gives, and behaves so. Not only for sockets: a test,
    a pipe, a relay.

    The pair is called by two tasks of ours, in the event loop in which `wrap_io` was called: one
    raw read and one raw write at a time. So frames are taken, and Pings answered, while nobody
    reads, until `read_high_water` is reached; and cancelling a `read()` or a `write()` interrupts
    no frame. A write does not wait for the raw writer before `write_high_water` is reached.

    Called where neither asyncio nor trio runs, it works on any event loop, or on none. There is
    then no task of ours: whoever waits for the connection calls the pair. One task at a time may
    use it (whatever would have to wait for another raises NoEventLoopError), a write waits for
    the raw writer, `close_timeout` does not count, and there are neither `heartbeat`,
    `ping_interval` nor `write.ping()`.

    Whatever error the pair raises ends the connection: what has come is still read, and then
    ConnectionClosedError is raised from it.

    Args:
        raw_read: gives the next frame (a Message, or a mapping with its fields), or None
            at the end; EOFError or StopAsyncIteration is the end too. `codec.decoder` makes
            one from a function that reads bytes.
        raw_write: takes the next frame; None, once, says that no more will come.
            `codec.encoder` makes one from a function that writes bytes.
        options: an Options or a mapping, of which these count, also as keywords:
            `mask` (True for the client's side, False, the default, for the server's:
            RFC 6455 section 5.1), `max_message_size`, `read_high_water`, `write_high_water`
            and `overflow`, `close_timeout`, `heartbeat`, `ping_interval`, `ping_timeout` and
            `ping_message`, `fragments` and `control`. Pings are sent only if `ping_interval` is
            given, and in an Options is not the default. What is about getting connected is left
            alone in an Options or a mapping, as it is in the original; `compression` and
            `extensions` are refused, as there is no opening handshake to negotiate them.

    Returns:
        `read` and `write`, as `connect` gives them.

    Raises:
        InvalidOption: an option has a value that cannot be used, or counts for nothing here.
        InvalidOptionType: raw_read or raw_write cannot be called; there is no such option.
        NoEventLoopError: `heartbeat` or `ping_interval` is given where neither asyncio nor
            trio runs.
    """
    for name, function in (("raw_read", raw_read), ("raw_write", raw_write)):
        if not callable(function):
            raise InvalidOptionType(
                f"{name} must be a coroutine function, not {type(function).__name__}", name
            )
    built = Options.for_wrap_io(options, **more)
    given = _given(options, more)
    _refuse_unused(given, more)
    if "ping_interval" not in given:
        built = replace(built, ping_interval=None)
    loop = current_loop()
    if not loop.spawns:  # nobody but the writer itself would write
        built = replace(built, write_high_water=1)
    pair = RawPair(raw_read, raw_write, built, loop)
    _, read, write = begin_connection(pair, built, client=pair.client)
    return read, write


_USED = frozenset(
    {
        "mask",
        "max_message_size",
        "read_high_water",
        "write_high_water",
        "overflow",
        "close_timeout",
        "heartbeat",
        "ping_interval",
        "ping_timeout",
        "ping_message",
        "fragments",
        "control",
    }
)
# What would change how a connection behaves, but has to be negotiated when it is opened.
_NEGOTIATED = ("compression", "extensions")


def _given(options: Options | Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller asks for: of an Options, whatever is not the default."""
    if isinstance(options, Options):
        values = {
            each.name: (getattr(options, each.name), each.default) for each in fields(options)
        }
        given = {name: value for name, (value, default) in values.items() if value != default}
    else:
        given = dict(options or {})
    return given | dict(more)


def _refuse_unused(given: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Refuse what the caller expects to work and does not; None and () ask for nothing."""
    for name in _NEGOTIATED:
        if given.get(name) not in (None, ()):
            raise InvalidOption(
                f"{name} cannot be used with wrap_io(): it is negotiated in an opening handshake, "
                "and there is none",
                name,
            )
    for name, value in more.items():
        if name not in _USED and value not in (None, ()):
            raise InvalidOption(
                f"{name} makes no difference to wrap_io(): what counts is "
                + ", ".join(sorted(_USED)),
                name,
            )
