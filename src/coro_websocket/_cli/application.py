"""The application of `serve APP`: from `module:name` to the arguments of `serve()`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from .._errors import InvalidOption
from .._quoting import clip
from .._server.callables import takes_exactly

__all__ = ["load"]

# What the command itself says, which opens the sockets before APP is there.
OF_THE_COMMAND = ("host", "port", "path", "sock", "backlog", "reuse_port", "mode", "owner")


async def load(app: str, *, factory: bool, folder: str) -> dict[str, Any]:
    """The arguments of `serve()`, `handler` among them.

    Args:
        app: "module:name"; the name may have dots.
        factory: whether that is a function, or a coroutine function, without arguments that
            returns a handler or a mapping of arguments.
        folder: where modules are looked for first.

    Raises:
        InvalidOption: there is no such thing, or it is not of this form.
        Exception: whatever the module or the factory raises.
    """
    found = _find(app, folder)
    if factory:
        if not callable(found):
            raise InvalidOption(f"APP: {clip(app)} is not a function, as --factory says", "APP")
        found = found()
        if inspect.isawaitable(found):
            found = await found
    elif _takes_nothing(found):
        raise InvalidOption(
            f"APP: {clip(app)} takes no arguments, and a handler takes (req, read, write): if it "
            "returns one, say --factory",
            "APP",
        )
    if not isinstance(found, Mapping):
        return {"handler": found}
    if not factory:
        raise InvalidOption(
            f"APP: {clip(app)} is a mapping: have a function return it, and say --factory", "APP"
        )
    if "handler" not in found:
        raise InvalidOption(f"APP: the mapping that {clip(app)} returns has no 'handler'", "APP")
    for name in OF_THE_COMMAND:
        if name in found:
            raise InvalidOption(
                f"APP: {clip(app)} returns {name!r}, which the command says: see --help", "APP"
            )
    return dict(found)


def _takes_nothing(found: object) -> bool:
    return inspect.isfunction(found) and takes_exactly(found, ())


def _find(app: str, folder: str) -> Any:
    module_name, colon, name = app.partition(":")
    parts = (*module_name.split("."), *name.split("."))
    if not colon or not all(part.isidentifier() for part in parts):
        raise InvalidOption(f"APP must be module:name, as in chat:handler, not {clip(app)}", "APP")
    folder = os.path.abspath(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there may itself import one that is not: that is its own error.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        hint = ""
        if module_name.endswith(".py"):
            hint = f": did you mean {clip(app.replace('.py:', ':'))}?"
        raise InvalidOption(
            f"APP: there is no module {clip(module_name)}, in {clip(folder)} or elsewhere "
            f"(--app-dir){hint}",
            "APP",
        ) from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidOption(
                f"APP: there is no {clip(name)} in the module {clip(module_name)}", "APP"
            ) from None
    return found
