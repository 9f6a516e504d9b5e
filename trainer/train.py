"""From data sets to a model file: what `emotion-trainer train` does, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle
from trainer.calibration import best_temperature
from trainer.config import Config
from trainer.datasets import DataError, Samples
from trainer.evaluate import ask_all
from trainer.export import draft, write
from trainer.fit import fit, record
from trainer.networks import float_network, int8_network
from trainer.prepare import Prepared, prepare
from trainer.protocols import Protocol, ferplus_protocols, plain_protocol
from trainer.quantise import Comparison, quantise
from trainer.questions import Questions

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
        cache: folder for prepared pictures.

    Raises:
        DataError: the data are missing or broken.
        CheckpointError: the run's folder belongs to another configuration.
        QuantisationError: the int8 network is too much worse; nothing was written.
    """
    prepared = prepare(config, data, cache)
    samples = _taught(prepared.samples.of("train"), config.limit)
    chosen = prepared.samples.of("validation")
    validation = _taught(chosen)
    if not len(validation):
        raise DataError(f"{prepared.report.location}: no faces to choose on; raise data.validation")
    record(outputs.run, config)
    _list_dropped(prepared.report.dropped, outputs.run)
    print(f"{len(samples.faces)} faces to train on, {len(validation.faces)} to choose on")
    model = fit(samples, validation, config, outputs.run)

    protocols = _protocols(chosen, prepared)
    asked = Questions(prepared.report.data, chosen.faces, chosen.landmarks, protocols)
    plain = exported(model, samples, config)
    figures, logits = ask_all([asked], config.variant, config.crop.rule(), int8_network(plain))
    eight = protocols[0]
    int8_logits = logits[asked.name][eight.rows]
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


def exported(model: keras.Model, samples: Samples, config: Config) -> Bundle:
    """Quantise a trained network; its temperature and figures are still to be measured.

    Args:
        model: float32, as `trainer.fit.fit` returns it.
        samples: training faces, of which some calibrate the int8 network.
        config: of the run.

    Raises:
        QuantisationError: the network does not convert.
    """
    content = quantise(model, calibration_crops(samples, config), config.architecture)
    return draft(content, config, samples.faces.labels)


def calibration_crops(samples: Samples, config: Config) -> npt.NDArray[np.uint8]:
    """Choose the training faces that the activations' ranges are measured on, prepared as the daemon does."""
    count = min(config.quantisation.faces, len(samples.faces))
    rows = np.random.default_rng(config.seed).choice(len(samples.faces), count, replace=False)
    chosen = Samples(samples.faces.subset(rows), samples.landmarks[rows])
    return Questions("", chosen.faces, chosen.landmarks, []).crops(config.variant, config.crop.rule())


def _taught(samples: Samples, limit: int | None = None) -> Samples:
    """Keep the faces from which something can be learned, the first `limit` of them."""
    return samples.subset(np.flatnonzero(samples.faces.distributions.any(axis=1))[:limit])


def _protocols(chosen: Samples, prepared: Prepared) -> list[Protocol]:
    """Return what the validation faces are asked: as FER+ does where there are its votes, else one plain question."""
    if chosen.faces.votes is None:
        return [plain_protocol(chosen.faces)]
    return ferplus_protocols(chosen.faces, prepared.everyone.of("train").faces)


def _list_dropped(dropped: dict[str, list[str]], run: Path) -> None:
    earlier = {split: names for split, names in dropped.items() if split != "test"}
    print(", ".join(f"{len(names)} {split}" for split, names in earlier.items()), "faces dropped as copies")
    (run / DROPPED).write_text(json.dumps(earlier, indent=1) + "\n")
