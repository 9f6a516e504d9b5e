"""Inception (GoogLeNet): Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import channels, convolution, logits
from trainer.config import Architecture

STEM = 16
STAGES = (48, 96, 160)
BLOCKS = 2
ACTIVATION = "relu"
# Shares of a module's output, those of the paper's module 3a: 64, 96 → 128 and 16 → 32 of 256, the rest is pooled.
ONE, THREE_REDUCED, THREE, FIVE_REDUCED, FIVE = 1 / 4, 3 / 8, 1 / 2, 1 / 16, 1 / 8


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    As in the paper: a stem, then stages of modules, 3×3 max pooling with stride 2 before each stage; a module joins
    four branches, 1×1, 1×1 and 3×3, 1×1 and 5×5, 3×3 max pooling and 1×1; global average, dropout. Not as there: batch
    normalisation, and no auxiliary classifiers, which a network of this depth does not need.

    `stages` are the channels of the modules' outputs, `blocks` the modules a stage.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    x = convolution(x, channels(architecture.stem or STEM, width), activation=activation, name="stem")
    for number, stage in enumerate(architecture.stages or STAGES, start=1):
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"stage{number}_pool")(x)
        for block in range(1, (architecture.blocks or BLOCKS) + 1):
            x = _module(x, channels(stage, width), activation, f"stage{number}_block{block}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return logits(x, classes, architecture.dropout, "logits")


def _module(x: keras.KerasTensor, count: int, activation: str, name: str) -> keras.KerasTensor:
    one = convolution(x, channels(count, ONE), 1, activation=activation, name=f"{name}_1x1")
    three = convolution(x, channels(count, THREE_REDUCED), 1, activation=activation, name=f"{name}_3x3_reduce")
    three = convolution(three, channels(count, THREE), 3, activation=activation, name=f"{name}_3x3")
    five = convolution(x, channels(count, FIVE_REDUCED), 1, activation=activation, name=f"{name}_5x5_reduce")
    five = convolution(five, channels(count, FIVE), 5, activation=activation, name=f"{name}_5x5")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    rest = max(1, count - sum(channels(count, share) for share in (ONE, THREE, FIVE)))
    pooled = convolution(pooled, rest, 1, activation=activation, name=f"{name}_pool_1x1")
    return layers.Concatenate(name=f"{name}_join")([one, three, five, pooled])
