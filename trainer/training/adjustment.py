"""Logit adjustment (Menon et al., arXiv:2007.07314): a trained network's answers, shifted towards rare classes."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def adjustment(distributions: Floats, strength: float) -> Floats:
    """Return what to add to the logits (classes,): minus `strength` times the log of each class's share.

    Args:
        distributions: float32 (n, classes) of the faces that were learned from.
        strength: 0 changes nothing; 1 answers as if all classes were equally frequent.
    """
    shares = distributions.mean(axis=0)
    # A class of which nothing was learned has no share that could be undone.
    known = shares > 0
    return np.asarray(np.where(known, -strength * np.log(np.where(known, shares, 1)), 0), np.float32)


def adjust(network: keras.Model, distributions: Floats, strength: float) -> None:
    """Adjust the logits that `network` ends in, by the bias of its last layer."""
    bias = network.layers[-1].bias
    bias.assign(bias + adjustment(distributions, strength))
