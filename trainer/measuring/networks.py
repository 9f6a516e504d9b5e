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
from trainer.training.judge import logits_of

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


def load_twin(bundle: Bundle, given: Path | None) -> keras.Model | None:
    """Return the float network of a model file; without one None, and a line on stderr.

    Args:
        bundle: the model file.
        given: its `.keras` file; None looks for the one of that name in `trainer/models`.

    Raises:
        NetworkError: it is missing, unreadable or of another shape.
    """
    path = given or FLOAT_TWINS / f"{bundle.info.name}.keras"
    if not path.is_file():
        if given:
            raise NetworkError(f"{path}: no such file; name the float network with --float or leave the option out")
        print(f"{path}: no such file; only the int8 network is measured (--float names another)", file=sys.stderr)
        return None
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise NetworkError(f"{path}: no Keras model ({(str(error).splitlines() or ['?'])[0]})") from None
    expected = ((None, *bundle.info.input.shape), (None, len(bundle.info.labels)))
    if (model.input_shape, model.output_shape) != expected:
        raise NetworkError(
            f"{path}: {model.input_shape} → {model.output_shape} is not the model file's "
            f"{expected[0]} → {expected[1]}; name its float network with --float"
        )
    return model
