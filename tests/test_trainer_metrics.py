"""Figures, temperature and protocols against values worked out by hand, and properties that always hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainer.conversion.quantise import Comparison, QuantisationError
from trainer.data.datasets import LABELS, Faces
from trainer.data.readers.ferplus import distribution
from trainer.measuring.bootstrap import FIGURES, RESAMPLES, Difference, Interval, differences, intervals
from trainer.measuring.calibration import (
    BINS,
    best_temperature,
    calibration_error,
    negative_log_likelihood,
    reliability,
)
from trainer.measuring.metrics import accuracy_of, figures, in_best_two, macro_f1_of, predictions
from trainer.measuring.protocols import ck_protocols, ferplus_protocols, odd_subjects
from trainer.pages.tables import signed

ABC = ("a", "b", "c")
KEYS = ("precision", "recall", "f1", "support")
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


def rounded(figures):
    return {key: value for key, value in figures.as_json().items() if key not in ("per_class", "confusion")}


@given(pairs)
def test_figures_are_those_of_scikit_learn(answers):
    truth, predicted = (np.array(column) for column in zip(*answers, strict=True))
    found = figures(predicted, truth, ABC)
    everything = {"labels": range(3), "zero_division": 0}
    confusion = sklearn.metrics.confusion_matrix(truth, predicted, labels=range(3))
    assert found.confusion.tolist() == confusion.tolist()
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    theirs = sklearn.metrics.precision_recall_fscore_support(truth, predicted, **everything)
    for label, *row in zip(ABC, *theirs, strict=True):
        assert found.per_class()[label] == pytest.approx(dict(zip(KEYS, row, strict=True)))
    weighted = sklearn.metrics.precision_recall_fscore_support(truth, predicted, average="weighted", **everything)
    occurring = {"labels": np.unique(truth), "zero_division": 0}
    macro = sklearn.metrics.precision_recall_fscore_support(truth, predicted, average="macro", **occurring)
    for place, key in enumerate(KEYS[:3]):
        assert found.weighted(key) == pytest.approx(weighted[place])
        assert found.macro(key) == pytest.approx(macro[place])
    assert found.macro_f1 == pytest.approx(found.macro("f1"))


def test_every_figure_is_written_down():
    found = figures(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 2]), ABC, among_two=5)
    assert rounded(found) == {
        "accuracy": 0.666667,
        "macro_f1": 0.655556,
        "n": 6,
        "weighted_f1": 0.677778,  # (3 · 0.8 + 2 · 0.5 + 2/3) / 6
        "top2": 0.833333,
        "macro_precision": 0.666667,
        "macro_recall": 0.722222,
        "weighted_precision": 0.75,
        "weighted_recall": 0.666667,
    }
    assert figures(np.array([0]), np.array([0]), ABC).as_json()["top2"] is None


@given(st.lists(st.tuples(st.permutations(range(4)), st.integers(0, 3)), min_size=1, max_size=30))
def test_top2_is_that_of_scikit_learn(case):  # without ties, which go to the first here, to the last there
    logits, truth = np.array([row for row, _ in case], np.float32), np.array([right for _, right in case])
    theirs = sklearn.metrics.top_k_accuracy_score(truth, logits, k=2, labels=range(4), normalize=False)
    assert in_best_two(logits, truth, np.ones(4, bool)) == theirs


def test_best_two_are_the_first_among_equals_and_only_of_the_allowed():
    logits = np.array([[1, 1, 1], [3, 2, 1]], np.float32)
    assert in_best_two(logits, np.array([1, 2]), np.ones(3, bool)) == 1
    assert in_best_two(logits, np.array([2, 2]), np.ones(3, bool)) == 0
    assert in_best_two(logits, np.array([2, 2]), np.array([True, False, True])) == 2


@given(st.lists(pairs, min_size=2, max_size=4))
def test_a_stack_of_confusions_gives_what_each_gives(cases):
    found = [figures(*(np.array(column) for column in zip(*case, strict=True)), ABC) for case in cases]
    stack = np.stack([each.confusion for each in found])
    assert accuracy_of(stack).tolist() == pytest.approx([each.accuracy for each in found])
    assert macro_f1_of(stack).tolist() == pytest.approx([each.macro_f1 for each in found])


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


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.float32, n, elements=st.floats(0.515625, 0.984375, width=32)), arrays.arrays(bool, n)
        )
    )
)
def test_reliability_is_that_of_scikit_learn(case):
    confidence, right = case
    assume((np.abs(confidence * BINS - np.round(confidence * BINS)) > 1e-3).all())  # an edge belongs to either bin
    found = reliability(np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1))
    if len(set(right.tolist())) == 2:  # its curve wants both answers
        shares, means = sklearn.calibration.calibration_curve(right, confidence, n_bins=BINS)
        filled = found.counts > 0
        assert found.accuracy[filled] == pytest.approx(shares)
        assert found.confidence[filled] == pytest.approx(means, abs=1e-6)
    assert found.counts.sum() == len(right)
    assert np.isnan(found.accuracy[found.counts == 0]).all()
    assert found.error <= 0.99 + 1e-6


def test_certain_answers_lie_in_the_last_bin():
    found = reliability(np.array([[1, 0], [0.999, 0.001]], np.float32), np.array([0, 1]))
    assert found.counts.tolist() == [0] * 14 + [2]
    assert found.accuracy[-1] == 0.5
    assert found.error == pytest.approx(0.4995)


def answers(n: int, accuracy: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of three classes, the first twice as frequent as the others together."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=(2 / 3, 1 / 6, 1 / 6))
    return truth, np.where(rng.random(n) < accuracy, truth, rng.integers(0, 3, n))


def test_intervals_are_those_of_drawing_face_by_face():
    truth, predicted = answers(300, 0.7, seed=1)
    found = intervals(predicted, truth, 3, [""] * 300)
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 300, (3000, 300))
    confusions = np.zeros((3000, 3, 3))
    np.add.at(confusions, (np.arange(3000)[:, None], truth[rows], predicted[rows]), 1)
    for name, figure in FIGURES.items():
        low, high = np.quantile(figure(confusions), (0.025, 0.975))
        assert found[name].low == pytest.approx(low, abs=0.008)
        assert found[name].high == pytest.approx(high, abs=0.008)
    right = (truth == predicted).mean()
    normal = 1.96 * math.sqrt(right * (1 - right) / 300)
    assert found["accuracy"].as_json() == pytest.approx([right - normal, right + normal], abs=0.01)
    assert found == intervals(predicted, truth, 3, [""] * 300)


def test_persons_are_drawn_with_all_their_faces():
    truth, predicted = answers(60, 0.7, seed=3)
    alone = intervals(predicted, truth, 3, [f"S{row}" for row in range(60)])
    assert alone == intervals(predicted, truth, 3, [""] * 60)
    # Ten frames of each person say nothing that one does not.
    frames = [np.repeat(each, 10) for each in (predicted, truth)]
    together = intervals(*frames, 3, [f"S{row}" for row in range(60) for _ in range(10)])
    as_if_strangers = intervals(*frames, 3, [""] * 600)
    width = {name: found["accuracy"].high - found["accuracy"].low for name, found in
             (("alone", alone), ("together", together), ("strangers", as_if_strangers))}  # fmt: skip
    assert width["together"] == pytest.approx(width["alone"], rel=0.05)
    assert width["strangers"] < 0.4 * width["alone"]


@given(pairs)
def test_intervals_hold_the_figure(answered):
    truth, predicted = (np.array(column) for column in zip(*answered, strict=True))
    found = intervals(predicted, truth, 3, [""] * len(truth))
    accuracy = figures(predicted, truth, ABC).accuracy
    assert 0 <= found["accuracy"].low <= accuracy <= found["accuracy"].high <= 1
    assert 0 <= found["macro_f1"].low <= found["macro_f1"].high <= 1


def test_better_is_only_what_no_chance_explains():
    truth, ours = answers(400, 0.8, seed=4)
    rng = np.random.default_rng(5)
    theirs = np.where(rng.random(400) < 0.8, truth, rng.integers(0, 3, 400))
    assert (ours != theirs).mean() > 0.1
    assert {each.verdict for each in differences(ours, theirs, truth, 3, [""] * 400).values()} == {"undecided"}
    spoiled = np.where(np.arange(400) % 8 == 0, (truth + 1) % 3, ours)
    found = differences(ours, spoiled, truth, 3, [""] * 400)
    assert {each.verdict for each in found.values()} == {"better"}
    turned = differences(spoiled, ours, truth, 3, [""] * 400)
    assert {each.verdict for each in turned.values()} == {"worse"}
    for name, each in found.items():
        assert each.value == pytest.approx(-turned[name].value)
        assert each.interval.low == pytest.approx(-turned[name].interval.high, abs=0.006)
    assert found["accuracy"].value == pytest.approx((ours == truth).mean() - (spoiled == truth).mean())


def test_pairs_are_drawn_together():
    # They err on different faces or on the same: alike alone, but not as pairs.
    truth = np.zeros(200, int)
    first, same, other = (np.where((np.arange(200) + shift) % 10 == 0, 1, 0) for shift in (0, 0, 5))
    alike = differences(first, same, truth, 3, [""] * 200)["accuracy"]
    assert (alike.value, alike.interval) == (0, Interval(0, 0))
    apart = differences(first, other, truth, 3, [""] * 200)["accuracy"]
    assert apart.value == 0
    assert apart.interval.high - apart.interval.low == pytest.approx(2 * 1.96 * math.sqrt(2 * 0.1 / 200), rel=0.06)
    assert RESAMPLES >= 10_000


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.001, 0.02, "better"), (-0.02, -0.001, "worse"), (0, 0.02, "undecided")]
)
def test_verdict(low, high, verdict):
    assert Difference(0.01, Interval(low, high)).verdict == verdict
    assert Difference(0.01, Interval(low, high)).as_json()["interval"] == [low, high]


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


@pytest.mark.parametrize(
    ("difference", "text"), [(-0.00004, "0.00"), (0.0, "0.00"), (-0.0, "0.00"), (-0.0125, "-1.25"), (0.004, "+0.40")]
)
def test_nothing_has_no_sign(difference, text):
    assert signed(difference) == text


def test_gate_lets_a_good_network_pass():
    twin = rows_of(*[0, 1] * 50)
    int8 = rows_of(*[0, 1] * 49, 0, 0)  # one of a hundred lost: not more than a point
    Comparison.of(twin, int8, np.array([0, 1] * 50)).check()
