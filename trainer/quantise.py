"""Float32 network to full int8, and the gate that a bad one does not pass."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import TrainerError
from trainer.architectures import build
from trainer.config import Architecture
from trainer.fit import normalise
from trainer.quiet import silence

Floats = npt.NDArray[np.float32]
MOST_LOST = 0.01
LEAST_AGREEMENT = 0.97
MOST_OF_ONE_CLASS = 0.90


class QuantisationError(TrainerError):
    """The int8 network is not fit for use; the message gives the figures and the remedy."""


def quantise(model: keras.Model, crops: npt.NDArray[np.uint8], architecture: Architecture) -> bytes:
    """Convert to a full int8 `.tflite`: int8 in (1, size, size, 1), int8 logits out (1, classes).

    The same weights and crops give the same bytes.

    Args:
        model: float32, built from `architecture`.
        crops: uint8 (n, size, size), or with 3 channels, what the ranges of the activations are measured on.
        architecture: of `model`.

    Raises:
        QuantisationError: the converter failed.
    """
    # Keras numbers its layers through the life of a process and the converter writes the names into the file.
    keras.utils.clear_session()
    twin = build(architecture, model.input_shape[1:], model.output_shape[-1], batch=1)
    twin.set_weights(model.get_weights())
    inputs = normalise(_full_range(crops))
    converter = tf.lite.TFLiteConverter.from_keras_model(twin)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    try:
        with silence():
            return bytes(converter.convert())
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise QuantisationError(f"the network does not convert to int8 ({str(error).splitlines()[0]})") from None


@dataclass(frozen=True)
class Comparison:
    """Float against int8 on the same faces, as fractions."""

    float_accuracy: float
    int8_accuracy: float
    agreement: float
    most_frequent: float

    @classmethod
    def of(cls, float_logits: Floats, int8_logits: Floats, truth: npt.NDArray[np.intp]) -> Comparison:
        """Compare logits (n, classes) of both networks against the truth (n,)."""
        before, after = float_logits.argmax(axis=1), int8_logits.argmax(axis=1)
        return cls(
            float((before == truth).mean()),
            float((after == truth).mean()),
            float((before == after).mean()),
            float(np.bincount(after).max() / len(after)),
        )

    def __str__(self) -> str:
        return (
            f"validation accuracy float {self.float_accuracy:.1%}, int8 {self.int8_accuracy:.1%}, "
            f"agreement {self.agreement:.1%}, most frequent class {self.most_frequent:.1%}"
        )

    def check(self) -> None:
        """Let a good int8 network pass.

        Raises:
            QuantisationError: it lost more than a point, disagrees with the float network, or answers one class.
        """
        faults = []
        if round(self.float_accuracy - self.int8_accuracy, 9) > MOST_LOST:
            faults.append(f"int8 is more than {100 * MOST_LOST:.1f} point below float")
        if self.agreement < LEAST_AGREEMENT:
            faults.append(f"int8 and float agree on less than {LEAST_AGREEMENT:.0%}")
        if self.most_frequent > MOST_OF_ONE_CLASS:
            faults.append(f"more than {MOST_OF_ONE_CLASS:.0%} of the faces get the same class")
        if faults:
            raise QuantisationError(
                f"{'; '.join(faults)} ({self}); nothing was written: train longer, or raise quantisation.faces"
            )


def _full_range(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put one black and one white pixel in: then the input's scale is 1/128 and its zero point 0, one step a level."""
    crops = crops.copy()
    crops[0, 0, :2] = 0, 255
    return crops
