"""How many processor cores a measurement has."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

PROCESSORS = Path("/sys/devices/system/cpu")


def processors() -> list[int]:
    """Return one logical processor of each core that this thread may use.

    None where the system holds no thread to a processor (macOS, Windows).
    """
    if sys.platform != "linux":
        return []
    found = {_siblings(number): number for number in sorted(os.sched_getaffinity(0), reverse=True)}
    return sorted(found.values())


@contextlib.contextmanager
def held_to(cores: int) -> Iterator[None]:
    """Hold this thread, and those that it starts meanwhile, to the first so many of `processors`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors()[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _siblings(processor: int) -> str:
    """Name the core of a logical processor by all that belong to it."""
    try:
        return (
            (PROCESSORS / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text(encoding="utf-8").strip()
        )
    except OSError:  # a kernel that does not tell
        return str(processor)
