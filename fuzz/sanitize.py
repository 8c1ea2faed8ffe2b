"""Run the test suite with the native code under AddressSanitizer and UBSan.

    python3 fuzz/sanitize.py [pytest's arguments]

It makes build/sanitize/venv, installs the package and what its tests need there, and fails on
any report, whatever pytest says. Tests that fail without a report are run once more; those that
pass only then are printed. Leaks are not looked for: whether memory grows is for the tests of
memory to say.

Without arguments it runs the tests on asyncio's own loop with --deep, but tests/interop,
tests/asgi/frameworks, tests/deployment and tests/network: other libraries, programs and networks
carry the same bytes as our own peers, and take their time, which is bounded there. tests/http,
tests/options, tests/routing and the command's tests have no native code of ours. tests/contract is
run in the client's role alone: the other tests have both. `tests --deep` as the
arguments runs all of them, on every loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from build import REPORTS, ROOT, install, sanitizers

# Nor what measures time, which is for the ordinary build to show.
CHOSEN = "not uvloop and not transports and not linear_time and not takes_what_we_write_slowly"
CHOSEN += " and not (contract and server)"
# systemd's command does not pass the sanitizers on to the server that it starts.
CHOSEN += " and not systemd_starts"
CACHE = ROOT / "build" / "sanitize" / "cache"
TESTS_FAILED = 1  # pytest's status
LEFT_OUT = (
    *("interop", "network", "asgi/frameworks", "deployment"),
    *("http", "options", "routing", "public/test_cli.py", "public/test_cli_serve.py"),
)
USUAL = ["--deep", *(f"--ignore=tests/{place}" for place in LEFT_OUT), "-k", CHOSEN]


def run_tests(python: Path, arguments: list[str]) -> tuple[int, int, set[str]]:
    """pytest's status, how many lines of it are a sanitizer's report, and what failed."""
    # The sanitizers write to descriptor 2, which pytest must not capture.
    command = [python, "-m", "pytest", "-q", "--capture=sys", "-o", f"cache_dir={CACHE}"]
    reports = 0
    failed = set()
    env = sanitizers(python, detect_stack_use_after_return="1", malloc_context_size="5")
    with started([*command, *arguments], env) as (process, output):
        for line in lines_of(process, output):
            print(line, end="", flush=True)
            reports += any(report in line for report in REPORTS)
            if line.startswith(("FAILED ", "ERROR ")):
                failed.add(line.split(" - ")[0].strip().partition(" ")[2])
    print(f"sanitizers: {reports} reports; pytest: status {process.returncode}", flush=True)
    return process.returncode, reports, failed


@contextlib.contextmanager
def started(
    command: list[object], env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], TextIO]]:
    """A program and the file that it writes to, in a session that is ended with it.

    Not a pipe: programs that a test has started and left behind would keep that open.
    """
    with tempfile.NamedTemporaryFile() as written:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with open(written.name, encoding="utf-8", errors="replace") as output:
                yield process, output
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def lines_of(process: subprocess.Popen[bytes], output: TextIO) -> Iterator[str]:
    """What it writes, line by line as it does so, until it has ended."""
    line = ""
    while True:
        ended = process.poll() is not None
        while part := output.readline():
            line += part
            if line.endswith("\n"):
                yield line
                line = ""
        if ended:
            break
        time.sleep(0.1)
    if line:
        yield line


def main() -> int:
    python = install("sanitize", ("CORO_WEBSOCKET_SANITIZE",), (f"{ROOT}[test-core]",))
    arguments = sys.argv[1:] or USUAL
    status, reports, failed = run_tests(python, arguments)
    if status == TESTS_FAILED and failed and not reports:
        print("what failed once more: deadlines of 50 ms are short for a build so slow", flush=True)
        status, reports, again = run_tests(python, [*arguments, "--last-failed"])
        for name in sorted(failed - again):
            print(f"passed only when run again: {name}", flush=True)
    return status or min(reports, 1)


if __name__ == "__main__":
    sys.exit(main())
