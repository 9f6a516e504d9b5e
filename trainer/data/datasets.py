"""Labelled faces in one form, whatever they were read from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer import TrainerError

#: The classes and their order in every model: the columns of FER+.
LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SPLITS = ("train", "validation", "test")
DATA_VARIABLE = "EMOTION_DATA"
#: Of the pictures of FER+, FER2013 and CK+48, in pixels.
SIDE = 48


class DataError(TrainerError):
    """The data are missing or not as their format says; the message names file and remedy."""


@dataclass(frozen=True)
class Faces:
    """Labelled faces, the one form of every data set.

    Attributes:
        labels: the names of the classes, in the order of the model's output.
        images: uint8, grey (n, side, side) or RGB (n, side, side, 3).
        distributions: float32 (n, classes), rows that sum to 1; all zero where there is nothing to learn from.
        names: the n file names.
        subjects: the n persons, empty strings where unknown.
        splits: `train`, `validation` or `test` for each of the n.
        votes: float32 (n, 10), FER+ only: votes for `LABELS`, `unknown` and `NF` (no face).
    """

    labels: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    distributions: npt.NDArray[np.float32]
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...]
    votes: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Faces:
        """Keep only `rows` (indices or a mask)."""
        indices = np.arange(len(self))[rows]
        return replace(
            self,
            images=self.images[indices],
            distributions=self.distributions[indices],
            names=tuple(self.names[i] for i in indices),
            subjects=tuple(self.subjects[i] for i in indices),
            splits=tuple(self.splits[i] for i in indices),
            votes=None if self.votes is None else self.votes[indices],
        )

    def truth(self) -> npt.NDArray[np.intp]:
        """Return the most probable class of each face (n,); ties go to the first."""
        return np.asarray(self.distributions.argmax(axis=1))

    def all_votes(self) -> npt.NDArray[np.float32]:
        """Return the votes of FER+ (n, 10).

        Raises:
            DataError: the data set has none.
        """
        if self.votes is None:
            raise DataError("the FER+ protocols need the votes of FER+; this data set has one label a face")
        return self.votes


@dataclass(frozen=True)
class Samples:
    """Faces with where their eyes are: what training and evaluation work on.

    Attributes:
        faces: the faces.
        landmarks: float32 (n, 6, 2) in pixels of the stored pictures, NaN where the detector found none.
    """

    faces: Faces
    landmarks: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.faces)

    def subset(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Samples:
        """Keep only `rows` (indices or a mask)."""
        return Samples(self.faces.subset(rows), self.landmarks[rows])

    def labelled(self) -> Samples:
        """Keep only the faces from which something can be learned."""
        return self.subset(np.flatnonzero(self.faces.distributions.any(axis=1)))

    def first(self, limit: int | None) -> Samples:
        """Keep only so many faces: the first, or evenly spaced ones where those lack a class, as sorted data do."""
        rows = np.arange(len(self))[:limit]
        present = self.faces.distributions.any(axis=0)
        if limit and (self.faces.distributions[rows].any(axis=0) != present).any():
            rows = np.linspace(0, len(self) - 1, len(rows)).round().astype(int)
        return self.subset(rows)

    def of(self, split: str) -> Samples:
        """Keep only the faces of a split."""
        return self.subset(np.array([each == split for each in self.faces.splits], bool))


def data_folder(given: Path | None = None) -> Path:
    """Return the folder of the data sets: as given, else `$EMOTION_DATA`, else `shared/data` beside the repository.

    Raises:
        DataError: there is no such folder.
    """
    folder = given or Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the one with the data sets in ${DATA_VARIABLE} or --data")
    return folder


def present(data: Path, name: str) -> bool:
    """Tell whether the data set `name` lies in `data`, as a folder or as a tar archive."""
    return (data / name).is_dir() or (data / f"{name}.tar").is_file()


def fingerprint(image: npt.NDArray[np.uint8]) -> bytes:
    """Return a hash (32 bytes) of the pixels that a picture and its mirror image have in common, and no others."""
    both = (np.ascontiguousarray(image), np.ascontiguousarray(image[:, ::-1]))
    return hashlib.sha256(repr(image.shape).encode() + min(each.tobytes() for each in both)).digest()


def leaking(fingerprints: Sequence[bytes], splits: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Tell which pictures (n,) are also in a later split, mirrored or not: training < validation < test."""
    last: dict[bytes, int] = {}
    for key, split in zip(fingerprints, splits, strict=True):
        last[key] = max(last.get(key, 0), SPLITS.index(split))
    return np.array([SPLITS.index(split) < last[key] for key, split in zip(fingerprints, splits, strict=True)], bool)


def copies(faces: Faces, others: Faces) -> npt.NDArray[np.bool_]:
    """Tell which of `faces` (n,) have the pixels, or the mirrored pixels, of one of `others`."""
    known = {fingerprint(image) for image in others.images}
    return np.array([fingerprint(image) in known for image in faces.images], bool)


@dataclass(frozen=True)
class CleanSplits:
    """FER+ without leaks between its splits, and the names of what was dropped."""

    train: Faces
    validation: Faces
    test: Faces
    dropped_train: tuple[str, ...]
    dropped_validation: tuple[str, ...]


def without_leaks(splits: dict[str, Faces]) -> CleanSplits:
    """Drop training images that are also in validation or test, and validation images that are also in test."""
    names = [split for split in SPLITS for _ in range(len(splits[split]))]
    keys = [fingerprint(image) for split in SPLITS for image in splits[split].images]
    leaks = leaking(keys, names)
    train, validation, test = (splits[split] for split in SPLITS)
    bad_train, bad_validation = leaks[: len(train)], leaks[len(train) : len(train) + len(validation)]
    return CleanSplits(
        train.subset(~bad_train),
        validation.subset(~bad_validation),
        test,
        train.subset(bad_train).names,
        validation.subset(bad_validation).names,
    )
