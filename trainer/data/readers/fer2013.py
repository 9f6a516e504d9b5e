"""FER2013: one CSV file with the columns emotion, pixels and Usage, 48×48 grey (arXiv:1307.0414)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from trainer.config import Data
from trainer.data.datasets import DataError
from trainer.data.readers.archive import Content, listing
from trainer.data.readers.reading import Image, Item, Reading, one_hot

NAME = "FER2013"
CREDIT = "FER2013 (ICML 2013 challenge, arXiv:1307.0414)"
FILE = "fer2013.csv"
#: In the order that every model has them.
LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
CODES = {
    b"0": "anger",
    b"1": "disgust",
    b"2": "fear",
    b"3": "happiness",
    b"4": "sadness",
    b"5": "surprise",
    b"6": "neutral",
}
SPLITS = {b"Training": "train", b"PublicTest": "validation", b"PrivateTest": "test"}
#: What may stand around the value of a cell.
AROUND = b'" \t\r\n'
COLUMNS = ("emotion", "pixels", "Usage")


def read(settings: Data, location: Path) -> Reading:
    """List FER2013: `location` is the CSV file, or a folder or archive with `fer2013.csv` somewhere in it.

    Raises:
        DataError: it is missing, unreadable or not as FER2013 has it.
    """
    del settings
    table = _table(location)
    items: list[Item] = []
    skipped: dict[str, str] = {}
    order: tuple[int, ...] = ()
    try:
        for number, (offset, line) in enumerate(table.lines(), start=1):
            if not order:
                order = _order(line, location)
            elif line.strip():
                where = f"{FILE}:{number}"
                item = _item(line, where, order, table, offset)
                if item is None:
                    skipped[where] = "no row of emotion 0–6, pixels and Usage"
                else:
                    items.append(item)
    except OSError as error:
        raise DataError(f"{location}: unreadable ({error.strerror}); copy the file again") from None
    if not items:
        raise DataError(f"{location}: holds no rows with faces; copy the file again")
    return Reading(NAME, table.path, LABELS, tuple(items), skipped, decode=decode_pixels)


def decode_pixels(content: bytes) -> Image | None:
    """Turn grey levels in decimal, row by row, into a square picture, uint8 (side, side); None if they are none."""
    try:
        levels = np.array(content.replace(b'"', b" ").split(), int)
    except ValueError:
        return None
    side = math.isqrt(levels.size)
    if not side or side * side != levels.size or levels.min() < 0 or levels.max() > 255:
        return None
    return levels.astype(np.uint8).reshape(side, side)


def _table(location: Path) -> Content:
    """Find the CSV file."""
    for path in (location, location.with_name(f"{location.name}.csv")):
        if path.is_file() and path.suffix == ".csv":
            return Content(path)
    if not location.exists() and not location.with_name(f"{location.name}.tar").is_file():
        missing = location if location.suffix == ".csv" else location.with_name(f"{location.name}.csv")
        raise DataError(f"{missing}: no such file, and no folder {location} either; see README, 'Train your own'")
    found = listing(location)
    for name, content in found.files.items():
        if name.split("/")[-1] == FILE:
            return content
    raise DataError(f"{location}: holds no {FILE}; name the CSV file with data.path")


def _order(header: bytes, location: Path) -> tuple[int, ...]:
    """Return where emotion, pixels and Usage stand in a row."""
    names = [name.strip().strip('"') for name in header.decode(errors="replace").split(",")]
    try:
        return tuple(names.index(name) for name in COLUMNS)
    except ValueError:
        raise DataError(
            f"{location}: its first line is no header with {', '.join(COLUMNS)}; name the CSV file with data.path"
        ) from None


def _item(line: bytes, where: str, order: tuple[int, ...], table: Content, offset: int) -> Item | None:
    cells = line.split(b",")
    if len(cells) <= max(order):
        return None
    code, pixels, usage = (cells[column] for column in order)
    label = CODES.get(code.strip(AROUND))
    split = SPLITS.get(usage.strip(AROUND))
    if label is None or split is None:
        return None
    return Item(where, table.part(offset + line.index(pixels), len(pixels)), one_hot(LABELS, label), split=split)
