"""Augmented batches: which faces, what they should be answered with, and how much each counts."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt

from trainer.config import Config
from trainer.data.augment import random_crop
from trainer.data.datasets import Samples
from trainer.data.inputs import normalise, pixels

Floats = npt.NDArray[np.float32]
#: Answers crops as they are drawn, uint8 (n, size, size) or with 3 channels, with a part of their targets, float32
#: (n, classes); called by several threads.
Asked = Callable[[npt.NDArray[np.uint8]], Floats]
#: Threads that draw crops while the network learns.
THREADS = 2


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """The batches of one epoch: inputs (n, size, size, channels), targets (n, classes), weights (n,), all float32.

    What batch i of epoch e holds depends only on the seed, e and i, so that runs resume. What does not fill a batch
    is left out, other faces every epoch.

    Args:
        samples: the training faces.
        targets: what each should be answered with (n, classes), or as much of it as does not depend on how it is drawn.
        weights: how much each counts (n,).
        config: the run's configuration.
        epoch: from 0.
    """

    def __init__(self, samples: Samples, targets: Floats, weights: Floats, config: Config, epoch: int) -> None:
        super().__init__(workers=THREADS)
        self._samples, self._targets, self._weights = samples, targets, weights
        self._config, self._epoch = config, epoch
        self._order = np.random.default_rng([config.seed, epoch]).permutation(len(samples))

    def __len__(self) -> int:
        return steps_of(len(self._samples), self._config)

    def __getitem__(self, index: int) -> tuple[Floats, Floats, Floats]:
        size = self._config.training.batch_size
        rng = np.random.default_rng([self._config.seed, self._epoch, index])
        rows = self._order[index * size : (index + 1) * size]
        rule = self._config.crop.rule()
        crops = [
            random_crop(self._samples.faces.images[r], self._samples.landmarks[r], rule, self._config.augmentation, rng)
            for r in rows
        ]
        inputs, targets, weights = normalise(np.stack(crops)), self._targets[rows], self._weights[rows]
        training = self._config.training
        if training.mixup:
            shares = rng.beta(training.mixup, training.mixup, len(rows) if training.mixup_each else 1)
            inputs, targets, weights = mixed(inputs, targets, weights, shares.astype(np.float32), rng)
        return inputs, targets, weights

    def taught_by(self, asked: Asked | None) -> keras.utils.PyDataset:
        """Return the same batches, `asked` having added its part to the targets; without it, themselves."""
        return self if asked is None else _Taught(self, asked)


class _Taught(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    def __init__(self, batches: Batches, asked: Asked) -> None:
        super().__init__(workers=THREADS)
        self._batches, self._asked = batches, asked

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Floats, Floats, Floats]:
        inputs, targets, weights = self._batches[index]
        return inputs, targets + self._asked(pixels(inputs)), weights


def steps_of(faces: int, config: Config) -> int:
    """Return the number of batches of an epoch."""
    return faces // config.training.batch_size or 1


def mixed(
    inputs: Floats, targets: Floats, weights: Floats, shares: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Blend each face and its target with those of another face of the batch (mixup, arXiv:1710.09412).

    Of a face is left its share of `shares` (n,), or all faces' one share (1,). Cross-entropy is linear in weight times
    target, so this product is what gets blended.
    """
    others = rng.permutation(len(inputs))

    def blend(values: Floats) -> Floats:
        share = shares.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(share * values + (1 - share) * values[others], np.float32)

    blended = blend(weights)
    return blend(inputs), blend(targets * weights[:, None]) / blended[:, None], blended


def smoothed(targets: Floats, smoothing: float) -> Floats:
    """Give `smoothing` of each target (n, classes) to all classes alike (label smoothing, arXiv:1512.00567)."""
    return np.asarray((1 - smoothing) * targets + smoothing / targets.shape[1], np.float32)


def class_weights(distributions: Floats, power: float) -> Floats:
    """Weight each face (n,) by its class's frequency to the power of minus `power`; the mean over the faces is 1."""
    frequencies = distributions.mean(axis=0)
    by_class = np.where(frequencies > 0, np.maximum(frequencies, 1e-9) ** -power, 0)
    weights = distributions @ by_class
    return np.asarray(weights / weights.mean(), np.float32)
