"""Float32 network to full int8, and the gate that a bad one does not pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import TrainerError, first_line
from trainer.architectures import build
from trainer.config import Architecture
from trainer.data.inputs import normalise
from trainer.quiet import silence

Floats = npt.NDArray[np.float32]
MOST_LOST = 0.01
LEAST_AGREEMENT = 0.97
MOST_OF_ONE_CLASS = 0.90
#: One class has not taken over if the truth holds so nearly as many of it.
MORE_THAN_TRUE = 0.10


class QuantisationError(TrainerError):
    """The int8 network is not fit for use; the message gives the figures and the remedy."""


def quantise(model: keras.Model, crops: npt.NDArray[np.uint8], architecture: Architecture) -> bytes:
    """Convert to a full int8 `.tflite`: int8 in (1, size, size, channels), int8 logits out (1, classes).

    The same weights and crops give the same bytes.

    Args:
        model: float32, built from `architecture`.
        crops: uint8 (n, size, size), or with 3 channels, training faces: the ranges of the activations are measured on
            them.
        architecture: of `model`.

    Raises:
        QuantisationError: the converter failed.
    """
    # Keras numbers its layers through the life of a process and the converter writes the names into the file.
    keras.utils.clear_session()
    twin = build(architecture, model.input_shape[1:], model.output_shape[-1], batch=1)
    twin.set_weights(model.get_weights())
    try:
        with silence():
            return bytes(int8_converter(twin, crops).convert())
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise QuantisationError(f"the network does not convert to int8 ({first_line(error)})") from None


def int8_converter(model: keras.Model, crops: npt.NDArray[np.uint8]) -> tf.lite.TFLiteConverter:
    """Return a converter to full int8, nothing left in float.

    Args:
        model: float32, of batch size 1.
        crops: as in `quantise`.
    """
    inputs = normalise(_full_range(crops))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter


@dataclass(frozen=True)
class Comparison:
    """Float against int8 on the same faces, as fractions.

    Attributes:
        agreement: share of the faces to which both give the same class.
        most_frequent: share of the faces to which int8 gives the class that it gives most often.
        most_frequent_float: share to which float gives that class.
        most_frequent_true: share that has that class.
    """

    float_accuracy: float
    int8_accuracy: float
    agreement: float
    most_frequent: float
    most_frequent_float: float
    most_frequent_true: float

    @classmethod
    def of(cls, float_logits: Floats, int8_logits: Floats, truth: npt.NDArray[np.intp]) -> Comparison:
        """Compare logits (n, classes) of both networks against the truth (n,)."""
        before, after = float_logits.argmax(axis=1), int8_logits.argmax(axis=1)
        often = np.bincount(after).argmax()
        return cls(
            float((before == truth).mean()),
            float((after == truth).mean()),
            float((before == after).mean()),
            float((after == often).mean()),
            float((before == often).mean()),
            float((truth == often).mean()),
        )

    def __str__(self) -> str:
        return (
            f"validation accuracy float {self.float_accuracy:.1%}, int8 {self.int8_accuracy:.1%}, "
            f"agreement {self.agreement:.1%}, most frequent answer {self.most_frequent:.1%}"
        )

    def check(self, worst_layers: Callable[[], str] | None = None) -> None:
        """Let a good int8 network pass.

        Args:
            worst_layers: names the layers that hurt, for the message; asked only if it is int8 that is bad.

        Raises:
            QuantisationError: it lost more than a point, disagrees with the float network, or answers one class.
        """
        faults = self._faults()
        if faults:
            named = f"; worst layers: {worst_layers()}" if worst_layers and self._is_worse_than_float() else ""
            raise QuantisationError(f"{'; '.join(faults)} ({self}){named}; nothing was written: {self._remedy()}")

    def _is_worse_than_float(self) -> bool:
        return not self._is_one_sided_in_float() and (
            self.int8_accuracy < self.float_accuracy or self.agreement < LEAST_AGREEMENT
        )

    def _is_one_sided_in_float(self) -> bool:
        return self.most_frequent > MOST_OF_ONE_CLASS and self.most_frequent_float > MOST_OF_ONE_CLASS

    def _faults(self) -> list[str]:
        faults = []
        if round(self.float_accuracy - self.int8_accuracy, 9) > MOST_LOST:
            faults.append(f"int8 is more than {100 * MOST_LOST:.1f} point below float")
        if self.agreement < LEAST_AGREEMENT:
            faults.append(f"int8 and float agree on less than {LEAST_AGREEMENT:.0%}")
        if self.most_frequent > MOST_OF_ONE_CLASS and self.most_frequent > self.most_frequent_true + MORE_THAN_TRUE:
            faults.append(
                f"{self.most_frequent:.1%} of the faces get the same class, which {self.most_frequent_true:.1%} have "
                f"and float gives to {self.most_frequent_float:.1%}"
            )
        return faults

    def _remedy(self) -> str:
        if self._is_one_sided_in_float():
            return (
                "the float network is no better; train again in another --run, longer or with another "
                "training.learning_rate"
            )
        return (
            "raise quantisation.faces, or train again in another --run, longer or with architecture.activation relu6 "
            "to bound the layers"
        )


def _full_range(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put one black and one white pixel in: then the input's scale is 1/128 and its zero point 0, one step a level."""
    crops = crops.copy()
    crops[0, 0, 0], crops[0, 0, 1] = 0, 255
    return crops
