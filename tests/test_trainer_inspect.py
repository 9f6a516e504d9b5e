"""`emotion-trainer inspect`: what a model file is made of, and what is no model file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.bundle import DEFAULT_MODEL, SHIPPED, read_bundle
from edge.classify import write_image
from tests.parts.samples import SIDE, model_parts, portrait, write_model
from trainer.cli import main
from trainer.conversion.inspection import inspect

DETECTOR = SHIPPED / "blazeface_back.tflite"
ROOT = Path(__file__).parents[1]


def invoke(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def one_line(result):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    return line


def test_json_of_the_model_that_ships():
    result = invoke(DEFAULT_MODEL, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    found = json.loads(result.stdout)
    assert found["bytes"] == DEFAULT_MODEL.stat().st_size
    assert found["metadata"] == read_bundle(DEFAULT_MODEL).info.model_dump(mode="json", by_alias=True)
    # Stem, three stages of two blocks of two, three shortcuts; the sums of the blocks; the average; the logits.
    assert found["operators"] == {"CONV_2D": 16, "ADD": 6, "MEAN": 1, "FULLY_CONNECTED": 1}
    tensors = {each["name"]: each for each in found["tensors"]}
    (entrance,), (way_out,) = found["inputs"], found["outputs"]
    assert tensors[entrance] | {"name": ""} == {
        "name": "",
        "shape": [1, SIDE, SIDE, 1],
        "dtype": "int8",
        "scale": [1 / 128],
        "zero_point": [0],
    }
    assert tensors[way_out]["shape"] == [1, 8]
    kernels = [each for each in found["tensors"] if each["shape"] == [16, 3, 3, 1]]
    assert [(each["dtype"], len(each["scale"]), len(each["zero_point"])) for each in kernels] == [("int8", 16, 16)]
    # One weight at each place, and so on: 16 convolutions and the logits, by hand.
    stem, first = SIDE**2 * 9 * 16, (SIDE // 2) ** 2 * (9 * 16 * 32 + 3 * 9 * 32 * 32 + 16 * 32)
    second = (SIDE // 4) ** 2 * (9 * 32 * 64 + 3 * 9 * 64 * 64 + 32 * 64)
    third = (SIDE // 8) ** 2 * (9 * 64 * 92 + 3 * 9 * 92 * 92 + 64 * 92)
    assert found["multiply_adds"] == stem + first + second + third + 92 * 8


def test_text_shows_all_of_it():
    result = invoke(DEFAULT_MODEL)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    for text in (
        f"{DEFAULT_MODEL.stat().st_size:,} bytes",
        f"name: {read_bundle(DEFAULT_MODEL).info.name}",
        "(input)",
        "(output)",
        f"1×{SIDE}×{SIDE}×1",
    ):
        assert text in result.stdout
    assert "CONV_2D         │    16" in result.stdout


def test_other_network_is_shown_and_said_to_be_none_of_ours():
    result = invoke(DETECTOR, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line == f"{DETECTOR}: no emotion-edge model file: no metadata inside; only the network is shown"
    found = json.loads(result.stdout)
    assert found["metadata"] is None
    assert found["operators"]["DEPTHWISE_CONV_2D"] == 32
    assert {each["dtype"] for each in found["tensors"]} == {"float32", "float16", "int32"}
    assert invoke(DETECTOR).exit_code == 0


def broken_files():
    network = model_parts()[0]
    content = DEFAULT_MODEL.read_bytes()
    flipped = bytearray(content)
    flipped[len(network) // 2] ^= 1
    return {
        "empty": (b"", "is empty"),
        "text": (b"a letter", "no TFLite network, or a damaged one"),
        "truncated": (content[: len(content) // 2], "no TFLite network, or a damaged one"),
        "truncated-plain": (DETECTOR.read_bytes()[:100_000], "no TFLite network, or a damaged one"),
        "flipped": (bytes(flipped), "the file is damaged"),
    }


@pytest.mark.parametrize("name", sorted(broken_files()))
def test_broken_file_is_one_line(tmp_path, name):
    content, says = broken_files()[name]
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(content)
    line = one_line(invoke(path, "--json"))
    assert line.startswith(f"emotion-trainer: {path}: ")
    assert says in line


def test_metadata_that_disagree_are_one_line(tmp_path):
    path = write_model(tmp_path / "m.tflite", temperature=0)
    assert "model.json: temperature" in one_line(invoke(path))


def test_missing_file_is_one_line(tmp_path):
    line = one_line(invoke(tmp_path / "none.tflite"))
    assert "No such file" in line
    assert "write the file again" in line


def test_network_without_its_metadata_is_shown(tmp_path):
    path = tmp_path / "plain.tflite"
    path.write_bytes(model_parts()[0])
    found, whole = inspect(path), inspect(DEFAULT_MODEL)
    assert found.info is None
    assert (found.tensors, found.operators) == (whole.tensors, whole.operators)


def test_inspecting_imports_no_tensorflow():
    command = (
        "import sys; from trainer.cli import main; main(standalone_mode=False); sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, "inspect", str(DEFAULT_MODEL)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_layers_are_listed_worst_first(tmp_path):
    for shift in range(4):
        write_image(tmp_path / f"{shift}.png", portrait()[:, shift * 20 :])
    write_image(tmp_path / "nobody.jpg", portrait()[:100, :100])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_text("no picture either")
    result = invoke(DEFAULT_MODEL, "--layers", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    layers = json.loads(result.stdout)["layers"]
    losses = [layer["lost"] for layer in layers]
    assert losses == sorted(losses, reverse=True)
    assert all(0 <= lost < 0.5 for lost in losses)
    names = {layer["name"] for layer in layers}
    assert {"conv2d", "conv2d_15", "add_5", "global_average_pooling2d", "dense"} <= names
    assert len(names) == len(layers) == 24


def test_layers_need_pictures_and_the_float_network(tmp_path):
    assert "no pictures that can be read" in one_line(invoke(DEFAULT_MODEL, "--layers", tmp_path))
    write_image(tmp_path / "face.png", portrait())
    other = write_model(tmp_path / "other.tflite", name="other")
    result = invoke(other, "--layers", tmp_path)
    assert "--layers needs the float network" in one_line(result)
    assert "no model metadata inside" in one_line(invoke(shutil.copy(DETECTOR, tmp_path), "--layers", tmp_path))
