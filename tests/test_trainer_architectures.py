"""The networks: their papers' structure, their cost, int8 of each in the daemon's classifier, and that they learn."""

from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.emotions import Classifier
from tests.parts.samples import SIDE
from tests.parts.trainer_faces import draw, write_config
from trainer.cli import main
from trainer.quiet import load_keras

load_keras()

import keras  # noqa: E402

from trainer.architectures import (  # noqa: E402
    BUILDERS,
    TEACHERS,
    build,
    faceres,
    inception,
    lenet,
    mobilenet,
    recognition,
    resnet,
    vgg,
)
from trainer.architectures.layers import channels  # noqa: E402
from trainer.config import Architecture, Config  # noqa: E402
from trainer.conversion.complexity import complexity, multiply_adds  # noqa: E402
from trainer.conversion.export import draft, write  # noqa: E402
from trainer.conversion.inspection import inspect  # noqa: E402
from trainer.conversion.quantise import quantise  # noqa: E402
from trainer.data.datasets import LABELS  # noqa: E402
from trainer.data.inputs import normalise  # noqa: E402
from trainer.measuring.networks import FLOAT_TWINS  # noqa: E402

GREY, RGB = (32, 32, 1), (32, 32, 3)
CONVOLUTIONS = keras.layers.Conv2D
POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
FIVE = ("lenet", "vgg", "resnet", "inception", "mobilenet")
#: Depth and width, several of each.
VARIANTS = [
    pytest.param(shape, stages, blocks, width, id=f"{shape[2]}-{'-'.join(map(str, stages))}-{blocks}-{width}")
    for shape, (stages, blocks, width) in product(
        (GREY, RGB), (((16,), 1, 1.0), ((16, 24), 2, 0.5), ((8, 8, 8), 3, 2.0))
    )
]


def network(kind, shape=GREY, **how):
    return build(Architecture(kind=kind, **how), shape, 8)


def small(kind, stages):
    """A network of few weights."""
    if kind in TEACHERS:
        return {"width": 0.25}
    return {"stages": stages} | ({} if kind == "lenet" else {"blocks": 1})


def path(model):
    """The layers of a network without branches, in order, without what normalises, activates or drops."""
    plain = (keras.layers.InputLayer, keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Dropout)
    return [layer for layer in model.layers if not isinstance(layer, plain)]


def sources(model, layer):
    """The layers whose outputs a layer takes."""
    makers = {id(each.output): each for each in model.layers}
    return [makers[id(tensor)] for tensor in keras.tree.flatten(layer.input)]


def branch(model, layer, start):
    """The convolutions and poolings from the layer `start`, exclusive, to `layer`, inclusive.

    A pooling of one pixel is left out: it is a convolution's stride (`FEW`).
    """
    found = []
    while layer is not start:
        if isinstance(layer, (CONVOLUTIONS, *POOLINGS)) and getattr(layer, "pool_size", None) != (1, 1):
            found.insert(0, layer)
        (layer,) = sources(model, layer)
    return found


def sizes(layers):
    return [layer.pool_size if isinstance(layer, POOLINGS) else layer.kernel_size for layer in layers]


@pytest.mark.parametrize(("shape", "stages", "blocks", "width"), VARIANTS)
def test_lenet_pools_after_each_convolution_and_ends_in_dense_layers(shape, stages, blocks, width):  # noqa: ARG001
    layers = path(network("lenet", shape, stages=stages, width=width))
    for convolution, pooling, count in zip(layers[0::2], layers[1::2], stages, strict=False):
        assert isinstance(convolution, CONVOLUTIONS)
        assert (convolution.kernel_size, convolution.filters) == ((5, 5), count * width)
        assert isinstance(pooling, POOLINGS)
        assert (pooling.pool_size, pooling.strides) == ((2, 2), (2, 2))
    flatten, *dense = layers[2 * len(stages) :]
    assert isinstance(flatten, keras.layers.Flatten)
    assert [layer.units for layer in dense] == [120 * width, 84 * width, 8]


@pytest.mark.parametrize(("shape", "stages", "blocks", "width"), VARIANTS)
def test_vgg_stacks_3x3_convolutions_before_each_pooling(shape, stages, blocks, width):
    layers = path(network("vgg", shape, stages=stages, blocks=blocks, width=width))
    for count in stages:
        stack, (pooling, *layers) = layers[:blocks], layers[blocks:]
        assert all(isinstance(layer, CONVOLUTIONS) for layer in stack)
        assert {(layer.kernel_size, layer.strides, layer.filters) for layer in stack} == {
            ((3, 3), (1, 1), count * width)
        }
        assert isinstance(pooling, keras.layers.MaxPooling2D)
        assert (pooling.pool_size, pooling.strides) == ((2, 2), (2, 2))
    flatten, *dense = layers
    assert isinstance(flatten, keras.layers.Flatten)
    assert [layer.units for layer in dense] == [256 * width, 256 * width, 8]


