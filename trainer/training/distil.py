"""Distillation (Hinton et al., arXiv:1503.02531): soft labels of teachers, stored, and their part of the target."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer import TrainerError, first_line
from trainer.config import Distillation
from trainer.data.datasets import Faces
from trainer.files import DAMAGED, replace_file

Floats = npt.NDArray[np.float32]
FORMAT = "emotion-trainer/soft-labels/1"
DIGEST = 16


class DistillationError(TrainerError):
    """Teachers or soft labels do not fit; the message names the file and the remedy."""


@dataclass(frozen=True)
class SoftLabels:
    """What teachers answered, averaged over them.

    Attributes:
        labels: the names of the classes, in the order of the columns.
        teachers: file name and SHA-256 of each teacher.
        faces: uint8 (n, 16), the digest of each face's pixels.
        probabilities: float16 (n, classes), rows that sum to about 1.
    """

    labels: tuple[str, ...]
    teachers: tuple[tuple[str, str], ...]
    faces: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float16]


def digests(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return uint8 (n, 16) that tell pictures (n, side, side), or RGB with 3 channels, apart by shape and pixels."""
    shape = str(images.shape[1:]).encode()
    found = [hashlib.blake2b(image.tobytes(), digest_size=DIGEST, key=shape).digest() for image in images]
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(images), DIGEST)


def write(path: Path, soft: SoftLabels) -> None:
    """Write soft labels.

    Raises:
        WriteError: the file cannot be written; what was there is as it was.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(FORMAT),
        labels=np.array(soft.labels),
        teachers=np.array(soft.teachers).reshape(-1, 2),
        faces=soft.faces,
        probabilities=soft.probabilities,
    )
    replace_file(path, buffer.getvalue())


def read(path: Path) -> SoftLabels:
    """Read soft labels.

    Raises:
        DistillationError: there are none, or they are damaged.
    """
    remedy = "write them with emotion-trainer teach, or name teachers with --teacher"
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["format"]) != FORMAT:
                raise ValueError(f"format {archive['format']}, expected {FORMAT}")
            labels, teachers = (archive[name].tolist() for name in ("labels", "teachers"))
            soft = SoftLabels(tuple(labels), tuple(map(tuple, teachers)), archive["faces"], archive["probabilities"])
    except FileNotFoundError:
        raise DistillationError(f"{path}: no such file; {remedy}") from None
    except DAMAGED as error:
        raise DistillationError(f"{path}: no soft labels ({first_line(error)}); {remedy}") from None
    if soft.faces.shape != (len(soft.faces), DIGEST) or soft.probabilities.shape != (len(soft.faces), len(labels)):
        raise DistillationError(f"{path}: no soft labels (faces, classes and probabilities disagree); {remedy}")
    return soft


def lookup(soft: SoftLabels, faces: Faces, path: Path) -> Floats:
    """Return the teachers' probabilities (n, classes) for each of `faces`; `path` is where they were read from.

    Raises:
        DistillationError: the classes differ, or faces are missing.
    """
    if soft.labels != faces.labels:
        raise DistillationError(
            f"{path}: has the classes {', '.join(soft.labels)}, and the data {', '.join(faces.labels)}; "
            "write it again with teachers of the data's classes"
        )
    rows = {digest.tobytes(): row for row, digest in enumerate(soft.faces)}
    found = [rows.get(digest.tobytes(), -1) for digest in digests(faces.images)]
    missing = [name for name, row in zip(faces.names, found, strict=True) if row < 0]
    if missing:
        raise DistillationError(
            f"{path}: lacks {len(missing)} of {len(faces)} training faces, {missing[0]} for one; "
            "write it again with emotion-trainer teach and this configuration"
        )
    return soft.probabilities[found].astype(np.float32)


def softened(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (n, classes) as if their logits were divided by `temperature`."""
    powers = np.maximum(probabilities, 1e-7) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def taught(targets: Floats, faces: Faces, settings: Distillation, paths: Sequence[Path]) -> Floats:
    """Give the teachers, whose soft labels lie in `paths`, their share of the targets (n, classes).

    Each file counts alike, however many teachers' mean it holds. Cross-entropy is linear in the target, so this is the
    weighted sum of the loss against both. The share of teachers who are asked about each face as it is drawn is not in
    it. Says how often the stored teachers are right.

    Raises:
        DistillationError: there are no soft labels, or they do not fit.
    """
    stored, asked = settings.shares()
    labels = np.asarray(np.float32(1 - stored - asked) * targets, np.float32)
    if not paths:
        return labels
    found = np.mean([lookup(read(path), faces, path) for path in paths], axis=0)
    # If that is hardly more than on validation, they have yet to learn these faces, and hold back whom they teach.
    right = (found.argmax(axis=1) == faces.truth()).mean()
    print(f"soft labels: right about {right:.1%} of the faces they teach")
    return np.asarray(labels + np.float32(stored) * softened(found, settings.temperature), np.float32)
