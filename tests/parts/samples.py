"""Samples that many tests need: an event, a picture with a real face, and variants of the model file."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle import DEFAULT_MODEL
from edge.demo import CLIP
from edge.events import Box, Event, EventFace, event_id
from edge.faces import Image

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FACE = EventFace("node-camera-1-1", Box(0.25, 0.25, 0.2, 0.3), 0.9)


def make_event(seq: int = 1, camera: str = "camera", **changes: Any) -> Event:
    """Return a `start` event; `changes` replace its fields."""
    time = 1_700_000_000 + seq / 8
    event = Event(
        id=event_id("node", camera, 1, seq, time),
        epoch=1,
        seq=seq,
        node="node",
        camera=camera,
        type="start",
        time=time,
        first_seen=time - 0.5,
        face=FACE,
        emotion="happiness",
        probability=0.72,
        probabilities={label: 0.72 if label == "happiness" else 0.04 for label in LABELS},
        previous=None,
        duration=None,
        reason=None,
        model="model 1",
    )
    return replace(event, **changes)


@cache
def portrait() -> Image:
    """Return a frame of the demo clip, BGR (480, 640, 3), with one face of about 138 px. Not to be changed."""
    capture = cv2.VideoCapture(str(CLIP), cv2.CAP_FFMPEG)
    for _ in range(45):
        assert capture.grab()
    ok, picture = capture.read()
    assert ok, f"{CLIP} holds no frame 45"
    picture.setflags(write=False)
    return np.asarray(picture, np.uint8)


@cache
def model_parts() -> tuple[bytes, dict[str, Any], str]:
    """Return the network, `model.json` and `labels.txt` of the model that ships."""
    content = DEFAULT_MODEL.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
        return content[:start], json.loads(archive.read("model.json")), archive.read("labels.txt").decode()


#: Of the crops that the model which ships sees, pixels.
SIDE: int = model_parts()[1]["crop"]["size"]


def write_model(
    path: Path,
    network: bytes | None = None,
    labels: str | None = None,
    omit: str = "",
    compression: int = zipfile.ZIP_STORED,
    **changes: Any,
) -> Path:
    """Write a model file that differs from the one that ships.

    Args:
        path: of the file.
        network: bytes before the ZIP; the checksum follows them unless `changes` has one.
        labels: text of `labels.txt`.
        omit: entry to leave out of the ZIP.
        compression: of the ZIP's entries.
        changes: replace keys of `model.json`; None removes one.
    """
    shipped, info, shipped_labels = model_parts()
    network = shipped if network is None else network
    info = {**info, "sha256": hashlib.sha256(network).hexdigest(), **changes}
    info = {key: value for key, value in info.items() if value is not None}
    entries = {"labels.txt": shipped_labels if labels is None else labels, "model.json": json.dumps(info)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, text in entries.items():
            if name != omit:
                archive.writestr(name, text)
    path.write_bytes(network + packed.getvalue())
    return path
