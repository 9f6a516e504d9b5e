"""Photographs composed from data set faces, so that detector, crop and classifier are measured together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from trainer.data.datasets import SIDE

Image = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
SMALLEST, LARGEST = 60, 300
MOST_ROTATION = 15
SHAPES = 25


@dataclass(frozen=True)
class Photograph:
    """A picture with one face in it.

    Attributes:
        picture: uint8 BGR (480, 640, 3).
        to_picture: 2×3, takes the stored face's pixels to the picture's.
    """

    picture: Image
    to_picture: npt.NDArray[np.float64]

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Middle of the face, x and y in the picture."""
        middle = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2, 1])
        return np.asarray(self.to_picture @ middle)

    @property
    def side(self) -> float:
        """Side of the enlarged stored face, pixels."""
        return float(SIDE * np.hypot(*self.to_picture[:, 0]))


def photographs(faces: Image, count: int, seed: int, grounds: Sequence[Image] = ()) -> Iterator[tuple[int, Photograph]]:
    """Compose photographs of stored faces.

    Args:
        faces: uint8 (n, 48, 48), grey.
        count: how many, each of another face.
        seed: of the choice of faces and grounds, and of the composition.
        grounds: uint8 BGR (480, 640, 3) each; without any they are drawn.

    Yields:
        The row of the face and the photograph.
    """
    rng = np.random.default_rng(seed)
    for row in rng.permutation(len(faces))[:count]:
        ground = grounds[int(rng.integers(len(grounds)))] if grounds else None
        yield int(row), photograph(faces[row], rng, ground)


def photograph(face: Image, rng: np.random.Generator, ground: Image | None = None) -> Photograph:
    """Put a stored face, enlarged to 60–300 px and turned by up to 15°, softly into a ground that is not plain.

    Args:
        face: uint8 (48, 48), grey.
        rng: of size, angle and place.
        ground: uint8 BGR (480, 640, 3); without one it is drawn.
    """
    side = rng.uniform(SMALLEST, LARGEST)
    angle = np.deg2rad(rng.uniform(-MOST_ROTATION, MOST_ROTATION))
    reach = side / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))
    centre = rng.uniform((reach, reach), (WIDTH - reach, HEIGHT - reach))
    cos, sin = side / SIDE * np.cos(angle), side / SIDE * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    transform = np.hstack([turn, (centre - turn @ np.full(2, (SIDE - 1) / 2))[:, None]])
    size = (WIDTH, HEIGHT)
    enlarged = cv2.warpAffine(face, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(_feather(), transform, size, flags=cv2.INTER_LINEAR)[..., None]
    behind = background(rng) if ground is None else ground
    mixed = weight * enlarged[..., None].astype(np.float32) + (1 - weight) * behind
    return Photograph(np.clip(np.round(mixed), 0, 255).astype(np.uint8), transform)


def background(rng: np.random.Generator) -> Image:
    """Draw a ground of clouds of three sizes and 25 random shapes, softened: uint8 BGR (480, 640, 3)."""
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells, weight in ((4, 0.6), (16, 0.3), (64, 0.1)):
        coarse = rng.uniform(0, 255, (cells * 3 // 4, cells, 3)).astype(np.float32)
        canvas += weight * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    ground = np.clip(canvas, 0, 255).astype(np.uint8)
    for _ in range(SHAPES):
        _draw_shape(ground, rng)
    return cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.5, 3)).astype(np.uint8)


def _draw_shape(ground: Image, rng: np.random.Generator) -> None:
    x, y, end_x, end_y = (int(v) for v in rng.integers(0, (WIDTH, HEIGHT, WIDTH, HEIGHT)))
    width, height = (int(v) for v in rng.integers(8, 120, 2))
    colour = [int(v) for v in rng.integers(0, 256, 3)]
    kind = rng.integers(3)
    if kind == 0:
        cv2.line(ground, (x, y), (end_x, end_y), colour, thickness=int(rng.integers(1, 12)))
    elif kind == 1:
        cv2.rectangle(ground, (x, y), (x + width, y + height), colour, thickness=-1)
    else:
        cv2.ellipse(ground, (x, y), (width, height), float(rng.uniform(0, 180)), 0, 360, colour, thickness=-1)


def _feather() -> npt.NDArray[np.float32]:
    """Return the weight of the face, (48, 48): 1 inside, falling to 0 at a rounded edge."""
    line = np.abs(np.linspace(-1, 1, SIDE))
    distance = (line[:, None] ** 6 + line[None, :] ** 6) ** (1 / 6)
    return np.asarray(np.clip((1 - distance) / 0.15, 0, 1), np.float32)
