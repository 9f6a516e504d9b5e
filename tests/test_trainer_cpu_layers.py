"""Layers for processors: the same network, only faster."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.quiet import load_keras

load_keras()

import keras  # noqa: E402

from trainer.architectures import build  # noqa: E402
from trainer.config import Architecture  # noqa: E402
from trainer.training.cpu_layers import with_cpu_layers  # noqa: E402

CLASSES = 3
ARCHITECTURES = [
    Architecture(kind="compact", stem=4, stages=(6, 8), blocks=1, dropout=0),
    Architecture(kind="faceres", width=0.1, dropout=0),
    Architecture(kind="lenet", stages=(4, 4), dropout=0),
]


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


def learned(network, steps=2):
    """Train a little; return the losses and the weights."""
    rng = np.random.default_rng(5)
    network.compile(
        keras.optimizers.SGD(1e-4), keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    inputs = rng.normal(size=(16, *network.input_shape[1:])).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=16)]
    return [float(network.train_on_batch(inputs, targets)) for _ in range(steps)], network.get_weights()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.kind)
def test_network_learns_the_same(architecture, precision):
    plain = build(architecture, (64, 64, 1), CLASSES)
    before = plain.get_weights()
    fast = with_cpu_layers(plain)
    assert [weight.path for weight in fast.weights] == [weight.path for weight in plain.weights]
    fast.set_weights(before)
    (losses, found), (wanted_losses, wanted) = learned(fast), learned(plain)
    tolerance = 5e-3 if precision == "float32" else 0.1
    np.testing.assert_allclose(losses, wanted_losses, atol=tolerance)
    for one, other, start in zip(found, wanted, before, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)
        assert one.size < 2 or not np.array_equal(one, start)


def test_only_the_network_that_learns_has_them():
    network = build(ARCHITECTURES[0], (64, 64, 1), CLASSES)
    assert {type(layer) for layer in network.layers} & {keras.layers.BatchNormalization}
    assert not {type(layer) for layer in with_cpu_layers(network).layers} & {keras.layers.BatchNormalization}
