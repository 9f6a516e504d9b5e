"""Finds the eyes of a face with the daemon's own detector.

A data set's 48×48 picture ends at the face, which a detector does not expect: it is enlarged and pasted on a ground
that varies from picture to picture, detected there, and the landmarks are brought back to its own pixels.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from edge.detector import Detector
from edge.faces import CropRule, crop, crop_transform
from trainer.config import Crop
from trainer.files import DAMAGED, replace_file
from trainer.processes import pool

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

FACE_SIDE = 300
CANVAS_SIDE = 480
#: Part of the cache's file name: count up when landmarks would come out differently.
VERSION = 2
CHUNK = 256
#: Every picture has a face, so that less confidence is enough than in a camera's.
THRESHOLD = 0.3
#: A photograph's stored patch, against the crop that the network sees: so far around it, and so many times its pixels.
AROUND = 1.5
PIXELS = 2


def landmarks_of(images: npt.NDArray[np.uint8], cache: Path, what: str) -> npt.NDArray[np.float32]:
    """Return the landmarks of uint8 (n, 48, 48) faces, float32 (n, 6, 2) in their pixels; NaN where none was found.

    Args:
        images: grey faces.
        cache: folder in which results are kept, by a hash of the pixels.
        what: name for the progress bar.

    Raises:
        WriteError: the cache cannot be written.
    """
    digest = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    path = cache / f"landmarks-v{VERSION}-{digest}.npy"
    with suppress(*DAMAGED):  # not there yet, or cut short, by a power failure for instance: made anew
        kept = np.asarray(np.load(path), np.float32)
        if kept.shape == (len(images), 6, 2):
            return kept
    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    console = Console(stderr=True)
    landmarks = np.concatenate(list(track(_detected(chunks), f"eyes of {what}", len(chunks), console=console)))
    buffer = io.BytesIO()
    np.save(buffer, landmarks)
    replace_file(path, buffer.getvalue())
    return landmarks


def square(picture: Image) -> Image:
    """Make a picture as high as it is wide by repeating its edges to both sides."""
    height, width = picture.shape[:2]
    down, across = max(width - height, 0), max(height - width, 0)
    if not (down or across):
        return picture
    sides = (down // 2, down - down // 2, across // 2, across - across // 2)
    return np.asarray(cv2.copyMakeBorder(picture, *sides, cv2.BORDER_REPLICATE), np.uint8)


def paste(face: Image, seed: int) -> tuple[Image, float, float]:
    """Enlarge a square face to 300 px and paste it on a smooth random ground; returns picture, left, top."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    canvas = cv2.resize(coarse, (CANVAS_SIDE, CANVAS_SIDE), interpolation=cv2.INTER_CUBIC)
    left, top = rng.integers(20, CANVAS_SIDE - FACE_SIDE - 20, 2)
    shrinks = len(face) > FACE_SIDE
    big = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    canvas = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR) if face.ndim == 3 else canvas
    canvas[top : top + FACE_SIDE, left : left + FACE_SIDE] = big
    return canvas.astype(np.uint8), float(left), float(top)


def eyes_of_chip(chip: Image, detector: Detector) -> Floats:
    """Return the landmarks (6, 2) of a square picture that ends at the face, in its pixels; NaN without a face."""
    canvas, left, top = paste(chip, seed=int(chip[::7, ::7].sum()))
    faces = detector(canvas)
    if not faces:
        return np.full((6, 2), np.nan, np.float32)
    scale = FACE_SIDE / len(chip)
    return np.asarray((faces[0].landmarks - (left, top) + 0.5) / scale - 0.5, np.float32)


def patch_of_photograph(picture: Image, detector: Detector, rule: Crop) -> tuple[Image, Floats]:
    """Cut the largest face out of a photograph, with enough around it to crop it at random.

    Args:
        picture: uint8 BGR (height, width, 3) or grey (height, width).
        detector: the daemon's.
        rule: of the network's crops.

    Returns:
        uint8 (side, side), or RGB (side, side, 3), of twice the crop's size, upright; and the landmarks (6, 2) in it.
        Without a face the picture whole, made square, and NaN.
    """
    faces = detector(picture)
    landmarks = faces[0].landmarks if faces else eyes_of_chip(square(picture), detector) - _padding(picture)
    side = PIXELS * rule.size
    if np.isnan(landmarks).any():
        whole = cv2.resize(square(picture), (side, side), interpolation=cv2.INTER_AREA)
        return as_seen(np.asarray(whole, np.uint8), rule), landmarks
    wide = CropRule(side, AROUND * rule.margin, 0.5 + (rule.eye_line - 0.5) / AROUND)
    to_patch = crop_transform(landmarks, wide)
    inside = landmarks @ to_patch[:, :2].T + to_patch[:, 2]
    return crop(picture, landmarks, wide, rule.colour), np.asarray(inside, np.float32)


def as_seen(picture: Image, rule: Crop) -> Image:
    """Turn a BGR or grey picture into the colours that the network sees: grey, or RGB."""
    if picture.ndim == 3:
        code = cv2.COLOR_BGR2GRAY if rule.colour == "grey" else cv2.COLOR_BGR2RGB
    elif rule.colour == "rgb":
        code = cv2.COLOR_GRAY2RGB
    else:
        return picture
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)


def _padding(picture: Image) -> Floats:
    """Return how far `square` moves a picture's pixels, x and y."""
    height, width = picture.shape[:2]
    return np.array([max(height - width, 0) // 2, max(width - height, 0) // 2], np.float32)


def _detected(chunks: list[Image]) -> Iterator[Floats]:
    if len(chunks) == 1:
        yield _detect(chunks[0])
        return
    with pool(len(chunks)) as workers:
        yield from workers.map(_detect, chunks)


def _detect(images: Image) -> Floats:
    detector = Detector(THRESHOLD)
    return np.stack([eyes_of_chip(image, detector) for image in images])
