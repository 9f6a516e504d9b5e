"""The classifier: calibrated probabilities of the emotions from a face crop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle
from edge.faces import Floats, Image
from edge.litert import Network


class Classifier:
    """The emotion network of a model file. One per thread."""

    def __init__(self, bundle: Bundle) -> None:
        self.labels = bundle.info.labels
        self.rule = bundle.info.crop.rule()
        self.colour = bundle.info.input.colour
        self._network = Network(bundle.content)
        self._temperature = bundle.info.temperature
        self._table = _quantised_levels(bundle, *self._network.inputs[0]["quantization"])
        self._scale, self._zero = self._network.outputs[0]["quantization"]

    def logits(self, crop: Image) -> Floats:
        """Return the float32 logits (classes,) of a uint8 crop (size, size), or (size, size, 3) where colour is rgb."""
        levels = self._table[crop]
        (output,) = self._network(levels[None] if self.colour == "rgb" else levels[None, :, :, None])
        return np.asarray((output[0].astype(np.float32) - self._zero) * self._scale, np.float32)

    def __call__(self, crop: Image) -> Floats:
        """Return float32 probabilities (classes,) of a crop as `logits` takes it; they sum to one."""
        return softmax(self.logits(crop) / np.float32(self._temperature))


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _quantised_levels(bundle: Bundle, scale: float, zero: int) -> npt.NDArray[np.int8]:
    """Return the network's int8 input for each of the 256 levels of a pixel."""
    values = (np.arange(256) - bundle.info.input.mean) / bundle.info.input.deviation
    return np.asarray(np.clip(np.round(values / scale) + zero, -128, 127), np.int8)
