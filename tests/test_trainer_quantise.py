"""The gate that a bad int8 network does not pass, and the layers that made it bad."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.parts.trainer_faces import draw
from trainer.quiet import load_keras

load_keras()

import keras  # noqa: E402

from trainer.architectures import build  # noqa: E402
from trainer.config import Architecture  # noqa: E402
from trainer.conversion.layer_errors import LayerError, layer_errors, layer_name, lost, worst_layers  # noqa: E402
from trainer.conversion.quantise import Comparison, QuantisationError  # noqa: E402

GOOD = Comparison(0.9, 0.9, 1.0, 0.3, 0.3, 0.3)


def refusal(comparison, worst=None):
    with pytest.raises(QuantisationError) as caught:
        comparison.check(worst)
    message = str(caught.value)
    assert "\n" not in message
    assert str(comparison) in message
    assert "nothing was written" in message
    return message


@pytest.mark.parametrize(
    "comparison",
    [
        GOOD,
        replace(GOOD, int8_accuracy=0.89, agreement=0.97),
        replace(GOOD, float_accuracy=0.5, int8_accuracy=0.9),
        replace(GOOD, most_frequent=0.9, most_frequent_true=0.2),
        replace(GOOD, most_frequent=0.97, most_frequent_float=0.96, most_frequent_true=0.95),
        replace(GOOD, most_frequent=1.0, most_frequent_float=1.0, most_frequent_true=1.0),
    ],
    ids=["good", "a-point-less", "better", "just-not-too-often", "as-often-as-there-are", "one-class-data"],
)
def test_good_network_passes_and_its_layers_are_not_asked(comparison):
    comparison.check(lambda: pytest.fail("asked"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"int8_accuracy": 0.8899}, "more than 1.0 point below float"),
        ({"agreement": 0.9699}, "agree on less than 97%"),
        (
            {"most_frequent": 0.91, "agreement": 0.3},
            "91.0% of the faces get the same class, which 30.0% have and float gives to 30.0%",
        ),
        (
            {"most_frequent": 1.0, "most_frequent_true": 0.89, "agreement": 0.3},
            "100.0% of the faces get the same class",
        ),
    ],
    ids=["loss", "agreement", "one-class", "nearly-one-class-data"],
)
def test_bad_network_is_refused_with_figures_remedy_and_layers(changes, says):
    message = refusal(replace(GOOD, **changes), lambda: "conv (97% lost)")
    assert says in message
    assert "worst layers: conv (97% lost)" in message
    assert "raise quantisation.faces" in message


def test_every_fault_is_named():
    message = refusal(replace(GOOD, int8_accuracy=0.1, agreement=0.2, most_frequent=0.95))
    assert all(text in message for text in ("below float", "agree on less", "the same class"))
    assert "worst layers" not in message


def test_network_that_was_one_sided_before_int8_is_to_be_trained_again():
    one_sided = replace(GOOD, most_frequent=1.0, most_frequent_float=1.0, agreement=0.9)
    message = refusal(one_sided, lambda: pytest.fail("int8 is not to blame"))
    assert "the float network is no better; train again in another --run, longer or" in message
    assert "quantisation.faces" not in message
    assert "most frequent answer 100.0%" in message


def test_layers_are_not_to_blame_where_int8_is_as_good_as_float():
    refusal(replace(GOOD, most_frequent=0.95), lambda: pytest.fail("int8 is not to blame"))


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=40))
def test_comparison_counts_what_it_says(rows):
    before, after, truth = (np.array(column) for column in zip(*rows, strict=True))
    one_hot = np.eye(3, dtype=np.float32)
    found = Comparison.of(one_hot[before], one_hot[after], truth)
    assert found.float_accuracy == pytest.approx(sum(b == t for b, _, t in rows) / len(rows))
    assert found.int8_accuracy == pytest.approx(sum(a == t for _, a, t in rows) / len(rows))
    assert found.agreement == pytest.approx(sum(b == a for b, a, _ in rows) / len(rows))
    shares = [(after == label).mean() for label in range(3)]
    often = int(np.argmax(shares))
    assert found.most_frequent == max(shares)
    assert found.most_frequent_float == (before == often).mean()
    assert found.most_frequent_true == (truth == often).mean()


LEVELS = arrays.arrays(np.int8, (1, 3, 2, 4))


@given(LEVELS, st.floats(1e-3, 10), st.integers(-128, 127))
def test_nothing_is_lost_of_what_int8_holds(levels, scale, zero):
    exact = ((levels.astype(np.float32) - zero) * scale).astype(np.float32)
    found = lost(exact, levels, scale, zero)
    assert np.isnan(found) if not exact.any() else found == pytest.approx(0, abs=1e-5)


@given(arrays.arrays(np.float32, (1, 3, 2, 4), elements=st.floats(-100, 100, width=32)), LEVELS)
def test_share_lost_is_a_share(exact, levels):
    found = lost(exact, levels, 0.1, 0)
    assert np.isnan(found) or 0 <= found <= 1


def test_share_lost_is_a_mean_over_channels():
    exact = np.array([[[[100.0, 1.0, 0.0]]]], np.float32)
    levels = np.array([[[[100, 0, 0]]]], np.int8)  # the large one is right, the small one is gone, the third is nothing
    assert lost(exact, levels, 1.0, 0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("functional_1/act_1/Relu;functional_1/norm_1/batchnorm/add_1;functional_1/conv_1/convolution", "conv"),
        ("functional_1/act_1_2/Relu;functional_1/add_1/Add", "add"),
        ("functional_1/conv_1_2/convolution1", "conv_1"),
        ("functional_1/logits/MatMul", "logits"),
        ("StatefulPartitionedCall_1:0", "logits"),
    ],
)
def test_tensors_are_traced_to_layers(tensor, layer):
    assert layer_name(tensor, ["conv", "norm", "act", "conv_1", "add", "act_1", "logits"]) == layer


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(2)
    return np.stack([draw(label, rng)[:32, :32] for label in range(8) for _ in range(2)])


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("vgg", "stage2_3x3_2"), ("mobilenet", "stage1_block1_depthwise")],
)
def test_layer_made_bad_on_purpose_comes_first(crops, kind, bad):
    """One channel's values are five hundred times too large: the steps become too large for all the others."""
    keras.utils.set_random_seed(1)  # others lose less, 0 just over half
    stages = (8, 12) if kind == "vgg" else (12, 16)
    model = build(Architecture(kind=kind, stages=stages, blocks=2 if kind == "vgg" else 1), (32, 32, 1), 8)
    before = {each.name: each.lost for each in layer_errors(model, crops)}
    norm = model.get_layer(f"{bad}_norm")
    gamma, *others = norm.get_weights()
    gamma[np.abs(gamma).argmax()] *= 500
    norm.set_weights([gamma, *others])
    first, second, *_ = layer_errors(model, crops)
    assert first.name == bad
    assert before[bad] < 0.2 < 0.5 < first.lost
    assert second.lost < 0.7 * first.lost


