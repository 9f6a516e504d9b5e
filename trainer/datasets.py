"""Labelled faces in one form, whatever they were read from."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainer import TrainerError

#: The classes and their order in every model: the columns of FER+.
LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FERPLUS_COLUMNS = (*LABELS, "unknown", "NF")
FERPLUS_FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
CK_FOLDERS = {"happy": "happiness", "sad": "sadness"}
DATA_VARIABLE = "EMOTION_DATA"
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

    def of(self, split: str) -> Samples:
        """Keep only the faces of a split."""
        return self.subset(np.array([each == split for each in self.faces.splits], bool))


def data_folder(given: Path | None = None) -> Path:
    """Return the folder of the data sets: as given, else `$EMOTION_DATA`, else `shared/data` beside the repository.

    Raises:
        DataError: there is no such folder.
    """
    folder = given or Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the one with the data sets in ${DATA_VARIABLE} or --data")
    return folder


def present(data: Path, name: str) -> bool:
    """Tell whether the data set `name` lies in `data`, as a folder or as a tar archive."""
    return (data / name).is_dir() or (data / f"{name}.tar").is_file()


def read_ferplus(data: Path) -> dict[str, Faces]:
    """Read FER+ from `ferplus.tar`, or from the folder `ferplus` with the same content.

    Returns:
        The faces of `train`, `validation` and `test` as the data set splits them.

    Raises:
        DataError: a file is missing, unreadable or not as FER+ has it.
    """
    read = _opener(data, "ferplus")
    return {split: _ferplus_split(read, folder, split) for split, folder in FERPLUS_FOLDERS.items()}


def read_ck48(data: Path) -> Faces:
    """Read CK+48 from `ck48.tar`, or from the folder `ck48`: one label an image, subjects from the file names.

    Raises:
        DataError: a file is missing, unreadable or not as CK+48 has it.
    """
    images, classes, names, subjects = [], [], [], []
    for name, content in _contents(data, "ck48"):
        path = Path(name)
        if path.suffix != ".png":
            continue
        label = CK_FOLDERS.get(path.parent.name, path.parent.name)
        if label not in LABELS:
            raise DataError(f"{data / 'ck48'}: folder {path.parent.name!r} is none of {', '.join(LABELS)}")
        images.append(_decode(content, name))
        classes.append(LABELS.index(label))
        names.append(f"{path.parent.name}/{path.name}")
        subjects.append(path.name.split("_")[0])
    if not images:
        raise DataError(f"{data / 'ck48.tar'}: holds no PNG files")
    order = np.argsort(names)
    distributions = np.eye(len(LABELS), dtype=np.float32)[classes]
    everybody = ("train",) * len(names)
    return Faces(LABELS, np.stack(images), distributions, tuple(names), tuple(subjects), everybody).subset(order)


def distribution(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn votes (n, 10) into label distributions (n, 8), one-vote noise removed (arXiv:1608.01041).

    Columns with a single vote are zeroed, `unknown` and `NF` left out; a row in which nothing is left is all zero.
    """
    kept = np.where(votes > 1, votes, 0)[:, : len(LABELS)]
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1), np.float32)


def trainable(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Tell which rows (n,) show an emotion: the most-voted of all columns is neither `unknown` nor `NF`."""
    return np.asarray((votes.argmax(axis=1) < len(LABELS)) & (distribution(votes).sum(axis=1) > 0))


def copies(faces: Faces, others: Faces) -> npt.NDArray[np.bool_]:
    """Tell which of `faces` (n,) have the pixels, or the mirrored pixels, of one of `others`."""
    known = {image.tobytes() for image in others.images} | {image[:, ::-1].tobytes() for image in others.images}
    return np.array([image.tobytes() in known for image in faces.images])


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
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    bad_validation = copies(validation, test)
    bad_train = copies(train, validation) | copies(train, test)
    return CleanSplits(
        train.subset(~bad_train),
        validation.subset(~bad_validation),
        test,
        train.subset(bad_train).names,
        validation.subset(bad_validation).names,
    )


def _ferplus_split(read: Callable[[str], bytes], folder: str, split: str) -> Faces:
    table = f"{folder}/label.csv"
    images, votes, names = [], [], []
    for number, row in enumerate(csv.reader(io.StringIO(read(table).decode())), start=1):
        if len(row) != 2 + len(FERPLUS_COLUMNS):
            raise DataError(f"ferplus: {table}:{number}: {len(row)} columns, expected {2 + len(FERPLUS_COLUMNS)}")
        try:
            votes.append([float(value) for value in row[2:]])
        except ValueError as error:
            raise DataError(f"ferplus: {table}:{number}: {error}") from None
        names.append(row[0])
        images.append(_decode(read(f"{folder}/{row[0]}"), f"{folder}/{row[0]}"))
    if not images:
        raise DataError(f"ferplus: {table} is empty")
    count, all_votes = len(names), np.array(votes, np.float32)
    shares = np.where(trainable(all_votes)[:, None], distribution(all_votes), 0).astype(np.float32)
    return Faces(LABELS, np.stack(images), shares, tuple(names), ("",) * count, (split,) * count, all_votes)


def _opener(data: Path, name: str) -> Callable[[str], bytes]:
    contents = dict(_contents(data, name))

    def read(path: str) -> bytes:
        try:
            return contents[path]
        except KeyError:
            raise DataError(f"{data / name}: {path} is missing; unpack or copy the data set again") from None

    return read


def _contents(data: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each file of a data set that lies in `data` as a folder or as a tar archive."""
    folder, archive = data / name, data / f"{name}.tar"
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path.read_bytes()
        return
    if not archive.is_file():
        raise DataError(f"{archive}: no such file, and no folder {folder} either; see README, 'Train your own'")
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name.removeprefix("./"), content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: unreadable ({error}); copy the file again") from None


def _decode(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if image is None:
        raise DataError(f"{name}: not an image; copy the data set again")
    if image.shape != (SIDE, SIDE):
        raise DataError(f"{name}: {image.shape[1]}×{image.shape[0]} pixels, expected {SIDE}×{SIDE}")
    return image.astype(np.uint8)
