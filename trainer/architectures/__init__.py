"""The networks, one file each, behind one signature."""

from __future__ import annotations

from collections.abc import Callable

import keras

from trainer.architectures import compact, faceres, inception, lenet, mobilenet, recognition, resnet, vgg
from trainer.config import Architecture

#: kind → builder of the network from input (float32, -1…1) to logits.
BUILDERS: dict[str, Callable[[Architecture, keras.KerasTensor, int], keras.KerasTensor]] = {
    "compact": compact.build,
    "inception": inception.build,
    "lenet": lenet.build,
    "mobilenet": mobilenet.build,
    "recognition": recognition.build,
    "faceres": faceres.build,
    "resnet": resnet.build,
    "vgg": vgg.build,
}
#: Those that start from weights of others: `emotion-trainer adopt`.
TEACHERS = ("recognition", "faceres")


def build(
    architecture: Architecture, shape: tuple[int, int, int], classes: int, batch: int | None = None
) -> keras.Model:
    """Build a network: float input (height, width, channels) in -1…1, logits (classes,) out.

    Args:
        architecture: which one, how wide and deep.
        shape: of the input.
        classes: how many logits.
        batch: fixes the batch size, for the conversion.
    """
    inputs = keras.Input(shape, batch_size=batch)
    return keras.Model(inputs, BUILDERS[architecture.kind](architecture, inputs, classes))
