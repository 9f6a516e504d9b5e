"""A network that sees colour: its logits are how red, green and blue a crop is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edge.bundle import Bundle, ModelInfo
from tests.parts.samples import model_parts

COLOURS = ("red", "green", "blue")
SIZE = 32


def write_colour_model(path: Path) -> Path:
    """Write a model file whose network takes RGB crops and calls them by their strongest colour."""
    from trainer.quiet import load_keras

    load_keras()
    import keras

    from trainer.conversion.export import encode
    from trainer.conversion.quantise import int8_converter
    from trainer.quiet import silence

    entrance = keras.Input(batch_shape=(1, SIZE, SIZE, 3))
    means = keras.layers.GlobalAveragePooling2D()(entrance)
    identity = keras.layers.Dense(3, kernel_initializer="identity", use_bias=False)
    faces = np.random.default_rng(1).integers(0, 256, (8, 1, 1, 3), np.uint8)
    with silence():
        model = keras.Model(entrance, identity(means))
        network = bytes(int8_converter(model, np.tile(faces, (1, SIZE, SIZE, 1))).convert())
    info = {
        **model_parts()[1],
        "name": "colours",
        "labels": COLOURS,
        "temperature": 0.1,
        "input": {**model_parts()[1]["input"], "shape": (SIZE, SIZE, 3), "colour": "rgb"},
        "crop": {**model_parts()[1]["crop"], "size": SIZE},
        "sha256": hashlib.sha256(network).hexdigest(),
    }
    path.write_bytes(encode(Bundle(ModelInfo.model_validate(info), network)))
    return path
