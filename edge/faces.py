"""Faces in a picture: the alignment by the eyes, and the crop that the classifier sees.

The trainer makes its training crops with the same functions, so that a network sees in the field what it saw in
training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.blazeface import Floats as Floats
from edge.blazeface import Image as Image

#: What a network sees of a crop: grey (size, size), or red, green, blue (size, size, 3).
Colour = Literal["grey", "rgb"]

# Order of the six landmarks; left and right as they appear in the picture.
LEFT_EYE, RIGHT_EYE, NOSE, MOUTH, LEFT_EAR, RIGHT_EAR = range(6)
# Seen from the front the mouth lies a little further below the eyes than the eyes lie apart. A head turned aside shows
# its eyes closer together than they are; the mouth keeps the crop from shrinking with them.
MOUTH_TO_EYES = 0.85
LOOK_SIDE = 16


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the picture it was found in.

    Attributes:
        box: x, y, width, height; may reach beyond the picture.
        confidence: 0–1.
        landmarks: float32 (6, 2), x and y of eyes, nose tip, mouth and ears, in the order of the constants above.
        measured: whether the landmarks were looked at in this picture, not only expected there.
    """

    box: tuple[float, float, float, float]
    confidence: float
    landmarks: Floats
    measured: bool = True


@dataclass(frozen=True)
class CropRule:
    """How a face becomes a network's input: a square, upright picture around the eyes.

    Attributes:
        size: side of the crop in pixels.
        margin: side of the crop as a multiple of the distance between the eyes.
        eye_line: height of the eyes in the crop, as a fraction of its side from the top.
    """

    size: int = 48
    margin: float = 2.5
    eye_line: float = 0.38


def face_from(confidence: float, row: Floats, scale: float, origin: tuple[float, float]) -> Face:
    """Return a face in pixels of the picture, of what `BlazeFace` says.

    Args:
        confidence: 0–1.
        row: float32 (16,) as `BlazeFace` returns it.
        scale: pixels of the network's input a pixel of the picture.
        origin: where the picture's top left corner lies in the network's input.
    """
    centre = (row[:2] - origin) / scale
    width, height = row[2:4] / scale
    landmarks = (row[4:].reshape(6, 2) - origin) / scale
    box = (float(centre[0] - width / 2), float(centre[1] - height / 2), float(width), float(height))
    return Face(box, confidence, landmarks.astype(np.float32))


def crop_transform(landmarks: Floats, rule: CropRule) -> Floats:
    """Return the 2×3 similarity that takes picture coordinates to the crop's.

    The eyes come to lie level at `rule.eye_line`, `1 / rule.margin` of the side apart.

    Args:
        landmarks: float32 (6, 2) in the order of `Face.landmarks`.
        rule: of the crop.
    """
    (left, top), (right, bottom), (mouth_x, mouth_y) = landmarks[[LEFT_EYE, RIGHT_EYE, MOUTH]].tolist()
    x, y = (left + right) / 2, (top + bottom) / 2
    apart = math.hypot(right - left, bottom - top)
    unit = max(apart, MOUTH_TO_EYES * math.hypot(mouth_x - x, mouth_y - y), 1.0)
    angle = math.atan2(bottom - top, right - left)
    scale = rule.size / (rule.margin * unit)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # Pixel centres are at integer coordinates, hence the half pixel.
    to_x, to_y = rule.size / 2 - 0.5, rule.eye_line * rule.size - 0.5
    return np.array([[cos, sin, to_x - cos * x - sin * y], [-sin, cos, to_y + sin * x - cos * y]], np.float32)


