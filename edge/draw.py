"""Draws faces and their emotions into a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2

from edge.faces import Image

Colour = tuple[int, int, int]

FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Scale of the font below which names cannot be read.
LEAST_TEXT = 0.38
#: BGR, one each, distinguishable on light and dark.
COLOURS: dict[str, Colour] = {
    "neutral": (190, 190, 190),
    "happiness": (60, 200, 250),
    "surprise": (240, 170, 60),
    "sadness": (220, 110, 70),
    "anger": (60, 60, 230),
    "disgust": (80, 170, 90),
    "fear": (200, 90, 180),
    "contempt": (90, 140, 200),
}
OTHER: Colour = (200, 200, 60)


def draw_face(
    image: Image, box: tuple[float, float, float, float], emotion: str, probabilities: Iterable[tuple[str, float]]
) -> None:
    """Draw into a BGR picture: the box (x, y, width, height in pixels), its emotion, and a named bar for each one."""
    rows = sorted(probabilities, key=lambda row: -row[1])
    draw_box(image, box, emotion, dict(rows).get(emotion, 0.0))
    x, y, width, height = (round(value) for value in box)
    _draw_bars(image, (x, y + height + _line(image)[1]), width, rows)


def draw_box(image: Image, box: tuple[float, float, float, float], emotion: str, probability: float) -> None:
    """Draw into a BGR picture a box (x, y, width, height in pixels) and its emotion."""
    x, y, width, height = (round(value) for value in box)
    scale, thick = _line(image)
    colour = COLOURS.get(emotion, OTHER)
    cv2.rectangle(image, (x, y), (x + width, y + height), colour, thick)
    text = f"{emotion} {100 * probability:.0f} %"
    (text_width, text_height), base = cv2.getTextSize(text, FONT, scale, thick)
    top = max(0, y - text_height - base - thick)
    cv2.rectangle(image, (x, top), (x + text_width + 2 * thick, top + text_height + base), colour, cv2.FILLED)
    origin = (x + thick, top + text_height)
    cv2.putText(image, text, origin, FONT, scale, (0, 0, 0), thick, cv2.LINE_AA)


def _line(image: Image) -> tuple[float, int]:
    """Return the scale of text, and how thick lines are, in a picture of this size."""
    scale = max(0.4, min(image.shape[:2]) / 900)
    return scale, max(1, round(scale * 2))


def _draw_bars(image: Image, corner: tuple[int, int], width: int, rows: Sequence[tuple[str, float]]) -> None:
    """Draw a bar for each emotion, its name before it; further up where there is no room below `corner`."""
    scale = max(LEAST_TEXT, min(image.shape[:2]) / 1300)
    texts = [f"{label} {100 * probability:.0f} %" for label, probability in rows]
    column = max((cv2.getTextSize(text, FONT, scale, 1)[0][0] for text in texts), default=0) + 8
    (_, tall), base = cv2.getTextSize("g", FONT, scale, 1)
    step = tall + base + 1
    left, top = corner[0], max(0, min(corner[1], image.shape[0] - step * len(rows)))
    behind = image[top : top + step * len(rows), max(0, left) : max(0, left + column + width)]
    behind[:] = behind // 3
    for number, ((label, probability), text) in enumerate(zip(rows, texts, strict=True)):
        low = top + number * step
        cv2.putText(image, text, (left + 4, low + tall + 1), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
        start, end = (left + column, low + 1), (left + column + round(width * probability), low + step - 2)
        cv2.rectangle(image, start, end, COLOURS.get(label, OTHER), cv2.FILLED)
