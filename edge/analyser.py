"""What a worker does with a frame: finds its faces and reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edge.bundle import Bundle
from edge.detector import Detector
from edge.emotions import Classifier
from edge.events import Box
from edge.faces import Face, Image, crop, look
from edge.metrics import Metrics
from edge.regions import RegionDetector
from edge.schedule import WHOLE, Look
from edge.tracking import Known, Observation, Place
from edge.yunet import YuNet


class Analyser:
    """One worker's detector and classifier: finds faces and reads their expression. One per thread.

    Args:
        bundle: the emotion model.
        threshold: least confidence of a face, 0–1.
        metrics: of the node.
        yunet: content of a YuNet file, for whole pictures; BlazeFace "back" without one.
    """

    def __init__(self, bundle: Bundle, threshold: float, metrics: Metrics, yunet: bytes | None = None) -> None:
        self._regions = RegionDetector(threshold)
        self._detector = Detector(threshold, None if yunet is None else YuNet(yunet, threshold), self._regions)
        self._classifier = Classifier(bundle)
        self._metrics = metrics

    def __call__(self, image: Image, how: Look = WHOLE) -> list[Observation]:
        """Return what is seen in a BGR picture, uint8 (height, width, 3); boxes and landmarks in fractions of it."""
        faces: list[tuple[Face, int | None]] = [(_in_pixels(known, image), known.number) for known in how.known]
        if not faces:
            faces = [(face, None) for face in self.find(image, how.places, how.recent)]
        if not faces:
            return []
        started = time.perf_counter()
        observations = [self.observe(image, face, number) for face, number in faces]
        self._metrics.stages["classify"].observe(time.perf_counter() - started)
        self._metrics.inferences["classify"].inc(len(faces))
        return observations

    def find(self, image: Image, places: Sequence[Place] | None, recent: Sequence[Known] = ()) -> list[Face]:
        """Find the faces of a BGR picture, in pixels of it; arguments as of `Look`."""
        if places is not None and not places:
            return []
        started, runs = time.perf_counter(), self._regions.runs
        if places is None:
            faces = self._detector(image, [_in_pixels(known, image) for known in recent])
            self._metrics.inferences["detect"].inc()
        else:
            faces = self._regions(image, places)
        self._metrics.inferences["regions"].inc(self._regions.runs - runs)
        self._metrics.stages["detect" if places is None else "regions"].observe(time.perf_counter() - started)
        return faces

    def observe(self, image: Image, face: Face, number: int | None = None) -> Observation:
        """Return what is seen of one face of a BGR picture; `number` of its track if it was not looked for."""
        height, width = image.shape[:2]
        cut = crop(image, face.landmarks, self._classifier.rule, self._classifier.colour)
        x, y, w, h = face.box
        box = Box(x / width, y / height, w / width, h / height)
        probabilities = self._classifier(cut)
        if number is not None:
            return Observation(box, face.confidence, probabilities, number=number)
        landmarks = np.asarray(face.landmarks / (width, height), np.float32) if face.measured else None
        return Observation(box, face.confidence, probabilities, look(cut), landmarks)


def _in_pixels(known: Known, image: Image) -> Face:
    height, width = image.shape[:2]
    box = known.box
    pixels = (box.x * width, box.y * height, box.width * width, box.height * height)
    return Face(pixels, known.confidence, np.asarray(known.landmarks * (width, height), np.float32))
