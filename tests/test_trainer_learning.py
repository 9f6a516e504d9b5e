"""The parts of a training worked out by hand: targets, weights, steps, averages, statistics."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parts.trainer_faces import TINY, drawn_samples
from trainer.config import Config, Training, changed
from trainer.training.batches import Batches, class_weights, mixed, smoothed, steps_of
from trainer.training.judge import restate
from trainer.training.optimisers import Schedule, optimiser

CONFIG = Config.model_validate(TINY)


def rates(steps: int, **training: object) -> list[float]:
    settings = Training.model_validate({"learning_rate": 0.1, **training})
    return [float(Schedule(settings, steps)(step)) for step in range(settings.epochs * steps + 1)]


def test_learning_rate_rises_and_falls():
    cosine = rates(4, epochs=3, warmup_epochs=1)
    assert cosine[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert cosine[4:] == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 8)) for i in range(9)], abs=1e-7)
    linear = rates(4, epochs=3, warmup_epochs=1, schedule="linear")
    assert linear[:4] == pytest.approx(cosine[:4])
    assert linear[4:] == pytest.approx([0.1 * (1 - i / 8) for i in range(9)], abs=1e-7)
    assert rates(4, epochs=3, warmup_epochs=0, schedule="constant") == pytest.approx([0.1] * 13)


def steps_with(gradients: list[float], names: tuple[str, ...] = ("kernel",), **training: object):
    """Variables that started at 1 and got the same gradients, the optimiser, and the first one's values on the way."""
    settings = {"learning_rate": 0.1, "schedule": "constant", "warmup_epochs": 0, "weight_decay": 0, **training}
    made = optimiser(Training.model_validate(settings), steps=10)
    variables = [keras.Variable(np.ones(2, np.float32), name=name) for name in names]
    made.build(variables)
    way = []
    for gradient in gradients:
        made.apply([keras.ops.full((2,), gradient)] * len(variables), variables)
        way.append(float(variables[0].numpy()[0]))
    return variables, made, way


def test_average_begins_short_and_ends_as_long_as_asked():
    variables, made, way = steps_with([1.0, -2.0, 0.5] * 20, average_momentum=0.8)
    expected = way[0]
    for step, value in enumerate(way[1:], start=1):
        momentum = min(0.8, (1 + step) / (10 + step))
        expected = momentum * expected + (1 - momentum) * value
    made.take_average(variables)
    np.testing.assert_allclose(variables[0].numpy(), expected, rtol=1e-4)
    assert expected != pytest.approx(way[-1], rel=1e-3)


def test_average_of_zero_is_off():
    variables, made, way = steps_with([1.0, -2.0], average_momentum=0)
    made.take_average(variables)
    assert float(variables[0].numpy()[0]) == way[-1]


@pytest.mark.parametrize(("kind", "expected"), [("adamw", 0.95), ("sgd", 0.95), ("adam", 0.9)])
def test_decay_is_of_kernels_alone(kind, expected):
    # Without a gradient, decoupled decay takes rate times decay; Adam makes a step of the whole rate of its penalty.
    names = ("kernel", "gamma", "beta", "bias")
    variables, _, _ = steps_with([0.0], names, optimizer=kind, weight_decay=0.5, average_momentum=0)
    assert [float(v.numpy()[0]) for v in variables] == pytest.approx([expected, 1, 1, 1], abs=1e-4)


