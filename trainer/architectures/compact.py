"""The compact residual network, the default."""

from __future__ import annotations

import keras
from keras import layers

from trainer.config import Architecture

STEM = 16
STAGES = (32, 64, 96)
BLOCKS = 2


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    A 3×3 stem, then stages of two-convolution residual blocks (He et al., arXiv:1512.03385), the first block of each
    stage with stride 2; batch normalisation, ReLU, global average, dropout. All of it quantises to int8.
    """
    x = _convolution(x, architecture.stem or STEM)
    x = layers.ReLU()(x)
    for channels in architecture.stages or STAGES:
        for block in range(architecture.blocks or BLOCKS):
            x = _block(x, channels, stride=2 if block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(architecture.dropout)(x)
    # Logits in float32 under any precision policy: the loss needs it.
    return layers.Dense(classes, dtype="float32")(x)


def _block(x: keras.KerasTensor, channels: int, stride: int) -> keras.KerasTensor:
    y = layers.ReLU()(_convolution(x, channels, stride=stride))
    y = _convolution(y, channels)
    if stride != 1 or x.shape[-1] != channels:
        x = _convolution(x, channels, kernel=1, stride=stride)
    return layers.ReLU()(layers.Add()([x, y]))


def _convolution(x: keras.KerasTensor, channels: int, kernel: int = 3, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)
