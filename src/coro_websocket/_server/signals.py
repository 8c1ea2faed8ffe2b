"""Signals that end the program, told to whoever waits for them on an event loop.

The rule: what was there before is there again afterwards, and several servers of a program may
wait at once: each is told of every signal. It works on every event loop in the same way, with
`signal.signal`: what wakes the loop is `call_soon`, which may be called in a signal handler.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from .._checks import is_int, wrong_type
from .._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._runtimes.event_loop import SocketLoop

__all__ = ["ENDING", "Signals", "check_signals"]

# SIGBREAK is what Windows sends for Ctrl-Break, and what a service's controller can send there;
# SIGTERM comes from nobody on Windows but the process itself.
ENDING: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)
)

_waiting: dict[int, list[Signals]] = {}
_before: dict[int, Any] = {}


def check_signals(signals: bool | Iterable[int]) -> tuple[int, ...]:
    """The signals that this stands for: True is those that end a program."""
    if isinstance(signals, bool):
        numbers = ENDING if signals else ()
    else:
        try:
            numbers = tuple(signals)
        except TypeError:
            raise wrong_type("signals", "a bool or signals", signals) from None
        for number in numbers:
            if not is_int(number):
                raise wrong_type("signals: each", "a signal, such as signal.SIGTERM", number)
    if numbers and threading.current_thread() is not threading.main_thread():
        raise InvalidOption(
            "signals=True works only in the main thread, the only one that Python tells of "
            "signals: run the server there, or wait for signals there and have this thread's loop "
            "run server.drain() (asyncio.run_coroutine_threadsafe)",
            "signals",
        )
    return numbers


class Signals:
    """While it is entered, signals are told by `next`, and do nothing else."""

    def __init__(self, loop: SocketLoop, numbers: Iterable[int]) -> None:
        self._loop = loop
        self._numbers = tuple(dict.fromkeys(numbers))
        self._came: list[int] = []
        self._event = loop.event()

    def __enter__(self) -> Self:
        try:
            for number in self._numbers:
                self._watch(number)
        except BaseException:
            self.restore()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def _watch(self, number: int) -> None:
        waiting = _waiting.setdefault(number, [])
        waiting.append(self)
        if len(waiting) == 1:
            try:
                _before[number] = signal.signal(number, _tell)
            except (OSError, ValueError) as error:
                raise InvalidOption(
                    f"signals: {number} cannot be handled: {error}", "signals"
                ) from (None)

    def restore(self) -> None:
        """Let the signals do what they did before."""
        for number in self._numbers:
            waiting = _waiting.get(number, [])
            if self in waiting:
                waiting.remove(self)
                if not waiting:
                    del _waiting[number]
                    # None: a handler that Python has not set, and cannot set again.
                    before = _before.pop(number, None)
                    if before is not None and signal.getsignal(number) is _tell:
                        signal.signal(number, before)

    async def next(self) -> int:
        """Wait for the next signal."""
        while not self._came:
            self._event = self._loop.event()
            await self._event.wait()
        return self._came.pop(0)

    def _comes(self, number: int) -> None:
        self._came.append(number)
        self._event.set()


def _tell(number: int, _frame: object) -> None:
    for signals in tuple(_waiting.get(number, ())):
        with contextlib.suppress(RuntimeError):  # its loop has ended
            signals._loop.call_soon(signals._comes, number)
