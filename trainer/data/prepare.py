"""From a data set to what training and evaluation work on: what `emotion-trainer prepare` does, step by step."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainer.config import Config, Crop
from trainer.data.datasets import SPLITS, DataError, Faces, Samples, leaking
from trainer.data.inputs import DEVIATION, MEAN
from trainer.data.preparation import Report
from trainer.data.readers import read
from trainer.data.readers.reading import Image, Item, Reading, as_faces
from trainer.data.split import split
from trainer.data.stored_pictures import Floats, Picture, pictures

#: Stands for the class of a face from which nothing is learned.
NOTHING = "-"


@dataclass(frozen=True)
class Prepared:
    """A data set, ready.

    Attributes:
        everyone: all faces, copies included, with the splits that they came to.
        kept: bool (n,), which of them have no copy in a later split.
        report: what was done.
    """

    everyone: Samples
    kept: npt.NDArray[np.bool_]
    report: Report

    @cached_property
    def samples(self) -> Samples:
        """The faces without those that are also in a later split: training < validation < test."""
        return self.everyone.subset(self.kept)


def prepare(config: Config, data: Path, cache: Path) -> Prepared:
    """Read, decode, find faces and eyes, split, and drop copies between splits.

    The pictures are kept in `cache`; a run that was killed goes on from there.

    Args:
        config: its sections `data` and `crop`, and the seed of the split.
        data: folder of the data sets.
        cache: folder for the prepared pictures.

    Raises:
        DataError: the data are missing, not as their format says, or not fit for training.
        WriteError: the cache cannot be written.
    """
    began = time.monotonic()
    reading = read(config.data, data)
    made = pictures(reading, config.crop, cache)
    broken = {item.name: "no picture" for item, each in zip(reading.items, made, strict=True) if each is None}
    items = [item for item, each in zip(reading.items, made, strict=True) if each is not None]
    intact = [each for each in made if each is not None]
    _refuse_unfit(reading, items)
    images, landmarks, resized = _of_one_size(intact)
    faces = as_faces(items, images, reading.labels, tuple(item.split for item in items))
    faces = _split(faces, reading, config)
    fingerprints = [each.fingerprint for each in intact]
    kept = ~leaking(fingerprints, faces.splits)
    everyone = Samples(faces, landmarks)
    untaught = _untaught(everyone.subset(kept).of("train").faces)
    _refuse_untaught(reading, untaught, items)
    never = (
        [f"no training faces of {', '.join(untaught)}: never taught, and still a possible answer"] if untaught else []
    )
    report = Report(
        data=reading.name,
        location=str(reading.location),
        steps=_steps(config.crop, len(images[0]), intact),
        subjects=len(set(faces.subjects) - {""}),
        counts=_counts(faces, kept),
        not_found=_counts(faces, kept & _lost(landmarks)),
        dropped={name: list(faces.subset(~kept & _in(faces, name)).names) for name in SPLITS},
        contradictions=_contradictions(faces, fingerprints),
        broken=broken,
        skipped=reading.skipped,
        notes=(*reading.notes, *resized, *never),
        seconds=round(time.monotonic() - began, 2),
        cache=str(cache),
    )
    return Prepared(everyone, kept, report)


def _steps(rule: Crop, side: int, made: Sequence[Picture]) -> tuple[str, ...]:
    """Say what was done to each picture, and what will be when it is used."""
    cut = sum(each.photograph for each in made)
    how = [f"{cut} cut out of photographs"] if cut else []
    how += [f"{len(made) - cut} as they were"] if cut < len(made) else []
    return (
        "faces and eyes found by the daemon's own detector",
        f"stored {side}×{side} {rule.colour}: {', '.join(how)}",
        f"to be aligned by the eyes and cropped to {rule.size}×{rule.size}, "
        f"margin {rule.margin:g}, eye line {rule.eye_line:g}",
        f"to be normalised as (level - {MEAN:g}) / {DEVIATION:g}",
    )


def _lost(landmarks: Floats) -> npt.NDArray[np.bool_]:
    """Tell which faces (n,) the detector did not find."""
    return np.asarray(np.isnan(landmarks).any(axis=(1, 2)))


def _in(faces: Faces, name: str) -> npt.NDArray[np.bool_]:
    return np.array([each == name for each in faces.splits], bool)


def _classes(faces: Faces) -> list[str]:
    """Return the name of each face's most probable class, or `NOTHING`."""
    rows = zip(faces.truth().tolist(), faces.distributions, strict=True)
    return [faces.labels[label] if shares.any() else NOTHING for label, shares in rows]


