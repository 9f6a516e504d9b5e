"""Training crops: the daemon's own alignment, then its jitter, other light, less resolution, something in the way."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.faces import CropRule, crop_transform
from trainer.config import Augmentation, Config
from trainer.data.datasets import Samples

Image = npt.NDArray[np.uint8]
BORDERS = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT)


def stored_transform(side: int, rule: CropRule) -> npt.NDArray[np.float32]:
    """Return the 2×3 transform that shows a stored picture of `side` × `side` pixels whole."""
    scale = rule.size / side
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], np.float32)


def base_transform(landmarks: npt.NDArray[np.float32], side: int, rule: CropRule) -> npt.NDArray[np.float32]:
    """Return the 2×3 transform to the daemon's crop; without landmarks (NaN) the picture is shown whole."""
    return stored_transform(side, rule) if np.isnan(landmarks).any() else crop_transform(landmarks, rule)


def plain_crops(images: Image, landmarks: npt.NDArray[np.float32] | None, rule: CropRule) -> Image:
    """Return the crops (n, size, size) that validation and test see: aligned, or whole without `landmarks`.

    RGB pictures (n, side, side, 3) give RGB crops.
    """
    crops = np.empty((len(images), rule.size, rule.size, *images.shape[3:]), np.uint8)
    for row, image in enumerate(images):
        side = len(image)
        transform = stored_transform(side, rule) if landmarks is None else base_transform(landmarks[row], side, rule)
        crops[row] = cv2.warpAffine(image, transform, (rule.size, rule.size), borderMode=cv2.BORDER_REPLICATE)
    return crops


def judged_crops(samples: Samples, config: Config) -> Image:
    """Return the crops (n, size, size) or (n, size, size, 3) that a run of this configuration is judged by."""
    landmarks = samples.landmarks if config.variant == "aligned" else None
    return plain_crops(samples.faces.images, landmarks, config.crop.rule())


def random_crop(
    image: Image,
    landmarks: npt.NDArray[np.float32],
    rule: CropRule,
    settings: Augmentation,
    rng: np.random.Generator,
) -> Image:
    """Return one augmented crop (size, size), or RGB (size, size, 3), of a stored picture."""
    aligned = rng.random() < settings.aligned_share
    transform = _jitter(rule.size, settings, rng) @ _square(
        base_transform(landmarks, len(image), rule) if aligned else stored_transform(len(image), rule)
    )
    # What lies beyond the stored picture is ground that no camera shows: vary it.
    border = BORDERS[rng.integers(len(BORDERS))]
    fill = int(rng.integers(256))
    size = (rule.size, rule.size)
    face = cv2.warpAffine(image, transform[:2], size, borderMode=border, borderValue=(fill,) * 3).astype(np.uint8)
    return _erase(_light(_blur(face, settings, rng), settings, rng), settings, rng)


def _square(transform: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.vstack([transform, (0, 0, 1)])


def _jitter(size: int, settings: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Mirror, rotate, scale and shift about the middle, as 3×3."""
    angle = np.deg2rad(rng.uniform(-settings.rotation, settings.rotation))
    scale = np.exp(rng.uniform(-settings.scale, settings.scale))
    mirror = rng.choice((-1, 1))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    middle = np.full(2, (size - 1) / 2)
    shift = rng.uniform(-settings.shift, settings.shift, 2) * size
    return _square(np.hstack([linear, (middle + shift - linear @ middle)[:, None]]))


def _blur(face: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    if rng.random() >= settings.blur_share:
        return face
    side = int(face.shape[0] / rng.uniform(1, 2))
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, face.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _light(face: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    gamma = np.exp(rng.uniform(-1, 1) * np.log(settings.gamma))
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    brightness = 255 * rng.uniform(-settings.brightness, settings.brightness)
    levels = 255 * (np.arange(256) / 255) ** gamma
    levels = (levels - 128) * contrast + 128 + brightness
    lit = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[face]
    noise = rng.standard_normal(face.shape, np.float32) * np.float32(rng.uniform(0, settings.noise))
    return np.asarray(np.clip(np.rint(lit + noise), 0, 255), np.uint8)


def _erase(face: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Erase a random rectangle of 10–40 % of each side (arXiv:1708.04896)."""
    if rng.random() >= settings.erase_share:
        return face
    width, height = (face.shape[0] * rng.uniform(0.1, 0.4, 2)).astype(int)
    x, y = rng.integers(0, face.shape[0] - width), rng.integers(0, face.shape[0] - height)
    face[y : y + height, x : x + width] = rng.integers(256)
    return face
