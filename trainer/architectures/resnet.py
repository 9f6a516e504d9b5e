"""ResNet: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import activate, channels, convolution, logits
from trainer.config import Architecture

STEM = 16
STAGES = (64, 128, 256)
BLOCKS = 2
ACTIVATION = "relu"
#: A block's inner channels are this part of its outer ones.
BOTTLENECK = 4


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    As the deeper networks of the paper: a stem with max pooling, then stages of bottleneck blocks (1×1 to a quarter of
    the channels, 3×3, 1×1 back) whose output is added to their input; where the shape changes, at the first block of
    a stage, the input passes a 1×1 convolution; batch normalisation after every convolution; global average. Not as
    there: the stem is 3×3 without stride, and the first stage keeps its resolution as the paper's does, at 24×24.

    `stages` are the channels of the blocks' outputs.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    x = convolution(x, channels(architecture.stem or STEM, width), activation=activation, name="stem")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for number, stage in enumerate(architecture.stages or STAGES, start=1):
        for block in range(1, (architecture.blocks or BLOCKS) + 1):
            stride = 2 if block == 1 and number > 1 else 1
            x = _block(x, channels(stage, width), stride, activation, f"stage{number}_block{block}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return logits(x, classes, architecture.dropout, "logits")


def _block(x: keras.KerasTensor, count: int, stride: int, activation: str, name: str) -> keras.KerasTensor:
    inner = channels(count, 1 / BOTTLENECK)
    y = convolution(x, inner, 1, stride, activation, f"{name}_reduce")
    y = convolution(y, inner, 3, 1, activation, f"{name}_3x3")
    y = convolution(y, count, 1, name=f"{name}_expand")
    if stride != 1 or x.shape[-1] != count:
        x = convolution(x, count, 1, stride, name=f"{name}_shortcut")
    return activate(layers.Add(name=f"{name}_sum")([x, y]), activation, f"{name}_activation")
