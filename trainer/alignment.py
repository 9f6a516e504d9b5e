"""Finds the eyes of small face pictures with the daemon's own detector, once, and keeps them on disk.

A data set's 48×48 picture ends at the face, which a detector does not expect: it is enlarged and pasted on a ground
that varies from picture to picture, detected there, and the landmarks are brought back to its own pixels.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from edge.faces import Detector
from trainer.datasets import SIDE

FACE_SIDE = 300
CANVAS_SIDE = 480
#: Part of the cache's file name: count up when landmarks would come out differently.
VERSION = 1
CHUNK = 256


def landmarks_of(images: npt.NDArray[np.uint8], cache: Path, what: str) -> npt.NDArray[np.float32]:
    """Return the landmarks of uint8 (n, 48, 48) faces, float32 (n, 6, 2) in their pixels; NaN where none was found.

    Args:
        images: grey faces.
        cache: folder in which results are kept, by a hash of the pixels.
        what: name for the progress bar.
    """
    digest = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    path = cache / f"landmarks-v{VERSION}-{digest}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    console = Console(stderr=True)
    landmarks = np.concatenate(list(track(_detected(chunks), f"eyes of {what}", len(chunks), console=console)))
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, landmarks)
    partial.replace(path)
    return landmarks


def paste(face: npt.NDArray[np.uint8], seed: int) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Enlarge a face to 300 px and paste it on a smooth random ground; returns picture, left, top."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    canvas = cv2.resize(coarse, (CANVAS_SIDE, CANVAS_SIDE), interpolation=cv2.INTER_CUBIC)
    left, top = rng.integers(20, CANVAS_SIDE - FACE_SIDE - 20, 2)
    big = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_CUBIC)
    canvas[top : top + FACE_SIDE, left : left + FACE_SIDE] = big
    return canvas.astype(np.uint8), float(left), float(top)


def _detected(chunks: list[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.float32]]:
    if len(chunks) == 1:
        yield _detect(chunks[0])
        return
    # Fresh processes: a fork of one in which TensorFlow runs its threads may hang.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_detect, chunks)


def _detect(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    detector = Detector(threshold=0.3)
    landmarks = np.full((len(images), 6, 2), np.nan, np.float32)
    for row, image in enumerate(images):
        canvas, left, top = paste(image, seed=int(image[::7, ::7].sum()))
        faces = detector(canvas)
        if faces:
            scale = FACE_SIDE / SIDE
            landmarks[row] = (faces[0].landmarks - (left, top) + 0.5) / scale - 0.5
    return landmarks
