"""The MobileNet of HSE's face recognition (Savchenko, arXiv:1807.07718), as a teacher or, in part, as a student."""

from __future__ import annotations

import keras
from keras import layers

from trainer.architectures.layers import channels, convolution, logits, normalised
from trainer.config import Architecture

STEM = 32
#: Channels and stride of each separable convolution, those of MobileNet (Howard et al., arXiv:1704.04861).
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
ACTIVATION = "relu6"


def build(architecture: Architecture, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the logits (classes,) of an input (height, width, channels), best 96 pixels wide or more.

    A 3×3 stem with stride 2, then 13 depthwise separable convolutions, and a global average. `emotion-trainer adopt`
    brings the published weights here, which have learned faces from VGGFace2. With `stages` there are as many separable
    convolutions as those, with as many channels, from the first on.
    """
    activation, width = architecture.activation or ACTIVATION, architecture.width
    x = convolution(x, channels(STEM, width), stride=2, activation=activation, name="conv1")
    for number, (count, stride) in enumerate(_blocks(architecture.stages), start=1):
        name = f"conv_dw_{number}"
        depthwise = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)
        x = normalised(depthwise(x), activation, name)
        x = convolution(x, channels(count, width), 1, activation=activation, name=f"conv_pw_{number}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return logits(x, classes, architecture.dropout, "logits")


def _blocks(stages: tuple[int, ...] | None) -> tuple[tuple[int, int], ...]:
    if stages is None:
        return BLOCKS
    return tuple((count, stride) for count, (_, stride) in zip(stages, BLOCKS, strict=False))
