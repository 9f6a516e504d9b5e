"""Teachers that are asked about every face as it is drawn for training (Beyer et al., arXiv:2106.05237).

Soft labels say one thing of a face however it is turned, lit or blended with another. Asked about the very picture that
the student sees, teachers show it the same function at ever new points, so that long training goes on to help.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, BundleError
from edge.emotions import Classifier, softmax
from trainer.config import Crop
from trainer.training.distil import DistillationError, Floats
from trainer.training.teachers import of_classes

Images = npt.NDArray[np.uint8]


class ViewTeachers:
    """Model files that answer the student's own crops, brought to the size that each of them wants.

    Args:
        paths: the model files.
        labels: the classes in the order of the answers.
        crop: of the student.
        calibrated: answer as the files calibrate them; otherwise softer, as they were learned.

    Raises:
        DistillationError: a model file cannot be used, knows other classes, or sees another part of a face.
    """

    def __init__(self, paths: Sequence[Path], labels: tuple[str, ...], crop: Crop, calibrated: bool = True) -> None:
        self._classes = len(labels)
        self._bundles = [_fitting(path, labels, crop) for path in paths]
        self._calibrated = calibrated
        self._each_thread = threading.local()

    def __call__(self, crops: Images) -> Floats:
        """Return the mean of their probabilities (n, classes) of crops (n, size, size) and their mirror images."""
        total = np.zeros((len(crops), self._classes), np.float32)
        for classifier in self._classifiers():
            for row, crop in enumerate(crops):
                view = _resized(crop, classifier.rule.size)
                for each in (view, np.ascontiguousarray(view[:, ::-1])):
                    total[row] += classifier(each) if self._calibrated else softmax(classifier.logits(each))
        return np.asarray(total / (2 * len(self._bundles)), np.float32)

    def digest(self) -> str:
        """Return what tells these teachers from others."""
        digest = hashlib.sha256()
        for bundle in self._bundles:
            digest.update(bundle.info.model_dump_json().encode())
        return digest.hexdigest()

    def _classifiers(self) -> list[Classifier]:
        """Return the networks of this thread: none may be used by two at once."""
        if not hasattr(self._each_thread, "classifiers"):
            self._each_thread.classifiers = [Classifier(bundle) for bundle in self._bundles]
        found: list[Classifier] = self._each_thread.classifiers
        return found


def _fitting(path: Path, labels: tuple[str, ...], crop: Crop) -> Bundle:
    try:
        bundle = of_classes(path, labels)
    except BundleError as error:
        raise DistillationError(str(error)) from None
    theirs = bundle.info.crop.margin, bundle.info.crop.eye_line, bundle.info.input.colour
    ours = crop.margin, crop.eye_line, crop.colour
    if theirs != ours:
        raise DistillationError(
            f"{path}: sees faces with margin, eye line and colour {theirs}, and crop says {ours}; name a teacher that "
            "sees the same part of a face, or write soft labels with emotion-trainer teach"
        )
    return bundle


def _resized(crop: Images, size: int) -> Images:
    if len(crop) == size:
        return crop
    way = cv2.INTER_CUBIC if size > len(crop) else cv2.INTER_AREA
    return np.asarray(cv2.resize(crop, (size, size), interpolation=way), np.uint8)
