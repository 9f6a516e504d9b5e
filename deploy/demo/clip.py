"""Draws the clip that `make run` plays: a NASA portrait that comes, moves, dims and goes, twice, in a drawn room.

The portrait is `astronaut.png` (Eileen Collins, NASA, public domain; see NOTICE), which scikit-image ships. From the
root of the repository:

    python -m venv /tmp/picture && /tmp/picture/bin/pip install scikit-image
    .venv/bin/python -m deploy.demo.clip /tmp/picture/lib/python3*/site-packages/skimage/data/astronaut.png

It writes `edge/media/demo.mp4`, needs ffmpeg, reads the clip back and prints in how many frames the daemon's detector
finds the face where it is, and in how many frames without one it finds any; it fails if the clip is not fit to ship.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deploy.demo.encode import write_clip
from edge.detector import Detector

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

OUTPUT = Path("edge/media/demo.mp4")
WIDTH, HEIGHT, RATE, SECONDS = 640, 480, 15, 24
MAX_BYTES = 300_000
#: The part of the portrait that is shown, and the face inside that part: x, y, width, height in its pixels.
PART = (90, 0, 270, 300)
FACE = (83, 74, 104, 104)
#: Seconds at which the picture comes and goes; between and after them there is no face.
VISITS = ((0.0, 9.5), (13.0, 20.5))
SLIDE = 0.8


@dataclass(frozen=True)
class Placement:
    """Where the portrait is: left and top in pixels, how far it is enlarged, how bright it is (1 = as it is)."""

    left: float
    top: float
    zoom: float
    light: float

    def face(self) -> Box:
        """Return the face's x, y, width, height in the frame."""
        x, y, width, height = (value * self.zoom for value in FACE)
        return self.left + x, self.top + y, width, height


def placement(time: float) -> Placement | None:
    """Return where the portrait is at `time` seconds, None where there is none."""
    for number, (come, go) in enumerate(VISITS):
        if come <= time < go:
            return _visit(time - come, go - come, from_right=bool(number))
    return None


def frames(portrait: Image) -> Iterator[Image]:
    """Draw the frames, BGR (480, 640, 3), from the portrait, BGR (512, 512, 3)."""
    x, y, width, height = PART
    part = portrait[y : y + height, x : x + width].astype(np.float32)
    mask = _soft_mask(height, width)
    room = _room()
    for number in range(RATE * SECONDS):
        placed = placement(number / RATE)
        yield room if placed is None else _paste(room, part, mask, placed)


def _visit(time: float, length: float, *, from_right: bool) -> Placement:
    """One visit: in from one side, swaying, nearer and farther, darker and lighter, out on the other side."""
    into, out = _ease(time / SLIDE), _ease((length - time) / SLIDE)
    zoom = 1.1 + 0.25 * np.sin(2 * np.pi * time / length - 0.6)
    light = 0.72 + 0.28 * np.cos(2 * np.pi * time / 5.0)
    x = WIDTH / 2 + 90 * np.sin(2 * np.pi * time / 6.5)
    width = PART[2] * zoom
    hidden = WIDTH / 2 + width / 2 + 20
    side = 1 if from_right else -1
    x = into * out * x + (1 - into * out) * (WIDTH / 2 + hidden * (side if time < length / 2 else -side))
    top = 60 + 25 * np.sin(2 * np.pi * time / 4.0)
    return Placement(float(x - width / 2), float(top), float(zoom), float(light))


