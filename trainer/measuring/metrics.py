"""Figures of a classifier: accuracy, precision, recall, F1, confusion, top-2. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Counts = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """What a classifier got right.

    Attributes:
        labels: the names of the classes, in the order of `confusion`.
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
        among_two: how many faces have the truth among the two best answers; None if only the best is known.
    """

    labels: tuple[str, ...]
    confusion: Indices
    among_two: int | None = None

    @property
    def n(self) -> int:
        """Number of faces."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(accuracy_of(self.confusion))

    @property
    def top2(self) -> float | None:
        """Share of faces with the truth among the two best answers; None if only the best is known."""
        return None if self.among_two is None else self.among_two / max(self.n, 1)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur in the truth."""
        return float(macro_f1_of(self.confusion))

    @property
    def weighted_f1(self) -> float:
        """Mean F1 of the classes, each counted as often as it occurs in the truth."""
        return self.weighted("f1")

    def macro(self, key: str) -> float:
        """Return the mean `precision`, `recall` or `f1` of the classes that occur in the truth."""
        occurring = [row[key] for row in self.per_class().values() if row["support"]]
        return float(np.mean(occurring)) if occurring else 0.0

    def weighted(self, key: str) -> float:
        """Return the mean `precision`, `recall` or `f1` over the faces' true classes."""
        return sum(row[key] * row["support"] for row in self.per_class().values()) / max(self.n, 1)

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support of each class; 0 where there is nothing to divide by."""
        right = np.diag(self.confusion)
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        f1 = f1_of(self.confusion)
        return {
            label: {
                "precision": float(right[i] / max(predicted[i], 1)),
                "recall": float(right[i] / max(support[i], 1)),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, label in enumerate(self.labels)
        }

    def summary(self) -> dict[str, Any]:
        """Return accuracy, macro-F1 and n."""
        return {"accuracy": round(self.accuracy, 6), "macro_f1": round(self.macro_f1, 6), "n": self.n}

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return {
            **self.summary(),
            "weighted_f1": round(self.weighted_f1, 6),
            "top2": None if self.top2 is None else round(self.top2, 6),
            **{f"macro_{key}": round(self.macro(key), 6) for key in ("precision", "recall")},
            **{f"weighted_{key}": round(self.weighted(key), 6) for key in ("precision", "recall")},
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }


def accuracy_of(confusions: Counts) -> Doubles:
    """Return the share of right predictions of each confusion matrix (..., classes, classes)."""
    right = np.trace(confusions, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(confusions.sum(axis=(-2, -1)), 1), np.float64)


def f1_of(confusions: Counts) -> Doubles:
    """Return the F1 of each class (..., classes) of confusion matrices; 0 where there is nothing to divide by."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    both = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return np.asarray(2 * right / np.maximum(both, 1), np.float64)


def macro_f1_of(confusions: Counts) -> Doubles:
    """Return the mean F1 of the classes that occur in the truth, for each confusion matrix."""
    occurs = confusions.sum(axis=-1) > 0
    return np.asarray((f1_of(confusions) * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1), np.float64)


def figures(predicted: Indices, truth: Indices, labels: tuple[str, ...], among_two: int | None = None) -> Figures:
    """Count predictions (n,) against the truth (n,), both indices into `labels`."""
    return Figures(labels, confusion_of(predicted, truth, len(labels)), among_two)


def confusion_of(predicted: Indices, truth: Indices, classes: int) -> Indices:
    """Count predictions (n,) against the truth (n,): (classes, classes), rows the truth, columns the prediction."""
    confusion = np.zeros((classes, classes), np.intp)
    np.add.at(confusion, (truth, predicted), 1)
    return confusion


def predictions(logits: Floats, allowed: npt.NDArray[np.bool_]) -> Indices:
    """Return the best of the allowed classes for each row of logits (n, classes); ties go to the first."""
    return np.asarray(_ranked(logits, allowed)[:, 0])


def in_best_two(logits: Floats, truth: Indices, allowed: npt.NDArray[np.bool_]) -> int:
    """Count the rows of logits (n, classes) whose two best allowed classes hold the truth (n,)."""
    return int((_ranked(logits, allowed)[:, :2] == truth[:, None]).sum())


def _ranked(logits: Floats, allowed: npt.NDArray[np.bool_]) -> Indices:
    """Return the classes of each row from best to worst; equal ones stay in order."""
    return np.asarray(np.argsort(-np.where(allowed, logits, -np.inf), axis=1, kind="stable"))