@pytest.mark.parametrize(("shape", "stages", "blocks", "width"), VARIANTS)
def test_resnet_adds_what_goes_into_a_block_to_what_comes_out(shape, stages, blocks, width):
    model = network("resnet", shape, stem=8, stages=stages, blocks=blocks, width=width)
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert len(sums) == len(stages) * blocks
    start = model.get_layer("stem_pool")
    for number, total in enumerate(sums):
        shortcut, residual = sources(model, total)
        bottleneck = branch(model, residual, start)
        assert sizes(bottleneck) == [(1, 1), (3, 3), (1, 1)]
        inner, middle, outer = (layer.filters for layer in bottleneck)
        assert inner == middle < outer == total.output.shape[-1]
        if shortcut is not start:  # the identity, but for a 1×1 convolution where the shape changes
            assert number % blocks == 0
            assert sizes(branch(model, shortcut, start)) == [(1, 1)]
            assert start.output.shape != total.output.shape
        (start,) = [layer for layer in model.layers if id(layer.input) == id(total.output)]
    assert start.output.shape[-1] == stages[-1] * width


@pytest.mark.parametrize(("shape", "stages", "blocks", "width"), VARIANTS)
def test_inception_joins_four_parallel_branches(shape, stages, blocks, width):
    model = network("inception", shape, stem=8, stages=stages, blocks=blocks, width=width)
    joins = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    assert len(joins) == len(stages) * blocks
    start = model.get_layer("stage1_pool")
    for number, join in enumerate(joins):
        if number and number % blocks == 0:
            start = model.get_layer(f"stage{number // blocks + 1}_pool")
            assert sources(model, start) == [joins[number - 1]]
        branches = [branch(model, end, start) for end in sources(model, join)]
        assert [sizes(each) for each in branches] == [
            [(1, 1)],
            [(1, 1), (3, 3)],
            [(1, 1), (5, 5)],
            [(3, 3), (1, 1)],
        ]
        assert isinstance(branches[3][0], keras.layers.MaxPooling2D)
        assert join.output.shape[-1] == sum(each[-1].filters for each in branches)
        assert join.output.shape[-1] == stages[number // blocks] * width
        start = join


@pytest.mark.parametrize(("shape", "stages", "blocks", "width"), VARIANTS)
def test_mobilenet_is_depthwise_then_pointwise(shape, stages, blocks, width):
    stem, *layers, average, logits = path(
        network("mobilenet", shape, stem=8, stages=stages, blocks=blocks, width=width)
    )
    assert (stem.kernel_size, stem.filters) == ((3, 3), 8 * width)
    assert len(layers) == 2 * len(stages) * blocks
    for number, (depthwise, pointwise) in enumerate(zip(layers[0::2], layers[1::2], strict=True)):
        assert isinstance(depthwise, keras.layers.DepthwiseConv2D)
        assert depthwise.kernel_size == (3, 3)
        assert depthwise.output.shape[-1] == depthwise.input.shape[-1]
        assert depthwise.strides == ((2, 2) if number % blocks == 0 else (1, 1))
        assert isinstance(pointwise, CONVOLUTIONS)
        assert (pointwise.kernel_size, pointwise.filters) == ((1, 1), stages[number // blocks] * width)
    assert isinstance(average, keras.layers.GlobalAveragePooling2D)
    assert logits.units == 8


@pytest.mark.parametrize("width", [0.5, 1])
def test_recognition_adds_two_convolutions_to_a_shortcut_without_weights(width):
    model = network("recognition", (88, 88, 1), width=width)
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    counts = [stage for stage, blocks in recognition.STAGES for _ in range(blocks)]
    assert [total.output.shape[-1] for total in sums] == [width * count for count in counts]
    assert sum(isinstance(layer, CONVOLUTIONS) for layer in model.layers) == 1 + 2 * len(sums)
    assert {layer.kernel_size for layer in model.layers if isinstance(layer, CONVOLUTIONS)} == {(7, 7), (3, 3)}
    assert model.get_layer("average").input.shape[1:3] == (3, 3)


def test_compact_is_still_the_network_that_ships():
    """Layer by layer, names included: they stand in the model file, which the same weights must give again."""
    shipped = keras.models.load_model(FLOAT_TWINS / f"{read_bundle(DEFAULT_MODEL).info.name}.keras", compile=False)
    keras.utils.clear_session()
    built = build(Architecture(stages=(32, 64, 92)), (SIDE, SIDE, 1), 8)
    described = [
        [(layer.name, [w.shape for w in layer.weights]) for layer in each.layers[1:]] for each in (shipped, built)
    ]
    assert described[0] == described[1]
    built.set_weights(shipped.get_weights())
    crops = normalise(np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE), np.uint8))
    np.testing.assert_array_equal(built(crops), shipped(crops))


@pytest.mark.parametrize("kind", FIVE)
def test_defaults_are_for_small_machines(kind):
    cost = complexity(build(Architecture(kind=kind), (48, 48, 1), 8))
    assert 5e6 <= cost.multiply_adds <= 30e6
    assert 1e5 <= cost.parameters <= 1e6


@pytest.mark.parametrize("own", [lenet, vgg, resnet, inception, mobilenet], ids=FIVE)
def test_defaults_stand_in_the_file(own):
    given = {"stages": own.STAGES, "activation": own.ACTIVATION}
    given |= {key: value for key in ("stem", "blocks") if (value := getattr(own, key.upper(), None))}
    kind = own.__name__.rpartition(".")[2]
    same = [[weight.shape for weight in network(kind, **how).weights] for how in ({}, given)]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("activation", "layer", "values"),
    [
        ("relu", "ReLU", [0, 0, 0.5, 9]),
        ("relu6", "ReLU", [0, 0, 0.5, 6]),
        ("leaky_relu", "LeakyReLU", [-0.5, -0.1, 0.5, 9]),
        ("hard_swish", "Activation", [0, -1 / 3, 0.5 * 3.5 / 6, 9]),
        ("tanh", "Activation", np.tanh([-5, -1, 0.5, 9])),
    ],
)
@pytest.mark.parametrize("kind", BUILDERS)
def test_activation_is_the_one_asked_for(kind, activation, layer, values):
    model = network(kind, activation=activation, **small(kind, (8,)))
    kinds = [each for each in model.layers if type(each).__name__ in ("ReLU", "LeakyReLU", "Activation")]
    assert kinds
    assert {type(each).__name__ for each in kinds} == {layer}
    np.testing.assert_allclose(kinds[0](np.array([-5, -1, 0.5, 9], np.float32)), values, atol=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_dropout_is_the_one_asked_for(kind):
    (layer,) = [each for each in network(kind, dropout=0.45).layers if isinstance(each, keras.layers.Dropout)]
    assert layer.rate == 0.45


@pytest.mark.parametrize("kind", ["compact", "resnet"])
@pytest.mark.parametrize("width", [0.1, 0.25, 0.5, 1])
def test_no_strided_pointwise_convolution_of_few_channels(kind, width):
    # Its gradient overruns memory in TensorFlow 2.21, which may or may not end the process: so no such layer is made.
    model = network(kind, width=width)
    pointwise = [each for each in model.layers if isinstance(each, keras.layers.Conv2D) and each.kernel_size == (1, 1)]
    strided = [each for each in pointwise if each.strides != (1, 1)]
    assert all(each.input.shape[-1] >= 16 for each in strided)
    assert strided or width < 1


@given(st.integers(1, 500), st.floats(0.01, 8))
def test_width_multiplies_channels(count, width):
    assert channels(count, 1) == count
    assert channels(count, width) >= 1
    assert abs(channels(count, width) - count * width) <= 0.5 or channels(count, width) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "lenet", "blocks": 2},
        {"kind": "lenet", "stem": 8},
        {"kind": "vgg", "stem": 8},
        {"kind": "recognition", "blocks": 2},
        {"kind": "faceres", "blocks": 2},
    ],
)
def test_key_that_an_architecture_cannot_use_is_one_line(tmp_path, keys):
    key = next(key for key in keys if key != "kind")
    stages = {"stages": None} if keys["kind"] in TEACHERS else {}
    config = write_config(tmp_path / "t.yaml", architecture={"stem": None, "blocks": None, **stages, **keys})
    result = CliRunner().invoke(main, ["train", "--config", str(config), "--run", str(tmp_path / "run")])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    assert f"{config}: architecture: " in line
    assert f"{keys['kind']} has no {key}; leave the key out" in line


