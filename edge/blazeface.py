"""The BlazeFace networks (MediaPipe, Apache-2.0): a square picture in, boxes and landmarks of faces out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from edge.litert import Network

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class BlazeFace:
    """One of the networks. One per thread.

    It regresses from a fixed grid of anchors, all of unit size: so many in each cell of so many pixels.

    Args:
        file: name of the model in `edge/models/`.
        grid: of the anchors, (pixels, anchors) one after the other.
        threshold: least confidence of a detection, between 0 and 1.
        overlap: detections whose intersection over union is above this are one face.

    Attributes:
        side: of the square that the network sees, pixels.
    """

    def __init__(self, file: str, grid: Sequence[tuple[int, int]], threshold: float, overlap: float) -> None:
        self._network = Network(resources.files("edge").joinpath(f"models/{file}").read_bytes())
        self.side = int(self._network.inputs[0]["shape"][1])
        self._anchors = _anchors(self.side, grid)
        # The networks give logits: most are far below this, and cost nothing further.
        self._least = math.log(threshold / (1 - threshold))
        self._overlap = overlap

    @classmethod
    def back(cls, threshold: float, overlap: float = 0.3) -> BlazeFace:
        """Return the network for whole pictures: 256×256, faces from about 1/20 of it upwards."""
        return cls("blazeface_back.tflite", ((16, 2), (32, 6)), threshold, overlap)

    @classmethod
    def short(cls, threshold: float, overlap: float = 0.3) -> BlazeFace:
        """Return the network for pictures that a face takes a good part of: 128×128, at a fraction of the cost."""
        return cls("blazeface_short.tflite", ((8, 2), (16, 6)), threshold, overlap)

    def __call__(self, canvas: Image) -> list[tuple[float, Floats]]:
        """Find the faces of a uint8 RGB (side, side, 3) picture.

        Returns:
            For each face its confidence, and float32 (16,): centre x and y, width and height of the box, then x and y
            of the six landmarks, all in pixels of the picture. The most confident comes first.
        """
        regressors, scores = self._network(_normalised(canvas))
        logits = scores[0, :, 0]
        keep = (logits >= self._least).nonzero()[0]
        if not keep.size:
            return []
        values = regressors[0, keep]
        anchors = self._anchors[keep]
        values[:, 0::2] += anchors[:, :1]
        values[:, 1::2] += anchors[:, 1:]
        values[:, 2:4] -= anchors  # width and height are no positions
        return merge(1 / (1 + np.exp(-logits[keep])), values, self._overlap)


def fit(image: Image, size: tuple[int, int]) -> Image:
    """Return a BGR or grey picture as uint8 RGB of `size` (width, height)."""
    part = _halved(image, size)
    shrinks = size[0] < image.shape[1] or size[1] < image.shape[0]
    exactly = shrinks and part is image
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if exactly else cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_GRAY2RGB if small.ndim == 2 else cv2.COLOR_BGR2RGB), np.uint8)


def _halved(image: Image, size: tuple[int, int]) -> Image:
    """Halve a picture until it is less than twice `size`.

    Averaging whole blocks of four pixels costs a tenth of averaging parts of many, and faces are found as well.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]
        image = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return image


def merge(confidences: Floats, values: Floats, overlap: float) -> list[tuple[float, Floats]]:
    """Non-maximum suppression that averages the suppressed, weighted by confidence (BlazeFace, arXiv:1907.05047).

    Returns:
        For each face the highest confidence and the averaged row of `values`.
    """
    order = np.argsort(-confidences, kind="stable")
    confidences, values = confidences[order], values[order]
    boxes = np.concatenate([values[:, :2] - values[:, 2:4] / 2, values[:, 2:4]], axis=1).tolist()
    faces, left = [], list(range(len(boxes)))
    while left:
        best, *others = left
        same = {other for other in others if iou(boxes[best], boxes[other]) > overlap}
        faces.append([best, *sorted(same)])
        left = [other for other in others if other not in same]
    weights = np.zeros((len(faces), len(boxes)), np.float32)
    for weight, members in zip(weights, faces, strict=True):
        weight[members] = confidences[members]
    means = weights @ values / weights.sum(axis=1, keepdims=True)
    return [(float(confidences[members[0]]), mean) for members, mean in zip(faces, means, strict=True)]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes: x, y, width, height.

    In plain numbers, as are most things here that are as small as a face: arrays would cost several times as much, and
    keep the other workers from Python meanwhile.
    """
    shared = common(one, other)
    return shared / max(one[2] * one[3] + other[2] * other[3] - shared, 1e-6) if shared else 0.0


def common(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the area that two boxes share: x, y, width, height."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    if across <= 0:
        return 0.0
    return across * max(0.0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))


def _normalised(canvas: Image) -> Floats:
    """Return what the networks take: float32 (1, side, side, 3) in -1…1."""
    values = canvas[None].astype(np.float32)
    values /= 127.5
    values -= 1
    return values


def _anchors(side: int, grid: Sequence[tuple[int, int]]) -> Floats:
    """Return the centres of the anchors, float32 (n, 2), in pixels of the network's input."""
    centres = []
    for stride, count in grid:
        line = (np.arange(side // stride) + 0.5) * stride
        x, y = np.meshgrid(line, line)
        centres.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(centres).astype(np.float32)
