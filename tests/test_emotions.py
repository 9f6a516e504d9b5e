"""The classifier: from a crop to calibrated probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.emotions import Classifier, softmax
from edge.litert import Network
from tests.parts.samples import LABELS, SIDE, write_model


@pytest.fixture(scope="module")
def classifier():
    return Classifier(read_bundle(DEFAULT_MODEL))


CROPS = arrays.arrays(np.uint8, (SIDE, SIDE))


@given(CROPS)
@settings(deadline=None, max_examples=30)
def test_probabilities_are_the_softmax_of_the_logits(classifier, crop):
    probabilities = classifier(crop)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(LABELS),)
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    temperature = read_bundle(DEFAULT_MODEL).info.temperature
    np.testing.assert_allclose(probabilities, softmax(classifier.logits(crop) / np.float32(temperature)), atol=1e-6)
    np.testing.assert_array_equal(probabilities, classifier(crop))


def test_grey_levels_reach_the_network_as_the_metadata_says(classifier):
    bundle = read_bundle(DEFAULT_MODEL)
    network = Network(bundle.content)
    crop = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE), np.uint8)
    scale, zero = network.inputs[0]["quantization"]
    levels = (crop.astype(float) - bundle.info.input.mean) / bundle.info.input.deviation
    value = np.clip(np.round(levels / scale) + zero, -128, 127).astype(np.int8)
    (raw,) = network(value[None, :, :, None])
    out_scale, out_zero = network.outputs[0]["quantization"]
    np.testing.assert_allclose(classifier.logits(crop), (raw[0].astype(float) - out_zero) * out_scale, rtol=1e-5)


def test_temperature_softens(tmp_path):
    crop = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE), np.uint8)
    answers = [Classifier(read_bundle(write_model(tmp_path / "m.tflite", temperature=t)))(crop) for t in (0.5, 1, 4)]
    assert len({int(answer.argmax()) for answer in answers}) == 1
    assert answers[0].max() > answers[1].max() > answers[2].max()


def test_answers_do_not_change_with_the_next_picture(classifier):
    rng = np.random.default_rng(5)
    first = classifier.logits(rng.integers(0, 256, (SIDE, SIDE), np.uint8))
    kept = first.copy()
    classifier.logits(rng.integers(0, 256, (SIDE, SIDE), np.uint8))
    np.testing.assert_array_equal(first, kept)


@given(arrays.arrays(np.float32, (5,), elements=st.floats(-1000, 1000, width=32)), st.floats(-100, 100, width=32))
def test_softmax_sums_to_one_keeps_order_and_ignores_a_shift(logits, shift):
    probabilities = softmax(logits)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diff(probabilities[np.argsort(logits, kind="stable")]) >= -1e-7).all()
    np.testing.assert_allclose(softmax(logits + np.float32(shift)), probabilities, atol=1e-3)


def test_softmax_works_along_the_last_axis():
    np.testing.assert_allclose(softmax(np.zeros((2, 4), np.float32)), np.full((2, 4), 0.25))
