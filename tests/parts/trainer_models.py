"""Small models in seconds: ours, learned from drawn faces, and foreign ones that do a sum worked out by hand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edge.bundle import Bundle
from tests.parts.trainer_faces import TINY, draw
from trainer.data.datasets import LABELS


@dataclass(frozen=True)
class Files:
    """A model file and its float twin."""

    model: Path
    twin: Path


def write_model(
    folder: Path, labels: tuple[str, ...] = LABELS, colour: str = "grey", epochs: int = 12, temperature: float = 1.0
) -> Files:
    """Train a network for a second, quantise it, and write both; `labels` are some of `LABELS`."""
    import keras

    from trainer.architectures import build
    from trainer.config import Config
    from trainer.conversion.export import draft, write
    from trainer.conversion.quantise import quantise
    from trainer.data.augment import plain_crops
    from trainer.data.inputs import normalise

    config = Config.model_validate({**TINY, "crop": {"size": 32, "colour": colour}})
    rng = np.random.default_rng(4)
    truth = np.repeat(np.arange(len(labels)), 24)
    drawn = np.stack([draw(LABELS.index(labels[label]), rng) for label in truth])
    pictures = plain_crops(drawn, None, config.crop.rule())
    if colour == "rgb":
        pictures = np.repeat(pictures[..., None], 3, axis=3)
    keras.utils.set_random_seed(2)
    network = build(config.architecture, config.crop.shape(), len(labels))
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.optimizer.learning_rate = 0.01
    network.fit(normalise(pictures), truth, batch_size=8, epochs=epochs, verbose=0)
    plain = draft(quantise(network, pictures[::4], config.architecture), config, labels)
    bundle = Bundle(plain.info.model_copy(update={"temperature": temperature}), plain.content)
    files = Files(folder / "tiny.tflite", folder / "tiny.keras")
    write(bundle, files.model)
    network.save(files.twin)
    return files


def write_peer(path: Path, side: int, weights: np.ndarray, quantised: bool = False, softmax: bool = False) -> Path:
    """Write a `.tflite` whose scores are the mean pixel of each channel times `weights` (channels, classes)."""
    import keras
    import tensorflow as tf

    from trainer.quiet import silence

    channels, classes = weights.shape
    picture = keras.Input((side, side, channels), batch_size=1)
    scores = keras.layers.Dense(classes, use_bias=False)
    answer = scores(keras.layers.GlobalAveragePooling2D()(picture))
    network = keras.Model(picture, keras.layers.Softmax()(answer) if softmax else answer)
    scores.set_weights([weights])
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if quantised:
        rng = np.random.default_rng(0)
        examples = [rng.choice([0.0, 1.0], (1, 1, 1, channels)) * np.ones((1, side, side, channels)) for _ in range(20)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([each.astype(np.float32)] for each in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with silence():
        path.write_bytes(converter.convert())
    return path


def describe(path: Path, peer: Path, **changes: Any) -> Path:
    """Write a description of a peer, pixels divided by 255 unless `changes` say something else."""
    description = {
        "name": peer.stem,
        "sha256": hashlib.sha256(peer.read_bytes()).hexdigest(),
        "labels": list(LABELS),
        "scale": 1 / 255,
    }
    path.write_text(yaml.safe_dump([{**description, **changes}]))
    return path
