"""A row of `make faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """What came of one fault: figure, bar, whether that held, is about the machine's speed, was tried at all."""

    fault: str
    figure: str
    bar: str
    held: bool
    speed: bool = False
    tried: bool = True

    @property
    def short(self) -> bool:
        """Whether it was tried and fell short of its bar."""
        return self.tried and not self.held


#: Brings a fault about in a folder of its own, in a short form or not, and says what came of it.
Fault = Callable[[Path, bool], Iterator[Row]]
