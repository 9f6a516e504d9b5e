"""The compact residual network, the default."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import activate, channels, convolution, logits
from trainer.config import Architecture

STEM = 16
STAGES = (32, 64, 96)
BLOCKS = 2
ACTIVATION = "relu"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    A 3×3 stem, then stages of two-convolution residual blocks (He et al., arXiv:1512.03385), the first block of each
    stage with stride 2; batch normalisation, ReLU, global average, dropout. All of it quantises to int8.

    The layers keep the names that Keras gives them: they stand in the model file that ships.
    """
    activation = architecture.activation or ACTIVATION
    x = convolution(x, channels(architecture.stem or STEM, architecture.width), activation=activation)
    for stage in architecture.stages or STAGES:
        for block in range(architecture.blocks or BLOCKS):
            x = _block(x, channels(stage, architecture.width), 2 if block == 0 else 1, activation)
    x = layers.GlobalAveragePooling2D()(x)
    return logits(x, classes, architecture.dropout)


def _block(x: keras.KerasTensor, count: int, stride: int, activation: str) -> keras.KerasTensor:
    y = convolution(x, count, stride=stride, activation=activation)
    y = convolution(y, count)
    if stride != 1 or x.shape[-1] != count:
        x = convolution(x, count, kernel=1, stride=stride)
    return activate(layers.Add()([x, y]), activation)
