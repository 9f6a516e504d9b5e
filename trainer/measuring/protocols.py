"""Which faces count, what is right and what may be answered: the protocols that figures are compared under. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainer.data.datasets import LABELS, Faces, copies

CONTEMPT = LABELS.index("contempt")
NEUTRAL = LABELS.index("neutral")


@dataclass(frozen=True)
class Protocol:
    """One way to put a question to a classifier.

    Attributes:
        name: as in `evaluate`'s output.
        rows: indices of the faces asked about.
        truth: the right class of each.
        allowed: bool (8,), the classes that may be answered.
    """

    name: str
    rows: npt.NDArray[np.intp]
    truth: npt.NDArray[np.intp]
    allowed: npt.NDArray[np.bool_]

    def keep(self, name: str, mask: npt.NDArray[np.bool_]) -> Protocol:
        """Return the same question about fewer faces; `mask` is over all faces, not over `rows`."""
        kept = mask[self.rows]
        return replace(self, name=name, rows=self.rows[kept], truth=self.truth[kept])


def most_voted(faces: Faces) -> Protocol:
    """FER+ 8: the most-voted of all ten columns is an emotion; ties go to the first column."""
    label = faces.all_votes().argmax(axis=1)
    return _protocol("FER+ 8", label, label < len(LABELS))


def ferplus_protocols(faces: Faces, official_train: Faces) -> list[Protocol]:
    """Return FER+ 8, 7 and strict, and each on the faces without a copy (or mirrored copy) in the training split."""
    eight = most_voted(faces)
    votes = faces.all_votes()
    label = votes.argmax(axis=1)
    seven = replace(eight.keep("FER+ 7", label != CONTEMPT), allowed=_all_but(CONTEMPT))
    # "One-vote" zeroes all ten columns; then one emotion has more than half of what is left (arXiv:1608.01041).
    heard = np.where(votes > 1, votes, 0)
    clear = (2 * heard.max(axis=1) > heard.sum(axis=1)) & (heard.argmax(axis=1) < len(LABELS))
    strict = _protocol("FER+ strict", heard.argmax(axis=1), clear)
    clean = ~copies(faces, official_train)
    official = [eight, seven, strict]
    return official + [protocol.keep(f"{protocol.name} clean", clean) for protocol in official]


def ck_protocols(faces: Faces) -> list[Protocol]:
    """Return CK+ cross B (no contempt; one of the six other non-neutral emotions) and C (everything)."""
    label = faces.truth()
    everything = _protocol("CK+ cross C", label, np.ones(len(faces), bool))
    six = replace(everything.keep("CK+ cross B", label != CONTEMPT), allowed=_all_but(NEUTRAL, CONTEMPT))
    return [six, everything]


def plain_protocol(faces: Faces) -> Protocol:
    """Ask about every face from which something can be learned: its most probable class, among all classes."""
    rows = np.flatnonzero(faces.distributions.any(axis=1))
    return Protocol("all faces", rows, faces.truth()[rows], np.ones(len(faces.labels), bool))


def odd_subjects(faces: Faces) -> Faces:
    """Keep the CK+ subjects of odd number (`S011`): the part to look at while choosing."""
    return faces.subset(np.array([subject[-1:] in "13579" for subject in faces.subjects], bool))


def _protocol(name: str, label: npt.NDArray[np.intp], mask: npt.NDArray[np.bool_]) -> Protocol:
    rows = np.flatnonzero(mask)
    return Protocol(name, rows, label[rows], _all_but())


def _all_but(*excluded: int) -> npt.NDArray[np.bool_]:
    allowed = np.ones(len(LABELS), bool)
    allowed[list(excluded)] = False
    return allowed
