"""What the networks share: channels by width, activations, convolutions with batch normalisation, dense layers."""

from __future__ import annotations

import keras
from keras import layers

#: The gradient of a strided 1×1 convolution of 8 channels or fewer overruns memory in TensorFlow 2.21 (oneDNN).
FEW = 16


def channels(count: int, width: float) -> int:
    """Return how many channels `count` become at this width, at least one."""
    return max(1, round(count * width))


def activate(x: keras.KerasTensor, activation: str, name: str | None = None) -> keras.KerasTensor:
    """Apply an activation of the configuration; each has an int8 operator, or is made of some."""
    match activation:
        case "relu":
            return layers.ReLU(name=name)(x)
        case "relu6":
            return layers.ReLU(6.0, name=name)(x)
        case "leaky_relu":
            return layers.LeakyReLU(0.1, name=name)(x)
        case "hard_swish":  # arXiv:1905.02244
            return layers.Activation("hard_silu", name=name)(x)
        case _:
            return layers.Activation(activation, name=name)(x)


def convolution(
    x: keras.KerasTensor,
    count: int,
    kernel: int = 3,
    stride: int = 1,
    activation: str | None = None,
    name: str | None = None,
) -> keras.KerasTensor:
    """Convolve to `count` channels, normalise by batch (arXiv:1502.03167), activate if asked; edges are padded."""
    if kernel == 1 and stride > 1 and x.shape[-1] < FEW:
        # The same sum of the same pixels: such a convolution sees only every second one.
        x, stride = layers.MaxPooling2D(1, strides=stride, name=name and f"{name}_every_second")(x), 1
    x = layers.Conv2D(count, kernel, strides=stride, padding="same", use_bias=False, name=name)(x)
    return normalised(x, activation, name)


def normalised(x: keras.KerasTensor, activation: str | None, name: str | None = None) -> keras.KerasTensor:
    """Normalise by batch, and activate if asked."""
    x = layers.BatchNormalization(name=name and f"{name}_norm")(x)
    return activate(x, activation, name and f"{name}_activation") if activation else x


def dense(x: keras.KerasTensor, count: int, activation: str, name: str) -> keras.KerasTensor:
    """Connect everything (..., n) with `count` neurons, normalised by batch and activated."""
    return normalised(layers.Dense(count, use_bias=False, name=name)(x), activation, name)


def logits(x: keras.KerasTensor, classes: int, dropout: float, name: str | None = None) -> keras.KerasTensor:
    """Return logits (classes,) of features (n,), some of which are dropped in training."""
    x = layers.Dropout(dropout)(x)
    # In float32 under any precision policy: the loss needs it.
    return layers.Dense(classes, dtype="float32", name=name)(x)
