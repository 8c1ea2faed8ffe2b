"""The script that runs the Autobahn test suite: its verdict, and what it says if it cannot run."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from environments import Deadline, Missing, find_python2, library_python
from verdict import Report, outcome_of, table
from worlds import WORLDS, Wanted, wanted

SCRIPT = Path(__file__).parent.parent / "conformance" / "autobahn.py"
FINE = {"1.1.1": ("OK", "OK"), "7.13.1": ("INFORMATIONAL", "INFORMATIONAL")}


def test_cases_that_are_ok_or_can_only_be_informational_are_not_complained_about():
    assert Report("client", FINE, 2).complaints() == []


@pytest.mark.parametrize(
    ("case", "behaved"),
    [
        ("1.1.2", ("FAILED", "OK")),
        ("1.1.2", ("OK", "WRONG CODE")),
        ("3.2", ("NON-STRICT", "OK")),
        ("1.1.2", ("INFORMATIONAL", "OK")),
        ("7.13.1", ("INFORMATIONAL", "UNCLEAN")),
        ("12.1.1", ("UNIMPLEMENTED", "OK")),
    ],
)
def test_every_other_case_is_complained_about(case, behaved):
    [complaint] = Report("server", FINE | {case: behaved}, 3 - (case in FINE)).complaints()
    assert complaint == f"server: case {case}: {behaved[0]}, closing {behaved[1]}"


def test_cases_that_did_not_run_and_broken_runs_are_complained_about():
    assert Report("client", FINE, 3, "the suite failed").complaints() == [
        "client: the suite failed",
        "client: 2 cases ran, not 3",
    ]


def test_a_run_without_any_case_is_complained_about():
    assert Report("client", {}, 0).complaints() == ["client: no case ran"]


def test_the_outcome_of_a_case_is_the_worse_of_its_two_behaviours():
    assert outcome_of(("OK", "OK")) == "OK"
    assert outcome_of(("OK", "INFORMATIONAL")) == "INFORMATIONAL"
    assert outcome_of(("NON-STRICT", "OK")) == "NON-STRICT"
    assert outcome_of(("NON-STRICT", "UNCLEAN")) == "FAILED"


def test_the_table_counts_outcomes_by_category_for_each_direction():
    reports = [Report("client", FINE, 2), Report("server", {"7.1.5": ("OK", "WRONG CODE")}, 1)]
    counted = [line.split()[-8:] for line in table(reports).splitlines()[2:]]
    assert counted == [list("10000000"), list("00100001"), list("10100001")]


def test_python_2_that_is_missing_is_said_and_fails(tmp_path):
    environ = {"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, SCRIPT], env=environ, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert "needs Python 2.7, and none is on PATH" in ran.stderr
    assert "--python2" in ran.stderr


def test_another_python_than_2_is_refused():
    with pytest.raises(Missing, match="is none"):
        find_python2(sys.executable)


def test_a_deadline_that_has_passed_leaves_nothing():
    assert Deadline(0).left() == 0


def test_a_world_is_named_and_the_number_of_its_first_cases_may_stand_behind_it():
    assert wanted("asyncio") == Wanted(WORLDS["asyncio"])
    assert wanted("uvicorn:300") == Wanted(WORLDS["uvicorn"], 300)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("curio", "no world 'curio', only asyncio, uvicorn"),
        ("uvicorn:", "'' is not a number of cases"),
        ("uvicorn:0", "'0' is not a number of cases"),
        ("uvicorn:-1", "'-1' is not a number of cases"),
        ("uvicorn:²", "'²' is not a number of cases"),
    ],
)
def test_a_world_that_there_is_not_is_refused(text, said):
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        wanted(text)


def test_each_world_has_its_program():
    for world in WORLDS.values():
        assert Path(world.path).is_file()


def test_an_interpreter_without_what_a_world_needs_is_refused(tmp_path):
    with pytest.raises(Missing, match="does not import coro_websocket and no_such_module"):
        library_python(sys.executable, tmp_path, Deadline(60), {"some": "no_such_module"})
