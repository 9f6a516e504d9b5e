"""Clips with known truth: real faces at known places and times, or short clips made long."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deploy.demo.encode import write_clip
from trainer.data.datasets import LABELS, Faces, data_folder
from trainer.data.readers.ferplus import read_ferplus

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

#: Constant rate factor of the clips: hardly to be told from what was drawn.
QUALITY = 18
PRESET = "superfast"
#: Share of a face's side over which it fades into the background.
FEATHER = 0.06
#: Seconds in which a face turns into another.
FADE = 0.4
#: How far the background pans at most, in pixels.
PAN = 40
#: Radians a second by which heads tilt to and fro: from one side to the other in little more than a second.
TILT_RATE = 2.7


@dataclass(frozen=True)
class Portrait:
    """A face with a known emotion: uint8 grey (48, 48), and the file that it comes from."""

    name: str
    emotion: str
    image: Image


@dataclass(frozen=True)
class Visit:
    """One face in a clip.

    Attributes:
        id: counted from 0, in the order of `portraits`.
        name: the file that the face comes from.
        emotion: what most people saw in it.
        region: which quarter of the picture, row by row.
        appear: time of the first frame with it, seconds from the start of the clip.
        vanish: time of the first frame without it.
    """

    id: int
    name: str
    emotion: str
    region: int
    appear: float
    vanish: float
    _layout: _Layout

    def box(self, time: float) -> Box | None:
        """Return left, top, width and height, 0–1 of the picture, at `time`; None when it is not in view."""
        if not self.appear - 1e-6 <= time < self.vanish - 1e-6:
            return None
        left, top = self._layout.corner(self, time)
        side, (width, height) = self._layout.side, self._layout.size
        return left / width, top / height, side / width, side / height


@dataclass(frozen=True)
class _Layout:
    """Where faces may be: four regions of a picture of `size` (width, height), faces `side` pixels wide and high."""

    size: tuple[int, int]
    side: int

    def corner(self, visit: Visit, time: float) -> tuple[float, float]:
        """Return left and top of a face in pixels: a slow path that stays within its region."""
        region = (self.size[0] / 2, self.size[1] / 2)
        origin = ((visit.region % 2) * region[0], (visit.region // 2) * region[1])
        slack = (region[0] - self.side, region[1] - self.side)
        phase = 2.4 * visit.id
        swing = (min(0.4 * slack[0], 70) * np.sin(1.5 * time + phase), 0.4 * slack[1] * np.sin(2.1 * time + 2 * phase))
        return float(origin[0] + slack[0] / 2 + swing[0]), float(origin[1] + slack[1] / 2 + swing[1])


@dataclass(frozen=True)
class _Crossing(_Layout):
    """Faces that cross the picture in turn from the left and from the right, and pass each other in the middle."""

    seconds: float
    apart: float

    def corner(self, visit: Visit, time: float) -> tuple[float, float]:
        """Return left and top of a face in pixels."""
        share = (time - visit.appear) / self.seconds
        way = self.size[0] - self.side
        left = way * (share if visit.id % 2 == 0 else 1 - share)
        shift = (0.5 if visit.id % 2 else -0.5) * self.apart * self.side
        return float(left), float((self.size[1] - self.side) / 2 + shift)


def clear_portraits(count: int, seed: int) -> list[Portrait]:
    """Draw FER+ validation faces on whose emotion most people agree, no picture twice (mirrored neither).

    Raises:
        DataError: FER+ is missing.
    """
    faces = _validation_faces()
    rows = np.flatnonzero(_agreed(faces.all_votes()) & _unique(faces))
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    return [Portrait(faces.names[row], LABELS[faces.all_votes()[row].argmax()], faces.images[row]) for row in chosen]


def compose(
    portraits: Sequence[Portrait],
    out: Path,
    *,
    size: tuple[int, int] = (1280, 720),
    side: int = 300,
    rate: int = 15,
    seconds: float = 2.0,
    gap: float = 2.5,
    stagger: float = 0.4,
    tilt: float = 0.0,
    seed: int = 0,
    later: Sequence[Portrait] = (),
) -> list[Visit]:
    """Write a clip in which the faces show up four at a time, each moving in its own quarter of the picture.

    Args:
        portraits: the faces, one visit each, in order of appearance.
        out: the mp4 to write.
        size: width and height in pixels, even.
        side: width and height of a face in pixels.
        rate: frames a second.
        seconds: how long each face is in view.
        gap: how long a quarter is empty before each face, and before the clip ends.
        stagger: how much later each quarter runs than the one before it.
        tilt: how far heads tilt to either side, in degrees.
        seed: of the background.
        later: what each face turns into in the middle of its visit; without any they stay as they are.

    Returns:
        The truth, in the order of `portraits`.
    """
    layout = _Layout(size, side)
    visits = [
        _visit(number, portrait, layout, rate, seconds=seconds, gap=gap, stagger=stagger)
        for number, portrait in enumerate(portraits)
    ]
    frames = _frames(visits, portraits, layout, rate, gap, tilt, seed, later)
    write_clip(out, frames, rate, QUALITY, PRESET)
    return visits


def cross(
    portraits: Sequence[Portrait],
    out: Path,
    *,
    size: tuple[int, int] = (1280, 720),
    side: int = 220,
    rate: int = 15,
    seconds: float = 5.0,
    gap: float = 2.5,
    apart: float = 0.6,
    tilt: float = 0.0,
    seed: int = 0,
) -> list[Visit]:
    """Write a clip in which two faces at a time cross the picture, one from each side, the second before the first.

    Args:
        portraits: the faces, in pairs.
        out: the mp4 to write.
        size: width and height in pixels, even.
        side: width and height of a face in pixels.
        rate: frames a second.
        seconds: how long a face takes.
        gap: how long the picture is empty before each pair, and before the clip ends.
        apart: how much higher one passes than the other, in multiples of `side`; at 0 one is hidden for a moment.
        tilt: how far heads tilt to either side, in degrees.
        seed: of the background.

    Returns:
        The truth, in the order of `portraits`.
    """
    layout = _Crossing(size, side, seconds, apart)
    visits = []
    for number, portrait in enumerate(portraits):
        first = round((gap + number // 2 * (seconds + gap)) * rate)
        appear, vanish = first / rate, (first + round(seconds * rate)) / rate
        visits.append(Visit(number, portrait.name, portrait.emotion, number % 2, appear, vanish, layout))
    write_clip(out, _frames(visits, portraits, layout, rate, gap, tilt, seed), rate, QUALITY, PRESET)
    return visits


def read_clip(path: Path) -> list[Image]:
    """Return all frames of a clip, BGR (height, width, 3)."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = []
    while (answer := capture.read())[0]:
        pictures.append(np.asarray(answer[1], np.uint8))
    assert pictures, f"{path}: no clip that can be read"
    return pictures


