"""From data sets to a model file: what `emotion-trainer train` and `export` do, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from trainer.config import Config
from trainer.files import replace_file
from trainer.training.adjustment import shifts
from trainer.training.checkpoints import copy_weights, load_network, save_network
from trainer.training.fit import fit, ready
from trainer.training.judge import float32_network
from trainer.training.material import Material, material_of
from trainer.training.run_folder import SOFT_LABELS, CheckpointError, check_faces
from trainer.training.teachers import write_soft_labels

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


def train(config: Config, data: Path, outputs: Outputs, cache: Path, teachers: Sequence[str] = ()) -> None:
    """Train, or go on training, quantise, check, and write the model file.

    Where Keras does not run on TensorFlow, the training ends with the float network: `export` makes a model file of it.

    Args:
        config: the run's configuration.
        data: folder of the data sets.
        outputs: where the results go.
        cache: folder for prepared pictures.
        teachers: networks to learn from beside the labels, named as in `trainer.training.teachers.open_teacher`.

    Raises:
        TrainerError: something that the user can put right; what was there before is as it was.
    """
    ready(outputs.run, config)
    material = material_of(config, data, cache)
    check_faces(outputs.run, material.train, material.validation)
    shifts(material.train.faces.labels, config.training.logit_shifts)  # before long work
    _list_dropped(material.prepared.report.dropped, outputs.run)
    if teachers:
        write_soft_labels(outputs.run / SOFT_LABELS, teachers, material.train)
    print(f"{len(material.train)} faces to train on, {len(material.validation)} to choose on")
    model = fit(material.train, material.validation, config, outputs.run)
    if keras.backend.backend() != "tensorflow":
        _write_twins(model, outputs.twins)
        print(
            f"{outputs.twins[0]}: trained on {keras.backend.backend()}; `emotion-trainer export {outputs.twins[0]} "
            "--config …` makes a model file of it where TensorFlow is installed"
        )
        return
    _write_all(model, material, config, outputs)


def export(path: Path, config: Config, data: Path, model_file: Path, cache: Path) -> None:
    """Make a model file of a `.keras` file, whichever backend it was trained on.

    Args:
        path: the `.keras` file.
        config: that it was trained with.
        data: folder of the data sets, for calibration and measurement.
        model_file: where to write.
        cache: folder for prepared pictures.

    Raises:
        TrainerError: something that the user can put right; what was there before is as it was.
    """
    source = load_network(path)
    if source.input_shape[1:] != config.crop.shape():
        raise CheckpointError(
            f"{path}: sees {source.input_shape[1:]}, and crop says {config.crop.shape()}; name the configuration that "
            "it was trained with"
        )
    material = material_of(config, data, cache)
    network = float32_network(config, len(material.train.faces.labels))
    copy_weights(path, source, network)
    _write_all(network, material, config, Outputs(path.parent, [model_file], []))


def _write_all(model: keras.Model, material: Material, config: Config, outputs: Outputs) -> None:
    # Not before: it needs TensorFlow, without which one can train.
    from trainer.conversion.delivery import deliver, write_models

    bundle = deliver(model, material, config)
    _write_twins(model, outputs.twins)
    write_models(bundle, outputs.models)


def _write_twins(model: keras.Model, paths: Sequence[Path]) -> None:
    for path in paths:
        save_network(model, path)


def _list_dropped(dropped: dict[str, list[str]], run: Path) -> None:
    earlier = {split: names for split, names in dropped.items() if split != "test"}
    print(", ".join(f"{len(names)} {split}" for split, names in earlier.items()), "faces dropped as copies")
    replace_file(run / DROPPED, (json.dumps(earlier, indent=1) + "\n").encode())
