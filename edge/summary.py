"""What a camera saw over a minute: how many people, how long which emotion, how many frames."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

from edge.events import event_id, rfc3339
from edge.store import Message

SCHEMA = "emotion-edge/summary/1"


class Summary:
    """Adds up what a camera sees until it is told.

    Args:
        node: name of the node.
        camera: name of the camera.
        labels: the emotions.
        model: name and version of the model.
        least_people: a summary of fewer leaves the emotions out, so that they are nobody's in particular.
    """

    def __init__(self, node: str, camera: str, labels: tuple[str, ...], model: str, least_people: int = 0) -> None:
        self._node = node
        self._camera = camera
        self._model = model
        self._least_people = least_people
        self._lock = threading.Lock()
        self._since: float | None = None
        self._dropped = 0
        self._people: set[int] = set()
        self._most = self._analysed = 0
        self._seconds = dict.fromkeys(labels, 0.0)

    def change_model(self, labels: tuple[str, ...], model: str) -> None:
        """Add up the emotions of another model from now on; what was not told yet of the old one is gone."""
        with self._lock:
            self._model = model
            self._seconds = dict.fromkeys(labels, 0.0)

    def see(self, faces: Iterable[int]) -> None:
        """Take in the numbers of the faces in view in one analysed frame."""
        with self._lock:
            numbers = set(faces)
            self._people |= numbers
            self._most = max(self._most, len(numbers))
            self._analysed += 1

    def add_time(self, emotion: str, seconds: float) -> None:
        """Take in for how long a face showed an emotion."""
        with self._lock:
            self._seconds[emotion] += seconds

    def begin(self, now: float, dropped: int) -> None:
        """Note when the first period begins, seconds since 1970, and how many frames were dropped before it."""
        self._since, self._dropped = now, dropped

    def tell(self, now: float, dropped: int, epoch: int) -> Message:
        """Return what was added up since the last time, and begin anew.

        Args:
            now: seconds since 1970.
            dropped: frames without a result, since the start.
            epoch: of the outbox, for the id.
        """
        with self._lock:
            since, self._since = self._since if self._since is not None else now, now
            told = len(self._people) >= self._least_people
            document = {
                "schema": SCHEMA,
                "id": event_id(self._node, f"{self._camera}/summary", epoch, round(since * 1000), now),
                "node": self._node,
                "camera": self._camera,
                "start": rfc3339(since),
                "end": rfc3339(now),
                "people": len(self._people),
                "most_at_once": self._most,
                "face_seconds": {k: round(s, 3) for k, s in self._seconds.items()} if told else None,
                "frames_analysed": self._analysed,
                "frames_dropped": dropped - self._dropped,
                "model": self._model,
            }
            self._dropped = dropped
            self._reset()
        payload = json.dumps(document, separators=(",", ":")).encode()
        return Message(str(document["id"]), self._camera, "summary", payload)

    def _reset(self) -> None:
        self._people = set()
        self._most = self._analysed = 0
        self._seconds = dict.fromkeys(self._seconds, 0.0)
