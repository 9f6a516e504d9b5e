"""What a network is fed: crops as numbers around zero, the same way in training, measuring and the daemon."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MEAN = 128.0
DEVIATION = 128.0


def normalise(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn uint8 crops (n, size, size), or RGB with 3 channels, into float32 (n, size, size, channels) in -1…1."""
    inputs = (crops.astype(np.float32) - MEAN) / DEVIATION
    return inputs[..., None] if inputs.ndim == 3 else inputs