def test_worst_layers_are_named_in_one_line(monkeypatch):
    found = [LayerError(name, "CONV_2D", 0.9 / (place + 1)) for place, name in enumerate("abcd")]
    monkeypatch.setattr("trainer.conversion.layer_errors.layer_errors", lambda *_: found)
    assert worst_layers(None, None) == "a (90% lost), b (45% lost), c (30% lost)"


def test_a_network_whose_layers_the_runtime_refuses_is_one_line(crops, monkeypatch):
    def refuse(_):
        raise RuntimeError("XNNPACK delegate failed to reshape runtime\nNode number 35 failed to invoke.")

    monkeypatch.setattr("tensorflow.lite.experimental.QuantizationDebugger.run", refuse)
    model = build(Architecture(kind="lenet", stages=(8,)), (32, 32, 1), 8)
    with pytest.raises(QuantisationError, match=r"compared .*\(XNNPACK delegate failed to reshape runtime\); "):
        layer_errors(model, crops)
    assert worst_layers(model, crops).startswith("not known, its layers cannot be compared")


def test_every_layer_with_weights_is_measured(crops):
    model = build(Architecture(kind="inception", stages=(16,), blocks=1), (32, 32, 1), 8)
    names = {each.name for each in layer_errors(model, crops)}
    assert {layer.name for layer in model.layers if hasattr(layer, "kernel")} <= names


def test_pooling_cuts_off_no_peaks():
    """An int8 pooling has one scale for input and output: that of means would be too small for the peaks before it."""
    noise = np.random.default_rng(4).integers(0, 256, (16, 32, 32), np.uint8)
    errors = layer_errors(build(Architecture(kind="lenet", stages=(8,)), (32, 32, 1), 8), noise)
    assert {each.name: each.lost for each in errors}["stage1_5x5"] < 0.1
