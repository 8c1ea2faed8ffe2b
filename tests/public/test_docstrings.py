"""help() says what there is to know of every public name, as the README promises."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import coro_websocket
from coro_websocket import extensions, router, testing

MODULES = [coro_websocket, coro_websocket.codec, extensions, router, testing]
PUBLIC = [(module, name) for module in MODULES for name in module.__all__]


def parts(kind: type) -> list[tuple[str, object]]:
    """The methods and properties that a class has by its own name or a base of ours."""
    found: dict[Any, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("coro_websocket"):
            found.update(vars(base))
    return [
        (name, each)
        for name, each in found.items()
        if name == "__call__"
        or (
            not name.startswith("_")
            and (inspect.isroutine(each) or isinstance(each, (property, staticmethod, classmethod)))
        )
        or (inspect.isgetsetdescriptor(each) and not name.startswith("_"))
    ]


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda each: getattr(each, "__name__", each)
)
def test_every_public_name_has_a_docstring(module, name):
    public = getattr(module, name)
    if not (inspect.isclass(public) or inspect.isroutine(public) or inspect.ismodule(public)):
        return  # an alias of a type, or a constant
    assert public.__doc__
    if inspect.isclass(public):
        assert [part for part, each in parts(public) if not each.__doc__] == []


def test_the_docstrings_of_native_code_are_there_for_help():
    assert "max_message_size" in inspect.getdoc(coro_websocket.Read.__call__)
    assert "write_high_water" in inspect.getdoc(coro_websocket.Write.__call__)
    assert "RFC 6455 section 5.5.2" in inspect.getdoc(coro_websocket.Write.ping)
    assert "str for text" in inspect.getdoc(coro_websocket.Message.payload)
    for call, first in (
        (coro_websocket.broadcast, "writes"),
        (coro_websocket.Group.broadcast, "self"),
    ):
        assert list(inspect.signature(call).parameters)[:4] == [
            first,
            "message",
            "compress",
            "slow",
        ]
