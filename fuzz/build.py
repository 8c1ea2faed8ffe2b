"""A virtual environment of its own for each way to compile the native code, under build/.

Both sanitizers are gcc's: a library that Python has to load before anything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "import glob, os, coro_websocket as package;"
    "folder = os.path.dirname(package.__file__);"
    "print(*glob.glob(folder + '/**/*.so', recursive=True), sep='\\n')"
)
REPORTS = ("runtime error:", "ERROR: AddressSanitizer", "AddressSanitizer:DEADLYSIGNAL")


def install(name: str, switches: tuple[str, ...], requirements: tuple[str, ...]) -> Path:
    """The Python of build/<name>/venv, which has the requirements and what switches compile."""
    folder = ROOT / "build" / name / "venv"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    print("compiling the package with " + ", ".join(switches), flush=True)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
        env={**os.environ, **dict.fromkeys(switches, "1")},
        check=True,
    )
    return python


def sanitizers(python: Path, *before: str, **options: str) -> dict[str, str]:
    """The environment that the sanitizers need; exits if the modules were compiled without.

    before: libraries whose names count before the sanitizers'.
    """
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(os.path.isabs(library) for library in libraries):
        sys.exit("gcc's libasan.so and libubsan.so are not installed")
    # CPython keeps what it has imported until the process ends: leaks would be reported always.
    asan = {"detect_leaks": "0", "halt_on_error": "1", **options}
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join([*before, *libraries]),
        "PYTHONMALLOC": "malloc",  # each of Python's objects in a block that ASan watches
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in asan.items()),
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    _check(python, environment)
    return environment


def _check(python: Path, environment: dict[str, str]) -> None:
    """That what is tested is what was compiled so: an ordinary build would pass everything."""
    found = subprocess.run(
        [python, "-c", MODULES],
        env=environment,
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for module in found:
        code = Path(module).read_bytes()
        if b"__asan_init" not in code or b"__ubsan_handle" not in code:
            sys.exit(f"{module} was compiled without the sanitizers")
    if not found:
        sys.exit("no native module was installed")
    print(f"{len(found)} native modules with AddressSanitizer and UBSan", flush=True)
