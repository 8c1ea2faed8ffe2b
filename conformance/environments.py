"""The two interpreters of a run: Python 2.7 with the suite, and one with the library.

What has to be installed goes into a folder of its own under `build/`, and is installed
again only when what it is made from has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "conformance" / "wstest.txt"
VIRTUALENV = "virtualenv==20.15.1"  # the last one that runs on Python 2.7


class Missing(Exception):
    """The run cannot begin: what is missing, and how to get it."""


class Deadline:
    """When everything must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


# Python 2.7


def find_python2(given: str | None) -> str:
    """The Python 2.7 to use; one that was asked for by name must be one."""
    named = given or os.environ.get("AUTOBAHN_PYTHON")
    candidates = [named] if named else ["python2.7", "python2", *_pyenv_pythons()]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found and _is_python2(found):
            return found
    looked = f"{named} is none" if named else "none is on PATH or among pyenv's versions"
    raise Missing(
        f"the Autobahn test suite needs Python 2.7, and {looked}.\n"
        "Install it, for example with `pyenv install 2.7.18`, or say where it is: "
        "--python2 PATH, or AUTOBAHN_PYTHON=PATH in the environment."
    )


def _pyenv_pythons() -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [str(path) for path in sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True)]


def _is_python2(python: str) -> bool:
    """Whether it runs: a launcher of pyenv's may be there without a version behind it."""
    command = [python, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"]
    try:
        ran = subprocess.run(
            command, env=python2_environ(), capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.stdout.strip() == "True"


def python2_environ(**more: str) -> dict[str, str]:
    """The environment for Python 2.7, without what is meant for another Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV")
    }
    return kept | {"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | more


def wstest(python2: str, folder: Path, deadline: Deadline) -> Path:
    """The suite's command, in a virtual environment in `folder`."""
    recipe = f"{python2}\n{VIRTUALENV}\n{REQUIREMENTS.read_text()}"
    command = folder / "venv" / "bin" / "wstest"
    if not begin_folder(folder, recipe):
        return command
    print(f"installing the Autobahn test suite for {python2} in {short(folder)}", flush=True)
    tools = folder / "virtualenv"
    quiet = ("-m", "pip", "install", "-q")
    run_command([python2, *quiet, "--target", str(tools), VIRTUALENV], deadline, python2_environ())
    run_command(
        [python2, "-m", "virtualenv", "-q", str(folder / "venv")],
        deadline,
        python2_environ(PYTHONPATH=str(tools)),
    )
    python = str(folder / "venv" / "bin" / "python")
    run_command([python, *quiet, "--no-deps", "-r", str(REQUIREMENTS)], deadline, python2_environ())
    finish_folder(folder, recipe)
    return command


def cases_of(suite: Path, patterns: list[str], first: int | None) -> list[str]:
    """The patterns as they are; or the first of the cases that they match, in the suite's order.

    Args:
        suite: what `wstest()` has returned.
        patterns: as the suite takes them, such as `7.1.5` or `9.*`.
        first: how many, or None for the patterns as they are.

    Raises:
        Missing: the suite does not tell its cases.
    """
    if first is None:
        return patterns
    says = (
        "import json, sys; from autobahntestsuite.case import *; "
        "from autobahntestsuite.caseset import CaseSet; "
        "known = CaseSet('WebSocket', 'Case', Cases, CaseCategories, CaseSubCategories); "
        "print(json.dumps(known.parseSpecCases({'cases': sys.argv[1:]})))"
    )
    ran = subprocess.run(
        [str(suite.with_name("python")), "-c", says, *patterns],
        env=python2_environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if ran.returncode != 0:
        raise Missing(f"the suite does not tell its cases:\n{ran.stderr.strip()}")
    cases: list[str] = json.loads(ran.stdout)
    return cases[:first]


# The library


def library_python(
    given: str | None, folder: Path, deadline: Deadline, extras: Mapping[str, str] | None = None
) -> str:
    """An interpreter that imports the library and what the extras install.

    The one that was asked for; or the one that runs this, if it does; or a virtual
    environment in `folder` that the sources are installed into.

    Args:
        extras: the extras of the package, with the module that each brings.
    """
    extras = extras or {}
    for candidate in (given, None if given else sys.executable):
        if candidate is not None and imported_library(candidate, *extras.values()):
            return candidate
    if given:
        needed = " and ".join(("coro_websocket", *extras.values()))
        raise Missing(f"{given} does not import {needed}")
    listed = f"[{','.join(sorted(extras))}]" if extras else ""
    recipe = f"{sys.executable}\n{listed}\n{_digest_of_sources()}"
    python = folder / "venv" / "bin" / "python"
    if begin_folder(folder, recipe):
        print(f"installing the library in {short(folder)}", flush=True)
        run_command([sys.executable, "-m", "venv", str(folder / "venv")], deadline)
        run_command([str(python), "-m", "pip", "install", "-q", f"{ROOT}{listed}"], deadline)
        finish_folder(folder, recipe)
    return str(python)


def imported_library(python: str, *modules: str) -> str:
    """The library that `python` imports, and the version of that.

    "" if it does not import that, or one of the modules.
    """
    says = f"import {', '.join(('coro_websocket', 'platform', *modules))}"
    says += "; print(coro_websocket.__path__[0], 'on Python', platform.python_version())"
    try:
        # Not from here: only what is installed, or on PYTHONPATH, counts.
        ran = subprocess.run([python, "-P", "-c", says], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip()


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    parts = [ROOT / "pyproject.toml", ROOT / "setup.py"]
    parts += (path for path in (ROOT / "src").rglob("*") if path.is_file())
    for path in sorted(parts):
        if path.suffix in (".py", ".pyx", ".pxd", ".h", ".toml"):
            digest.update(f"{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


# Installing


def begin_folder(folder: Path, recipe: str) -> bool:
    """Whether `folder` has yet to be filled; what another recipe, or a part of one, left goes."""
    stamp = folder / "installed"
    if stamp.is_file() and stamp.read_text() == recipe:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def finish_folder(folder: Path, recipe: str) -> None:
    (folder / "installed").write_text(recipe)


def run_command(command: list[str], deadline: Deadline, env: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command,
            env=env,
            check=True,
            timeout=deadline.left(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        raise Missing(f"`{' '.join(command)}` failed:\n{error.stdout.strip()}") from None
    except subprocess.TimeoutExpired:
        raise Missing(
            f"`{' '.join(command)}` had not ended after {deadline.seconds:.0f} s (--deadline)"
        ) from None


def short(path: Path) -> str:
    """How to name it in what is printed."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
