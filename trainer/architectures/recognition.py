"""The residual network of dlib's face recognition (King, dlib 19.3, 2017), as a teacher."""

from __future__ import annotations

import keras
from keras import layers, ops

from trainer.architectures.layers import activate, channels, convolution, logits
from trainer.config import Architecture

STEM = 32
#: Channels and blocks of each stage.
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))
ACTIVATION = "relu"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels), best 88 pixels wide or more.

    27 convolutions: a 7×7 stem with stride 2 and max pooling, then two-convolution blocks added to their input. Where
    a stage halves the resolution, the shortcut is an average pooling whose missing channels are zeros, so that it has
    no weights. Not as there: batch normalisation after each convolution where dlib has learned constants; padded edges,
    which leave 3×3 positions at the end; no last block, which would halve those. `emotion-trainer adopt` brings the
    published weights here.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    x = convolution(x, channels(STEM, width), 7, 2, activation, "conv32_down")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
    for number, (stage, blocks) in enumerate(STAGES):
        count = channels(stage, width)
        for block in range(blocks):
            down = number > 0 and block == 0
            x = _block(x, count, down, activation, f"conv{stage}_{'down' if down else block + (number == 0)}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return logits(x, classes, architecture.dropout, "logits")


def _block(x: keras.KerasTensor, count: int, down: bool, activation: str, name: str) -> keras.KerasTensor:
    y = convolution(x, count, 3, 2 if down else 1, activation, f"{name}_conv1")
    y = convolution(y, count, 3, name=f"{name}_conv2")
    if down:
        x = layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut")(x)
        x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, count - x.shape[-1]]])
    return activate(layers.Add(name=f"{name}_sum")([x, y]), activation, f"{name}_activation")
