"""Weights of others as the start of a training: what the network computes with them, and packages that do not fit."""

import io
import json
import tarfile

import numpy as np
import pytest
from click.testing import CliRunner

from tests.parts.trainer_faces import draw_ferplus, write_config
from trainer.cli import main
from trainer.quiet import load_keras

load_keras()

import keras  # noqa: E402
from keras import layers  # noqa: E402

from trainer.architectures import build, faceres, recognition  # noqa: E402
from trainer.config import Architecture  # noqa: E402
from trainer.data.inputs import normalise  # noqa: E402
from trainer.training.pretrained import SOURCES, read_weights  # noqa: E402

WIDTH = 0.25
KEYS = {"kind": "recognition", "width": WIDTH, "stem": None, "stages": None, "blocks": None}
DLIB, HSE = SOURCES["recognition"], SOURCES["faceres"]


def shapes(kind):
    """Name and shape of every weight that the package has, at a quarter of the channels."""
    model = build(Architecture(kind=kind, width=WIDTH), (32, 32, 1), 8)
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            yield f"{layer.name}/depthwise_kernel", layer.kernel.shape
            for each in ("mul", "sub"):
                yield f"{layer.name}_bn/batchnorm_1/{each}", (layer.kernel.shape[2],)
        elif isinstance(layer, layers.Conv2D):
            shape = (*layer.kernel.shape[:2], 3 if layer.kernel.shape[2] == 1 else layer.kernel.shape[2], layer.filters)
            if kind == "faceres":
                yield f"{layer.name}/convolution/merged_input", shape
                yield f"{layer.name}_bn/batchnorm_1/sub", (layer.filters,)
                continue
            name = layer.name.replace("_conv1", "/conv1").replace("_conv2", "/conv2")
            yield f"{name}/conv/filters", shape
            for each in ("conv/bias", "scale/weights", "scale/biases"):
                yield f"{name}/{each}", (layer.filters,)


def drawn(kind):
    """Draw weights so that what goes through the layers neither fades nor grows."""
    rng = np.random.default_rng(5)
    found = {}
    for name, shape in shapes(kind):
        if len(shape) == 4:
            inputs = np.prod(shape[:2]) * (1 if "depthwise" in name else shape[2])
            # HSE's network sees colours 0–255, where dlib's sees 0–1.
            brightness = 64 if name.startswith("conv1/") else 1
            found[name] = rng.normal(0, inputs**-0.5 / brightness, shape)
        elif name.endswith("mul"):
            found[name] = rng.normal(1, 0.3, shape)
        elif name.endswith("weights"):
            found[name] = rng.normal(1, 0.5, shape)
        else:
            found[name] = rng.normal(0, 0.2, shape)
    return {name: values.astype(np.float32) for name, values in found.items()}


@pytest.fixture(scope="module")
def weights():
    return drawn("recognition")


