"""The inputs that fuzzing has kept, run again without a fuzzer (see fuzz/run.py)."""

from __future__ import annotations

import pytest

from fuzz import corpus
from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_is_as_its_target_says(target: str) -> None:
    kept = corpus.inputs(target)
    assert len(kept) > 10
    for data in kept:
        TARGETS[target](data)
