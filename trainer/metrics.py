"""Figures of a classifier: accuracy, F1, confusion, calibration. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.emotions import softmax

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
ECE_BINS = 15


@dataclass(frozen=True)
class Figures:
    """What a classifier got right.

    Attributes:
        labels: the names of the classes, in the order of `confusion`.
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """

    labels: tuple[str, ...]
    confusion: Indices

    @property
    def n(self) -> int:
        """Number of faces."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(np.trace(self.confusion) / max(self.n, 1))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur in the truth."""
        occurring = [row["f1"] for row in self.per_class().values() if row["support"]]
        return float(np.mean(occurring)) if occurring else 0.0

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support of each class; 0 where there is nothing to divide by."""
        right = np.diag(self.confusion)
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return {
            label: {
                "precision": float(right[i] / max(predicted[i], 1)),
                "recall": float(right[i] / max(support[i], 1)),
                "f1": float(2 * right[i] / max(predicted[i] + support[i], 1)),
                "support": int(support[i]),
            }
            for i, label in enumerate(self.labels)
        }

    def summary(self) -> dict[str, Any]:
        """Return accuracy, macro-F1 and n."""
        return {"accuracy": round(self.accuracy, 6), "macro_f1": round(self.macro_f1, 6), "n": self.n}

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return {**self.summary(), "per_class": self.per_class(), "confusion": self.confusion.tolist()}


def figures(predicted: Indices, truth: Indices, labels: tuple[str, ...]) -> Figures:
    """Count predictions (n,) against the truth (n,), both indices into `labels`."""
    confusion = np.zeros((len(labels), len(labels)), np.intp)
    np.add.at(confusion, (truth, predicted), 1)
    return Figures(labels, confusion)


def predictions(logits: Floats, allowed: npt.NDArray[np.bool_]) -> Indices:
    """Return the best of the allowed classes for each row of logits (n, classes)."""
    return np.asarray(np.where(allowed, logits, -np.inf).argmax(axis=1))


def negative_log_likelihood(logits: Floats, truth: Indices) -> float:
    """Return the mean over rows of -log softmax(logits)[truth], in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]))


def best_temperature(logits: Floats, truth: Indices) -> float:
    """Return the temperature in 0.05–20 of least negative log-likelihood (Guo et al., arXiv:1706.04599).

    The likelihood has one minimum in the temperature, hence a golden-section search, on its logarithm.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.05), math.log(20)
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _loss_at(left, logits, truth) < _loss_at(right, logits, truth):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def _loss_at(log_temperature: float, logits: Floats, truth: Indices) -> float:
    return negative_log_likelihood(logits / np.float32(math.exp(log_temperature)), truth)


def calibration_error(logits: Floats, truth: Indices, temperature: float) -> float:
    """Return the expected calibration error over 15 equal bins of the highest probability."""
    probabilities = softmax(logits / np.float32(temperature))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence.astype(np.float64), minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / max(len(truth), 1))
