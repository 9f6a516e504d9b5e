"""Draws the clip that `emotion-edge bench` measures with: four faces at a time, moving, that come and go, 1280×720.

The faces are those of the demo clip. From the root of the repository, with ffmpeg installed:

    .venv/bin/python -m deploy.bench.clip

It writes `edge/media/bench.mp4` and prints how many faces the daemon's detector finds where they are; it fails if the
clip is not fit to ship.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deploy.demo.encode import write_clip
from edge.demo import CLIP as DEMO
from edge.detector import Detector

Image = npt.NDArray[np.uint8]

OUTPUT = Path("edge/media/bench.mp4")
WIDTH, HEIGHT, RATE, SECONDS = 1280, 720, 15, 18
MAX_BYTES = 700_000
#: Frames of the demo clip, one for each quarter of the picture, and the part of them that shows the face.
FRAMES = (30, 45, 60, 90)
SIDE = 240
#: Each quarter is empty, then shows its face, twice; each a little later than the one before it. Seconds.
EMPTY, SHOWN, LATER, SLIDE = 2.8, 4.6, 0.6, 0.5


def corner(quarter: int, time: float) -> tuple[float, float] | None:
    """Return left and top of a quarter's face in pixels; none while the quarter is empty."""
    since = (time - quarter * LATER) % (EMPTY + SHOWN) - EMPTY
    if since < 0 or time < quarter * LATER or time >= quarter * LATER + 2 * (EMPTY + SHOWN):
        return None
    left = (0.25 + 0.5 * (quarter % 2)) * WIDTH - SIDE / 2 + 120 * np.sin(1.1 * time + 2.4 * quarter)
    inside = (0.25 + 0.5 * (quarter // 2)) * HEIGHT - SIDE / 2 + 30 * np.sin(1.7 * time + quarter)
    # It slides in from the nearer edge, above or below, and out again.
    outside = -SIDE if quarter < 2 else HEIGHT
    share = min(since, SHOWN - since, SLIDE) / SLIDE
    return float(left), float(share * inside + (1 - share) * outside)


def frames(faces: Sequence[Image]) -> Iterator[Image]:
    """Draw the frames, BGR (720, 1280, 3), with four faces, BGR (240, 240, 3)."""
    wall = _wall()
    weight = _weight()
    for number in range(RATE * SECONDS):
        picture = wall.astype(np.float32)
        for quarter, face in enumerate(faces):
            placed = corner(quarter, number / RATE)
            if placed is not None:
                move = np.array([[1, 0, placed[0]], [0, 1, placed[1]]], np.float32)
                moved = cv2.warpAffine(face, move, (WIDTH, HEIGHT)).astype(np.float32)
                alpha = cv2.warpAffine(weight, move, (WIDTH, HEIGHT))[..., None]
                picture += alpha * (moved - picture)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def _faces() -> list[Image]:
    """Cut the faces out of the demo clip; every second one is mirrored."""
    capture, detect = cv2.VideoCapture(str(DEMO), cv2.CAP_FFMPEG), Detector()
    cut: list[Image] = []
    for number in FRAMES:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        picture = np.asarray(capture.read()[1], np.uint8)
        x, y, width, height = detect(picture)[0].box
        left = round(min(max(x + width / 2 - SIDE / 2, 0), picture.shape[1] - SIDE))
        top = round(min(max(y + height / 2 - SIDE / 2, 0), picture.shape[0] - SIDE))
        face = picture[top : top + SIDE, left : left + SIDE]
        cut.append(np.asarray(face[:, ::-1] if len(cut) % 2 else face, np.uint8))
    return cut


def _wall() -> Image:
    """A wall with soft shading, lines and spots."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 190, (4, 7, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(30):
        start, end = (tuple(int(v) for v in rng.integers(0, (WIDTH, HEIGHT))) for _ in range(2))
        colour = tuple(int(v) for v in rng.integers(40, 210, 3))
        cv2.line(wall, start, end, colour, int(rng.integers(2, 9)))
        cv2.circle(wall, end, int(rng.integers(5, 35)), colour, -1)
    return np.asarray(cv2.GaussianBlur(wall, (0, 0), 1.5), np.uint8)


def _weight() -> npt.NDArray[np.float32]:
    """Weight of a face's pixels, float32 (240, 240): one inside, falling to zero at the edges."""
    ramp = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1])
    return np.clip(np.outer(np.clip(ramp / 24, 0, 1), np.clip(ramp / 24, 0, 1)), 0, 1).astype(np.float32)


def check(path: Path) -> tuple[int, int, int]:
    """Run the daemon's detector over the clip: faces found where they are, faces that are there, and others found."""
    capture, detect = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), Detector()
    found = of = others = 0
    for number in range(RATE * SECONDS):
        ok, picture = capture.read()
        if not ok:
            raise ValueError(f"{path}: ends after {number} frames, expected {RATE * SECONDS}")
        placed = [place for quarter in range(4) if (place := corner(quarter, number / RATE)) is not None]
        boxes = [face.box for face in detect(np.asarray(picture, np.uint8))]
        whole = [place for place in placed if 0 <= place[1] <= HEIGHT - SIDE]
        of += len(whole)
        found += sum(any(_holds(place, box) for box in boxes) for place in whole)
        others += sum(not any(_holds(place, box) for place in placed) for box in boxes)
    return found, of, others


def _holds(place: tuple[float, float], box: tuple[float, float, float, float]) -> bool:
    x, y = box[0] + box[2] / 2 - place[0], box[1] + box[3] / 2 - place[1]
    return 0 <= x <= SIDE and 0 <= y <= SIDE


def main() -> int:
    """Draw the clip, check it, say how it did; returns the exit code."""
    # This preset refers to one frame before, as cameras do; others keep up to sixteen, which is memory.
    write_clip(OUTPUT, frames(_faces()), RATE, quality=33, preset="veryfast")
    (found, of, others), size = check(OUTPUT), OUTPUT.stat().st_size
    print(f"{OUTPUT}: {SECONDS} s, {size} bytes")
    print(f"{found} of {of} faces found, {others} found where there are none")
    fit = size <= MAX_BYTES and found >= 0.98 * of and others == 0
    print("fit to ship" if fit else "not fit to ship")
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