def pack(path, weights, quantised=(), source=DLIB):
    """A package as npm has it, some weights as 8-bit levels or, those of HSE, of half precision."""
    manifest, content = [], b""
    for name, values in weights.items():
        entry = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if name in quantised:
            scale = float(np.ptp(values)) / 255
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": float(values.min())}
            values = np.round((values - values.min()) / scale).astype(np.uint8)
        elif source is HSE:
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            values = values.astype(np.float16)
        manifest.append(entry)
        content += values.tobytes()
    groups = [{"weights": manifest}]
    document = {"format": "graph-model", "weightsManifest": groups} if source is HSE else groups
    with tarfile.open(path, "w:gz") as archive:
        for name, data in ((source.manifest, json.dumps(document).encode()), (source.content, content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def padded(faces, source, before, after):
    """Grey faces (n, size, size) as a network sees them that knows colours, with a rim of what is 0 in ours."""
    grey = np.pad(faces, ((0, 0), (before, after), (before, after)), constant_values=128)
    return (np.repeat(grey[..., None], 3, axis=-1).astype(np.float32) - source.mean) / source.scale


def theirs(weights, faces):
    """What dlib's network says of grey faces (n, size, size), after the average: convolutions and constants only."""

    def convolve(x, name, stride=1):
        y = keras.ops.conv(x, weights[f"{name}/conv/filters"], stride, "same") + weights[f"{name}/conv/bias"]
        return y * weights[f"{name}/scale/weights"] + weights[f"{name}/scale/biases"]

    x = padded(faces, DLIB, 2, 3)
    name = "conv32_down"
    x = keras.ops.conv(x, weights[f"{name}/conv/filters"], 2, "valid") + weights[f"{name}/conv/bias"]
    x = keras.ops.relu(x * weights[f"{name}/scale/weights"] + weights[f"{name}/scale/biases"])
    x = keras.ops.max_pool(x, 3, 2, "same")
    for number, (stage, blocks) in enumerate(recognition.STAGES):
        for block in range(blocks):
            down = number > 0 and block == 0
            name = f"conv{stage}_down" if down else f"conv{stage}_{block + (number == 0)}"
            y = keras.ops.relu(convolve(x, f"{name}/conv1", 2 if down else 1))
            y = convolve(y, f"{name}/conv2")
            if down:
                x = keras.ops.average_pool(x, 2, 2, "same")
                x = keras.ops.concatenate([x, keras.ops.zeros((*x.shape[:3], y.shape[3] - x.shape[3]))], axis=-1)
            x = keras.ops.relu(x + y)
    return np.asarray(x).mean(axis=(1, 2))


def hse(weights, faces):
    """What HSE's network says of grey faces (n, size, size), after the average."""
    x = keras.ops.conv(padded(faces, HSE, 0, 1), weights["conv1/convolution/merged_input"], 2, "valid")
    x = keras.ops.relu6(x + weights["conv1_bn/batchnorm_1/sub"])
    for number, (_, stride) in enumerate(faceres.BLOCKS, start=1):
        name = f"conv_dw_{number}"
        x = keras.ops.depthwise_conv(x, weights[f"{name}/depthwise_kernel"], stride, "same")
        x = keras.ops.relu6(x * weights[f"{name}_bn/batchnorm_1/mul"] + weights[f"{name}_bn/batchnorm_1/sub"])
        name = f"conv_pw_{number}"
        x = keras.ops.conv(x, weights[f"{name}/convolution/merged_input"], 1, "same")
        x = keras.ops.relu6(x + weights[f"{name}_bn/batchnorm_1/sub"])
    return np.asarray(x).mean(axis=(1, 2))


def adopted(folder, package, colour="grey", **keys):
    draw_ferplus(folder, each=(6, 2, 2))
    crop = {"size": 64 if keys.get("kind") == "faceres" else 48, "colour": colour}
    config = write_config(folder / "t.yaml", architecture={**KEYS, **keys}, crop=crop)
    arguments = ["adopt", package, "--config", config, "--output", folder / "start.keras", "--data", folder]
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_network_computes_what_the_packaged_one_does(tmp_path, weights):
    result = adopted(tmp_path, pack(tmp_path / "p.tgz", weights))
    assert result.exit_code == 0, result.output
    network = keras.models.load_model(tmp_path / "start.keras")
    faces = np.random.default_rng(1).integers(0, 256, (4, 48, 48), np.uint8)
    features = keras.Model(network.inputs, network.get_layer("average").output)
    np.testing.assert_allclose(features(normalise(faces)), theirs(weights, faces), rtol=1e-3, atol=1e-3)
    # Batch normalisation starts with statistics of the training faces, not with none.
    variance = network.get_layer("conv256_2_conv2_norm").moving_variance
    assert np.ptp(np.asarray(variance)) > 1e-3


@pytest.mark.parametrize(("kind", "source", "side"), [("recognition", DLIB, 48), ("faceres", HSE, 64)])
def test_network_that_sees_colour_says_the_same_of_grey_faces(tmp_path, kind, source, side):
    weights = {name: values.astype(np.float16).astype(np.float32) for name, values in drawn(kind).items()}
    result = adopted(tmp_path, pack(tmp_path / "p.tgz", weights, source=source), colour="rgb", kind=kind)
    assert result.exit_code == 0, result.output
    network = keras.models.load_model(tmp_path / "start.keras")
    faces = np.random.default_rng(1).integers(0, 256, (4, side, side), np.uint8)
    features = keras.Model(network.inputs, network.get_layer("average").output)
    expected = {"recognition": theirs, "faceres": hse}[kind](weights, faces)
    np.testing.assert_allclose(features(normalise(np.repeat(faces[..., None], 3, 3))), expected, rtol=2e-3, atol=2e-3)


def test_the_start_wants_the_name_that_keras_wants(tmp_path):
    arguments = ["adopt", "p.tgz", "--config", "t.yaml", "--output", str(tmp_path / "start.h5")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "start.h5: name a .keras file" in result.stderr


def test_network_of_hse_computes_what_the_packaged_one_does(tmp_path):
    weights = {name: values.astype(np.float16).astype(np.float32) for name, values in drawn("faceres").items()}
    result = adopted(tmp_path, pack(tmp_path / "p.tgz", weights, source=HSE), kind="faceres")
    assert result.exit_code == 0, result.output
    network = keras.models.load_model(tmp_path / "start.keras")
    faces = np.random.default_rng(1).integers(0, 256, (4, 64, 64), np.uint8)
    features = keras.Model(network.inputs, network.get_layer("average").output)
    answers = features(normalise(faces))
    np.testing.assert_allclose(answers, hse(weights, faces), rtol=2e-3, atol=2e-3)
    assert np.asarray(answers).std() > 0.01


def test_levels_become_values(tmp_path, weights):
    found = read_weights(pack(tmp_path / "p.tgz", weights, quantised=set(weights)), DLIB)
    assert set(found) == set(weights)
    for name, values in weights.items():
        np.testing.assert_allclose(found[name], values, atol=np.ptp(values) / 255)


def test_package_that_does_not_fit_is_one_line(tmp_path, weights):
    garbage = tmp_path / "garbage.tgz"
    garbage.write_bytes(b"no archive")
    empty = tmp_path / "empty.tgz"
    tarfile.open(empty, "w:gz").close()
    some = pack(tmp_path / "some.tgz", dict(list(weights.items())[:-3]))
    short = pack(tmp_path / "short.tgz", {name: values[..., :1] for name, values in weights.items()})
    for package, keys, said in (
        (tmp_path / "none.tgz", {}, "No such file"),
        (garbage, {}, "no such weights"),
        (empty, {}, "no such weights"),
        (some, {}, "lacks the weights"),
        (short, {}, "architecture.width"),
        (garbage, {"kind": "compact"}, "architecture.kind recognition and faceres"),
    ):
        result = adopted(tmp_path, package, **keys)
        assert result.exit_code == 2, result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
        assert str(package) in line
        assert said in line
    assert not (tmp_path / "start.keras").exists()
