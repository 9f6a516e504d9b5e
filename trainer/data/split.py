"""Splits a data set into training, validation and test: by person where persons are known. Pure."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from trainer.data.datasets import DataError

#: Most parts that the data are cut into, of which validation and test take their share.
MOST_PARTS = 100


def split(
    truth: npt.NDArray[np.intp],
    subjects: Sequence[str],
    own: Sequence[str],
    shares: tuple[float, float],
    seed: int,
) -> tuple[str, ...]:
    """Give each face `train`, `validation` or `test`.

    Splits that the data set has are kept; where it has no validation, a share of its training faces becomes that.

    Args:
        truth: class of each face (n,).
        subjects: person of each, empty where unknown; all faces of a person come to the same split.
        own: split of each that the data set has, empty where it has none.
        shares: of validation and test, together below 1, for faces without a split.
        seed: of the choice.

    Raises:
        DataError: a person is in two of the data set's own splits, or there are too few faces or persons to split.
    """
    chosen = np.array(own, dtype="<U10")
    validation, test = shares
    if not all(own):
        chosen[_drawn(truth, subjects, chosen == "", test, seed)] = "test"
        rest = chosen == ""
        chosen[_drawn(truth, subjects, rest, validation / (1 - test), seed)] = "validation"
        chosen[chosen == ""] = "train"
    elif "validation" not in own:
        chosen[_drawn(truth, subjects, chosen == "train", validation, seed)] = "validation"
    _refuse_shared(subjects, chosen.tolist())
    return tuple(chosen.tolist())


def _drawn(
    truth: npt.NDArray[np.intp], subjects: Sequence[str], among: npt.NDArray[np.bool_], share: float, seed: int
) -> npt.NDArray[np.intp]:
    """Choose about a share of the rows `among`, each class in proportion, all or none of a person's."""
    rows = np.flatnonzero(among)
    if not share or not len(rows):
        return rows[:0]
    known = [subjects[row] for row in rows.tolist()]
    persons = [person or f"face {number}" for number, person in enumerate(known)]
    most = min(MOST_PARTS, len(set(persons)), max(Counter(truth[rows].tolist()).values()))
    if most < 2:
        raise DataError(
            f"{len(rows)} faces of {len(set(persons))} persons are too few to hold some back; "
            "add some, or, where nothing is trained, set data.validation and data.test to 0"
        )
    # Neither nothing nor everything, however the share is rounded.
    fraction = min(max(Fraction(share).limit_denominator(most), Fraction(1, most)), Fraction(most - 1, most))
    parts = fraction.denominator
    kind = StratifiedGroupKFold if any(known) else StratifiedKFold
    splitter = kind(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer faces than parts are spread as well as can be
        found = [part for _, part in splitter.split(rows, truth[rows], persons)]
    # Not neighbours: the few faces of a rare class lie in parts that follow each other.
    taken = [found[number * parts // fraction.numerator] for number in range(fraction.numerator)]
    return np.asarray(rows[np.concatenate(taken)])


def _refuse_shared(subjects: Sequence[str], splits: Sequence[str]) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for subject, each in zip(subjects, splits, strict=True):
        places[subject].add(each)
    for subject, found in sorted(places.items()):
        if subject and len(found) > 1:
            raise DataError(
                f"subject {subject} is in {' and '.join(sorted(found))}; move all pictures of a person to one split"
            )
