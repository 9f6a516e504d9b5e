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
    """Labelled faces.

    Attributes:
        images: uint8 (n, 48, 48), grey.
        votes: float32 (n, 10): votes for `LABELS`, `unknown` and `NF` (no face).
        names: the n file names.
        subjects: the n persons, empty strings where unknown.
    """

    images: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.float32]
    names: tuple[str, ...]
    subjects: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Faces:
        """Keep only `rows` (indices or a mask)."""
        indices = np.arange(len(self))[rows]
        return replace(
            self,
            images=self.images[indices],
            votes=self.votes[indices],
            names=tuple(self.names[i] for i in indices),
            subjects=tuple(self.subjects[i] for i in indices),
        )


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
    return {split: _ferplus_split(read, folder) for split, folder in FERPLUS_FOLDERS.items()}


def read_ck48(data: Path) -> Faces:
    """Read CK+48 from `ck48.tar`, or from the folder `ck48`: one vote per image, subjects from the file names.

    Raises:
        DataError: a file is missing, unreadable or not as CK+48 has it.
    """
    images, votes, names, subjects = [], [], [], []
    for name, content in _contents(data, "ck48"):
        path = Path(name)
        if path.suffix != ".png":
            continue
        label = CK_FOLDERS.get(path.parent.name, path.parent.name)
        if label not in LABELS:
            raise DataError(f"{data / 'ck48'}: folder {path.parent.name!r} is none of {', '.join(LABELS)}")
        images.append(_decode(content, name))
        votes.append(np.eye(len(FERPLUS_COLUMNS), dtype=np.float32)[LABELS.index(label)])
        names.append(f"{path.parent.name}/{path.name}")
        subjects.append(path.name.split("_")[0])
    if not images:
        raise DataError(f"{data / 'ck48.tar'}: holds no PNG files")
    order = np.argsort(names)
    faces = Faces(np.stack(images), np.stack(votes), tuple(names), tuple(subjects))
    return faces.subset(order)


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


def _ferplus_split(read: Callable[[str], bytes], folder: str) -> Faces:
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
    return Faces(np.stack(images), np.array(votes, np.float32), tuple(names), ("",) * len(names))


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
