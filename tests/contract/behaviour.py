"""`behaviour()` makes a test of a coroutine function that takes an End, for every place there is.

    @differs("wrap_io", because="what is wrong there")
    @behaviour(close_timeout=0.1)
    async def test_what_is_promised(end: End) -> None: ...

Where a place differs, the test must fail: whoever mends it deletes the line.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .ends import BOUND, KINDS, PLACES, End, Place

SOON = 0.5  # seconds for a test that fails because it hangs


@dataclass
class Difference:
    """A test fails in these places, with these of its parameters."""

    places: tuple[str, ...]
    because: str
    parameters: dict[str, Any]

    def applies(self, place: Place, parameters: dict[str, Any]) -> bool:
        return place.name in self.places and all(
            parameters[name] == value or (isinstance(value, set) and parameters[name] in value)
            for name, value in self.parameters.items()
        )


@dataclass
class Behaviour:
    """What a test function of `behaviour` carries along."""

    places: list[Place]
    differences: list[Difference] = field(default_factory=list)
    cases: dict[str, int] = field(default_factory=dict)

    def goes_on(self, place: Place, case: str) -> bool:
        """Whether others show it: the first case is for each place, each other for one of them."""
        number = self.cases.setdefault(case, len(self.cases))
        return number > 0 and self.places[number % len(self.places)] is not place

    def difference(self, place: Place, parameters: dict[str, Any]) -> Difference | None:
        return next((d for d in self.differences if d.applies(place, parameters)), None)


def behaviour(
    *, narrow: bool = False, needs_bytes: bool = False, needs_errors: bool = False, **options: Any
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Make a test of a coroutine function whose first argument is an End, in every place.

    Args:
        narrow: with buffers that are soon full.
        needs_bytes: only where the peer can send half a frame.
        needs_errors: only where the peer can end the connection with an error of the system.
        **options: of ours, as for `connect` and `serve`.
    """
    places = [
        place
        for place in PLACES
        if (place.carries_bytes or not needs_bytes) and (place.has_errors or not needs_errors)
    ]

    def decorate(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        carried = Behaviour(places)

        def test(place: Place, **parameters: Any) -> None:
            async def run(end: End) -> None:
                await body(end, **parameters)

            differs = carried.difference(place, parameters)
            place.run(run, options, narrow, BOUND / 2 if differs is None else SOON)

        test.__name__ = test.__qualname__ = body.__name__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        test.contract = carried  # type: ignore[attr-defined]
        place, *parameters = inspect.signature(body).parameters.values()
        test.__signature__ = inspect.Signature([place.replace(name="place"), *parameters])  # type: ignore[attr-defined]
        return test

    return decorate


def differs(
    *places: str, because: str, **parameters: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say that a behaviour is not yet what it should be in these places: a strict xfail.

    parameters: the values of the test's parameters with which it differs, a set for several.
    """
    assert {*places} <= {kind.name for kind in KINDS}

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        test.contract.differences.append(Difference(places, because, parameters))  # type: ignore[attr-defined]
        return test

    return decorate
