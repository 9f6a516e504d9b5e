"""A row of `make faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """What came of one fault: the figure, the bar, whether it held, and whether it is about the machine's speed."""

    fault: str
    figure: str
    bar: str
    held: bool
    speed: bool = False


#: Brings a fault about in a folder of its own, in a short form or not, and says what came of it.
Fault = Callable[[Path, bool], Iterator[Row]]
