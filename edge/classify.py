"""Faces and their emotions in single pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle import Bundle
from edge.detector import Detector
from edge.draw import draw_face
from edge.emotions import Classifier
from edge.faces import Image, crop
from edge.regular import read_regular
from edge.still import find_faces


class ImageError(ValueError):
    """A picture cannot be read or written; the message names it."""


@dataclass(frozen=True)
class Portrait:
    """A face in a picture: box (x, y, width, height in pixels), confidence, and its emotions' probabilities."""

    box: tuple[float, float, float, float]
    confidence: float
    probabilities: dict[str, float]

    @property
    def emotion(self) -> str:
        """The most probable emotion."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    def as_dict(self) -> dict[str, Any]:
        """Return it as `classify --json` prints it."""
        x, y, width, height = (round(value, 1) for value in self.box)
        return {
            "box": {"x": x, "y": y, "width": width, "height": height},
            "confidence": round(self.confidence, 4),
            "emotion": self.emotion,
            "probability": round(self.probabilities[self.emotion], 4),
            "probabilities": {label: round(value, 4) for label, value in self.probabilities.items()},
        }


class PictureClassifier:
    """Finds faces and reads their expression, with the time that a single picture allows.

    The daemon looks at each frame once and has the next to correct itself. Here the detector looks again where it found
    nothing, and the classifier's answers to a face and its mirror image are averaged.
    """

    def __init__(self, bundle: Bundle, threshold: float) -> None:
        self._detector = Detector(threshold)
        self._classifier = Classifier(bundle)

    def __call__(self, image: Image) -> list[Portrait]:
        """Return the faces of a BGR picture, largest first."""
        portraits = []
        for face in find_faces(image, self._detector):
            cut = crop(image, face.landmarks, self._classifier.rule, self._classifier.colour)
            values = (self._classifier(cut) + self._classifier(np.ascontiguousarray(cut[:, ::-1]))) / 2
            probabilities = dict(zip(self._classifier.labels, map(float, values), strict=True))
            portraits.append(Portrait(face.box, face.confidence, probabilities))
        return portraits


def read_image(path: Path) -> Image:
    """Read a picture as BGR. Raises `ImageError`."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; name an existing picture") from None
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None:
        raise ImageError(f"{path}: not a picture that can be read; use JPEG, PNG or WebP")
    return np.asarray(image, np.uint8)


def annotate(image: Image, portraits: list[Portrait]) -> Image:
    """Return a copy of a BGR picture with its faces drawn in."""
    drawn = image.copy()
    for portrait in portraits:
        draw_face(drawn, portrait.box, portrait.emotion, portrait.probabilities.items())
    return drawn


def write_image(path: Path, image: Image) -> None:
    """Write a picture in the format of its name. Raises `ImageError`."""
    try:
        ok, content = cv2.imencode(path.suffix or ".png", image)
        if ok:
            path.write_bytes(content.tobytes())
    except cv2.error:
        ok = False
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; name a file in a folder that you may write to") from None
    if not ok:
        raise ImageError(f"{path}: no picture format; end the name in .png or .jpg")
