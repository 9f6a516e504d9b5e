"""CK+48: the last three frames of the labelled sequences of CK+, cut to 48×48, a folder a class."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from trainer.config import Data
from trainer.data.datasets import LABELS, DataError, Faces
from trainer.data.readers.archive import listing
from trainer.data.readers.reading import Item, Reading, one_hot, stored

NAME = "CK+48"
CREDIT = "CK+48 (peak frames of CK+, Lucey et al., CVPR workshops 2010)"
FOLDERS = {"happy": "happiness", "sad": "sadness"}


def read(settings: Data, location: Path) -> Reading:
    """List CK+48 in a folder or archive: one label an image, subjects from the file names, no `neutral`.

    Raises:
        DataError: it is missing, unreadable or not as CK+48 has it.
    """
    del settings
    items = []
    found = listing(location)
    for path, content in found.files.items():
        file = PurePosixPath(path)
        if file.suffix.lower() != ".png":
            continue
        label = FOLDERS.get(file.parent.name, file.parent.name)
        if label not in LABELS:
            raise DataError(f"{location}: folder {file.parent.name!r} is none of {', '.join(LABELS)}; rename it")
        name = f"{file.parent.name}/{file.name}"
        items.append(Item(name, content, one_hot(LABELS, label), subject=file.name.split("_")[0]))
    if not items:
        raise DataError(f"{location}: holds no PNG files; unpack or copy the data set again")
    return Reading(NAME, found.location, LABELS, tuple(sorted(items, key=lambda item: item.name)))


def read_ck48(data: Path) -> Faces:
    """Read CK+48 whole, from `ck48.tar` or from the folder `ck48`.

    Raises:
        DataError: a file is missing, unreadable or not as CK+48 has it.
    """
    return stored(read(Data(), data / "ck48"))
