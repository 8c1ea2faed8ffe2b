"""What errors say where `read` or `write` is called in a way that cannot be meant."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import NoReturn

from ._errors import InvalidMessageType, InvalidOptionType
from ._quoting import clip

__all__ = ["check_read_call", "check_write_call", "message_hint", "no_attribute", "not_iterable"]

_READ = ("fragments", "control")
_WRITE = ("message", "compress")
_OF_A_FRAME = ("opcode", "fin", "mask", "rsv1", "rsv2", "rsv3", "payload", "len")


def check_read_call(args: Sequence[object], names: Collection[str]) -> None:
    """InvalidOptionType if `read` does not take these arguments; it says what to do instead."""
    _refuse_timeout("read()", names)
    for name in names:
        if name not in _READ:
            raise InvalidOptionType(
                f"read() takes {' and '.join(_READ)}, and not {clip(name)}", name
            )
    if args:
        raise InvalidOptionType(
            f"read() takes {' and '.join(_READ)}, by name: read(control=True)", "fragments"
        )


def check_write_call(args: Sequence[object], names: Collection[str]) -> None:
    """As `check_read_call`, for `write`."""
    _refuse_timeout("write()", names)
    for name in names:
        if name in _OF_A_FRAME:
            raise InvalidOptionType(
                f"write() takes {name} as part of the message: "
                f"write(Message(...)) or write({{'payload': ..., {name!r}: ...}})",
                name,
            )
        if name not in _WRITE:
            raise InvalidOptionType(f"write() takes a message and compress, not {clip(name)}", name)
    if len(args) > 1:
        raise InvalidMessageType(
            f"write() takes one message, and {len(args)} came: call it for each; a list is the "
            "fragments of one message"
        )
    if args and "message" in names:
        raise InvalidMessageType("write() takes one message, and two came")


def _refuse_timeout(call: str, names: Collection[str]) -> None:
    if "timeout" in names:
        raise InvalidOptionType(
            f"{call} takes no timeout: put it inside 'async with asyncio.timeout(seconds):'",
            "timeout",
        )


def message_hint(value: object) -> str:
    """What to add to the error for something that is not a message."""
    if isinstance(value, Awaitable):
        return "; await it first"
    if value is None or isinstance(value, (bool, int, float, Mapping, list, tuple)):
        return "; to send JSON, write(json.dumps(...))"
    return ""


def not_iterable(call: str, instead: str) -> NoReturn:
    raise TypeError(f"{call} gives one awaitable, and cannot be iterated over: {instead}")


def no_attribute(call: str, name: str) -> NoReturn:
    """AttributeError, which says to await where that may have been forgotten."""
    advice = "" if name.startswith("__") else f": await it first, (await {call}).{name}"
    raise AttributeError(f"{call} has no attribute {name!r}{advice}", name=name)
