"""Accuracy over crop margins and eye lines, so that the crop rule is chosen on validation data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge.bundle import read_bundle
from edge.detector import Detector
from edge.emotions import Classifier
from edge.faces import CropRule, crop
from trainer.data.alignment import landmarks_of
from trainer.data.augment import plain_crops
from trainer.data.datasets import DataError, without_leaks
from trainer.data.photographs import photographs
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.on_photographs import face_of
from trainer.measuring.protocols import most_voted
from trainer.measuring.questions import coloured

MARGINS = (1.9, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1, 3.3)
EYE_LINES = (0.31, 0.34, 0.37, 0.40, 0.43)
#: Rows are margins, columns eye lines, cells fractions.
Grid = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Margins:
    """Accuracies of one network over crop rules.

    Attributes:
        rules: the grid, margins × eye lines.
        stored: on FER+ validation faces as stored, aligned by the eyes.
        photographs: on composed photographs; a face not found is an error.
        found: share of the faces that the detector found there.
        faces: how many there are of both kinds.
    """

    rules: list[list[CropRule]]
    stored: Grid
    photographs: Grid
    found: float
    faces: tuple[int, int]


def measure(model: Path, data: Path, cache: Path, count: int, seed: int) -> Margins:
    """Measure a model file over the grid, its own rule included.

    Args:
        model: the model file.
        data: folder of the data sets.
        cache: folder for landmarks.
        count: how many photographs to compose.
        seed: of their choice and composition.

    Raises:
        BundleError: the model file cannot be used.
        DataError: FER+ is missing or broken, or has other classes.
    """
    bundle = read_bundle(model)
    rules = grid(bundle.info.crop.rule())
    faces = without_leaks(read_ferplus(data)).validation
    if bundle.info.labels != faces.labels:
        raise DataError(f"{model}: knows other classes than FER+, on whose faces crops are compared")
    landmarks = landmarks_of(faces.images, cache, "FER+ validation")
    eight = most_voted(faces)
    faces, landmarks, truth = faces.subset(eight.rows), landmarks[eight.rows], eight.truth
    classifier = Classifier(bundle)
    console = Console(stderr=True)
    flat = [rule for line in rules for rule in line]
    stored_faces = coloured(faces.images, classifier.colour)
    stored = [
        _right(classifier, plain_crops(stored_faces, landmarks, rule), truth)
        for rule in track(flat, "stored faces", console=console)
    ]
    total = min(count, len(faces))
    detector = Detector()
    right, found = np.zeros(len(flat)), 0
    for row, scene in track(photographs(faces.images, count, seed), "photographs", total=total, console=console):
        face = face_of(scene, detector(scene.picture))
        if face is None:
            continue
        found += 1
        crops = np.stack([crop(scene.picture, face.landmarks, rule, classifier.colour) for rule in flat])
        right += [classifier.logits(each).argmax() == truth[row] for each in crops]
    shape = len(rules), len(rules[0])
    shares = right / max(total, 1)
    return Margins(rules, np.reshape(stored, shape), shares.reshape(shape), found / max(total, 1), (len(faces), total))


def grid(own: CropRule) -> list[list[CropRule]]:
    """Return crop rules, margins × eye lines, with the model's own among them."""
    margins = sorted({*MARGINS, own.margin})
    lines = sorted({*EYE_LINES, own.eye_line})
    return [[replace(own, margin=margin, eye_line=line) for line in lines] for margin in margins]


def show(measured: Margins, own: CropRule, console: Console) -> None:
    """Print both grids; the model's own rule is in brackets, the best is bold."""
    stored, photographs = measured.faces
    for title, cells in (
        (f"FER+ 8 on {stored} validation faces as stored", measured.stored),
        (f"{photographs} photographs, {measured.found:.1%} of the faces found", measured.photographs),
    ):
        table = Table("margin", title=f"{title}: accuracy of int8 in per cent")
        for rule in measured.rules[0]:
            table.add_column(f"eye line {rule.eye_line:.2f}", justify="right")
        for rules, values in zip(measured.rules, cells, strict=True):
            texts = [_cell(value, rule == own, value == cells.max()) for rule, value in zip(rules, values, strict=True)]
            table.add_row(f"{rules[0].margin:.2f}", *texts)
        console.print(table)


def _cell(value: float, own: bool, best: bool) -> str:
    text = f"({100 * value:.1f})" if own else f"{100 * value:.1f}"
    return f"[bold]{text}[/bold]" if best else text


def _right(classifier: Classifier, crops: npt.NDArray[np.uint8], truth: npt.NDArray[np.intp]) -> float:
    answers = [classifier.logits(each).argmax() for each in crops]
    return float((np.array(answers) == truth).mean())
