"""Faces and what is asked about them: FER+ and CK+ under their protocols, or a configuration's own data set."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.faces import CropRule
from trainer.config import Config
from trainer.data.alignment import landmarks_of
from trainer.data.augment import plain_crops
from trainer.data.datasets import DataError, Faces, present, without_leaks
from trainer.data.prepare import prepare
from trainer.data.readers.ck48 import read_ck48
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.protocols import Protocol, ck_protocols, ferplus_protocols, odd_subjects, plain_protocol

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Split = Literal["validation", "test"]
Variant = Literal["raw", "aligned"]
VARIANTS: tuple[Variant, Variant] = ("aligned", "raw")
FERPLUS, CK = "FER+", "CK+"


@dataclass(frozen=True)
class Questions:
    """Faces and what is asked about them.

    Attributes:
        name: `FER+`, `CK+`, or the name of the configuration.
        faces: the faces.
        landmarks: float32 (n, 6, 2), NaN where the detector found none.
        protocols: over the rows of `faces`.
    """

    name: str
    faces: Faces
    landmarks: Floats
    protocols: list[Protocol]

    def crops(self, variant: Variant, rule: CropRule) -> Image:
        """Return the faces as the network sees them, uint8 (n, size, size) or (n, size, size, 3)."""
        return plain_crops(self.faces.images, self.landmarks if variant == "aligned" else None, rule)

    def coloured(self, colour: str) -> Questions:
        """Return the same with pictures in `grey` or `rgb`."""
        return replace(self, faces=replace(self.faces, images=coloured(self.faces.images, colour)))

    def not_found(self) -> int:
        """Count the faces that go in whole because the detector found none."""
        return int(np.isnan(self.landmarks).any(axis=(1, 2)).sum())


def coloured(images: Image, colour: str) -> Image:
    """Turn pictures, grey (n, side, side) or RGB (n, side, side, 3), into `grey` or `rgb` ones."""
    if colour == "grey":
        return np.stack([cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in images]) if images.ndim == 4 else images
    return np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images


def spread(logits: Floats, labels: tuple[str, ...], into: tuple[str, ...]) -> Floats:
    """Put the logits (n, len(labels)) of a model under the labels of a data set: float32 (n, len(into)).

    A class that the model does not know gets minus infinity, so its faces count as errors; one that the data set does
    not know cannot be answered.
    """
    wide = np.full((len(logits), len(into)), -np.inf, np.float32)
    for column, label in enumerate(labels):
        if label in into:
            wide[:, into.index(label)] = logits[:, column]
    return wide


def official_questions(data: Path, split: Split, cache: Path) -> list[Questions]:
    """Read FER+ and CK+48 where they are there, leave out the others with a line on stderr.

    The validation split is without copies of test images, as in training; of CK+ it is the subjects of odd number, and
    the test split is everybody.

    Raises:
        DataError: none is there, or one is broken.
    """
    sets = []
    if present(data, "ferplus"):
        official = read_ferplus(data)
        faces = without_leaks(official).validation if split == "validation" else official["test"]
        landmarks = landmarks_of(faces.images, cache, f"FER+ {split}")
        sets.append(Questions(FERPLUS, faces, landmarks, ferplus_protocols(faces, official["train"])))
    if present(data, "ck48"):
        everybody = read_ck48(data)
        landmarks = landmarks_of(everybody.images, cache, "CK+")
        faces = odd_subjects(everybody) if split == "validation" else everybody
        known = dict(zip(everybody.names, landmarks, strict=True))
        chosen = np.array([known[name] for name in faces.names], np.float32).reshape(-1, 6, 2)
        if len(faces):
            sets.append(Questions(CK, faces, chosen, ck_protocols(faces)))
        else:
            print("ck48: no person of odd number; the CK+ protocols are left out", file=sys.stderr)
    for name, archive in ((FERPLUS, "ferplus"), (CK, "ck48")):
        if not present(data, archive):
            print(f"{data / archive}.tar: no such file; the {name} protocols are left out", file=sys.stderr)
    if not sets:
        raise DataError(f"{data}: holds neither ferplus.tar nor ck48.tar; name the folder with --data")
    return sets


def own_questions(config: Config, data: Path, split: Split, cache: Path) -> list[Questions]:
    """Ask about all faces of a split of the data set that `config` trains on.

    Raises:
        DataError: it is missing or broken, or the split is empty.
    """
    samples = prepare(config, data, cache).samples.of(split)
    protocol = plain_protocol(samples.faces)
    if not len(protocol.rows):
        raise DataError(
            f"{config.name}: its {split} split is empty; set data.{split}, or, if the data set has splits of its own, "
            f"add faces to {split}"
        )
    return [Questions(config.name, samples.faces, samples.landmarks, [protocol])]
