"""How long one face takes, one network beside another in the same run.

A machine's speed wanders by more than networks differ, so the networks take turns after every face, and ratios are
taken within a round. So short a turn is seldom interrupted, and each finds the caches as the other left them, as in the
daemon, where detection comes in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
ROUNDS = 600
WARM_UP = 20


@dataclass(frozen=True)
class Latency:
    """Milliseconds a face, batch 1.

    Attributes:
        rounds: float64 (rounds,) one face a round.
    """

    rounds: Doubles

    @property
    def median(self) -> float:
        """Of the rounds."""
        return float(np.median(self.rounds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds is faster than the first, a quarter slower than the second."""
        low, high = np.quantile(self.rounds, (0.25, 0.75))
        return float(low), float(high)

    def ratio(self, other: Latency) -> float:
        """Return the median over the rounds of this one's time as a multiple of the other's."""
        return float(np.median(self.rounds / other.rounds))

    def as_json(self) -> dict[str, Any]:
        """Return median and quartiles."""
        return {"median": round(self.median, 4), "quartiles": [round(value, 4) for value in self.quartiles]}


def race(networks: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, Latency]:
    """Time networks that take turns in one thread.

    Args:
        networks: each classifies one face when it is called.
        rounds: how often each has its turn.
    """
    for network in networks.values():
        for _ in range(WARM_UP):
            network()
    turns = [[_milliseconds(network) for network in networks.values()] for _ in range(rounds)]
    return {name: Latency(times) for name, times in zip(networks, np.array(turns).T, strict=True)}


def _milliseconds(network: Callable[[], object]) -> float:
    begun = time.perf_counter()
    network()
    return (time.perf_counter() - begun) * 1000
