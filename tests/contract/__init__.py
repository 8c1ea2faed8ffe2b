"""The contract: what `read` and `write` promise, tested once and run on every end.

`behaviour.py` makes a test of a coroutine function; `ends.py` has the ends: a new one is a class
there; `peers.py` plays the other side by hand; `loops.py` runs the same coroutine functions on any
event loop.
"""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.ends", "tests.contract.loops", "tests.contract.peers"
)
