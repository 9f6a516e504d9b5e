"""Reads data sets: a file each, all with the one function `read(settings, location) -> Reading`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.config import Data
from trainer.data.readers import ck48, ckplus, fer2013, ferplus, folders
from trainer.data.readers.reading import Reading

READERS: dict[str, Callable[[Data, Path], Reading]] = {
    "ferplus": ferplus.read,
    "fer2013": fer2013.read,
    "ck48": ck48.read,
    "ckplus": ckplus.read,
    "folders": folders.read,
}
#: What a model file says that it was trained on.
CREDITS = {
    "ferplus": ferplus.CREDIT,
    "fer2013": fer2013.CREDIT,
    "ck48": ck48.CREDIT,
    "ckplus": ckplus.CREDIT,
    "folders": folders.CREDIT,
}


def read(settings: Data, data: Path) -> Reading:
    """List the data set that `settings` name, below the folder `data`.

    Without a path of its own it lies under its name, `folders` in `data` itself.

    Raises:
        DataError: it is missing, unreadable or not as its format says.
    """
    named = Path() if settings.source == "folders" else Path(settings.source)
    return READERS[settings.source](settings, data / (settings.path or named))
