"""What a reader finds in a data set: labelled pictures that have not been read yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainer.data.datasets import DataError, Faces
from trainer.data.readers.archive import Content

Image = npt.NDArray[np.uint8]
#: Bytes to a picture, uint8 grey (height, width) or BGR (height, width, 3); None if they are none. A function with a
#: name of its own, so that other processes can be told of it.
Decoder = Callable[[bytes], Image | None]


@dataclass(frozen=True)
class Item:
    """One labelled picture.

    Attributes:
        name: unlike any other's in the data set.
        content: where its bytes lie.
        shares: of the classes, summing to 1, or all 0 where there is nothing to learn from.
        subject: the person, empty where unknown.
        split: `train`, `validation` or `test` as the data set has it, empty where it has no splits.
        votes: ten numbers, FER+ only.
    """

    name: str
    content: Content
    shares: tuple[float, ...]
    subject: str = ""
    split: str = ""
    votes: tuple[float, ...] | None = None


def decode_picture(content: bytes) -> Image | None:
    """Decode PNG, JPEG and what else OpenCV reads: uint8 BGR (height, width, 3)."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # such as a header that asks for more pixels than OpenCV takes
        return None
    return None if image is None else np.asarray(image, np.uint8)


@dataclass(frozen=True)
class Reading:
    """What a data set holds.

    Attributes:
        name: of the data set, for people.
        location: folder, archive or file.
        labels: the classes, in the order of the model's output.
        items: the pictures.
        skipped: what was left out → why.
        notes: what else should be known, a line each.
        all_classes: every class has to have faces; else a class may be an output that is never learned.
        decode: turns the bytes of a picture into pixels.
    """

    name: str
    location: Path
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    all_classes: bool = False
    decode: Decoder = decode_picture


def one_hot(labels: tuple[str, ...], label: str) -> tuple[float, ...]:
    """Return the shares of a picture that shows one class."""
    return tuple(float(each == label) for each in labels)


def as_faces(items: list[Item], images: Image, labels: tuple[str, ...], splits: tuple[str, ...]) -> Faces:
    """Put pictures (n, side, side) or (n, side, side, 3) and what is known of them into the one form."""
    votes = [item.votes for item in items if item.votes is not None]
    return Faces(
        labels=labels,
        images=images,
        distributions=np.array([item.shares for item in items], np.float32),
        names=tuple(item.name for item in items),
        subjects=tuple(item.subject for item in items),
        splits=splits,
        votes=np.array(votes, np.float32) if len(votes) == len(items) else None,
    )


def stored(reading: Reading) -> Faces:
    """Read a set of small grey pictures whole, each as it is stored; without own splits all are `train`.

    Raises:
        DataError: a picture is missing, broken or of another size than the first: figures under a published protocol
            need every one. `trainer.data.prepare` goes on without it.
    """
    for name, reason in reading.skipped.items():
        raise DataError(f"{reading.location}: {name}: {reason}; copy the data set again")
    images = [_grey(reading, item) for item in reading.items]
    splits = tuple(item.split or "train" for item in reading.items)
    for item, image in zip(reading.items, images, strict=True):
        if image.shape != images[0].shape:
            (height, width), (first_height, first_width) = image.shape, images[0].shape
            raise DataError(
                f"{reading.location}: {item.name}: {width}×{height} pixels, the others have "
                f"{first_width}×{first_height}; copy the data set again"
            )
    return as_faces(list(reading.items), np.stack(images), reading.labels, splits)


def _grey(reading: Reading, item: Item) -> Image:
    image = reading.decode(item.content.read())
    if image is None:
        raise DataError(f"{reading.location}: {item.name}: not an image; copy the data set again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image, np.uint8)
