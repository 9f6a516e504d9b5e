"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import channels, convolution, dense, logits
from trainer.config import Architecture

STAGES = (16, 32)
DENSE = (120, 84)
ACTIVATION = "relu"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels).

    As in the paper: stages of one 5×5 convolution and one 2×2 pooling, then dense layers of 120 and 84. Not as there:
    more channels, since faces are less simple than digits; batch normalisation, ReLU (the paper has tanh: `activation`)
    and dropout; softmax instead of radial basis functions; the maximum instead of the mean, because an int8 pooling has
    one scale for its input and output, and the smaller range of the means cuts off the peaks of the convolution.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    for number, stage in enumerate(architecture.stages or STAGES, start=1):
        x = convolution(x, channels(stage, width), 5, activation=activation, name=f"stage{number}_5x5")
        x = layers.MaxPooling2D(2, padding="same", name=f"stage{number}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for number, count in enumerate(DENSE, start=1):
        x = dense(x, channels(count, width), activation, f"dense{number}")
    return logits(x, classes, architecture.dropout, "logits")
