"""Which layers int8 hurts: what each loses of its own, whatever the layers before it lost."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import first_line
from trainer.conversion.quantise import QuantisationError, int8_converter
from trainer.data.inputs import normalise
from trainer.quiet import silence

#: So many faces are measured; the ranges come from all that are given.
FACES = 32
NAMED = 3


@dataclass(frozen=True)
class LayerError:
    """What int8 costs at one layer.

    Attributes:
        name: of the layer in the Keras network.
        operator: of the `.tflite`.
        lost: mean over channels of the share of the signal that is error, 0–1.
    """

    name: str
    operator: str
    lost: float

    def __str__(self) -> str:
        return f"{self.name} ({self.lost:.0%} lost)"


def layer_errors(model: keras.Model, crops: npt.NDArray[np.uint8]) -> list[LayerError]:
    """Measure each layer with TensorFlow's quantisation debugger, worst first.

    The debugger runs each operator twice on the same int8 input, in int8 and in float32.

    Args:
        model: the float32 network.
        crops: uint8 (n, size, size), or with 3 channels, training faces.

    Raises:
        QuantisationError: the runtime refuses the network with its quantised layers laid open, as it can a badly
            trained one.
    """
    entrance = keras.Input(batch_shape=(1, *model.input_shape[1:]))
    twin = keras.models.clone_model(model, input_tensors=entrance)
    twin.set_weights(model.get_weights())
    inputs = normalise(crops[:FACES])
    lite = tf.lite.experimental
    table = io.StringIO()
    try:
        with silence(), np.errstate(invalid="ignore"):
            debugger = lite.QuantizationDebugger(
                converter=int8_converter(twin, crops),
                debug_dataset=lambda: ([one[None]] for one in inputs),
                debug_options=lite.QuantizationDebugOptions(layer_direct_compare_metrics={"lost": lost}),
            )
            debugger.run()
            debugger.layer_statistics_dump(table)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise QuantisationError(
            f"its layers cannot be compared in int8 and float ({first_line(error)}); train it longer, or anew"
        ) from None
    table.seek(0)
    names = [layer.name for layer in model.layers]
    found = [
        LayerError(layer_name(row["tensor_name"], names), row["op_name"], float(np.nan_to_num(float(row["lost"]))))
        for row in csv.DictReader(table)
    ]
    return sorted(found, key=lambda each: each.lost, reverse=True)


def worst_layers(model: keras.Model, crops: npt.NDArray[np.uint8]) -> str:
    """Name the worst few layers of a float32 network in one line, see `layer_errors`, or say why they are not known."""
    try:
        return ", ".join(map(str, layer_errors(model, crops)[:NAMED]))
    except QuantisationError as error:
        return f"not known, {error}"


def lost(exact: npt.NDArray[np.float32], levels: npt.NDArray[np.int8], scale: float, zero: int) -> float:
    """Return what int8 loses of a tensor (1, …places…, channels): error over signal, mean over channels, 0–1.

    Channel by channel, because one with large values makes the steps of all of them large. A channel that is lost
    altogether counts 1, one without signal and error does not count; NaN if there is no other.
    """
    error = (levels.astype(np.float32) - zero) * scale - exact
    places = tuple(range(exact.ndim - 1))
    noise, signal = (np.sqrt(np.square(each).sum(axis=places)) for each in (error, exact))
    counts = (signal > 0) | (noise > 0)
    return float(np.minimum(1, noise[counts] / np.maximum(signal[counts], 1e-12)).mean()) if counts.any() else np.nan


def layer_name(tensor: str, names: Sequence[str]) -> str:
    """Return the layer that a tensor of the `.tflite` belongs to.

    The converter fuses layers and joins their names, each network/layer/operation
    (`functional_1/act_1/Relu;functional_1/conv_1/convolution`): the one that comes first in the network stands for all.
    It also numbers every layer once more: `conv` is `conv_1`. The output has a name of its own.

    Args:
        tensor: name of the tensor.
        names: of the layers, in the order of the network.
    """
    found = []
    for scope in (part.split("/")[1] for part in tensor.split(";") if "/" in part):
        original = re.sub(r"_\d+$", "", scope)
        found += [name for name in (original, scope) if name in names][:1]
    return min(found, key=names.index, default=names[-1])
