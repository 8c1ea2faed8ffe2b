"""What an attack may cost: memory and time, measured."""

from __future__ import annotations

import contextlib
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass
class Cost:
    """Bytes at the worst moment more than before, and seconds of processor time."""

    memory: int = 0
    seconds: float = 0.0


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """What its block costs: Python's allocations, those of zlib and native code included."""
    cost = Cost()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        start = time.process_time()
        try:
            yield cost
        finally:
            cost.seconds = time.process_time() - start
            cost.memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def growth() -> Iterator[Callable[[], int]]:
    """Its block is given a function: how many bytes more are allocated now than before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def assert_linear(attack: Callable[[int], object], n: int, *, times: int = 8) -> None:
    """`attack(n * times)` takes about `times` as long as `attack(n)`, and not its square."""

    def seconds(size: int) -> float:
        best = float("inf")
        for _ in range(3):
            gc.collect()
            start = time.process_time()
            attack(size)
            best = min(best, time.process_time() - start)
        return best

    few, many = seconds(n), seconds(n * times)
    assert many < (few + 0.002) * times * times / 2, (few, many)
