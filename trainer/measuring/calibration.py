"""How far the probabilities of a classifier can be taken at their word. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.emotions import softmax

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Answers sorted by confidence, their highest probability, into 15 equally wide bins of 0–1.

    Attributes:
        counts: (15,) answers in each bin.
        confidence: float64 (15,) their mean highest probability; NaN in an empty bin.
        accuracy: float64 (15,) the share that is right; NaN in an empty bin.
    """

    counts: Indices
    confidence: Doubles
    accuracy: Doubles

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of accuracy and confidence (Naeini et al., AAAI 2015)."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled] * self.counts[filled]
        return float(gaps.sum() / max(self.counts.sum(), 1))


def reliability(probabilities: Floats, truth: Indices) -> Reliability:
    """Sort the answers with probabilities (n, classes) by confidence, and count those that are right."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=values.astype(np.float64), minlength=BINS) for values in (confidence, right)]
    means = [np.divide(each, counts, out=np.full(BINS, np.nan), where=counts > 0) for each in sums]
    return Reliability(counts, *means)


def calibration_error(logits: Floats, truth: Indices, temperature: float) -> float:
    """Return the expected calibration error of softmax(logits / temperature) over 15 equal-width bins."""
    return reliability(softmax(logits / np.float32(temperature)), truth).error


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
