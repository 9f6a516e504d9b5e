"""MobileNet: Howard et al., "Efficient convolutional neural networks for mobile vision", arXiv:1704.04861."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import channels, convolution, logits, normalised
from trainer.config import Architecture

STEM = 16
STAGES = (64, 128, 256)
BLOCKS = 2
ACTIVATION = "relu"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    As in the paper: a full 3×3 convolution, then depthwise separable ones (3×3 on each channel, then 1×1 over all of
    them), each of both followed by batch normalisation and ReLU; no pooling but strides, and a global average at the
    end. Not as there: the stem keeps the resolution of the small faces, the first block of each stage halves it.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    x = convolution(x, channels(architecture.stem or STEM, width), activation=activation, name="stem")
    for number, stage in enumerate(architecture.stages or STAGES, start=1):
        for block in range(1, (architecture.blocks or BLOCKS) + 1):
            stride, name = 2 if block == 1 else 1, f"stage{number}_block{block}"
            x = _separable(x, channels(stage, width), stride, activation, name)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return logits(x, classes, architecture.dropout, "logits")


def _separable(x: keras.KerasTensor, count: int, stride: int, activation: str, name: str) -> keras.KerasTensor:
    depthwise = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")
    x = normalised(depthwise(x), activation, f"{name}_depthwise")
    return convolution(x, count, 1, activation=activation, name=f"{name}_pointwise")
