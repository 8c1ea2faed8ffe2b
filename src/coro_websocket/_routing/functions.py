"""Functions that answer plain HTTP: what can be one, and what it says.

The rule: it may be a plain function or a coroutine function; whether it can be called with the
parameters of its path is checked before it ever is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._checks import wrong_type
from .._errors import InvalidOption, InvalidOptionType
from .._options.header_rules import is_token
from .._quoting import clip
from .._server.callables import wrong_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ask", "check_http_function", "check_methods"]


def check_http_function(function: Any, parameters: Sequence[str], *, more: bool) -> None:
    """InvalidOptionType if this cannot be called with a request and these keyword arguments.

    more: whether it may get more of these.
    """
    if inspect.iscoroutine(function):
        function.close()  # nobody will await it, of which Python would warn
        wrong = "pass the function itself, without calling it"
    elif not callable(function):
        wrong = f"{type(function).__name__} cannot be called"
    else:
        wrong = wrong_arguments(function, 1, parameters, more=more) or ""
    if wrong:
        expected = ", ".join(["req", *parameters])
        raise InvalidOptionType(f"function must be one, function({expected}): {wrong}", "function")


def check_methods(methods: Iterable[str]) -> frozenset[str]:
    """The names of HTTP methods in upper case, HEAD with GET; InvalidOption if one is none."""
    if isinstance(methods, (str, bytes)) or not isinstance(methods, Iterable):
        raise wrong_type("methods", "a list of str", methods)
    checked = set()
    for method in methods:
        if not isinstance(method, str):
            raise wrong_type("a method", "str", method, "methods")
        if not is_token(method) or method.upper() == "CONNECT":
            raise InvalidOption(f"{clip(method)} is no method of a path", "methods")
        checked.add(method.upper())
    if not checked:
        raise InvalidOption("methods must not be empty", "methods")
    return frozenset(checked | {"HEAD"} if "GET" in checked else checked)


async def ask(function: Callable[..., Any], *arguments: object, **named: object) -> Any:
    """What a function returns, or what the coroutine does that it returns."""
    answer = function(*arguments, **named)
    return await answer if inspect.isawaitable(answer) else answer
