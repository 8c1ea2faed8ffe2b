"""The handler: what can be one, and what becomes of its connection when it ends.

The rules: only what cannot be a handler is refused. A function that is not `async def` may return
an awaitable all the same; of these, lambdas and what wraps a coroutine function are let through.
However a handler ends, its connection is closed. That it fails is logged; that its own connection
has ended is not a failure.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .._connection.leaving import close_on_exit
from .._errors import ConnectionClosedError, InvalidOptionType
from .._quoting import clip
from .callables import not_callable, takes_exactly, wrong_arguments
from .log import in_words, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .._connection.read_write import Read, Write
    from .._http.request_and_response import Request
    from .._rfc6455.engine import Engine
    from .._runtimes.event_loop import Loop
    from .client import Client

__all__ = ["Handler", "after_failure", "check_handler"]

Handler: TypeAlias = "Callable[[Request, Read, Write], Awaitable[object]]"


def check_handler(handler: object, parameters: Sequence[str] = (), *, more: bool = False) -> None:
    """InvalidOptionType if this cannot be awaited when it is called as handlers are.

    Args:
        parameters: the names of the keyword arguments that it gets from its path.
        more: whether it may get more of these.
    """
    if takes_exactly(handler, ("scope", "receive", "send")):
        raise InvalidOptionType(
            "this is an ASGI application: serve it with uvicorn, on the connection of this library "
            "by --ws coro_websocket.uvicorn:WebSocketProtocol",
            "handler",
        )
    wrong = _not_a_coroutine_function(handler) or wrong_arguments(handler, 3, parameters, more=more)
    if wrong is not None:
        arguments = ", ".join(("req", "read", "write", *parameters))
        raise InvalidOptionType(
            f"handler must be a coroutine function, async def handler({arguments}): {wrong}",
            "handler",
        )


def _not_a_coroutine_function(handler: Any) -> str | None:
    if isinstance(handler, Mapping):
        return "for a handler by path, give a Router of coro_websocket.router with this mapping"
    if (wrong := not_callable(handler)) is not None:
        return wrong
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isclass(handler):
        return None if hasattr(handler, "__await__") else "this is a class"
    if inspect.isasyncgenfunction(handler):
        return "there is a yield in it"
    if inspect.isfunction(handler) or inspect.ismethod(handler):
        wrapped = inspect.unwrap(handler)
        if not (
            inspect.iscoroutinefunction(handler)
            or inspect.iscoroutinefunction(wrapped)
            or getattr(wrapped, "__name__", "<lambda>") == "<lambda>"
        ):
            return f"{clip(handler.__name__)} is a plain def, put async before it"
    return None


async def after_failure(
    loop: Loop, error: BaseException, engine: Engine, client: Client, request: Request, write: Write
) -> bool:
    """A handler has raised this: log it if it has failed, and close; whether its task is to end."""
    cancelled = loop.is_cancellation(error)
    if not cancelled and not loop.is_failure(error):
        return True  # the program ends
    if not cancelled and not _tells_the_end_of(engine, error):
        which = in_words(client, request.pathname)
        logger.error("the handler failed for %s", which, exc_info=error)
    await close_on_exit(write, error)
    return cancelled


def _tells_the_end_of(engine: Engine, error: BaseException) -> bool:
    """Whether this connection has raised the error: another one's end is the handler's failure."""
    if isinstance(error, BaseExceptionGroup):
        return all(_tells_the_end_of(engine, each) for each in error.exceptions)
    return isinstance(error, ConnectionClosedError) and error._engine == id(engine)
