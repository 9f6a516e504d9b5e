"""Teachers that are asked about every face as it is drawn for training (Beyer et al., arXiv:2106.05237).

Soft labels say one thing of a face however it is turned, lit or blended with another. Asked about the very picture that
the student sees, teachers show it the same function at ever new points, so that long training goes on to help.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, read_bundle
from edge.emotions import Classifier
from trainer.config import Crop
from trainer.training.distil import DistillationError, Floats

Images = npt.NDArray[np.uint8]


class ViewTeachers:
    """Model files that answer the student's own crops, enlarged to the size that each of them wants.

    Args:
        paths: the model files.
        labels: the classes in the order of the answers.
        crop: of the student.

    Raises:
        BundleError: a model file cannot be used.
        DistillationError: a model knows other classes, or wants faces cut out in another way.
    """

    def __init__(self, paths: Sequence[Path], labels: tuple[str, ...], crop: Crop) -> None:
        self._classes = len(labels)
        self._bundles = [_fitting(path, labels, crop) for path in paths]
        self._each_thread = threading.local()

    def __call__(self, crops: Images) -> Floats:
        """Return the mean of their probabilities (n, classes) of crops (n, size, size) and their mirror images."""
        total = np.zeros((len(crops), self._classes), np.float32)
        for classifier in self._classifiers():
            for row, crop in enumerate(crops):
                view = _enlarged(crop, classifier.rule.size)
                total[row] += classifier(view) + classifier(np.ascontiguousarray(view[:, ::-1]))
        return np.asarray(total / (2 * len(self._bundles)), np.float32)

    def _classifiers(self) -> list[Classifier]:
        """Return the networks of this thread: none may be used by two at once."""
        if not hasattr(self._each_thread, "classifiers"):
            self._each_thread.classifiers = [Classifier(bundle) for bundle in self._bundles]
        found: list[Classifier] = self._each_thread.classifiers
        return found


def _fitting(path: Path, labels: tuple[str, ...], crop: Crop) -> Bundle:
    bundle = read_bundle(path)
    if bundle.info.labels != labels:
        raise DistillationError(
            f"{path}: knows the classes {', '.join(bundle.info.labels)}, and the data have {', '.join(labels)}; "
            "name a teacher of the same classes"
        )
    theirs = bundle.info.crop.margin, bundle.info.crop.eye_line, bundle.info.input.colour
    ours = crop.margin, crop.eye_line, crop.colour
    if theirs != ours:
        raise DistillationError(
            f"{path}: sees faces with margin, eye line and colour {theirs}, and crop says {ours}; name a teacher that "
            "sees the same part of a face, or write soft labels with emotion-trainer teach"
        )
    return bundle


def _enlarged(crop: Images, size: int) -> Images:
    if len(crop) == size:
        return crop
    way = cv2.INTER_CUBIC if size > len(crop) else cv2.INTER_AREA
    return np.asarray(cv2.resize(crop, (size, size), interpolation=way), np.uint8)
