"""Draws faces and their emotions into a picture."""

from __future__ import annotations

from collections.abc import Iterable

import cv2

from edge.faces import Image

Colour = tuple[int, int, int]

BAR_HEIGHT = 4
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
    """Draw into a BGR picture: the box (x, y, width, height in pixels), its emotion, and a bar for each emotion."""
    x, y, width, height = (round(value) for value in box)
    scale = max(0.4, min(image.shape[:2]) / 900)
    thick = max(1, round(scale * 2))
    colour = COLOURS.get(emotion, OTHER)
    cv2.rectangle(image, (x, y), (x + width, y + height), colour, thick)
    rows = sorted(probabilities, key=lambda row: -row[1])
    text = f"{emotion} {100 * dict(rows).get(emotion, 0):.0f} %"
    (text_width, text_height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    top = max(0, y - text_height - base - thick)
    cv2.rectangle(image, (x, top), (x + text_width + 2 * thick, top + text_height + base), colour, cv2.FILLED)
    origin = (x + thick, top + text_height)
    cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thick, cv2.LINE_AA)
    step = max(BAR_HEIGHT, round(BAR_HEIGHT * 2 * scale))
    for number, (label, probability) in enumerate(rows):
        low = y + height + thick + number * step
        end = (x + round(width * probability), low + step - 2)
        cv2.rectangle(image, (x, low), end, COLOURS.get(label, OTHER), cv2.FILLED)
