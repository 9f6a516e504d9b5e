"""Accuracy on whole photographs, composed of validation faces: detector, alignment and classifier together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge.bundle import read_bundle
from edge.classify import ImageError, PictureClassifier, Portrait, read_image
from edge.detector import Detector
from edge.faces import Face
from trainer.data.datasets import DataError, without_leaks
from trainer.data.photographs import HEIGHT, LARGEST, SMALLEST, WIDTH, Photograph, photographs
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.protocols import most_voted

Image = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Found = TypeVar("Found", Face, Portrait)
NOT_FOUND = -1
#: Least confidence of a face, as `classify` has it by default.
THRESHOLD = 0.45
#: Bounds of the face sizes told apart, the side of the stored picture in pixels.
SIZES = (SMALLEST, 100, 180, LARGEST)
#: Every so many-th frame of a clip becomes a ground.
EVERY = 15
MOST_GROUNDS = 200


@dataclass(frozen=True)
class Answers:
    """What a model file answered to the same photographs in each light.

    Attributes:
        labels: the classes.
        truth: (n,) indices into `labels`.
        sides: float64 (n,) of the faces, pixels.
        given: light → (n,) indices into `labels`, -1 where the face was not found.
    """

    labels: tuple[str, ...]
    truth: Indices
    sides: npt.NDArray[np.float64]
    given: dict[str, Indices]

    def parts(self) -> Iterator[tuple[str, Indices, Mask]]:
        """Yield each part that is told apart, with the answers and which of them are in it."""
        first, plain = next(iter(self.given.items()))
        everyone = np.ones(len(self.truth), bool)
        yield "all", plain, everyone
        for low, high in pairwise(SIZES):
            yield f"{low}–{high} px", plain, (low <= self.sides) & (self.sides < high)
        for light, answers in self.given.items():
            if light != first:
                yield light, answers, everyone

    def recalls(self, answers: Indices, mask: Mask) -> dict[str, float]:
        """Return the recall of each class that occurs, a face not found counting as an error."""
        asked = {label: mask & (self.truth == number) for number, label in enumerate(self.labels)}
        return {label: float((answers[rows] == self.truth[rows]).mean()) for label, rows in asked.items() if rows.any()}

    def as_json(self) -> dict[str, Any]:
        """Return part → n, the shares found and right, the mean recall and the recall of each class."""
        return {
            name: {
                "n": int(mask.sum()),
                "found": float((answers[mask] != NOT_FOUND).mean()),
                "accuracy": float((answers[mask] == self.truth[mask]).mean()),
                "mean_recall": float(np.mean(list(self.recalls(answers, mask).values()))),
                "recall": self.recalls(answers, mask),
            }
            for name, answers, mask in self.parts()
            if mask.any()
        }


def _dark(picture: Image) -> Image:
    """A third of the light, and the noise that a camera then shows."""
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return np.asarray(np.clip(0.33 * picture + noise, 0, 255), np.uint8)


def _bright(picture: Image) -> Image:
    return np.asarray(np.clip(1.7 * picture.astype(np.float32), 0, 255), np.uint8)


def _side(scene: Photograph) -> Image:
    """Light from the left: across the face it falls to a quarter."""
    across = (np.arange(WIDTH) - scene.centre[0]) / scene.side
    gain = np.clip(0.65 - 0.75 * across, 0.25, 1.1).astype(np.float32)
    return np.asarray(np.clip(scene.picture * gain[None, :, None], 0, 255), np.uint8)


LIGHTS: dict[str, Callable[[Photograph], Image]] = {
    "even light": lambda scene: scene.picture,
    "dark": lambda scene: _dark(scene.picture),
    "overexposed": lambda scene: _bright(scene.picture),
    "light from a side": _side,
}


def measure(model: Path, data: Path, count: int, seed: int, grounds: Path | None = None) -> Answers:
    """Compose photographs of FER+ validation faces and let `emotion-edge classify` answer with a model file.

    Args:
        model: the model file.
        data: folder of the data sets.
        count: how many photographs.
        seed: of the choice of faces and their composition.
        grounds: folder of pictures or clips to put the faces on; without one, grounds are drawn.

    Raises:
        BundleError: the model file cannot be used.
        DataError: FER+ is missing or broken, or `grounds` holds nothing usable.
    """
    bundle = read_bundle(model)
    faces = without_leaks(read_ferplus(data)).validation
    eight = most_voted(faces)
    if bundle.info.labels != faces.labels:
        raise DataError(f"{model}: knows other classes than FER+; the photographs are made of FER+ faces")
    classify = PictureClassifier(bundle, THRESHOLD)
    pictures = read_grounds(grounds, Detector(THRESHOLD)) if grounds else []
    images = faces.images[eight.rows]
    total = min(count, len(images))
    given = {light: np.full(total, NOT_FOUND, np.intp) for light in LIGHTS}
    chosen, sides = np.zeros(total, np.intp), np.zeros(total)
    composed = photographs(images, count, seed, pictures)
    progress = track(composed, "photographs", total=total, console=Console(stderr=True), transient=True)
    for number, (row, scene) in enumerate(progress):
        chosen[number], sides[number] = row, scene.side
        for light, shown in LIGHTS.items():
            portrait = face_of(scene, classify(shown(scene)))
            if portrait is not None:
                given[light][number] = faces.labels.index(portrait.emotion)
    return Answers(faces.labels, eight.truth[chosen], sides, given)


def face_of(scene: Photograph, found: Sequence[Found]) -> Found | None:
    """Return the first of what was found whose box holds the middle of the face that was put in."""
    x, y = scene.centre
    for face in found:
        left, top, width, height = face.box
        if left <= x <= left + width and top <= y <= top + height:
            return face
    return None


def read_grounds(folder: Path, detector: Callable[[Image], Sequence[Face]]) -> list[Image]:
    """Return grounds, uint8 BGR (480, 640, 3): the pictures and frames of `folder` in which no face is found.

    Raises:
        DataError: there is no such folder, or nothing usable in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name one with pictures or clips with --grounds")
    grounds: list[Image] = []
    for path in sorted(each for each in folder.iterdir() if each.is_file()):
        grounds += [ground for ground in map(_covering, _frames(path)) if not detector(ground)]
    if not grounds:
        raise DataError(f"{folder}: no picture or clip without faces; name another folder with --grounds")
    return grounds[:: -(-len(grounds) // MOST_GROUNDS)]


def _frames(path: Path) -> Iterator[Image]:
    with suppress(ImageError):
        yield read_image(path)
        return
    clip = cv2.VideoCapture(os.fsencode(path).decode(errors="replace"))  # other names end the process in OpenCV
    number = 0
    while clip.grab():
        if number % EVERY == 0:
            found, frame = clip.retrieve()
            if found:
                yield np.asarray(frame, np.uint8)
        number += 1
    clip.release()


def _covering(picture: Image) -> Image:
    """Scale a picture so that it covers 640×480, and cut off what stands over."""
    height, width = picture.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height)
    size = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)[:HEIGHT, :WIDTH], np.uint8)


def show(answers: Answers, console: Console) -> None:
    """Print a row for each part, then the recall of each class in even light."""
    table = Table("part", title="composed photographs: a face not found counts as an error; in per cent")
    for column in ("n", "found", "right", "mean recall"):
        table.add_column(column, justify="right")
    found = answers.as_json()
    for name, part in found.items():
        cells = [f"{100 * part[key]:.1f}" for key in ("found", "accuracy", "mean_recall")]
        table.add_row(name, str(part["n"]), *cells)
    console.print(table)
    classes = Table("class", title="recall in even light, in per cent")
    classes.add_column("recall", justify="right")
    for label, recall in found["all"]["recall"].items():
        classes.add_row(label, f"{100 * recall:.1f}")
    console.print(classes)
