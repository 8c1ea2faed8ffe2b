"""Every behaviour in every place, the same watch on each."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import Certificates
from tests.helpers.raw_peer import watchdog

from .behaviour import Behaviour
from .ends import Place

__all__ = ["watchdog"]


@pytest.fixture(autouse=True, scope="session")
def certificates_of_places(certificates: Certificates) -> None:
    Place.certificates = certificates


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    carried: Behaviour | None = getattr(metafunc.function, "contract", None)
    if carried is not None:
        metafunc.parametrize("place", carried.places, ids=repr)


def pytest_itemcollected(item: pytest.Item) -> None:
    carried: Behaviour | None = getattr(getattr(item, "function", None), "contract", None)
    if carried is not None and isinstance(item, pytest.Function):
        place: Any = item.callspec.params["place"]
        if carried.goes_on(place, item.callspec.id.replace(repr(place), "", 1)):
            item.add_marker(pytest.mark.deep)
