"""Hooks: what a server asks of the application about a request, before it answers.

The rule: a hook is the application's code, and its faults are the application's. What it raises
is logged, and the client gets a plain 500; what it returns of another type, too. Neither ends
the server, and nothing of an error is in the answer.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .._errors import InvalidOption, InvalidOptionType
from .._http.answers import refusal
from .._http.http_response import SWITCHING_PROTOCOLS, HTTPResponse
from .._quoting import clip
from .callables import name_of, wrong_arguments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager

    from .._http.request_and_response import Request
    from .._runtimes.event_loop import Loop

__all__ = [
    "Hooks",
    "ProcessRequest",
    "ProcessResponse",
    "Routing",
    "call_hook",
    "check_hooks",
    "failing",
]

Answer: TypeAlias = "HTTPResponse | Awaitable[HTTPResponse | None] | None"
ProcessRequest: TypeAlias = "Callable[[Request], Answer]"
ProcessResponse: TypeAlias = "Callable[[Request, HTTPResponse], Answer]"


class Routing(abc.ABC):
    """A handler that chooses another one by the request, before that is accepted: a router."""

    @abc.abstractmethod
    def _check(self) -> None:
        """InvalidOption if this cannot serve."""

    @abc.abstractmethod
    def _find(self, req: Request, /) -> None:
        """Keep in the Request what there is for it, where `process_request` finds it."""

    @abc.abstractmethod
    def _answer(self, req: Request, /) -> Answer:
        """What a request gets in place of the upgrade, or None, as from a hook.

        It comes after `process_request` and before the rules of the upgrade, so that it sees plain
        requests.
        """


@dataclass(frozen=True)
class Hooks:
    """Those of one server."""

    process_request: tuple[ProcessRequest, ...] = ()
    process_response: ProcessResponse | None = None


def check_hooks(
    process_request: ProcessRequest | Iterable[ProcessRequest] | None,
    process_response: ProcessResponse | None,
) -> Hooks:
    """The hooks, if each can be called with its arguments, else InvalidOptionType."""
    return Hooks(_check_process_request(process_request), _check_process_response(process_response))


def _check_process_request(
    given: ProcessRequest | Iterable[ProcessRequest] | None,
) -> tuple[ProcessRequest, ...]:
    if given is None:
        return ()
    several = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for hook in several:
        _check(hook, "process_request", "process_request(req), or a list of such functions", 1)
    return several


def _check_process_response(given: ProcessResponse | None) -> ProcessResponse | None:
    if given is not None:
        _check(given, "process_response", "process_response(req, response)", 2)
    return given


def _check(hook: object, name: str, expected: str, arguments: int) -> None:
    wrong = None
    if inspect.iscoroutine(hook):
        hook.close()  # nobody will await it, of which Python would warn
        wrong = "pass the function itself, without calling it"
    elif not callable(hook):
        wrong = f"{type(hook).__name__} cannot be called"
    else:
        wrong = wrong_arguments(hook, arguments)
    if wrong is not None:
        raise InvalidOptionType(f"{name} must be a function, {expected}: {wrong}", name)


async def call_hook(
    loop: Loop,
    name: str,
    hook: Callable[..., Any],
    arguments: tuple[object, ...],
    during: Callable[[], AbstractAsyncContextManager[object]],
) -> HTTPResponse | None:
    """What a hook says: an answer, or None.

    Args:
        name: the option that it was given as.
        during: what its awaiting takes place in; not entered for a plain function.

    Raises:
        HandshakeError: it has failed; the cause is how.
    """
    with failing(loop, name):
        result = hook(*arguments)
        if not inspect.isawaitable(result):
            return _checked(name, hook, result, arguments)
    async with during():
        with failing(loop, name):
            return _checked(name, hook, await result, arguments)


@contextlib.contextmanager
def failing(loop: Loop, name: str) -> Iterator[None]:
    """What the application's code raises within is a refusal with 500, with that as its cause."""
    try:
        yield
    except BaseException as error:
        if loop.is_cancellation(error) or not loop.is_failure(error):
            raise
        raise refusal(500, f"{name} has failed") from error


def _checked(
    name: str, hook: object, result: object, arguments: tuple[object, ...]
) -> HTTPResponse | None:
    if result is None:
        return None
    if not isinstance(result, HTTPResponse):
        raise InvalidOptionType(
            f"{name} must return None or an HTTPResponse, not {type(result).__name__}, "
            f"which {clip(name_of(hook))} returned",
            name,
        )
    if result.status == SWITCHING_PROTOCOLS:
        given = arguments[-1]
        if not isinstance(given, HTTPResponse):
            raise InvalidOption(f"{name} cannot return 101: None has the request accepted", name)
        if given.status != SWITCHING_PROTOCOLS:
            raise InvalidOption(
                f"{name} cannot return 101: this request is refused, as its response says", name
            )
    return result
