"""Any pictures with a folder a class; a folder above it may say train, validation or test."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from trainer.config import Data
from trainer.data.datasets import LABELS, DataError
from trainer.data.readers.archive import Listing, listing
from trainer.data.readers.reading import Item, Reading, one_hot

NAME = "folders"
CREDIT = "pictures sorted into a folder a class"
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SYNONYMS = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
SUBJECT = re.compile(r"S\d{3}(?=_)")


def read(settings: Data, location: Path) -> Reading:
    """List the pictures of a folder or archive; the folder that a picture lies in is its class.

    Where all classes are known emotions, or synonyms of them, they take the names and the order of `LABELS`; else the
    folders' names, sorted. Subjects are known where file names begin like `S010_`.

    Raises:
        DataError: there is no picture in a folder, a class is empty, or only some pictures lie in a split.
    """
    del settings
    found = listing(location)
    pictures = {path: content for path, content in found.files.items() if _is_picture(path)}
    placed = {path: content for path, content in pictures.items() if "/" in path}
    if not placed:
        raise DataError(f"{location}: holds no pictures in folders; make a folder a class, or name one with data.path")
    _refuse_empty(found, placed)
    _refuse_half_split(location, placed)
    names = _classes({_folder(path) for path in placed})
    labels = tuple(dict.fromkeys(names.values()))
    items = [
        Item(path, content, one_hot(labels, names[_folder(path)]), subject=_subject(path), split=_split(path))
        for path, content in sorted(placed.items())
    ]
    skipped = {path: "lies in no folder" for path in pictures if path not in placed}
    return Reading(NAME, found.location, labels, tuple(items), skipped, all_classes=True)


def _is_picture(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.name


def _split(path: str) -> str:
    return SPLITS.get(PurePosixPath(path).parent.parent.name.lower(), "")


def _subject(path: str) -> str:
    match = SUBJECT.match(PurePosixPath(path).name)
    return match[0] if match else ""


def _classes(folders: set[str]) -> dict[str, str]:
    """Return the class of each folder, in the order of the classes."""
    known = {folder: SYNONYMS.get(folder.lower(), folder.lower()) for folder in folders}
    if set(known.values()) <= set(LABELS):
        return dict(sorted(known.items(), key=lambda pair: LABELS.index(pair[1])))
    return {folder: folder for folder in sorted(folders)}


def _refuse_empty(found: Listing, pictures: Iterable[str]) -> None:
    full = {str(parent) for path in pictures for parent in PurePosixPath(path).parents}
    empty = sorted(found.folders - full)
    if empty:
        raise DataError(f"{found.location}: class {empty[0]!r} is empty; put pictures into that folder, or remove it")


def _refuse_half_split(location: Path, pictures: Iterable[str]) -> None:
    bare = {path for path in pictures if not _split(path)}
    if bare and not bare.issuperset(pictures):
        raise DataError(f"{location}: {min(bare)} lies in no split but others do; move it, or do without splits")
