"""One target under atheris, in this process: `run.py` starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    name, *arguments = sys.argv[1:]
    # What libFuzzer starts anew, for -merge=1, is a line for the shell, which cannot be
    # preloaded with a module of Python's.
    preload = os.environ.pop("LD_PRELOAD")
    myself = f"LD_PRELOAD='{preload}' {sys.executable} {__file__} {name}"

    def run(data: bytes) -> None:
        target(data)

    atheris.Setup([myself, *arguments], run, internal_libfuzzer=True)
    sys.path.append(str(ROOT))
    with atheris.instrument_imports(include=["coro_websocket"]):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    atheris.Fuzz()


if __name__ == "__main__":
    main()
