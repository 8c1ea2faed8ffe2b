"""The worlds that the library lives in, and how it is run in each against the suite.

A world is a program of this folder, which needs nothing from the other files:

    python PROGRAM [--fast] server              says its URL, a line, and echoes until it is ended
    python PROGRAM [--fast] client URL AGENT    runs every case of the fuzzing server at URL

--fast: compress with level 1, where the library's user can say so there.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class World:
    """One of them.

    Attributes:
        name: what it is asked for by.
        program: the file in this folder.
        roles: "client", "server" or both: what the library can be there.
        extra: the extra of the package that it needs, or "".
        module: what that extra installs, by the name that is imported, or "".
    """

    name: str
    program: str
    roles: tuple[str, ...]
    extra: str = ""
    module: str = ""

    @property
    def path(self) -> str:
        return str(HERE / self.program)


WORLDS = {
    world.name: world
    for world in (
        World("asyncio", "testee.py", ("client", "server")),
        World("uvicorn", "testee_uvicorn.py", ("server",), extra="uvicorn", module="uvicorn"),
    )
}


@dataclass(frozen=True)
class Wanted:
    """A world to run, and how many of the cases: the first ones, or None for all."""

    world: World
    first: int | None = None


def wanted(text: str) -> Wanted:
    """From "uvicorn" or "uvicorn:300".

    Raises:
        argparse.ArgumentTypeError: there is no such world, or the number is not a positive one.
    """
    name, colon, number = text.partition(":")
    if name not in WORLDS:
        raise argparse.ArgumentTypeError(f"no world {name!r}, only {', '.join(WORLDS)}")
    if colon and not (number.isascii() and number.isdecimal() and int(number)):
        raise argparse.ArgumentTypeError(f"{number!r} is not a number of cases, 1 or more")
    return Wanted(WORLDS[name], int(number) if colon else None)
