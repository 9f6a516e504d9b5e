"""Judges a network on validation faces, with the averaged weights and batch-normalisation statistics that suit them."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import numpy.typing as npt

from trainer.architectures import build
from trainer.config import Config
from trainer.data.augment import judged_crops
from trainer.data.datasets import Samples
from trainer.data.inputs import normalise
from trainer.training import checkpoints
from trainer.training.checkpoints import Arrays

Floats = npt.NDArray[np.float32]
#: Training faces that the statistics are measured on: with a thousand, accuracies go up and down by their choice.
MEASURED = 6144
#: Faces answered at a time.
BATCH = 512


class Judge:
    """A float32 network beside the one that learns, whatever the precision of the training.

    Args:
        config: of the run.
        train: the training faces.
        validation: the faces that are asked about.

    Attributes:
        network: float32, of the configuration's architecture.
    """

    def __init__(self, config: Config, train: Samples, validation: Samples) -> None:
        self.network = float32_network(config, len(validation.faces.labels))
        self._inputs = normalise(judged_crops(validation, config))
        self._truth = validation.faces.truth()
        rows = np.random.default_rng(config.seed).permutation(len(train))[:MEASURED]
        self._measured = judged_crops(train.subset(rows), config)

    def accuracy(self, learner: keras.Model) -> float:
        """Take over the averaged weights of `learner`, which learns, and return their share of right answers."""
        self.network.set_weights(averaged(learner))
        if learner.optimizer.use_ema:
            parts = np.array_split(self._measured, max(1, len(self._measured) // BATCH))
            restate(self.network, map(normalise, parts))
        if not len(self._inputs):
            return float("nan")
        return float((logits_of(self.network, self._inputs).argmax(axis=1) == self._truth).mean())


def float32_network(config: Config, classes: int) -> keras.Model:
    """Build a network of the configuration in float32: what gets judged, evaluated and quantised."""
    keras.mixed_precision.set_global_policy("float32")
    return build(config.architecture, config.crop.shape(), classes)


def logits_of(network: keras.Model, inputs: Floats) -> Floats:
    """Return the logits (n, classes) of inputs (n, size, size, channels)."""
    # Not `predict`: what it builds around an array makes TensorFlow complain once operations must be repeatable.
    batches = [network.predict_on_batch(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
    return np.concatenate(batches).astype(np.float32)


def averaged(learner: keras.Model) -> Arrays:
    """Return the weights with their moving average in place of the trained ones, which stay as they are."""
    raw = learner.get_weights()
    learner.optimizer.take_average(learner.trainable_variables)
    found: Arrays = learner.get_weights()
    learner.set_weights(raw)
    return found


def restate(network: keras.Model, batches: Iterable[Floats]) -> None:
    """Measure the batch-normalisation statistics of `network` anew, as their mean over `batches`.

    Averaged weights need statistics of their own: those of the weights of the last step belong to other activations
    (stochastic weight averaging, arXiv:1803.05407). Nor are faces that are disturbed and blended for training like
    those that the network will see.
    """
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    # Dropout before a batch normalisation must not go on drawing: a run that resumes would draw otherwise.
    weights = {id(variable) for variable in network.weights}
    seeds = [variable for variable in network.variables if id(variable) not in weights]
    before = checkpoints.values(seeds)
    for number, inputs in enumerate(batches):
        for layer in layers:
            layer.momentum = number / (number + 1)
        network(inputs, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for seed, value in zip(seeds, before, strict=True):
        seed.assign(value)
