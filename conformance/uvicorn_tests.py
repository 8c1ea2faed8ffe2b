"""Run uvicorn's own tests of WebSockets with `coro_websocket.uvicorn.WebSocketProtocol`.

    python3 conformance/uvicorn_tests.py [--python PATH] [-- PYTEST-ARGUMENTS]

The tests are in uvicorn's source distribution alone, which is fetched from PyPI into
`build/uvicorn/`, and so is what they need; the library is the one that the interpreter that
runs this imports, or else one that is installed there.

Exits with 0 if all 225 tests have passed, and none was skipped; with 1 if not; with 2 if
something is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from environments import (
    ROOT,
    Deadline,
    Missing,
    begin_folder,
    finish_folder,
    imported_library,
    library_python,
    run_command,
)

UVICORN = "uvicorn==0.54.0"
TESTS = 225  # that this version has for each HTTP implementation of uvicorn's and our class
NEEDED = [
    "uvicorn[standard]==0.54.0",
    *("wsproto", "zttp", "httpx2", "a2wsgi", "trustme", "cryptography"),
    *("pytest", "pytest-mock", "pytest-xdist"),
    "hatchling",  # pip builds a source distribution's metadata even where it only fetches it
]
BUILD = ROOT / "build" / "uvicorn"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", metavar="PATH", help="an interpreter that has the library")
    parser.add_argument(
        "--deadline",
        type=float,
        default=900,
        metavar="SECONDS",
        help="end everything, and fail, after so long (900)",
    )
    parser.add_argument("more", nargs="*", metavar="PYTEST-ARGUMENT", help="such as -k or -x")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    deadline = Deadline(given.deadline)
    try:
        library = library_python(given.python, ROOT / "build" / "uvicorn-library", deadline, {})
        python, tests = environment(library, deadline)
        print(f"testing {imported_library(library)}", flush=True)
        status = run_tests(python, tests, given.more, deadline)
    except Missing as error:
        print(f"cannot run uvicorn's tests: {error}", file=sys.stderr)
        return 2
    return judge(status, everything=not given.more)


def environment(library: str, deadline: Deadline) -> tuple[Path, Path]:
    """An interpreter with all that the tests need, and uvicorn's source distribution."""
    folder = Path(imported_library(library).partition(" on Python ")[0])
    venv = BUILD / "venv"
    python = venv / "bin" / "python"
    recipe = "\n".join([library, str(folder), *NEEDED])
    if begin_folder(BUILD, recipe):
        print("fetching uvicorn and what its tests need", flush=True)
        run_command([library, "-m", "venv", str(venv)], deadline)
        pip = [str(python), "-m", "pip"]
        run_command([*pip, "install", "-q", *NEEDED], deadline)
        fetch = ["download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        run_command([*pip, *fetch, "--dest", str(BUILD), UVICORN], deadline)
        # No need to build it once more: only the library itself, and none of its neighbours.
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = subprocess.check_output([python, "-c", asked], text=True).strip()
        Path(packages, folder.name).symlink_to(folder)
        finish_folder(BUILD, recipe)
    (archive,) = BUILD.glob("uvicorn-*.tar.gz")
    tests = BUILD / archive.name.removesuffix(".tar.gz")
    if not tests.exists():
        with tarfile.open(archive) as file:
            file.extractall(BUILD, filter="data")
    return python, tests


def run_tests(python: Path, tests: Path, more: list[str], deadline: Deadline) -> int:
    """pytest's exit status."""
    command = [
        *(str(python), "-m", "pytest", "-q", "-n", "0", "-p", "uvicorn_plugin"),
        *("tests/protocols/test_websocket.py", "-k", "not wsproto"),
        *(f"--junitxml={BUILD / 'results.xml'}", *more),
    ]
    try:
        ran = subprocess.run(
            command,
            cwd=tests,
            env={"PATH": str(python.parent), "PYTHONPATH": str(ROOT / "conformance")},
            timeout=deadline.left(),
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"they had not ended after {deadline.seconds:.0f} s (--deadline)") from None
    return ran.returncode


def judge(status: int, *, everything: bool) -> int:
    """Say how many tests have passed; 0 if that is all of them."""
    counts: Counter[str] = Counter()
    for case in ElementTree.parse(BUILD / "results.xml").iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        counts[kinds.pop() if kinds else "passed"] += 1
    print(f"uvicorn's tests: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}")
    complete = set(counts) == {"passed"} and (counts["passed"] == TESTS or not everything)
    if status == 0 and not complete:
        print(f"expected {TESTS} passed, and nothing else", file=sys.stderr)
    return 0 if status == 0 and complete else 1


if __name__ == "__main__":
    sys.exit(main())