def crop(image: Image, landmarks: Floats, rule: CropRule, colour: Colour = "grey") -> Image:
    """Cut a face out of a BGR or grey picture; what lies outside repeats the edge.

    Args:
        image: uint8 (height, width, 3) or (height, width); of a grey one the three colours are alike.
        landmarks: float32 (6, 2) in the order of `Face.landmarks`.
        rule: of the crop.
        colour: what the network sees.

    Returns:
        uint8 (size, size), or with `rgb` (size, size, 3) in the order red, green, blue.
    """
    transform = crop_transform(landmarks, rule)
    patch, transform = shrunk_patch(image, transform, rule.size)
    size = (rule.size, rule.size)
    seen = _converted(patch, colour)
    cut = cv2.warpAffine(seen, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)


def look(crop: Image) -> Floats:
    """Describe what a face looks like: float32 (256,) of unit length, its dot product with another's is in -1…1.

    The aligned crop, in grey at 16×16 without its coarse shading: a second later a person still looks much like before,
    while two persons seldom look alike beyond 0.5.

    Args:
        crop: as `crop` returns it, grey or RGB.
    """
    crop = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8) if crop.ndim == 3 else crop
    small = cv2.resize(crop, (LOOK_SIDE, LOOK_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= cv2.GaussianBlur(small, (0, 0), LOOK_SIDE / 6)
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32).ravel()


def _converted(image: Image, colour: Colour) -> Image:
    """Turn a BGR or grey picture into what the network sees."""
    if image.ndim == 2:
        return image if colour == "grey" else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    code = cv2.COLOR_BGR2GRAY if colour == "grey" else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def shrunk_patch(image: Image, transform: Floats, size: int) -> tuple[Image, Floats]:
    """Cut out what a crop needs and shrink it until the warp shrinks less than two-fold (else it would alias).

    Args:
        image: uint8 (height, width) or (height, width, 3).
        transform: float32 (2, 3), from the picture to the crop.
        size: side of the crop.

    Returns:
        The part of the picture, and the transform from it to the crop.
    """
    height, width = image.shape[:2]
    # Plain numbers: arrays this small cost far more than what is done with them.
    (a, b, right), (c, d, down) = transform.tolist()
    area = a * d - b * c
    # The crop's middle in the picture, and how far the crop reaches from there, however it is turned.
    half = size / 2
    x, y = (d * (half - right) - b * (half - down)) / area, (a * (half - down) - c * (half - right)) / area
    wide, high = abs(half / area) * (abs(d) + abs(b)), abs(half / area) * (abs(a) + abs(c))
    x0, y0 = _between(math.floor(x - wide) - 2, 0, width - 1), _between(math.floor(y - high) - 2, 0, height - 1)
    x1, y1 = _between(math.ceil(x + wide) + 3, x0 + 1, width), _between(math.ceil(y + high) + 3, y0 + 1, height)
    factor = max(1, int(1 / math.hypot(a, b)))
    # Averaging whole blocks of pixels is far cheaper than averaging parts of them.
    x0, x1 = _whole_blocks(x0, x1, factor, width)
    y0, y1 = _whole_blocks(y0, y1, factor, height)
    patch = image[y0:y1, x0:x1]
    factor = min(factor, *patch.shape[:2])
    if factor == 1:
        return patch, np.array([[a, b, right + a * x0 + b * y0], [c, d, down + c * x0 + d * y0]], np.float32)
    target = (patch.shape[1] // factor, patch.shape[0] // factor)
    across, along = patch.shape[1] / target[0], patch.shape[0] / target[1]
    patch = np.asarray(cv2.resize(patch, target, interpolation=cv2.INTER_AREA), np.uint8)
    # Crop pixel = A · picture pixel + b, and picture pixel = patch pixel · scale + offset.
    x, y = x0 + (across - 1) / 2, y0 + (along - 1) / 2
    shifted = [[a * across, b * along, right + a * x + b * y], [c * across, d * along, down + c * x + d * y]]
    return patch, np.array(shifted, np.float32)


def _between(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _whole_blocks(low: int, high: int, block: int, most: int) -> tuple[int, int]:
    """Widen a range within 0…`most` to a multiple of `block`, if that fits."""
    length = -(-(high - low) // block) * block
    if length > most:
        return low, high
    low = min(low, most - length)
    return low, low + length
