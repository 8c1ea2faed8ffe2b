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

import subprocess
import sys
from pathlib import Path

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
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=sanitizers(python, detect_stack_use_after_return="1", malloc_context_size="5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            reports += any(report in line for report in REPORTS)
            if line.startswith(("FAILED ", "ERROR ")):
                failed.add(line.split(" - ")[0].strip().partition(" ")[2])
    print(f"sanitizers: {reports} reports; pytest: status {process.returncode}", flush=True)
    return process.returncode, reports, failed


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
