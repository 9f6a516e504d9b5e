"""From a trained network to a model file: int8, calibrated, measured, and past the gate. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle
from trainer.config import Config
from trainer.conversion.export import draft, write
from trainer.conversion.layer_errors import worst_layers
from trainer.conversion.quantise import Comparison, quantise
from trainer.data.datasets import Samples
from trainer.measuring.calibration import best_temperature
from trainer.measuring.evaluate import ask_all
from trainer.measuring.networks import float_network, int8_network
from trainer.measuring.protocols import Protocol, ferplus_protocols, plain_protocol
from trainer.measuring.questions import Questions
from trainer.training.material import Material


def deliver(model: keras.Model, material: Material, config: Config) -> Bundle:
    """Quantise a trained network, choose its temperature, measure it on the validation faces and let it pass the gate.

    Raises:
        QuantisationError: the network does not convert, or the int8 network is too much worse.
    """
    chosen = material.chosen
    protocols = _protocols(material)
    asked = Questions(material.prepared.report.data, chosen.faces, chosen.landmarks, protocols)
    plain = exported(model, material.train, config)
    figures, logits = ask_all([asked], config.variant, config.crop.rule(), int8_network(plain))
    eight = protocols[0]
    int8_logits = logits[asked.name][eight.rows]
    float_logits = float_network(model)(asked.crops(config.variant, config.crop.rule())[eight.rows])
    comparison = Comparison.of(float_logits, int8_logits, eight.truth)
    print(comparison)
    comparison.check(lambda: worst_layers(model, calibration_crops(material.train, config)))
    measured = {
        "temperature": round(best_temperature(int8_logits, eight.truth), 4),
        "accuracies": {name: {**found.summary(), "split": "validation"} for name, found in figures.items()},
        "agreement": round(comparison.agreement, 6),
    }
    return Bundle(plain.info.model_copy(update=measured), plain.content)


def write_models(bundle: Bundle, paths: Sequence[Path]) -> None:
    """Write the model file to each path, and say so.

    Raises:
        BundleError: the daemon would refuse the file; nothing is changed.
        WriteError: the file cannot be written; likewise.
    """
    for path in paths:
        write(bundle, path)
        print(f"{path}: {path.stat().st_size:,} bytes, temperature {bundle.info.temperature}")


def exported(model: keras.Model, samples: Samples, config: Config) -> Bundle:
    """Quantise a trained network; its temperature and figures are still to be measured.

    Args:
        model: float32, as `trainer.training.fit.fit` returns it.
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


def _protocols(material: Material) -> list[Protocol]:
    """Return what the validation faces are asked: as FER+ does where there are its votes, else one plain question."""
    if material.chosen.faces.votes is None:
        return [plain_protocol(material.chosen.faces)]
    return ferplus_protocols(material.chosen.faces, material.prepared.everyone.of("train").faces)
