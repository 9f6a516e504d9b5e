"""FER+: the faces of FER2013 with ten people's votes each (arXiv:1608.01041), PNG files and a `label.csv` a split."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.config import Data
from trainer.data.datasets import LABELS, DataError, Faces
from trainer.data.readers.archive import Listing, listing
from trainer.data.readers.reading import Item, Reading, stored

NAME = "FER+"
CREDIT = "FER+ (labels MIT, arXiv:1608.01041) on the faces of FER2013"
COLUMNS = (*LABELS, "unknown", "NF")
FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
#: People asked about each face. The official table has one row with a vote less.
VOTERS = 10


def read(settings: Data, location: Path) -> Reading:
    """List FER+ in a folder or archive.

    Raises:
        DataError: a table is missing or not as FER+ has it, or its votes do not add up.
    """
    del settings
    found = listing(location)
    items: list[Item] = []
    skipped: dict[str, str] = {}
    for split, folder in FOLDERS.items():
        rows = _rows(found, folder)
        votes = np.array([row[2:] for row in rows], np.float32)
        for row, counts, shares in zip(rows, votes.tolist(), learned(votes).tolist(), strict=True):
            path = f"{folder}/{row[0]}"
            if path in found.files:
                items.append(Item(row[0], found.files[path], tuple(shares), split=split, votes=tuple(counts)))
            else:
                skipped[path] = "missing"
    absent = sum(sum(item.votes or ()) < VOTERS for item in items)
    lacking = "1 face has" if absent == 1 else f"{absent} faces have"
    notes = (f"{lacking} one vote less than {VOTERS}; the shares are of those that are there",) if absent else ()
    return Reading(NAME, found.location, LABELS, tuple(items), skipped, notes)


def read_ferplus(data: Path) -> dict[str, Faces]:
    """Read FER+ whole, from `ferplus.tar` or from the folder `ferplus` with the same content.

    Returns:
        The faces of `train`, `validation` and `test` as the data set splits them.

    Raises:
        DataError: a file is missing, unreadable or not as FER+ has it.
    """
    faces = stored(read(Data(), data / "ferplus"))
    splits = np.array(faces.splits)
    return {split: faces.subset(splits == split) for split in FOLDERS}


def distribution(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn votes (n, 10) into label distributions (n, 8), one-vote noise removed (arXiv:1608.01041).

    Columns with a single vote are zeroed, `unknown` and `NF` left out; a row in which nothing is left is all zero.
    """
    kept = np.where(votes > 1, votes, 0)[:, : len(LABELS)]
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1), np.float32)


def trainable(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Tell which rows (n,) show an emotion: the most-voted of all columns is neither `unknown` nor `NF`."""
    return np.asarray((votes.argmax(axis=1) < len(LABELS)) & (distribution(votes).sum(axis=1) > 0))


def learned(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what is learned from votes (n, 10): distributions (n, 8), all zero where no emotion is shown."""
    return np.where(trainable(votes)[:, None], distribution(votes), 0).astype(np.float32)


def _rows(found: Listing, folder: str) -> list[list[str]]:
    table = f"{folder}/label.csv"
    try:
        rows = list(csv.reader(io.StringIO(found.text(table))))
    except csv.Error as error:  # such as an unpaired quote, which makes one cell of all that follows
        raise DataError(f"{found.location}: {table}: {error}; copy the table again") from None
    for number, row in enumerate(rows, start=1):
        where = f"{found.location}: {table}:{number}"
        if len(row) != 2 + len(COLUMNS):
            raise DataError(f"{where}: {len(row)} columns, expected {2 + len(COLUMNS)}; copy the table again")
        try:
            votes = [float(value) for value in row[2:]]
        except ValueError as error:
            raise DataError(f"{where}: {error}; copy the table again") from None
        if min(votes) < 0 or not VOTERS - 1 <= sum(votes) <= VOTERS:
            wrong = ", one below 0" if min(votes) < 0 else f", expected {VOTERS}"
            raise DataError(f"{where}: the votes add up to {sum(votes):g}{wrong}; copy the table again")
    if not rows:
        raise DataError(f"{found.location}: {table} is empty; copy the table again")
    return rows
