"""Whether this tree is slower than another commit: for pull requests.

    python benchmarks/compare.py [COMMIT] [--rounds N] [--most RATIO]

Builds both, this tree and COMMIT (where it left main, if that says no more), each in a virtual
environment under build/compare, and runs the micro-benchmarks of this tree against the one and
the other in turn. What is compared is the least time that each has needed: noise only adds.
Fails if one has become slower by more than RATIO.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "compare"
BENCHMARKS = ROOT / "benchmarks" / "test_micro.py"
QUICK = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=20", "--benchmark-disable-gc")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def installed(source: Path, name: str) -> Path:
    """The Python of an environment that has the package of this tree, or of another."""
    folder = BUILD / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, str(source), "pytest", "pytest-benchmark"], check=True)
    return python


def source_of(commit: str) -> Path:
    """The tree of a commit; once it is there, it is kept."""
    source = BUILD / f"source-{commit[:12]}"
    if not source.exists():
        source.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
        )
        subprocess.run(["tar", "x", "-C", str(source)], input=archive.stdout, check=True)
    return source


def measured(python: Path) -> dict[str, float]:
    """The least seconds of each micro-benchmark; those that fail there are left out."""
    report = BUILD / "report.json"
    report.unlink(missing_ok=True)
    settings = BUILD / "pytest.ini"  # in place of the project's, which is for its tests
    settings.write_text("[pytest]\n")
    command = [str(python), "-m", "pytest", "-q", "-c", str(settings), str(BENCHMARKS), *QUICK]
    done = subprocess.run(
        [*command, f"--benchmark-json={report}"], cwd=BUILD, capture_output=True, text=True
    )
    if not report.exists():
        sys.exit(done.stdout + done.stderr)
    found = json.loads(report.read_text())["benchmarks"]
    return {each["name"]: each["stats"]["min"] for each in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", help="what to compare with; where this left main")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, default=1.25, metavar="RATIO")
    options = parser.parse_args()
    commit = git("rev-parse", options.commit or git("merge-base", "main", "HEAD"))
    BUILD.mkdir(parents=True, exist_ok=True)
    pythons = {"before": installed(source_of(commit), commit[:12]), "now": installed(ROOT, "now")}
    least: dict[str, dict[str, float]] = {"before": {}, "now": {}}
    for _ in range(options.rounds):
        for which, python in pythons.items():
            for name, seconds in measured(python).items():
                least[which][name] = min(seconds, least[which].get(name, seconds))
    slower = []
    print(f"{'':50} {commit[:12]:>12} {'now':>12}  ratio")
    for name, now in least["now"].items():
        before = least["before"].get(name)
        if before is None:
            print(f"{name:50} {'-':>12} {now * 1e6:9.2f} us  new")
            continue
        ratio = now / before
        slower += [name] if ratio > options.most else []
        print(f"{name:50} {before * 1e6:9.2f} us {now * 1e6:9.2f} us  {ratio:5.2f}")
    if slower:
        print(f"slower by more than {options.most:g}: {', '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
