"""Logit adjustment: what is added, that a trained network gets it, and the table it is chosen from."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import DEFAULT_MODEL
from edge.emotions import softmax
from tests.parts.trainer_faces import TINY, draw_ferplus, drawn_samples
from trainer.architectures import build
from trainer.cli import main
from trainer.config import Architecture, Config, ConfigError, changed
from trainer.data.augment import plain_crops
from trainer.data.datasets import DataError
from trainer.data.inputs import normalise
from trainer.measuring.adjustments import SHOWN, STRENGTHS, measure, search, unbeaten
from trainer.measuring.metrics import Figures
from trainer.training.adjustment import adjust, adjustment
from trainer.training.fit import fit

SAMPLES = drawn_samples(2)
KINDS = ("compact", "lenet", "vgg", "resnet", "inception", "mobilenet", "recognition", "faceres")


@given(st.integers(0, 2**32 - 1), st.floats(0, 2))
def test_probabilities_are_divided_by_the_shares(seed, strength):
    rng = np.random.default_rng(seed)
    distributions = rng.dirichlet(np.ones(5), 40).astype(np.float32)
    logits = rng.normal(0, 2, (7, 5)).astype(np.float32)
    expected = softmax(logits) / distributions.mean(axis=0) ** strength
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(logits + adjustment(distributions, strength)), expected, rtol=1e-3, atol=1e-6)


def test_class_without_faces_keeps_its_logit():
    distributions = np.array([[1, 0, 0], [0.5, 0.5, 0]], np.float32)
    added = adjustment(distributions, 1)
    assert added[2] == 0
    assert added[1] > added[0] > 0


@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0.01, 0.99))
def test_only_classes_below_a_share_are_raised_and_as_if_they_had_it(seed, strength, below):
    distributions = np.random.default_rng(seed).dirichlet(np.ones(5), 40).astype(np.float32)
    shares = distributions.mean(axis=0)
    added = adjustment(distributions, strength, below)
    np.testing.assert_allclose(shares * np.exp(added), shares * np.maximum(below / shares, 1) ** strength, rtol=1e-4)
    assert not added[shares >= below].any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_ends_in_logits_that_can_be_adjusted(kind):
    network = build(Architecture(kind=kind), (48, 48, 1), 8)
    picture = np.random.default_rng(1).normal(size=(1, 48, 48, 1)).astype(np.float32)
    before = network(picture).numpy()
    added = adjustment(SAMPLES.faces.distributions, 0.5)
    adjust(network, added)
    np.testing.assert_allclose(network(picture).numpy() - before, added[None], atol=1e-4)


def test_finished_training_takes_another_strength(tmp_path):
    config = changed(Config.model_validate(TINY), {"training.epochs": 1})
    faces = SAMPLES.subset(np.arange(len(SAMPLES))[: len(SAMPLES) // 2 + 3])  # not all classes alike
    crops = normalise(plain_crops(faces.faces.images, None, config.crop.rule()))
    first: keras.Model = fit(faces, faces, config, tmp_path / "run")
    changes = {
        "training.logit_adjustment": 0.3,
        "training.adjust_below": 0.2,
        "training.logit_shifts": {faces.faces.labels[1]: 0.7},
    }
    second = fit(faces, faces, changed(config, changes), tmp_path / "run")
    difference = second(crops).numpy() - first(crops).numpy()
    added = adjustment(faces.faces.distributions, 0.3, 0.2)
    added[1] += 0.7
    np.testing.assert_allclose(difference, np.tile(added, (len(crops), 1)), atol=1e-4)


def test_shift_of_a_class_that_is_not_there_is_refused_before_training(tmp_path):
    config = changed(Config.model_validate(TINY), {"training.logit_shifts": {"rage": 0.5}})
    with pytest.raises(DataError, match=r"rage: no such class to shift the logit of; there are neutral"):
        fit(SAMPLES, SAMPLES, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_strength_is_measured_on_the_protocols_that_the_data_allow(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(8, 4, 2))
    found = measure(DEFAULT_MODEL, data, tmp_path / "cache", (0, 1))
    assert set(found) == {0, 1}
    assert set(found[0]) == {"FER+ 8", "FER+ strict"}


def test_search_keeps_what_no_other_combination_beats(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(8, 4, 2))
    found = search(DEFAULT_MODEL, data, tmp_path / "cache", ("fear", "anger"), (0, 9))
    # Without CK+ there is only one best, and of equals it is the one with the smallest shifts.
    assert len(found) == 1
    shifted, by_protocol = found[0]
    assert set(shifted) == {"fear", "anger"}
    unshifted = measure(DEFAULT_MODEL, data, tmp_path / "cache", (0,))[0]
    assert _accuracy(by_protocol, "FER+") >= _accuracy(unshifted, "FER+")


def test_of_equals_the_smallest_shifts_are_kept():
    found = [({"fear": shift}, _figures_of((5, 5, 5, 5))) for shift in (1.0, 0.0, 0.5)]
    assert [shifted for shifted, _ in unbeaten(found)] == [{"fear": 0.0}]


def test_one_strength_and_single_shifts_exclude_each_other():
    result = CliRunner().invoke(main, ["adjustments", "--below", "0.125", "--shift", "fear"])
    assert result.exit_code == 2
    assert "--below" in result.stderr


@pytest.mark.parametrize("value", [True, 1e39, 21, float("nan")])
def test_shifts_are_numbers_within_reason(value):
    with pytest.raises(ConfigError, match=r"training\.logit_shifts"):
        changed(Config.model_validate(TINY), {"training.logit_shifts": {"fear": value}})


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=1, max_size=12))
def test_what_is_kept_is_unbeaten_and_what_is_not_is_beaten(rows):
    found = [({"fear": float(i)}, _figures_of(row)) for i, row in enumerate(rows)]
    points = [(_accuracy(each, "FER+"), _accuracy(each, "CK+")) for _, each in found]
    best = {p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)}
    kept = [(_accuracy(each, "FER+"), _accuracy(each, "CK+")) for _, each in unbeaten(found)]
    assert set(kept) == best
    assert kept == sorted(best, reverse=True)


def _accuracy(by_protocol, data_set):
    return sum(each.accuracy for name, each in by_protocol.items() if name.startswith(data_set)) / 2


def _figures_of(right):
    """Return figures of ten faces each, of which so many are right."""
    return {
        name: Figures(("happiness", "fear"), np.array([[each, 10 - each], [0, 0]]))
        for name, each in zip(SHOWN, right, strict=True)
    }


def test_command_shows_combinations_of_shifts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = draw_ferplus(tmp_path / "data", each=(8, 4, 2))
    command = ["adjustments", str(DEFAULT_MODEL), "--shift", "fear", "--shift", "anger", "--data", str(data)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "fear" in result.stdout
    assert "anger" in result.stdout
    assert "FER+" in result.stdout


@pytest.mark.parametrize(
    ("classes", "reason"),
    [(["rage"], "rage: no such class to shift the logit of"), (list("abcdef"), "5 classes at most")],
)
def test_classes_that_cannot_be_shifted_are_refused(tmp_path, monkeypatch, classes, reason):
    monkeypatch.chdir(tmp_path)
    data = draw_ferplus(tmp_path / "data", each=(8, 4, 2))
    options = [option for each in classes for option in ("--shift", each)]
    result = CliRunner().invoke(main, ["adjustments", *options, "--data", str(data)])
    assert result.exit_code == 2
    assert reason in result.stderr


def test_command_prints_a_row_for_each_strength(tmp_path, monkeypatch):
    used = []

    def noted(distributions, strength, below):
        used.append((strength, below))
        return adjustment(distributions, strength, below)

    monkeypatch.setattr("trainer.measuring.adjustments.adjustment", noted)
    monkeypatch.chdir(tmp_path)
    data = draw_ferplus(tmp_path / "data", each=(8, 4, 2))
    result = CliRunner().invoke(main, ["adjustments", str(DEFAULT_MODEL), "--below", "0.125", "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "0.25" in result.stdout
    assert set(used) == {(strength, 0.125) for strength in STRENGTHS}


@pytest.mark.parametrize("below", ["0", "1.1", "nan", "few"])
def test_shares_that_are_none_are_refused(below):
    result = CliRunner().invoke(main, ["adjustments", "--below", below])
    assert result.exit_code == 2
    assert "--below" in result.stderr
