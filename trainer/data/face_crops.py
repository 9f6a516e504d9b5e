"""The faces of any pictures, cut out as the daemon would."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.bundle import ModelInfo
from edge.classify import ImageError, read_image
from edge.detector import Detector
from edge.faces import Image, crop
from trainer import TrainerError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
MOST = 400


class PicturesError(TrainerError):
    """There are no pictures to take; the message names the folder."""


def face_crops(folder: Path, info: ModelInfo) -> Image:
    """Return the largest face of each picture below a folder, and a picture without one whole.

    Args:
        folder: of up to 400 pictures; more are left out, and so is what cannot be read.
        info: of the model that the crops are for.

    Returns:
        uint8 (n, size, size), or (n, size, size, 3) in the order red, green, blue.

    Raises:
        PicturesError: there is no picture.
    """
    detector, rule, colour = Detector(), info.crop.rule(), info.input.colour
    crops = []
    for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES)[:MOST]:
        try:
            picture = read_image(path)
        except ImageError:
            continue
        faces = detector(picture)
        if faces:
            crops.append(crop(picture, faces[0].landmarks, rule, colour))
        else:
            code = cv2.COLOR_BGR2GRAY if colour == "grey" else cv2.COLOR_BGR2RGB
            whole = cv2.cvtColor(picture, code)
            crops.append(cv2.resize(whole, (rule.size, rule.size), interpolation=cv2.INTER_AREA).astype(np.uint8))
    if not crops:
        raise PicturesError(f"{folder}: no pictures that can be read; name a folder of JPEG or PNG files of faces")
    return np.stack(crops)