def _contradictions(faces: Faces, fingerprints: Sequence[bytes]) -> list[dict[str, str]]:
    """Return name → class of the pictures that are the same, mirrored or not, but of different classes; by picture."""
    same: defaultdict[bytes, dict[str, str]] = defaultdict(dict)
    for key, name, label in zip(fingerprints, faces.names, _classes(faces), strict=True):
        if label != NOTHING:
            same[key][name] = label
    return [found for found in same.values() if len(set(found.values())) > 1]


def _counts(faces: Faces, chosen: npt.NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    classes = _classes(faces)
    found = Counter((faces.splits[row], classes[row]) for row in np.flatnonzero(chosen).tolist())
    rows = [*faces.labels, *([NOTHING] if NOTHING in classes else [])]
    return {name: {label: found[name, label] for label in rows} for name in SPLITS}


def _split(faces: Faces, reading: Reading, config: Config) -> Faces:
    shares = config.data.validation, config.data.test
    try:
        splits = split(faces.truth(), faces.subjects, faces.splits, shares, config.seed)
    except DataError as error:
        raise DataError(f"{reading.location}: {error}") from None
    return Faces(faces.labels, faces.images, faces.distributions, faces.names, faces.subjects, splits, faces.votes)


def _of_one_size(made: Sequence[Picture]) -> tuple[Image, Floats, list[str]]:
    """Return all pictures (n, side, side[, 3]) and landmarks (n, 6, 2) at the size that photographs or most have."""
    sides = Counter(len(each.pixels) for each in made)
    cut = [len(each.pixels) for each in made if each.photograph]
    side = cut[0] if cut else max(sides, key=lambda each: (sides[each], each))
    images = np.stack([_resized(each.pixels, side) for each in made])
    scales = np.array([side / len(each.pixels) for each in made], np.float32)[:, None, None]
    landmarks = np.stack([each.landmarks for each in made])
    moved = np.where(scales == 1, landmarks, (landmarks + 0.5) * scales - 0.5).astype(np.float32)
    return images, moved, _sizes_note([each.size for each in made if not each.photograph], side)


def _sizes_note(sizes: list[tuple[int, int]], side: int) -> list[str]:
    others = [size for size in sizes if size != (side, side)]
    if not others:
        return []
    (width, height), (most_width, most_height) = min(others), max(others)
    low, high = f"{width}×{height}", f"{most_width}×{most_height}"
    spread = f"of {low}" if low == high else f"from {low} to {high}"
    return [f"{len(others)} pictures {spread} pixels were resized to {side}×{side}"]


def _resized(pixels: Image, side: int) -> Image:
    if len(pixels) == side:
        return pixels
    how = cv2.INTER_AREA if len(pixels) > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=how), np.uint8)


def _refuse_unfit(reading: Reading, items: list[Item]) -> None:
    """Refuse a data set from which no classifier can be learned."""
    if not items:
        raise DataError(f"{reading.location}: not one of {len(reading.items)} pictures can be read; copy it again")
    present = [label for i, label in enumerate(reading.labels) if any(item.shares[i] for item in items)]
    if len(present) < 2:
        shown = f"are all {present[0]!r}" if present else "show no class"
        raise DataError(f"{reading.location}: {len(items)} faces {shown}; a classifier needs at least two classes")
    empty = [label for label in reading.labels if label not in present]
    if empty and reading.all_classes:
        raise DataError(f"{reading.location}: no picture of class {empty[0]!r} can be read; replace or remove it")


def _refuse_untaught(reading: Reading, untaught: list[str], items: list[Item]) -> None:
    """Refuse to hold back every face of a class, unless the data set itself does so."""
    if reading.all_classes or not all(item.split for item in items):
        for label in untaught:
            if any(item.shares[reading.labels.index(label)] for item in items):
                raise DataError(
                    f"{reading.location}: no face of class {label!r} is left for training; add faces, "
                    "or lower data.validation and data.test"
                )


def _untaught(train: Faces) -> list[str]:
    """Return the classes without training faces."""
    return [label for i, label in enumerate(train.labels) if not train.distributions[:, i].any()]
