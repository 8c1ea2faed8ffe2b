"""What the tests of all frameworks share: which loops serve, and that nothing goes wrong unseen."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from .served import LOOPS, OTHER, PROTOCOL


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """The event loop that uvicorn runs on, each in turn."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither uvicorn nor the application or asyncio logs an error."""
    yield
    errors = [
        each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.ERROR
    ]
    if PROTOCOL == OTHER:  # which says so of each denial
        errors = [each for each in errors if "returned without completing" not in each]
    assert errors == []
