"""How many processor cores a measurement has."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from edge.bench.rig import BenchError


@contextlib.contextmanager
def held_to(count: int) -> Iterator[None]:
    """Hold this thread, and those that it starts meanwhile, to the first `count` of the cores that it may use.

    Raises:
        BenchError: it may use fewer, or the system (macOS, Windows) holds no thread to a core.
    """
    if sys.platform != "linux":
        raise BenchError("how much a worker does with a core of its own can be measured on Linux only")
    before = os.sched_getaffinity(0)
    if len(before) < count:
        raise BenchError(f"this wants {count} processor cores, and there is {len(before)}")
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
