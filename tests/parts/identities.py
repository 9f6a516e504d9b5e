"""How well identities are kept: ID switches and MOTA (Bernardin and Stiefelhagen 2008), IDF1 (Ristani et al. 2016)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import linear_sum_assignment

from edge.events import Box
from tests.parts.analysis import overlap

#: Truth and track are one where their boxes overlap by so much.
LEAST_OVERLAP = 0.25

View = Sequence[tuple[int, Box]]


@dataclass(frozen=True)
class Identities:
    """Figures of a clip: how often a face changed its number, share of time with the right one, and accuracy."""

    switches: int
    idf1: float
    mota: float

    def __str__(self) -> str:
        return f"{self.switches} ID switches, IDF1 {self.idf1:.3f}, MOTA {self.mota:.3f}"


def identities(truth: Sequence[View], tracks: Sequence[View]) -> Identities:
    """Compare, frame by frame, the faces that are there with those that are said to be (number and box)."""
    switches = matched = 0
    faces, said = sum(map(len, truth)), sum(map(len, tracks))
    number_of: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    for there, seen in zip(truth, tracks, strict=True):
        together.update((face, number) for face, box in there for number, other in seen if _same(box, other))
        for face, number in _pairs(there, seen, number_of):
            matched += 1
            switches += number_of.get(face, number) != number
            number_of[face] = number
    right = _most_together(together)
    missed, invented = faces - matched, said - matched
    return Identities(switches, 2 * right / max(1, faces + said), 1 - (missed + invented + switches) / max(1, faces))


def _pairs(there: View, seen: View, before: dict[int, int]) -> list[tuple[int, int]]:
    """Pair the faces of a frame with numbers: as before where that still fits, else by overlap."""
    boxes = dict(seen)
    kept = [(face, before[face]) for face, box in there if (n := before.get(face)) in boxes and _same(box, boxes[n])]
    faces = [(face, box) for face, box in there if face not in dict(kept)]
    numbers = [(number, box) for number, box in seen if number not in {number for _, number in kept}]
    gain = np.zeros((len(faces), len(numbers)))
    for (row, (_, box)), (column, (_, other)) in product(enumerate(faces), enumerate(numbers)):
        gain[row, column] = overlap(box, other) if _same(box, other) else 0
    rows, columns = linear_sum_assignment(gain, maximize=True)
    new = [(faces[r][0], numbers[c][0]) for r, c in zip(rows, columns, strict=True) if gain[r, c]]
    return kept + new


def _most_together(together: Counter[tuple[int, int]]) -> int:
    """Give each face one number so that they are together in as many frames as possible; returns how many."""
    faces, numbers = sorted({face for face, _ in together}), sorted({number for _, number in together})
    frames = np.zeros((len(faces), len(numbers)), int)
    for (face, number), count in together.items():
        frames[faces.index(face), numbers.index(number)] = count
    return int(frames[linear_sum_assignment(frames, maximize=True)].sum())


def _same(one: Box, other: Box) -> bool:
    return overlap(one, other) >= LEAST_OVERLAP
