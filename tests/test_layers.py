"""The house: upper rooms import lower ones, never back, and only some know an event loop.

All imports and cimports count, those for types and those inside functions too.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.import_reader import imports_of, module_of, strings_of

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = "coro_websocket"

# The floors from the ground up; rooms on one floor do not import each other. "_rfc6455." stands
# for all files of a folder, a name without a dot for a file beside the folders.
HOUSE: list[dict[str, str]] = [
    {"the ground": "_checks _errors _quoting _version"},
    {"_rfc6455": "_rfc6455. _advice"},
    {"_options": "_options."},
    {"_http": "_http."},
    {"_runtimes": "_runtimes."},
    {"_streams": "_streams."},
    {"_connection": "_connection."},
    {"_opening": "_opening.", "_server": "_server.", "_asgi": "_asgi."},
    {"_routing": "_routing."},
    {
        "what users import": "__init__ __main__ _cli. _reconnect _wrap_io codec extensions router "
        "testing uvicorn"
    },
]

LOOPS = {"asyncio", "trio", "uvloop"}

# Files besides the runtimes that may name an event loop: they are for that one only.
FOR_ONE_LOOP = {
    "_asgi.conversation",
    "_asgi.coroutine_functions",
    "_asgi.protocol",
    "_asgi.streams",
    "_streams.memory",
    "_streams.transport_pipe",
    "_streams.transport_stream",
    "_cli.connect",
    "_cli.demo",
    "_cli.serve",
    "_cli.serving",
    "testing",
}


def sources() -> Iterator[tuple[str, Path]]:
    for path in sorted((SOURCE / PACKAGE).rglob("*")):
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd"):
            yield module_of(path, SOURCE), path


MODULES = {module for module, _ in sources()}


def known(name: str) -> str | None:
    """The module of ours that has the name in it."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def short(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".") or "__init__"


def read() -> tuple[dict[str, set[str]], set[str]]:
    """The modules of ours that each of them imports, and those that name an event loop."""
    imported: dict[str, set[str]] = {short(module): set() for module in MODULES}
    on_a_loop = set()
    for module, path in sources():
        source, cython = path.read_text(), path.suffix in (".pyx", ".pxd")
        names = imports_of(source, module, package=path.stem == "__init__", cython=cython)
        ours = {found for name in names if (found := known(name)) is not None}
        imported[short(module)] |= {short(found) for found in ours - {module}}
        if LOOPS & ({name.partition(".")[0] for name in names} | strings_of(source, cython=cython)):
            on_a_loop.add(short(module))
    return imported, on_a_loop


IMPORTED, ON_A_LOOP = read()
PLACES = {
    place: (floor, room)
    for floor, rooms in enumerate(HOUSE)
    for room, places in rooms.items()
    for place in places.split()
}


def room_of(file: str) -> tuple[int, str]:
    """The floor and the room that a file is in."""
    folder = file.partition(".")[0] + "."
    return PLACES[file] if file in PLACES else PLACES[folder]


def listed(found: Iterable[Any]) -> str:
    return "\n".join(map(str, sorted(found)))


def check_list(found: set, allowed: set, what: str) -> None:
    """Nothing may break a rule that is not in its list, and the list holds nothing else."""
    assert not found - allowed, f"{what}:\n{listed(found - allowed)}"
    assert not allowed - found, f"take it from the list:\n{listed(allowed - found)}"


def test_every_file_has_its_room():
    folders = {file.partition(".")[0] + "." for file in IMPORTED if "." in file}
    without = {
        file for file in IMPORTED if not {file, file.partition(".")[0] + "."} & PLACES.keys()
    }
    assert not without, f"give it a room in HOUSE:\n{listed(without)}"
    gone = PLACES.keys() - IMPORTED.keys() - folders
    assert not gone, f"there is no such file:\n{listed(gone)}"


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(IMPORTED).prepare()


def test_upper_rooms_import_lower_ones():
    upwards = {
        (importer, file)
        for importer, files in IMPORTED.items()
        for file in files
        if room_of(file) != room_of(importer) and room_of(file)[0] >= room_of(importer)[0]
    }
    assert not upwards, f"a lower room imports an upper one:\n{listed(upwards)}"


def test_only_runtimes_and_what_is_for_one_event_loop_name_one():
    elsewhere = {file for file in ON_A_LOOP if room_of(file)[1] != "_runtimes"}
    check_list(elsewhere, FOR_ONE_LOOP, "it names an event loop")


# What holds them to it


def test_a_list_of_what_breaks_a_rule_can_only_shrink():
    check_list({"a"}, {"a"}, "it breaks the rule")
    with pytest.raises(AssertionError, match=r"it breaks the rule:\s+b"):
        check_list({"a", "b"}, {"a"}, "it breaks the rule")
    with pytest.raises(AssertionError, match=r"take it from the list:\s+a"):
        check_list(set(), {"a"}, "it breaks the rule")


def test_imports_of_python_are_read_wherever_they_stand():
    source = '''
"""from nowhere import nothing"""
import os.path, sys as system
from . import codec
from ._errors import InvalidURL as Invalid, InvalidOption
from .._near import (
    one,  # comment
    two,
)
from far import *
if TYPE_CHECKING:
    from .types import Kind
def late():
    import within
'''
    assert imports_of(source, "house.room.desk") == {
        "os.path",
        "sys",
        "house.room.codec",
        "house.room._errors.InvalidURL",
        "house.room._errors.InvalidOption",
        "house._near.one",
        "house._near.two",
        "far",
        "house.room.types.Kind",
        "within",
    }


def test_a_package_imports_relative_to_itself():
    assert imports_of("from . import codec", "house", package=True) == {"house.codec"}


def test_imports_and_cimports_of_cython_are_read_wherever_they_stand():
    source = """
# Don't read: from comments import nothing
'''from strings import nothing
from then on import nothing'''
cimport cython, libc.math as math
from libc.stdint cimport uint8_t, uint64_t  # the types' names
from ..frames cimport (
    FIN,  # the last (of a message)
    TEXT as text,
)
from .buffers cimport Inbox, \\
    Outbox
import time; from os import path
from . cimport waiting
cdef extern from "call.h":
    int call() except -1
cdef int late() except -1:
    from ..errors import Late
    return "from strings import nothing"
"""
    assert imports_of(source, "house.room.desk", cython=True) == {
        "cython",
        "libc.math",
        "libc.stdint.uint8_t",
        "libc.stdint.uint64_t",
        "house.frames.FIN",
        "house.frames.TEXT",
        "house.room.buffers.Inbox",
        "house.room.buffers.Outbox",
        "time",
        "os.path",
        "house.room.waiting",
        "house.errors.Late",
    }


def test_strings_that_name_a_module_are_read():
    source = '''module = sys.modules["trio"]  # which isn't imported "here"'''
    assert "trio" in strings_of(source)
    assert "trio" in strings_of(source, cython=True)
    assert "here" not in strings_of(source)


def test_every_part_of_a_module_goes_by_its_name():
    assert module_of(Path("src/house/room/desk.pxd"), Path("src")) == "house.room.desk"
    assert module_of(Path("src/house/__init__.py"), Path("src")) == "house"
