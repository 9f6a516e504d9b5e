"""Teachers: float networks and model files that say what they think of training faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from edge.bundle import Bundle, read_bundle
from edge.emotions import Classifier, softmax
from edge.faces import Colour, CropRule
from trainer.config import Config, Crop, load_config
from trainer.data.augment import plain_crops
from trainer.data.datasets import Samples
from trainer.data.inputs import normalise
from trainer.files import check_writable, digest_of
from trainer.training.checkpoints import load_network
from trainer.training.distil import DistillationError, Floats, SoftLabels, digests, read, write
from trainer.training.judge import BATCH, logits_of
from trainer.training.run_folder import RECORD

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Teacher:
    """A network that answers crops.

    Attributes:
        path: its file.
        rule: how it wants faces cut out.
        colour: what it sees of them.
        aligned: whether faces are aligned by the eyes or shown as stored.
        answer: crops uint8 (n, size, size), or RGB with 3 channels, to float32 probabilities (n, classes).
    """

    path: Path
    rule: CropRule
    colour: Colour
    aligned: bool
    answer: Callable[[Images], Floats]

    def name(self) -> tuple[str, str]:
        """Return file name and what `digest_of` says of it."""
        return self.path.name, digest_of(self.path)


def open_teacher(named: str, labels: tuple[str, ...]) -> Teacher:
    """Open a teacher for the classes `labels`.

    Args:
        named: path of a model file (`.tflite`), or of a `.keras` file whose crop stands in the configuration beside it:
            `config.json`, as in a run's folder, or the same name with `.yaml`. `PATH=CONFIG` names it elsewhere.
        labels: the classes in the order of the output.

    Raises:
        DistillationError: the file does not fit.
        BundleError: the model file cannot be used.
        CheckpointError: the `.keras` file cannot be used.
        ConfigError: its configuration cannot be used.
    """
    path, _, config = named.partition("=")
    if Path(path).suffix == ".tflite":
        return _model_file(Path(path), labels)
    return _float_network(Path(path), Path(config) if config else None, labels)


def teach(teachers: Sequence[Teacher], samples: Samples) -> SoftLabels:
    """Ask teachers about every face and its mirror image and average their probabilities.

    An expression is the same in the mirror; a network's two answers differ, and their mean is better than either.
    """
    total = np.zeros(samples.faces.distributions.shape, np.float32)
    for teacher in teachers:
        images = _in_colour(samples.faces.images, teacher.colour)
        firsts = range(0, len(samples), BATCH)
        for first in track(firsts, f"asking {teacher.path.name}", console=Console(stderr=True), transient=True):
            rows = slice(first, first + BATCH)
            landmarks = samples.landmarks[rows] if teacher.aligned else None
            crops = plain_crops(images[rows], landmarks, teacher.rule)
            total[rows] += (teacher.answer(crops) + teacher.answer(np.ascontiguousarray(crops[:, :, ::-1]))) / 2
    return SoftLabels(
        samples.faces.labels,
        tuple(teacher.name() for teacher in teachers),
        digests(samples.faces.images),
        (total / len(teachers)).astype(np.float16),
    )


def write_soft_labels(path: Path, named: Sequence[str], samples: Samples) -> None:
    """Ask teachers, named as in `open_teacher`, about every face and write their soft labels to `path`.

    What lies there already stays if it is of the same teachers and faces.

    Raises:
        DistillationError: what lies there is something else, or a teacher does not fit.
        BundleError: a teacher's model file cannot be used.
        CheckpointError: a teacher's `.keras` file cannot be used.
        ConfigError: a teacher's configuration cannot be used.
        WriteError: the file cannot be written.
    """
    teachers = [open_teacher(each, samples.faces.labels) for each in named]
    if not path.exists():
        check_writable(path)  # asking takes long
        write(path, teach(teachers, samples))
        return
    found = read(path)
    names = tuple(teacher.name() for teacher in teachers)
    if found.teachers != names or not np.array_equal(found.faces, digests(samples.faces.images)):
        raise DistillationError(f"{path}: holds soft labels of other teachers or faces; choose another file or run")


def of_classes(path: Path, labels: tuple[str, ...]) -> Bundle:
    """Read a model file, if it knows just the classes `labels`.

    Raises:
        BundleError: it cannot be used.
        DistillationError: it knows others.
    """
    bundle = read_bundle(path)
    if bundle.info.labels != labels:
        raise DistillationError(
            f"{path}: knows the classes {', '.join(bundle.info.labels)}, and the data have {', '.join(labels)}; "
            "name a teacher of the same classes"
        )
    return bundle


def _model_file(path: Path, labels: tuple[str, ...]) -> Teacher:
    bundle = of_classes(path, labels)
    classifier = Classifier(bundle)
    return Teacher(
        path,
        classifier.rule,
        classifier.colour,
        bundle.info.variant == "aligned",
        lambda crops: np.stack([classifier(crop) for crop in crops]),
    )


def _float_network(path: Path, given: Path | None, labels: tuple[str, ...]) -> Teacher:
    network = load_network(path)
    config = _config_of(path, given)
    crop: Crop = config.crop
    if network.input_shape[1:] != crop.shape():
        raise DistillationError(
            f"{path}: sees {network.input_shape[1:]}, and its configuration says {crop.shape()}; name the one it was "
            f"trained with: --teacher {path}=CONFIG"
        )
    if network.output_shape[-1] != len(labels):
        raise DistillationError(
            f"{path}: knows {network.output_shape[-1]} classes, and the data have {len(labels)}; name another teacher"
        )
    return Teacher(
        path,
        crop.rule(),
        crop.colour,
        config.variant == "aligned",
        lambda crops: softmax(logits_of(network, normalise(crops))),
    )


def _config_of(path: Path, given: Path | None) -> Config:
    candidates = [given] if given else [path.with_suffix(".yaml"), path.with_name(RECORD)]
    for candidate in candidates:
        if given or candidate.is_file():
            return load_config(candidate)
    raise DistillationError(
        f"{path}: no configuration beside it ({' or '.join(c.name for c in candidates)}); "
        f"name it: --teacher {path}=CONFIG"
    )


def _in_colour(images: Images, colour: Colour) -> Images:
    """Return pictures (n, side, side), or RGB (n, side, side, 3), as a network of that colour sees them."""
    if colour == "rgb" and images.ndim == 3:
        return np.repeat(images[..., None], 3, axis=3)
    if colour == "grey" and images.ndim == 4:
        return np.stack([np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for image in images])
    return images
