"""A model file and its float twin, each as a function from many crops to their logits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle
from edge.emotions import Classifier
from trainer import TrainerError
from trainer.data.inputs import normalise
from trainer.training.checkpoints import load_network
from trainer.training.judge import logits_of
from trainer.training.run_folder import CheckpointError

#: Takes uint8 crops (n, size, size), or RGB (n, size, size, 3); gives float32 logits (n, classes).
Network = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
#: Where the float networks behind the shipped model files lie, as `<name>.keras`.
FLOAT_TWINS = Path(__file__).parents[1] / "models"


class NetworkError(TrainerError):
    """A float network cannot be used; the message names the file and the remedy."""


def int8_network(bundle: Bundle) -> Network:
    """Return the daemon's own classifier, for many crops."""
    classifier = Classifier(bundle)
    return lambda crops: np.stack([classifier.logits(crop) for crop in crops])


def float_network(model: keras.Model) -> Network:
    """Return a float32 network, for many crops."""
    return lambda crops: logits_of(model, normalise(crops))


def load_twin(bundle: Bundle, file: Path, given: Path | None) -> keras.Model | None:
    """Return the float network of a model file; without one None, and a line on stderr.

    Args:
        bundle: the model file.
        file: where it lies.
        given: its `.keras` file; None looks beside it, as `train` writes it, and for the one of that model's name in
            `trainer/models`.

    Raises:
        NetworkError: it is missing, unreadable or of another shape.
    """
    path = given or next((each for each in _places(bundle, file) if each.is_file()), None)
    if path is None:
        places = " nor ".join(map(str, _places(bundle, file)))
        print(f"neither {places} is there; only the int8 network is measured (--float names another)", file=sys.stderr)
        return None
    try:
        model = load_network(path)
    except CheckpointError as error:
        raise NetworkError(f"{error}, or leave --float out") from None
    expected = ((None, *bundle.info.input.shape), (None, len(bundle.info.labels)))
    if (model.input_shape, model.output_shape) != expected:
        raise NetworkError(
            f"{path}: {model.input_shape} → {model.output_shape} is not the model file's "
            f"{expected[0]} → {expected[1]}; name its float network with --float"
        )
    return model


def _places(bundle: Bundle, file: Path) -> tuple[Path, Path]:
    """Return where the float network of a model file may lie."""
    return file.with_suffix(".keras"), FLOAT_TWINS / f"{bundle.info.name}.keras"
