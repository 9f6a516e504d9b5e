"""VGG: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv:1409.1556."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import channels, convolution, dense, logits
from trainer.config import Architecture

STAGES = (16, 32, 64, 96)
BLOCKS = 2
DENSE = (256, 256)
ACTIVATION = "relu"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    As in the paper: stages of stacked 3×3 convolutions (`blocks` of them) that end in 2×2 max pooling, each stage wider
    than the last, then two dense layers. Not as there: batch normalisation, and widths for small faces.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    for number, stage in enumerate(architecture.stages or STAGES, start=1):
        for block in range(1, (architecture.blocks or BLOCKS) + 1):
            name = f"stage{number}_3x3_{block}"
            x = convolution(x, channels(stage, width), activation=activation, name=name)
        x = layers.MaxPooling2D(2, padding="same", name=f"stage{number}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for number, count in enumerate(DENSE, start=1):
        x = dense(x, channels(count, width), activation, f"dense{number}")
    return logits(x, classes, architecture.dropout, "logits")
