"""A deterministic clip in which faces come and go: a stream of events at a known rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.parts.samples import portrait

#: Faces in a row and column, pictures in which a face is there and is not, pictures a second.
COLUMNS, ROWS, ON, OFF, FPS = 3, 2, 5, 5, 10
#: What each face gives in a second: a start and an end.
EVENTS_PER_SECOND = 2 * COLUMNS * ROWS * FPS / (ON + OFF)
#: Faces are reported and gone within these pictures.
TRACKING = {"appear": 0.05, "lost": 0.25, "dwell": 30.0}


def flickering(folder: Path) -> Path:
    """Write pictures of six faces, each there for half a second of each second; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = 640 // COLUMNS, 480 // ROWS
    face = cv2.resize(portrait()[:, 80:560], (height * 480 // 480, height))[:, :width]
    for number in range(ON + OFF):
        picture = np.full((480, 640, 3), 90, np.uint8)
        for place in range(COLUMNS * ROWS):
            if (number - place) % (ON + OFF) < ON:
                y, x = place // COLUMNS * height, place % COLUMNS * width
                picture[y : y + face.shape[0], x : x + face.shape[1]] = face
        cv2.imwrite(str(folder / f"{number:02}.png"), picture)
    return folder


def flicker_camera(folder: Path, pace: str = "realtime") -> dict[str, Any]:
    """Return the settings of a camera that shows the pictures for ever."""
    return {"source": f"{folder}/", "fps": FPS, "loop": True, "pace": pace}