def test_faceres_is_mobilenet():
    model = network("faceres", (224, 224, 3))
    depthwise = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert [layer.strides[0] for layer in depthwise] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert model.get_layer("average").input.shape[1:] == (7, 7, 1024)
    # MobileNet of width 1 at 224 pixels without its classes (arXiv:1704.04861, table 4: 569 million multiply-adds).
    assert complexity(model).multiply_adds == pytest.approx(568e6, rel=0.002)


def test_faceres_of_some_stages_is_the_beginning_of_the_whole():
    model = network("faceres", (96, 96, 1), stages=(64, 128, 128, 256, 20))
    whole = [layer for layer in network("faceres", (96, 96, 1)).layers if isinstance(layer, CONVOLUTIONS)]
    some = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    assert [layer.name for layer in some] == [layer.name for layer in whole[: len(some)]]
    assert [layer.output.shape for layer in some[:-1]] == [layer.output.shape for layer in whole[: len(some) - 1]]
    assert model.get_layer("average").input.shape[1:] == (12, 12, 20)


def test_faceres_of_more_stages_than_the_whole_is_refused():
    assert Architecture(kind="faceres", stages=(8,) * len(faceres.BLOCKS)).stages
    with pytest.raises(ValueError, match="faceres has 13 stages at most"):
        Architecture(kind="faceres", stages=(8,) * 14)


