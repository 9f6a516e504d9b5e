"""Figures, temperature and protocols against values worked out by hand, and properties that always hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainer.calibration import best_temperature, calibration_error, negative_log_likelihood
from trainer.datasets import LABELS, Faces
from trainer.metrics import figures, predictions
from trainer.protocols import ck_protocols, ferplus_protocols, odd_subjects
from trainer.quantise import Comparison, QuantisationError
from trainer.readers.ferplus import distribution

ABC = ("a", "b", "c")
pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)
logits_and_truth = st.integers(1, 20).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float32, (n, 4), elements=st.floats(-20, 20, width=32)),
        arrays.arrays(np.intp, n, elements=st.integers(0, 3)),
    )
)


def faces_with(votes: list[list[int]], images: np.ndarray | None = None) -> Faces:
    rows = np.array(votes, np.float32)
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (len(rows), 48, 48), dtype=np.uint8)
    names = tuple(f"{i}.png" for i in range(len(rows)))
    nobody, splits = ("",) * len(rows), ("test",) * len(rows)
    return Faces(LABELS, images, distribution(rows), names, nobody, splits, rows)


def test_figures_by_hand():
    # truth a a a b b c, predicted a a b b c c
    found = figures(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 2]), ABC)
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    rows = found.per_class()
    assert rows["a"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert rows["b"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2})
    assert rows["c"] == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "support": 1})
    assert found.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert found.summary() == {"accuracy": 0.666667, "macro_f1": 0.655556, "n": 6}


def test_macro_f1_is_over_the_classes_that_occur():
    found = figures(np.array([0, 2, 1]), np.array([0, 0, 1]), ABC)  # c is answered but never true
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.per_class()["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@given(pairs)
def test_figures_hold_together(answers):
    truth, predicted = (np.array(column) for column in zip(*answers, strict=True))
    found = figures(predicted, truth, ABC)
    rows = found.per_class()
    assert found.n == len(answers)
    assert found.accuracy == pytest.approx(float((truth == predicted).mean()))
    assert found.accuracy == pytest.approx(sum(r["recall"] * r["support"] for r in rows.values()) / found.n)
    assert 0 <= found.macro_f1 <= 1
    assert (found.macro_f1 == pytest.approx(1)) == bool((truth == predicted).all())
    for r in rows.values():
        parts = r["precision"] + r["recall"]
        assert r["f1"] == pytest.approx(2 * r["precision"] * r["recall"] / parts if parts else 0)


def test_predictions_leave_out_what_is_not_allowed():
    logits = np.array([[3, 2, 1], [0, 1, 5], [4, 4, 0]], np.float32)
    assert predictions(logits, np.array([True, True, True])).tolist() == [0, 2, 0]
    assert predictions(logits, np.array([False, True, True])).tolist() == [1, 2, 1]


def test_likelihood_and_temperature_by_hand():
    # Three of four right at a logit gap of 2: best where the gap is ln 3, so T = 2 / ln 3.
    logits = np.tile(np.array([[2, 0]], np.float32), (4, 1))
    truth = np.array([0, 0, 0, 1])
    assert negative_log_likelihood(logits, truth) == pytest.approx(math.log(1 + math.exp(-2)) + 2 / 4)
    assert best_temperature(logits, truth) == pytest.approx(2 / math.log(3), rel=1e-3)


@given(logits_and_truth, st.floats(0.05, 20))
def test_no_other_temperature_is_better(case, other):
    logits, truth = case
    best = best_temperature(logits, truth)
    assert 0.05 <= best <= 20
    loss = negative_log_likelihood(logits / np.float32(best), truth)
    assert loss <= negative_log_likelihood(logits / np.float32(other), truth) + 1e-2


def test_calibration_error_by_hand():
    # Two answers at 3/4 and two at 19/20, of which one and two are right: (|1/2 − 3/4| + |1 − 19/20|) / 2.
    logits = np.log(np.array([[3, 1], [3, 1], [19, 1], [19, 1]], np.float32))
    assert calibration_error(logits, np.array([0, 1, 0, 0]), 1.0) == pytest.approx((0.25 + 0.05) / 2, abs=1e-6)


@given(logits_and_truth, st.floats(0.1, 10))
def test_calibration_error_is_a_share(case, temperature):
    assert 0 <= calibration_error(*case, temperature) <= 1 + 1e-6


def test_ferplus_protocols_by_hand():
    #         neu hap sur sad ang dis fea con unk NF
    votes = [
        [6, 2, 0, 0, 0, 0, 0, 0, 2, 0],  # neutral, 6 of 10
        [4, 0, 0, 4, 0, 0, 0, 0, 2, 0],  # a tie: the first column, neutral; no majority
        [1, 0, 0, 1, 0, 0, 3, 1, 1, 1],  # fear; all that is left after one-vote columns are zeroed
        [0, 0, 0, 0, 0, 0, 0, 8, 2, 0],  # contempt
        [2, 0, 0, 0, 0, 0, 0, 0, 8, 0],  # unknown
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],  # no face
        [0, 0, 5, 0, 0, 0, 0, 0, 5, 0],  # a tie with unknown: surprise; half is no majority
    ]
    faces = faces_with(votes)
    mirrored = faces.images[[0]][:, :, ::-1].copy()
    train = faces_with([votes[0], votes[1]], np.concatenate([mirrored, faces.images[[3]]]))
    found = {p.name: p for p in ferplus_protocols(faces, train)}
    eight, seven, strict = found["FER+ 8"], found["FER+ 7"], found["FER+ strict"]
    assert (eight.rows.tolist(), eight.truth.tolist()) == ([0, 1, 2, 3, 6], [0, 0, 6, 7, 2])
    assert (seven.rows.tolist(), seven.truth.tolist()) == ([0, 1, 2, 6], [0, 0, 6, 2])
    assert (strict.rows.tolist(), strict.truth.tolist()) == ([0, 2, 3], [0, 6, 7])
    assert eight.allowed.all()
    assert [LABELS[i] for i in np.flatnonzero(~seven.allowed)] == ["contempt"]
    assert strict.allowed.all()
    assert found["FER+ 8 clean"].rows.tolist() == [1, 2, 6]
    assert found["FER+ 7 clean"].rows.tolist() == [1, 2, 6]
    assert not found["FER+ 7 clean"].allowed[LABELS.index("contempt")]
    assert found["FER+ strict clean"].truth.tolist() == [6]


def test_ck_protocols_by_hand():
    votes = (10 * np.eye(10))[[LABELS.index(label) for label in ("anger", "contempt", "fear")]].tolist()
    b, c = ck_protocols(faces_with(votes))
    assert (b.name, b.rows.tolist(), b.truth.tolist()) == ("CK+ cross B", [0, 2], [4, 6])
    assert [LABELS[i] for i in np.flatnonzero(~b.allowed)] == ["neutral", "contempt"]
    assert (c.name, c.rows.tolist(), c.allowed.all()) == ("CK+ cross C", [0, 1, 2], True)


def test_odd_subjects():
    faces = faces_with([[10] + [0] * 9] * 4)
    named = replace(faces, subjects=("S010", "S011", "S999", "S130"))
    assert odd_subjects(named).subjects == ("S011", "S999")


def rows_of(*classes: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[list(classes)]


@pytest.mark.parametrize(
    ("twin", "int8", "fault"),
    [
        (rows_of(*[0, 1] * 50), rows_of(*[0, 1] * 49, 0, 0), "more than 1.0 point"),  # 98 of 100, agreement 99
        (rows_of(*[1, 0] * 2, *[0, 1] * 48), rows_of(*[2, 2] * 2, *[0, 1] * 48), "agree on less than 97%"),
        (rows_of(*[0] * 99, 1), rows_of(*[0] * 99, 1), "the same class"),
    ],
)
def test_gate_names_the_fault_and_the_figures(twin, int8, fault):
    truth = np.array([0, 1] * 50)
    if fault == "more than 1.0 point":
        int8 = rows_of(*[0, 1] * 49, 2, 2)
    with pytest.raises(QuantisationError) as refused:
        Comparison.of(twin, int8, truth).check()
    assert fault in str(refused.value)
    assert "agreement" in str(refused.value)
    assert "\n" not in str(refused.value)
    others = {"more than 1.0 point", "agree on less than 97%", "the same class"} - {fault}
    assert not any(other in str(refused.value) for other in others)


def test_gate_lets_a_good_network_pass():
    twin = rows_of(*[0, 1] * 50)
    int8 = rows_of(*[0, 1] * 49, 0, 0)  # one of a hundred lost: not more than a point
    Comparison.of(twin, int8, np.array([0, 1] * 50)).check()
