"""YuNet, a detector of whole pictures that the settings can name instead of BlazeFace "back": an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.blazeface import Floats, Image
from edge.faces import Face
from edge.regular import read_regular

#: Longer side at which pictures are looked at: faces from about 1/30 of it upwards are found.
SIDE = 320
OVERLAP = 0.3
MOST_FACES = 200
#: Its boxes have so much of their height above those of BlazeFace, the forehead; the tracker compares both.
FOREHEAD = 0.18
_REMEDY = "name face_detection_yunet_2023mar.onnx of the OpenCV Zoo, or leave detector.model out"


class DetectorError(ValueError):
    """The file is no detector that can be used; the message names it."""


def read_detector(path: Path | None) -> bytes | None:
    """Return the content of a YuNet file after trying it; none where none is named.

    Raises:
        DetectorError: the file cannot be read, or is no YuNet that this OpenCV can run.
    """
    if path is None:
        return None
    try:
        content = read_regular(path)
    except OSError as error:
        raise DetectorError(f"{path}: {error.strerror}; {_REMEDY}") from None
    plain = np.full((SIDE // 2, SIDE, 3), 128, np.uint8)
    try:
        seen = YuNet(content, 0.5)(plain)
    except (cv2.error, ValueError):
        raise DetectorError(f"{path}: no YuNet that OpenCV {cv2.__version__} can run; {_REMEDY}") from None
    if seen:
        raise DetectorError(f"{path}: sees faces in an empty picture, so it is damaged; {_REMEDY}")
    return content


class YuNet:
    """Finds faces in whole pictures of any size. One per thread.

    Args:
        content: of the ONNX file.
        threshold: least confidence of a detection, 0–1.
    """

    def __init__(self, content: bytes, threshold: float) -> None:
        model, nothing = np.frombuffer(content, np.uint8), np.zeros(0, np.uint8)
        self._network: Any = cv2.FaceDetectorYN.create(
            "onnx", model, nothing, (SIDE, SIDE), threshold, OVERLAP, MOST_FACES
        )

    def __call__(self, image: Image) -> list[Face]:
        """Find the faces of a BGR (height, width, 3) or grey (height, width) picture, largest first."""
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        self._network.setInputSize(size)
        rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small)[1]
        faces = [_face(row, scale) for row in (() if rows is None else rows)]
        return sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)


def _face(row: Floats, scale: float) -> Face:
    """Return a face of a row: box, two eyes, nose, two corners of the mouth (x and y each), confidence."""
    x, y, width, height = (float(value) for value in row[:4] / scale)
    points = (row[4:14] / scale).reshape(5, 2)
    left_eye, right_eye, nose = points[:3]
    mouth = points[3:].mean(axis=0)
    # It knows no ears: they stand at the sides of the box, as high as the eyes.
    level = float(points[:2, 1].mean())
    landmarks = np.array([left_eye, right_eye, nose, mouth, (x, level), (x + width, level)], np.float32)
    box = (x, y + FOREHEAD * height, width, (1 - FOREHEAD) * height)
    return Face(box, float(row[14]), landmarks)
