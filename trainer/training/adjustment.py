"""Logit adjustment (Menon et al., arXiv:2007.07314): a trained network's answers, shifted towards rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import numpy.typing as npt

from trainer.data.datasets import DataError

Floats = npt.NDArray[np.float32]


def adjustment(distributions: Floats, strength: float, below: float = 1) -> Floats:
    """Return what to add to the logits (classes,): `strength` times the log of `below` over each class's share.

    Classes with a share of at least `below` are left as they are: a shift between frequent ones costs many faces like
    those learned from, one towards rare ones few. At 1 this is the method of the paper.

    Args:
        distributions: float32 (n, classes) of the faces that were learned from.
        strength: 0 changes nothing; 1 answers as if all classes with a share less than `below` had that share.
        below: share, more than 0.
    """
    shares = distributions.mean(axis=0)
    # A class of which nothing was learned has no share that could be undone.
    known = shares > 0
    lacking = np.log(below / np.where(known, shares, below))
    return np.asarray(strength * np.maximum(lacking, 0), np.float32)


def shifts(labels: Sequence[str], by_class: Mapping[str, float]) -> Floats:
    """Return what to add to the logits (classes,): of each class what `by_class` has for it, else nothing.

    Raises:
        DataError: a name is none of the labels.
    """
    if unknown := sorted(set(by_class) - set(labels)):
        raise DataError(f"{', '.join(unknown)}: no such class to shift the logit of; there are {', '.join(labels)}")
    return np.array([by_class.get(label, 0) for label in labels], np.float32)


def adjust(network: keras.Model, added: Floats) -> None:
    """Add to the logits (classes,) that `network` ends in, by the bias of its last layer."""
    bias = network.layers[-1].bias
    bias.assign(bias + added)
