"""From data sets to a model file: what `emotion-trainer train` does, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle
from trainer.alignment import landmarks_of
from trainer.calibration import best_temperature
from trainer.config import Config
from trainer.datasets import CleanSplits, Faces, Samples, read_ferplus, without_leaks
from trainer.evaluate import FERPLUS, Questions, ask_all, float_network, int8_network
from trainer.export import draft, write
from trainer.fit import fit, record
from trainer.protocols import ferplus_protocols
from trainer.quantise import Comparison, quantise

DROPPED = "dropped.json"


@dataclass(frozen=True)
class Outputs:
    """Where the results go.

    Attributes:
        run: folder of checkpoints, log and configuration.
        models: model files to write.
        twins: float networks (`.keras`) to write.
    """

    run: Path
    models: Sequence[Path]
    twins: Sequence[Path]


def train(config: Config, data: Path, outputs: Outputs, cache: Path) -> Bundle:
    """Train, or go on training, quantise, check, and write the model file.

    Args:
        config: the run's configuration.
        data: folder of the data sets.
        outputs: where the results go.
        cache: folder for landmarks.

    Raises:
        DataError: the data are missing or broken.
        CheckpointError: the run's folder belongs to another configuration.
        QuantisationError: the int8 network is too much worse; nothing was written.
    """
    official = read_ferplus(data)
    splits = without_leaks(official)
    record(outputs.run, config)
    _list_dropped(splits, outputs.run)
    landmarks = {
        "train": landmarks_of(splits.train.images, cache, "FER+ train"),
        "validation": landmarks_of(splits.validation.images, cache, "FER+ validation"),
    }
    samples = _samples(splits.train, landmarks["train"], config.limit)
    validation = _samples(splits.validation, landmarks["validation"], None)
    print(f"{len(samples.faces)} faces to train on, {len(validation.faces)} to choose on")
    model = fit(samples, validation, config, outputs.run)

    protocols = ferplus_protocols(splits.validation, official["train"])
    asked = Questions(FERPLUS, splits.validation, landmarks["validation"], protocols)
    plain = draft(quantise(model, calibration_crops(samples, config), config.architecture), config)
    figures, logits = ask_all([asked], config.variant, config.crop.rule(), int8_network(plain))
    eight = protocols[0]
    int8_logits = logits[FERPLUS][eight.rows]
    float_logits = float_network(model)(asked.crops(config.variant, config.crop.rule())[eight.rows])
    comparison = Comparison.of(float_logits, int8_logits, eight.truth)
    print(comparison)
    comparison.check()
    measured = {
        "temperature": round(best_temperature(int8_logits, eight.truth), 4),
        "accuracies": {name: {**found.summary(), "split": "validation"} for name, found in figures.items()},
        "agreement": round(comparison.agreement, 6),
    }
    bundle = Bundle(plain.info.model_copy(update=measured), plain.content)
    for path in outputs.twins:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".partial.{path.name}")
        model.save(partial)
        os.replace(partial, path)
    for path in outputs.models:
        write(bundle, path)
        print(f"{path}: {path.stat().st_size:,} bytes, temperature {bundle.info.temperature}")
    return bundle


def calibration_crops(samples: Samples, config: Config) -> npt.NDArray[np.uint8]:
    """Choose the training faces that the activations' ranges are measured on, prepared as the daemon does."""
    count = min(config.quantisation.faces, len(samples.faces))
    rows = np.random.default_rng(config.seed).choice(len(samples.faces), count, replace=False)
    chosen = Samples(samples.faces.subset(rows), samples.landmarks[rows])
    return Questions("", chosen.faces, chosen.landmarks, []).crops(config.variant, config.crop.rule())


def _samples(faces: Faces, landmarks: npt.NDArray[np.float32], limit: int | None) -> Samples:
    rows = np.flatnonzero(faces.distributions.any(axis=1))[:limit]
    return Samples(faces.subset(rows), landmarks[rows])


def _list_dropped(splits: CleanSplits, run: Path) -> None:
    dropped = {"train": splits.dropped_train, "validation": splits.dropped_validation}
    print(", ".join(f"{len(names)} {split}" for split, names in dropped.items()), "faces dropped as copies")
    (run / DROPPED).write_text(json.dumps(dropped, indent=1) + "\n")
