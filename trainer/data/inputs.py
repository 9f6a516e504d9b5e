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


def pixels(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Turn what `normalise` returned, or blends of it, back into crops; grey ones lose their last dimension."""
    crops = np.clip(np.rint(inputs * DEVIATION + MEAN), 0, 255).astype(np.uint8)
    return np.asarray(crops[..., 0] if crops.shape[-1] == 1 else crops, np.uint8)