def test_sgd_has_nesterov_momentum():
    _, _, way = steps_with([1.0, 1.0], optimizer="sgd", average_momentum=0)
    # velocity -0.1, then -0.19; each step goes on by 0.9 of it and the gradient's own 0.1
    assert way == pytest.approx([1 - 0.19, 1 - 0.19 - 0.271])


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 5), st.integers(1, 9), st.booleans())
def test_mixup_mixes_faces_targets_and_weights_alike(seed, alpha, count, each):
    rng = np.random.default_rng(seed)
    # As input each face says its own target and weight, so that what it became can be read from it.
    targets = rng.dirichlet(np.ones(3), count).astype(np.float32)
    weights = rng.uniform(0.5, 2, count).astype(np.float32)
    inputs = np.concatenate([targets * weights[:, None], weights[:, None]], axis=1)[:, None, :, None]
    shares = rng.beta(alpha, alpha, count if each else 1).astype(np.float32)
    mixed_inputs, mixed_targets, mixed_weights = mixed(inputs, targets, weights, shares, rng)
    assert mixed_inputs.dtype == mixed_targets.dtype == mixed_weights.dtype == np.float32
    np.testing.assert_allclose(mixed_inputs[:, 0, 3, 0], mixed_weights, rtol=1e-4)
    np.testing.assert_allclose(mixed_inputs[:, 0, :3, 0], mixed_targets * mixed_weights[:, None], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, rtol=1e-4)


def test_a_face_is_blended_by_its_own_share():
    shares = np.array([1, 0.75, 0.25], np.float32)
    values = np.array([[1], [10], [100]], np.float32)
    found, _, _ = mixed(values, np.ones((3, 1), np.float32), np.ones(3, np.float32), shares, np.random.default_rng(3))
    others = np.random.default_rng(3).permutation(3)
    assert found[:, 0].tolist() == (shares * values[:, 0] + (1 - shares) * values[others, 0]).tolist()
    assert found[0] == 1


@given(st.floats(0, 0.99), st.integers(2, 8))
def test_smoothing_by_hand(smoothing, classes):
    found = smoothed(np.eye(classes, dtype=np.float32), smoothing)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert found[0, 1] == pytest.approx(smoothing / classes, abs=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 1))
def test_class_weights_have_mean_one_and_lift_the_rare(labels, power):
    distributions = np.eye(4, dtype=np.float32)[labels]
    found = class_weights(distributions, power)
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(1, rel=1e-4)
    counts = np.bincount(labels, minlength=4)[labels]
    np.testing.assert_allclose(found * counts**power, found[0] * counts[0] ** power, rtol=1e-3)


@given(st.integers(0, 50), st.integers(0, 20))
def test_batches_depend_on_seed_epoch_and_number_alone(epoch, number):
    samples = drawn_samples(2)
    config = changed(CONFIG, {"training.mixup": 0.4, "training.batch_size": 5})
    number %= steps_of(len(samples), config)
    targets, weights = samples.faces.distributions, np.ones(len(samples), np.float32)
    one, two = (Batches(samples, targets, weights, config, epoch)[number] for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    other = Batches(samples, targets, weights, config, epoch + 1)[number]
    assert not np.array_equal(one[0], other[0])


def test_epoch_shows_each_face_once():
    samples = drawn_samples(2)
    config = changed(CONFIG, {"training.batch_size": 8})
    # As weight each face says its number.
    batches = Batches(samples, samples.faces.distributions, np.arange(16, dtype=np.float32), config, 0)
    assert len(batches) == 2
    assert sorted(np.concatenate([batches[i][2] for i in range(2)])) == list(range(16))


def test_statistics_are_the_mean_over_the_batches():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Dropout(0.5)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(2, 1, use_bias=False)(inputs) + 0 * x)
    network = keras.Model(inputs, x)
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
    kernel = network.layers[[type(each) for each in network.layers].index(keras.layers.Conv2D)].kernel
    rng = np.random.default_rng(0)
    batches = [rng.normal(i, 1 + i, (6, 4, 4, 1)).astype(np.float32) for i in range(3)]
    seeds = [np.array(v) for v in network.variables if "seed" in v.path]
    assert len(seeds) == 1
    restate(network, batches)
    activations = [batch @ np.array(kernel)[0, 0] for batch in batches]
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), np.mean([a.mean(axis=(0, 1, 2)) for a in activations], axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        layer.moving_variance.numpy(), np.mean([a.var(axis=(0, 1, 2)) for a in activations], axis=0), rtol=1e-3
    )
    assert layer.momentum == 0.9
    assert np.array_equal(seeds[0], next(np.array(v) for v in network.variables if "seed" in v.path))