def _ease(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _soft_mask(height: int, width: int) -> npt.NDArray[np.float32]:
    """Weight of the portrait's pixels, float32 (height, width, 1): one inside, falling to zero at the edges."""
    x = np.minimum(np.arange(width), np.arange(width)[::-1])
    y = np.minimum(np.arange(height), np.arange(height)[::-1])
    weight = np.clip(x[None, :] / 40, 0, 1) * np.clip(y[:, None] / 40, 0, 1)
    return np.asarray(weight[..., None], np.float32)


def _room() -> Image:
    """A wall with a window, a picture and a shelf, lit from one side."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    wall = np.stack([150 - 0.05 * x, 165 - 0.08 * x - 0.05 * y, 175 - 0.1 * x - 0.08 * y], axis=-1)
    wall += (4 * np.sin(x / 9) * np.cos(y / 13))[..., None]
    room = np.clip(wall, 0, 255).astype(np.uint8)
    cv2.rectangle(room, (30, 50), (170, 230), (235, 225, 205), -1)
    for line in (((100, 50), (100, 230)), ((30, 140), (170, 140))):
        cv2.line(room, *line, (90, 100, 110), 6)
    cv2.rectangle(room, (30, 50), (170, 230), (70, 80, 95), 8)
    cv2.rectangle(room, (480, 70), (600, 160), (60, 60, 120), -1)
    cv2.circle(room, (525, 115), 28, (90, 170, 200), -1)
    cv2.rectangle(room, (430, 300), (640, 314), (50, 75, 105), -1)
    for number, height in enumerate((70, 88, 62, 80, 75, 90)):
        colour = (40 + 25 * number, 150 - 20 * number, 60 + 30 * (number % 3))
        cv2.rectangle(room, (455 + 26 * number, 300 - height), (475 + 26 * number, 299), colour, -1)
    cv2.rectangle(room, (0, 400), (640, 480), (70, 85, 100), -1)
    return np.asarray(cv2.GaussianBlur(room, (0, 0), 1.2), np.uint8)


def _paste(room: Image, part: npt.NDArray[np.float32], mask: npt.NDArray[np.float32], placed: Placement) -> Image:
    transform = np.array([[placed.zoom, 0, placed.left], [0, placed.zoom, placed.top]], np.float32)
    moved = cv2.warpAffine(part * placed.light, transform, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(mask, transform, (WIDTH, HEIGHT))[..., None]
    return np.asarray(np.clip(weight * moved + (1 - weight) * room, 0, 255), np.uint8)


@dataclass
class Check:
    """How the detector does on the clip, in frames; those in which the face is cut by the border are not judged."""

    with_face: int = 0
    found: int = 0
    without: int = 0
    false: int = 0


def check(path: Path) -> Check:
    """Run the daemon's detector over the clip's frames."""
    detector, result = Detector(), Check()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    for number in range(RATE * SECONDS):
        ok, frame = capture.read()
        if not ok:
            raise ValueError(f"{path}: ends after {number} frames, expected {RATE * SECONDS}")
        placed = placement(number / RATE)
        boxes = [face.box for face in detector(frame.astype(np.uint8))]
        if placed is not None and _inside(placed.face()):
            result.with_face += 1
            result.found += len(boxes) == 1 and _same(boxes[0], placed.face())
        elif placed is None or _outside(placed.face()):
            result.without += 1
            result.false += bool(boxes)
    return result


def _inside(box: Box) -> bool:
    x, y, width, height = box
    return x >= 0 and y >= 0 and x + width <= WIDTH and y + height <= HEIGHT


def _outside(box: Box) -> bool:
    x, y, width, height = box
    return x + width <= 0 or y + height <= 0 or x >= WIDTH or y >= HEIGHT


def _same(one: Box, other: Box) -> bool:
    """Tell whether two boxes have centres within a quarter of the second's width, and similar widths."""
    near = np.hypot(one[0] + one[2] / 2 - other[0] - other[2] / 2, one[1] + one[3] / 2 - other[1] - other[3] / 2)
    return bool(near < other[2] / 4 and 2 / 3 < one[2] / other[2] < 3 / 2)


def main(arguments: list[str]) -> int:
    """Draw the clip from the picture that is named, check it, say how it did; returns the exit code."""
    portrait = cv2.imread(arguments[0], cv2.IMREAD_COLOR) if len(arguments) == 1 else None
    if portrait is None or portrait.shape != (512, 512, 3):
        print("usage: python -m deploy.demo.clip PATH/TO/astronaut.png  (512×512, from scikit-image)", file=sys.stderr)
        return 2
    OUTPUT.parent.mkdir(exist_ok=True)
    write_clip(OUTPUT, frames(portrait.astype(np.uint8)), RATE, quality=32, preset="veryslow")
    result, size = check(OUTPUT), OUTPUT.stat().st_size
    print(f"{OUTPUT}: {SECONDS} s, {size} bytes")
    print(f"face found in {result.found} of {result.with_face} frames that show all of it")
    print(f"something found in {result.false} of {result.without} frames without a face")
    fit = size <= MAX_BYTES and result.found == result.with_face and result.false == 0
    print("fit to ship" if fit else "not fit to ship")
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
