"""What the suite's reports say: the table that is printed, and everything that is not right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_CASES = 517

# These tell how an implementation behaves where it may choose; no more can be had of them.
INFORMATIONAL_CASES = frozenset({"7.1.6", "7.13.1", "7.13.2"})

OUTCOMES = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")
CATEGORIES = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression of different payloads",
    "13": "compression with different parameters",
}


@dataclass(frozen=True)
class Report:
    """What became of the cases in one direction: each case's behaviour, in general and closing.

    Attributes:
        testee: "client" or "server": which side the library was.
        cases: for each case that ran its `behavior` and `behaviorClose`.
        asked: how many should have run.
        problem: why the run was broken off, or "".
    """

    testee: str
    cases: Mapping[str, tuple[str, str]]
    asked: int
    problem: str = ""

    def complaints(self) -> list[str]:
        """All that is not as it should be."""
        found = [self.problem] if self.problem else []
        if not self.cases and not self.asked:
            found.append("no case ran")  # the suite knows none of those that were asked for
        if len(self.cases) != self.asked:
            found.append(f"{len(self.cases)} cases ran, not {self.asked}")
        for case in sorted(self.cases, key=_numbers):
            behaved = self.cases[case]
            outcome = outcome_of(behaved)
            if outcome != "OK" and (outcome != "INFORMATIONAL" or case not in INFORMATIONAL_CASES):
                found.append(f"case {case}: {behaved[0]}, closing {behaved[1]}")
        return [f"{self.testee}: {each}" for each in found]


def outcome_of(behaved: tuple[str, str]) -> str:
    """The worse of both. The suite has more words for what we call FAILED."""
    return max(
        (each if each in OUTCOMES else "FAILED" for each in behaved),
        key=("OK", "INFORMATIONAL", "NON-STRICT", "FAILED").index,
    )


def table(reports: list[Report]) -> str:
    """Outcomes by category, a column of four for each direction."""
    counts = [
        Counter(
            (case.partition(".")[0], outcome_of(behaved)) for case, behaved in each.cases.items()
        )
        for each in reports
    ]
    numbers = sorted({number for each in counts for number, _ in each}, key=int)
    rows = [["", *(f"as {each.testee}" if i == 0 else "" for each in reports for i in range(4))]]
    rows.append(["cases", *OUTCOMES * len(reports)])
    for number in numbers:
        name = f"{number}.* {CATEGORIES.get(number, '')}"
        rows.append([name, *(str(each[number, word]) for each in counts for word in OUTCOMES)])
    totals = [
        str(sum(n for (_, word), n in each.items() if word == wanted))
        for each in counts
        for wanted in OUTCOMES
    ]
    rows.append(["all", *totals])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _numbers(case: str) -> list[int]:
    return [int(each) for each in case.split(".")]
