"""Fuzz the native code and the handshakes, guided by what each input reaches.

    python3 fuzz/run.py [--seconds N | --inputs N] [--fast] [target ...]
    python3 fuzz/run.py --keep [target ...]

It runs for about two minutes in all, besides compiling, or as the budget says. For that it makes
build/fuzz/venv, with atheris (libFuzzer for Python) and the package compiled for coverage,
AddressSanitizer and UBSan; --fast does without the sanitizers, in build/fuzz-fast/venv. What is
found to reach more is left in build/fuzz/corpus, and built upon the next time; --keep puts the
smallest part of that which reaches as much into fuzz/corpus. It fails on any crash, difference,
or input that takes more than 10 seconds, and leaves that input in build/fuzz/failures.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import corpus

from build import REPORTS, ROOT, install, sanitizers

BUILD = ROOT / "build" / "fuzz"
FAILURES = BUILD / "failures"
TARGETS = sorted(path.stem for path in (ROOT / "fuzz" / "targets").glob("[a-z]*.py"))
JOBS = os.cpu_count() or 1
LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-max_len=1024")


@dataclass
class Fuzzer:
    """How to start atheris."""

    python: Path
    environment: dict[str, str]

    def run(self, target: str, *arguments: str | Path) -> tuple[int, str]:
        """Its status and what it wrote, which can be followed in build/fuzz/<target>.log."""
        log = BUILD / f"{target}.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [self.python, ROOT / "fuzz" / "atheris_run.py", target, *LIMITS, *arguments],
                cwd=BUILD,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return done.returncode, log.read_text(errors="replace")

    def fuzz(self, target: str, *budget: str) -> bool:
        """Whether a target ran to its budget's end, and found nothing."""
        folder = BUILD / "corpus" / target
        corpus.unpack(target, folder)
        begun = time.monotonic()
        status, said = self.run(
            target,
            *budget,
            "-print_final_stats=1",
            f"-artifact_prefix={FAILURES}/{target}-",
            folder,
        )
        seconds = time.monotonic() - begun
        counted = re.search(r"number_of_executed_units: (\d+)", said)
        inputs = int(counted[1]) if counted else 0
        good = status == 0 and inputs > 0 and not any(report in said for report in REPORTS)
        print(f"{target:>16}: {inputs:>9} inputs in {seconds:.0f} s, ", end="")
        print("nothing found" if good else f"FAILED, status {status}", flush=True)
        if not good:
            print(said[-6000:], flush=True)
        return good

    def keep(self, target: str) -> bool:
        """Make the kept corpus the smallest part of all that is here which reaches as much."""
        found, least = BUILD / "corpus" / target, BUILD / "least" / target
        shutil.rmtree(least, ignore_errors=True)
        least.mkdir(parents=True)
        corpus.unpack(target, found)
        # How often a block ran counts for nothing here: the corpus is to stay small.
        status, said = self.run(target, "-merge=1", "-use_counters=0", least, found)
        if status:
            print(said[-6000:])
            return False
        corpus.pack(target, least)
        print(f"{target:>16}: {len(corpus.inputs(target))} inputs kept", flush=True)
        return True


def prepare(*, fast: bool) -> Fuzzer:
    requirements = (str(ROOT), "atheris>=3,<4")
    switches = ("CORO_WEBSOCKET_FUZZ", "CORO_WEBSOCKET_SANITIZE")
    if fast:
        python = install("fuzz-fast", switches[:1], requirements)
        return Fuzzer(python, {**os.environ, "LD_PRELOAD": libfuzzer(python)})
    python = install("fuzz", switches, requirements)
    # An input that shows a bug can be run again with more: few frames of each allocation's stack,
    # and little freed memory kept, make it several times as fast.
    options = {
        "verify_asan_link_order": "0",
        "malloc_context_size": "2",
        "quarantine_size_mb": "32",
    }
    return Fuzzer(python, sanitizers(python, libfuzzer(python), **options))


def libfuzzer(python: Path) -> str:
    """The library in atheris that has it, for the native modules to call.

    libasan has empty functions of the same names: this must be there before it.
    """
    find = "import importlib.util as u; print(u.find_spec('atheris.core_with_libfuzzer').origin)"
    return subprocess.run(
        [python, "-c", find], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=120, help="in all, on all processors")
    parser.add_argument("--inputs", type=int, help="so many in all, however long that takes")
    parser.add_argument("--fast", action="store_true", help="without the sanitizers")
    parser.add_argument("--keep", action="store_true", help="minimise the corpus, fuzz nothing")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    options = parser.parse_args()
    targets = options.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error("no such target: " + ", ".join(sorted(unknown)))

    FAILURES.mkdir(parents=True, exist_ok=True)
    fuzzer = prepare(fast=options.fast)
    if options.keep:
        return 0 if all(fuzzer.keep(target) for target in targets) else 1
    seconds = max(1, options.seconds * min(JOBS, len(targets)) // len(targets))
    budget = f"-max_total_time={seconds}"
    if options.inputs is not None:
        budget = f"-runs={-(-options.inputs // len(targets))}"
    with ThreadPoolExecutor(JOBS) as pool:
        good = list(pool.map(lambda target: fuzzer.fuzz(target, budget), targets))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
