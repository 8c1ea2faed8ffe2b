"""`behaviour()` makes a test of a coroutine function that takes an End, for every place there is.

@behaviour(close_timeout=0.1)
async def test_what_is_promised(end: End) -> None: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .ends import PLACES, End, Place


@dataclass
class Behaviour:
    """What a test function of `behaviour` carries along."""

    places: list[Place]
    cases: dict[str, int] = field(default_factory=dict)

    def goes_on(self, place: Place, case: str) -> bool:
        """Whether others show it: the first case is for each place, each other for one of them."""
        number = self.cases.setdefault(case, len(self.cases))
        return number > 0 and self.places[number % len(self.places)] is not place


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

            place.run(run, options, narrow)

        test.__name__ = test.__qualname__ = body.__name__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        test.contract = carried  # type: ignore[attr-defined]
        place, *parameters = inspect.signature(body).parameters.values()
        test.__signature__ = inspect.Signature([place.replace(name="place"), *parameters])  # type: ignore[attr-defined]
        return test

    return decorate
