"""Decodes the pictures of a data set and finds their faces, once: what comes out is kept on disk, chunk by chunk.

A run that was killed goes on with the chunks that are missing. A chunk's file is named after what it was made from, so
that other pictures, or another way to prepare them, never meet it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from edge.detector import Detector
from trainer.config import Crop
from trainer.data.alignment import THRESHOLD, as_seen, eyes_of_chip, patch_of_photograph, square
from trainer.data.datasets import DataError, fingerprint
from trainer.data.readers.archive import Content
from trainer.data.readers.reading import Decoder, Image, Reading
from trainer.files import DAMAGED, replace_file
from trainer.processes import pool

Floats = npt.NDArray[np.float32]
#: Pictures whose shorter side is below this end at the face, as those of FER+ do, and are stored as they are.
PHOTOGRAPH = 120
CHUNK = 128
#: So many pictures are done before other processes would have started.
FEW = 512
#: Part of the cache's file names, by what the network sees: count up when something would come out differently.
VERSIONS = {"grey": 3, "rgb": 4}


@dataclass(frozen=True)
class Picture:
    """A picture as training needs it.

    Attributes:
        pixels: uint8 (side, side) grey, or RGB (side, side, 3).
        landmarks: float32 (6, 2) in its pixels, NaN where no face was found.
        fingerprint: of the pixels as they came, see `trainer.data.datasets.fingerprint`.
        size: width and height as they came.
        photograph: it was cut out of a larger picture.
    """

    pixels: Image
    landmarks: Floats
    fingerprint: bytes
    size: tuple[int, int]
    photograph: bool


def pictures(reading: Reading, rule: Crop, cache: Path) -> list[Picture | None]:
    """Decode and detect what the cache does not hold yet, in several processes, with a progress bar.

    Args:
        reading: the data set.
        rule: of the network's crops.
        cache: folder in which the results are kept.

    Returns:
        A picture for each item, None where it is broken.

    Raises:
        WriteError: the disk is full, or the cache not ours to write.
        DataError: a process was killed.
    """
    contents = [item.content for item in reading.items]
    chunks = [_chunk(contents[i : i + CHUNK], reading.decode, rule, cache) for i in range(0, len(contents), CHUNK)]
    loaded = [_load(chunk) for chunk in chunks]
    missing = [chunk for chunk, found in zip(chunks, loaded, strict=True) if found is None]
    if missing:
        _make_all(missing, len(contents), reading.name)
    result: list[Picture | None] = []
    for chunk, found in zip(chunks, loaded, strict=True):
        made = found if found is not None else _load(chunk)
        if made is None:
            raise DataError(f"{cache}: what was written there has gone or is damaged; run the command again")
        result += made
    return result


@dataclass(frozen=True)
class _Chunk:
    """Some pictures to decode and detect together, and the stem of the file that the result goes to."""

    contents: tuple[Content, ...]
    decode: Decoder
    rule: Crop
    stem: Path

    def paths(self) -> tuple[Path, Path]:
        """Return the file's name without and with photographs: only those depend on the crop."""
        crop = repr((self.rule.size, self.rule.margin, self.rule.eye_line)).encode()
        cut = f"{self.stem.name}-{hashlib.sha256(crop).hexdigest()[:8]}.npz"
        return self.stem.with_name(f"{self.stem.name}.npz"), self.stem.with_name(cut)


def _chunk(contents: list[Content], decode: Decoder, rule: Crop, cache: Path) -> _Chunk:
    digest = hashlib.sha256(f"{decode.__name__} {rule.colour}".encode())
    for content in contents:
        digest.update(hashlib.sha256(_bytes(content)).digest())
    return _Chunk(tuple(contents), decode, rule, cache / f"faces-v{VERSIONS[rule.colour]}-{digest.hexdigest()[:24]}")


def _bytes(content: Content) -> bytes:
    """Return the bytes; none where the file cannot be read: then it is as good as broken."""
    try:
        return content.read()
    except OSError:
        return b""


