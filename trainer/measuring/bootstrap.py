"""How much of a figure is chance: bootstrap intervals (Efron & Tibshirani, 1993, chapter 13). Pure.

Faces are drawn with replacement. Where persons are known, persons are drawn, each with all its faces: three frames of
one person are not three independent answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.measuring.metrics import accuracy_of, confusion_of, macro_f1_of

Indices = npt.NDArray[np.intp]
Doubles = npt.NDArray[np.float64]
RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
#: The figures that get an interval, each from confusion matrices (..., classes, classes).
FIGURES: dict[str, Callable[[npt.NDArray[Any]], Doubles]] = {"accuracy": accuracy_of, "macro_f1": macro_f1_of}


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of what a figure came to in the resamples."""

    low: float
    high: float

    def as_json(self) -> list[float]:
        """Return both ends."""
        return [round(self.low, 6), round(self.high, 6)]


@dataclass(frozen=True)
class Difference:
    """A figure of one classifier less the same of another on the same faces, with its paired interval."""

    value: float
    interval: Interval

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the interval excludes 0, else `undecided`."""
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "undecided"

    def as_json(self) -> dict[str, Any]:
        """Return value, interval and verdict."""
        return {"difference": round(self.value, 6), "interval": self.interval.as_json(), "verdict": self.verdict}


def intervals(predicted: Indices, truth: Indices, classes: int, subjects: Sequence[str]) -> dict[str, Interval]:
    """Return the 95 % interval of each of `FIGURES`.

    Args:
        predicted: (n,) classes answered.
        truth: (n,) classes that are right.
        classes: how many there are.
        subjects: the n persons, empty strings where unknown.
    """
    (drawn,) = _drawn([predicted], truth, classes, subjects)
    return {name: _middle(figure(drawn)) for name, figure in FIGURES.items()}


def differences(
    ours: Indices, theirs: Indices, truth: Indices, classes: int, subjects: Sequence[str]
) -> dict[str, Difference]:
    """Return by how much `ours` (n,) is above `theirs` (n,) in each of `FIGURES`, both drawn with the same faces.

    The other arguments are those of `intervals`.
    """
    drawn = _drawn([ours, theirs], truth, classes, subjects)
    seen = [confusion_of(each, truth, classes) for each in (ours, theirs)]
    return {
        name: Difference(float(figure(seen[0]) - figure(seen[1])), _middle(figure(drawn[0]) - figure(drawn[1])))
        for name, figure in FIGURES.items()
    }


def _drawn(
    answers: Sequence[Indices], truth: Indices, classes: int, subjects: Sequence[str]
) -> list[npt.NDArray[np.float64]]:
    """Return the confusion matrices (resamples, classes, classes) of each classifier, drawn together.

    A resample draws as many persons as there are. What counts is only what each adds to the confusion matrices, so
    persons who add the same are drawn as one kind by a multinomial: the same distribution, a thousandth of the work.
    """
    persons = np.unique([name or f"\0{row}" for row, name in enumerate(subjects)], return_inverse=True)[1]
    cells = classes * classes
    added = np.zeros((persons.max() + 1, len(answers) * cells), np.int32)
    for place, predicted in enumerate(answers):
        np.add.at(added, (persons, place * cells + truth * classes + predicted), 1)
    kinds, counts = np.unique(added, axis=0, return_counts=True)
    draws = np.random.default_rng(SEED).multinomial(len(added), counts / len(added), size=RESAMPLES)
    confusions = draws.astype(np.float64) @ kinds
    return [each.reshape(-1, classes, classes) for each in np.split(confusions, len(answers), axis=1)]


def _middle(values: Doubles) -> Interval:
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high))
