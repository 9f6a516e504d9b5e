"""What an evaluation found: figures with their intervals, rivals, calibration, time; and the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.bundle import ModelInfo
from trainer.data.datasets import Faces
from trainer.measuring.bootstrap import Difference, Interval
from trainer.measuring.calibration import Reliability, reliability
from trainer.measuring.latency import Latency
from trainer.measuring.metrics import Figures
from trainer.measuring.questions import Split, Variant

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
INT8, FLOAT = "int8", "float"


@dataclass(frozen=True)
class Judged:
    """A network's figures under one protocol, and how much of them is chance.

    Attributes:
        figures: what it got right.
        intervals: `accuracy` and `macro_f1` → 95 % bootstrap interval.
    """

    figures: Figures
    intervals: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            **self.figures.as_json(),
            "intervals": {name: interval.as_json() for name, interval in self.intervals.items()},
        }


@dataclass(frozen=True)
class Rival:
    """A model of others, measured in the same run on the stored pictures by its own preparation.

    Attributes:
        judged: protocol → what it got right.
        differences: protocol → `accuracy` and `macro_f1` → our int8 network less this one.
        calibration_error: of its probabilities as they are, on the leading protocol.
        source: where it comes from.
    """

    path: Path
    sha256: str
    size: int
    source: str
    judged: dict[str, Judged]
    differences: dict[str, dict[str, Difference]]
    calibration_error: float | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types, without the differences."""
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "bytes": self.size,
            "source": self.source,
            "ece": _rounded(self.calibration_error),
            "figures": {protocol: judged.as_json() for protocol, judged in self.judged.items()},
        }


@dataclass(frozen=True)
class Answers:
    """What the int8 network answered to the leading protocol, face by face.

    Attributes:
        protocol: its name.
        faces: the faces asked about.
        truth: (n,) their right classes, indices into `faces.labels`.
        probabilities: float32 (n, classes) calibrated.
    """

    protocol: str
    faces: Faces
    truth: Indices
    probabilities: Floats

    def reliability(self) -> Reliability:
        """Return how far the probabilities can be taken at their word."""
        return reliability(self.probabilities, self.truth)


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        info: what the model file says of itself.
        networks: variant → `int8` or `float` → protocol → figures.
        leading: answers to FER+ 8, or to all faces of another data set; None where only CK+ was asked about.
        agreement: share of the leading protocol's faces to which int8 and float give the same class; None without
            a float network.
        faces_not_found: data set → faces that went in whole because the detector found none.
        rivals: name → model of others.
        latency: `int8` and each rival's name → time a face, all in one run.
    """

    model: Path
    sha256: str
    size: int
    info: ModelInfo
    split: Split
    networks: dict[Variant, dict[str, dict[str, Judged]]]
    leading: Answers | None
    agreement: float | None
    faces_not_found: dict[str, int]
    rivals: dict[str, Rival] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)

    @property
    def variant(self) -> Variant:
        """The preparation whose figures are to be quoted."""
        return self.info.variant

    @property
    def own(self) -> dict[str, dict[str, Judged]]:
        """`int8` or `float` → protocol → the figures to quote."""
        return self.networks[self.variant]

    @property
    def columns(self) -> dict[str, dict[str, Judged]]:
        """The figures to quote and those of the rivals, by name."""
        return {**self.own, **{name: rival.judged for name, rival in self.rivals.items()}}

    @property
    def calibration_error(self) -> float | None:
        """Of the int8 network's probabilities on the leading protocol."""
        return self.leading.reliability().error if self.leading else None

    @property
    def drop(self) -> float | None:
        """Accuracy that int8 loses against float on the leading protocol; None without a float network."""
        if self.leading is None or FLOAT not in self.own:
            return None
        before, after = (self.own[name][self.leading.protocol].figures.accuracy for name in (FLOAT, INT8))
        return before - after

    def ratio(self, rival: str) -> float:
        """Return the int8 network's time as a multiple of a rival's."""
        return self.latency[INT8].ratio(self.latency[rival])

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types; the figures of the other variant stand under that variant's name.

        `ms` is the int8 network's median, `ms_ratio` its multiple of the first peer's.
        """
        variants: dict[str, dict[str, Any]] = {
            variant: {name: _json(by_protocol) for name, by_protocol in networks.items()}
            for variant, networks in self.networks.items()
        }
        own = variants.pop(self.variant)
        return {
            "model": str(self.model),
            "sha256": self.sha256,
            "bytes": self.size,
            "split": self.split,
            "variant": self.variant,
            "labels": list(self.info.labels),
            INT8: own[INT8],
            FLOAT: own.get(FLOAT),
            "agreement": self.agreement,
            "drop": _rounded(self.drop),
            "ece": self.calibration_error,
            "ms": self.latency[INT8].as_json()["median"],
            "ms_ratio": next((round(self.ratio(name), 4) for name in self.rivals), None),
            "latency": {
                name: {**found.as_json(), **({"ratio": round(self.ratio(name), 4)} if name in self.rivals else {})}
                for name, found in self.latency.items()
            },
            "faces_not_found": self.faces_not_found,
            "peers": {name: rival.as_json() for name, rival in self.rivals.items()},
            "comparison": {name: _json_of_all(rival.differences) for name, rival in self.rivals.items()},
            **variants,
        }


def _json(by_protocol: dict[str, Judged]) -> dict[str, Any]:
    return {protocol: judged.as_json() for protocol, judged in by_protocol.items()}


def _json_of_all(found: dict[str, dict[str, Difference]]) -> dict[str, Any]:
    return {
        protocol: {name: difference.as_json() for name, difference in by_figure.items()}
        for protocol, by_figure in found.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