def back_and_forth(path: Path, seconds: float, out: Path) -> int:
    """Write a clip of the wanted length in which another plays forward and backward; returns its number of frames."""
    rate = round(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS))
    pictures = read_clip(path)
    there_and_back = itertools.cycle([*pictures, *pictures[-2:0:-1]])
    count = round(seconds * rate)
    write_clip(out, itertools.islice(there_and_back, count), rate, QUALITY, PRESET)
    return count


@cache
def _validation_faces() -> Faces:
    return read_ferplus(data_folder())["validation"]


def _agreed(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Tell which rows (n,) have, single votes left out, one emotion with more than half of the votes (n, 10)."""
    kept = np.where(votes > 1, votes, 0)
    return np.asarray((kept.max(axis=1) > kept.sum(axis=1) / 2) & (kept.argmax(axis=1) < len(LABELS)))


def _unique(faces: Faces) -> npt.NDArray[np.bool_]:
    """Tell which faces (n,) have no twin with the same pixels, or the mirrored ones, before them."""
    seen: set[bytes] = set()
    unique = np.zeros(len(faces), bool)
    for row, image in enumerate(faces.images):
        key = min(image.tobytes(), image[:, ::-1].tobytes())
        unique[row] = key not in seen
        seen.add(key)
    return unique


def _visit(
    number: int, portrait: Portrait, layout: _Layout, rate: int, *, seconds: float, gap: float, stagger: float
) -> Visit:
    turn, region = divmod(number, 4)
    first = round((gap + turn * (seconds + gap) + region * stagger) * rate)
    appear, vanish = first / rate, (first + round(seconds * rate)) / rate
    return Visit(number, portrait.name, portrait.emotion, region, appear, vanish, layout)


def _frames(
    visits: list[Visit],
    portraits: Sequence[Portrait],
    layout: _Layout,
    rate: int,
    gap: float,
    tilt: float,
    seed: int,
    later: Sequence[Portrait] = (),
) -> Iterator[Image]:
    side = layout.side
    mask = _feathered(side)
    wall = _wall(layout.size, seed)
    first, second = ([_enlarged(portrait.image, side) for portrait in each] for each in (portraits, later or portraits))
    for number in range(round((max(visit.vanish for visit in visits) + gap) * rate)):
        time = number / rate
        picture = _background(wall, layout.size, time)
        for visit in visits:
            if visit.box(time) is not None:
                angle = tilt * np.sin(TILT_RATE * time + visit.id)
                share = np.clip((time - (visit.appear + visit.vanish) / 2) / FADE + 0.5, 0, 1)
                face = cv2.addWeighted(first[visit.id], 1 - share, second[visit.id], share, 0)
                _paste(picture, np.asarray(face, np.uint8), mask, layout.corner(visit, time), float(angle))
        yield picture


def _enlarged(image: Image, side: int) -> Image:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _paste(
    picture: Image, face: Image, mask: npt.NDArray[np.float32], corner: tuple[float, float], angle: float
) -> None:
    """Put a grey face on the picture, tilted by so many degrees, its top left corner (untilted) between pixels."""
    left, top = (int(value) for value in corner)
    side = len(face)
    shift = np.asarray(cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, 1.0), np.float64)
    if angle:
        mask = np.asarray(cv2.warpAffine(mask, shift, (side, side)), np.float32)
    shift[:, 2] += np.subtract(corner, (left, top))
    moved = cv2.warpAffine(face, shift, (side, side), borderMode=cv2.BORDER_REPLICATE)
    part = picture[top : top + side, left : left + side]
    part[:] = cv2.blendLinear(cv2.cvtColor(moved, cv2.COLOR_GRAY2BGR), np.ascontiguousarray(part), mask, 1 - mask)


def _feathered(side: int) -> npt.NDArray[np.float32]:
    """Weight of a face's pixels, float32 (side, side): zero at its edges, one from `FEATHER` inwards."""
    ramp = np.clip(np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * side), 0, 1)
    return np.outer(ramp, ramp).astype(np.float32)


def _wall(size: tuple[int, int], seed: int) -> Image:
    """A wall larger than the picture: clouds of colour, with lines and spots on them."""
    rng = np.random.default_rng(seed)
    width, height = size[0] + 2 * PAN, size[1] + 2 * PAN
    coarse = rng.integers(40, 216, (5, 8, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        start, end = (tuple(int(v) for v in rng.integers(0, (width, height))) for _ in range(2))
        cv2.line(wall, start, end, tuple(int(v) for v in rng.integers(40, 216, 3)), int(rng.integers(2, 12)))
        cv2.circle(wall, end, int(rng.integers(5, 40)), tuple(int(v) for v in rng.integers(40, 216, 3)), -1)
    return np.asarray(cv2.GaussianBlur(wall, (0, 0), 2), np.uint8)


def _background(wall: Image, size: tuple[int, int], time: float) -> Image:
    """The part of the wall that is seen at `time`: the view pans slowly to and fro."""
    left, top = round(PAN * (1 + np.sin(0.23 * time))), round(PAN * (1 + np.cos(0.31 * time)))
    return wall[top : top + size[1], left : left + size[0]].copy()
