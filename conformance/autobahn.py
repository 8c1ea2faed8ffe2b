"""Run the Autobahn test suite against the library, as client and as server side by side.

    python3 conformance/autobahn.py [--cases '12.*' '13.1.*'] [--fast]
                                    [--python2 PATH] [--python PATH]
    python3 conformance/autobahn.py --world uvicorn               as a server under uvicorn
    python3 conformance/autobahn.py --world asyncio uvicorn:300   and there the first 300 cases

It needs Python 2.7, because the suite does: --python2, AUTOBAHN_PYTHON, PATH and pyenv's
versions are searched for it. All else it installs from PyPI into `build/`: the suite, once,
as `wstest.txt` has it; and the library, unless the interpreter that runs this imports it.

Exits with 0 if every case that was asked for has run and is OK, apart from three that can
only be INFORMATIONAL; with 1 if one is not, or --deadline has passed; with 2 if something
is missing. Afterwards `build/autobahn/asyncio-client/index.html`,
`build/autobahn/asyncio-server/index.html` and so on are the suite's reports; what the processes
said is in `build/autobahn/logs/`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import time

from directions import Broken, Direction
from environments import (
    ROOT,
    Deadline,
    Missing,
    cases_of,
    find_python2,
    imported_library,
    library_python,
    short,
    wstest,
)
from verdict import table
from worlds import WORLDS, wanted

BUILD = ROOT / "build"
OUTPUT = BUILD / "autobahn"
PROGRESS = 60  # seconds between two lines that say how far it is
STALLED = 900  # seconds after which no case can be at work: the suite gives none more than 480


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="CASE", help="only these, such as 7.1.5 or 9.*"
    )
    parser.add_argument(
        "--world",
        nargs="+",
        type=wanted,
        default=[wanted("asyncio")],
        metavar="WORLD[:FIRST]",
        help=f"where the library runs, side by side: {', '.join(WORLDS)} (asyncio); "
        "each with how many of the cases, the first ones, or all",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="compress with level 1 on both sides, which no case can tell from another level",
    )
    parser.add_argument("--python2", metavar="PATH", help="the Python 2.7 to run the suite")
    parser.add_argument("--python", metavar="PATH", help="an interpreter that has the library")
    parser.add_argument(
        "--deadline",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="end everything, and fail, after so long (3600)",
    )
    return parser.parse_args()


def main() -> int:
    given = arguments()
    deadline = Deadline(given.deadline)
    # End the processes that have been started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        suite = wstest(find_python2(given.python2), BUILD / "wstest", deadline)
        extras = {each.world.extra: each.world.module for each in given.world if each.world.extra}
        python = library_python(given.python, BUILD / "autobahn-library", deadline, extras)
        directions = [
            Direction(
                each.world,
                role,
                suite=suite,
                python=python,
                cases=cases_of(suite, given.cases, each.first),
                output=OUTPUT,
                fast=given.fast,
            )
            for each in given.world
            for role in each.world.roles
        ]
    except Missing as error:
        print(f"cannot run the Autobahn test suite: {error}", file=sys.stderr)
        return 2
    print(f"testing {imported_library(python)}", flush=True)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    run(directions, deadline)
    return judge(directions)


def run(directions: list[Direction], deadline: Deadline) -> None:
    """Run them side by side; what kept one from ending is its `problem`."""
    with contextlib.ExitStack() as stack:
        running = []
        for direction in directions:
            stack.callback(direction.stop)
            try:
                direction.start(deadline)
                running.append(direction)
            except Broken as broken:
                direction.problem = str(broken)
        said = time.monotonic()
        while running:
            for direction in tuple(running):
                try:
                    if direction.ended():
                        running.remove(direction)
                    elif not deadline.left():
                        raise Broken(f"not done after {deadline.seconds:.0f} s (--deadline)")
                    elif direction.silent_for() > STALLED:
                        raise Broken(f"no case has begun for {STALLED} s")
                except Broken as broken:
                    begun, asked = direction.progress()
                    direction.problem = f"{broken}; {begun} of {asked} cases had begun"
                    running.remove(direction)
            if time.monotonic() - said > PROGRESS:
                said = time.monotonic()
                how_far = ("{} {} of {}".format(d.testee, *d.progress()) for d in directions)
                print(f"cases begun: {', '.join(how_far)}", flush=True)
            time.sleep(0.5)


def judge(directions: list[Direction]) -> int:
    reports = [direction.report() for direction in directions]
    complaints = [complaint for report in reports for complaint in report.complaints()]
    print(f"\n{table(reports)}\n")
    for direction in directions:
        report = direction.report_folder / "index.html"
        where = short(report) if report.exists() else "no report"
        print(f"as {direction.testee}: {direction.seconds:.0f} s, {where}", flush=True)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print("failed" if complaints else "passed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