def test_cost_by_hand():
    entrance = keras.Input((4, 4, 5))
    x = keras.layers.Conv2D(2, 3, padding="same")(entrance)  # 3·3·5 weights × 2 at 16 places, 2 biases
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)  # 3·3·2 × 4 at 4 places
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)  # 3·3 × 4 at 4 places
    x = keras.layers.BatchNormalization()(x)  # 4 × gamma, beta, mean, variance
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))  # 16 × 3, 3 biases
    found = complexity(keras.Model(entrance, x))
    assert found.multiply_adds == 90 * 16 + 72 * 4 + 36 * 4 + 48
    assert found.parameters == 90 + 2 + 72 + 36 + 16 + 48 + 3


def test_cost_of_an_operator_does_not_depend_on_the_batch():
    assert multiply_adds((3, 3, 2, 4), (None, 5, 7, 4)) == multiply_adds((4, 3, 3, 2), (1, 5, 7, 4)) == 72 * 35
    assert multiply_adds((10, 3), (1, 3)) == 30


#: Every kind, both colours, every activation.
EXPORTS = [
    ("compact", "rgb", "hard_swish", "ADD"),
    ("lenet", "grey", "tanh", "MAX_POOL_2D"),
    ("vgg", "rgb", "leaky_relu", "MAX_POOL_2D"),
    ("resnet", "grey", "hard_swish", "ADD"),
    ("inception", "rgb", "relu", "CONCATENATION"),
    ("mobilenet", "grey", "relu6", "DEPTHWISE_CONV_2D"),
    ("recognition", "grey", "relu", "PAD"),
    ("faceres", "rgb", "relu6", "DEPTHWISE_CONV_2D"),
]


@pytest.mark.parametrize(("kind", "colour", "activation", "operator"), EXPORTS, ids=[" ".join(e[:3]) for e in EXPORTS])
def test_learns_and_runs_in_the_daemon_as_int8(tmp_path, kind, colour, activation, operator):
    keys = {"kind": kind, "activation": activation, "dropout": 0.0, **small(kind, (12, 16))}
    config = Config(name="tiny", crop={"size": 32, "colour": colour}, architecture=Architecture(**keys))
    crops, targets = faces(colour)
    keras.utils.set_random_seed(3)
    model = build(config.architecture, config.crop.shape(), len(LABELS))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss, run_eagerly=True)  # sooner done than a graph is built
    before, *_, after = (float(model.train_on_batch(normalise(crops), targets)) for _ in range(15))
    assert after < 0.7 * before

    path = tmp_path / "tiny.tflite"
    write(draft(quantise(model, crops, config.architecture), config, LABELS), path)
    found = inspect(path)
    assert {tensor.dtype for tensor in found.tensors} <= {"int8", "int32"}  # biases and shapes are int32
    assert operator in found.operators
    assert found.multiply_adds == complexity(model).multiply_adds
    classifier = Classifier(read_bundle(path))
    assert classifier.colour == colour
    logits = np.stack([classifier.logits(crop) for crop in crops])
    expected = np.asarray(model(normalise(crops)))
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.98
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9


def faces(colour):
    """Four drawn faces of each class, 32×32, as crops and targets."""
    rng = np.random.default_rng(7)
    crops = np.stack([draw(label, rng)[:32, :32] for label in range(len(LABELS)) for _ in range(4)])
    targets = np.repeat(np.eye(len(LABELS), dtype=np.float32), 4, axis=0)
    return (crops if colour == "grey" else np.repeat(crops[..., None], 3, axis=-1)), targets
