"""What the tests of all frameworks share: which loops serve, and that nothing goes wrong unseen."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator

import pytest

from .served import LOOPS, OTHER, PROTOCOL

NEEDED = ("fastapi", "litestar", "channels", "socketio", "gunicorn", "uvicorn_worker")


@pytest.fixture(scope="session", autouse=True)
def frameworks() -> None:
    """They are an extra of their own, which some runs do without."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        say = pytest.fail if "CI" in os.environ else pytest.skip
        say(f"not installed: {', '.join(missing)}; pip install '.[frameworks]'")


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