def _make_all(missing: list[_Chunk], total: int, name: str) -> None:
    done = total - sum(len(chunk.contents) for chunk in missing)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"faces of {name}", total=total, completed=done)
        for count in _made(missing):
            progress.advance(task, count)


def _made(missing: list[_Chunk]) -> Iterator[int]:
    if sum(len(chunk.contents) for chunk in missing) <= FEW:
        yield from map(_make, missing)
        return
    with pool(len(missing)) as workers:
        try:
            for finished in as_completed([workers.submit(_make, chunk) for chunk in missing]):
                yield finished.result()
        except BrokenProcessPool:
            raise DataError(
                "a process that prepared pictures was killed, perhaps for want of memory; run the command again, "
                "what is done is kept"
            ) from None


def _make(chunk: _Chunk) -> int:
    """Decode and detect the pictures of a chunk, write the file, and return how many they are."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # broken pictures are listed in the report
    detector = Detector(THRESHOLD)
    made = [_prepared(chunk.decode(_bytes(content)), detector, chunk.rule) for content in chunk.contents]
    whole, cut = chunk.paths()
    _save(made, cut if any(picture and picture.photograph for picture in made) else whole)
    return len(made)


def _prepared(picture: Image | None, detector: Detector, rule: Crop) -> Picture | None:
    if picture is None:
        return None
    height, width = picture.shape[:2]
    photograph = min(height, width) >= PHOTOGRAPH
    if photograph:
        pixels, landmarks = patch_of_photograph(picture, detector, rule)
    else:
        pixels = square(as_seen(picture, rule))
        # The detector takes BGR, as the daemon's frames are.
        landmarks = eyes_of_chip(square(picture) if rule.colour == "rgb" else pixels, detector)
    return Picture(pixels, landmarks, fingerprint(picture), (width, height), photograph)


def _save(made: list[Picture | None], path: Path) -> None:
    intact = [picture for picture in made if picture]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        broken=np.array([picture is None for picture in made]),
        pixels=np.concatenate([picture.pixels.ravel() for picture in intact] or [np.zeros(0, np.uint8)]),
        sides=np.array([len(picture.pixels) for picture in intact], np.int64),
        colours=np.array([picture.pixels.size // len(picture.pixels) ** 2 for picture in intact], np.int64),
        landmarks=np.array([picture.landmarks for picture in intact], np.float32).reshape(-1, 6, 2),
        fingerprints=np.array([list(picture.fingerprint) for picture in intact], np.uint8).reshape(-1, 32),
        sizes=np.array([picture.size for picture in intact], np.int64).reshape(-1, 2),
        photographs=np.array([picture.photograph for picture in intact], bool),
    )
    replace_file(path, buffer.getvalue())


def _load(chunk: _Chunk) -> list[Picture | None] | None:
    """Return what the cache holds of a chunk; None if it holds nothing that can be read."""
    for path in chunk.paths():
        try:
            with np.load(path) as file:
                return _unpacked(dict(file))
        except FileNotFoundError:
            continue
        except DAMAGED:
            return None  # cut short, by a power failure for instance: make it anew
    return None


def _unpacked(file: dict[str, npt.NDArray[np.generic]]) -> list[Picture | None]:
    made: list[Picture | None] = [None] * len(file["broken"])
    start = 0
    for row, place in enumerate(np.flatnonzero(~file["broken"].astype(bool))):
        side, colours = int(file["sides"][row]), int(file["colours"][row])
        end = start + side * side * colours
        shape = (side, side) if colours == 1 else (side, side, colours)
        width, height = (int(n) for n in file["sizes"][row])
        made[place] = Picture(
            np.asarray(file["pixels"][start:end], np.uint8).reshape(shape),
            np.asarray(file["landmarks"][row], np.float32),
            np.asarray(file["fingerprints"][row], np.uint8).tobytes(),
            (width, height),
            bool(file["photographs"][row]),
        )
        start = end
    return made
