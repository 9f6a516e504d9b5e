"""Every architecture under one budget: real tiny trainings, one table, one picture."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.bundle import read_bundle
from tests.parts.trainer_faces import draw_ck48, draw_ferplus, write_config
from trainer.cli import main

PERSONS = tuple(f"S{number:03d}" for number in range(10, 18))


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(argument) for argument in arguments)])


@pytest.fixture
def arguments(tmp_path: Path) -> tuple[object, ...]:
    data = draw_ferplus(draw_ck48(tmp_path / "data", PERSONS), each=(12, 3, 2))
    budget = {"epochs": 2, "batch_size": 8}
    ck48 = write_config(tmp_path / "a.yaml", name="ck48", data={"source": "ck48", "test": 0.25}, training=budget)
    ferplus = write_config(tmp_path / "b.yaml", name="ferplus", limit=64, training=budget)
    kinds = ("--kind", "lenet", "--kind", "compact")
    return ("--config", ck48, "--config", ferplus, "--data", data, "--run", tmp_path / "run", *kinds)


def test_each_kind_on_each_data_set_once(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = compare(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(one["config"], one["kind"]) for one in found] == [
        ("ck48", "lenet"), ("ck48", "compact"), ("ferplus", "lenet"), ("ferplus", "compact"),
    ]  # fmt: skip
    for one in found:
        file = tmp_path / "run" / f"{one['config']}-{one['kind']}" / "model.tflite"
        assert one["bytes"] == file.stat().st_size
        assert read_bundle(file).info.name == f"{one['config']}-{one['kind']}"
        assert one["epochs"] == 2
        assert one["ms"] > 0
        assert one["multiply_adds"] > one["parameters"] / 10
        assert 0 <= one["accuracy"] <= 1
    assert [tuple(one["faces"]) for one in found[2:]] == [(64, 24), (64, 24)]  # validation, never FER+'s test split
    trained, asked = found[0]["faces"]
    assert trained + asked <= 14  # two of eight persons are asked about, and somebody chooses the epoch
    assert asked == 4

    refused = compare(*arguments, "--set", "training.learning_rate=0.5")
    assert refused.exit_code == 2
    assert "another configuration" in refused.stderr

    logs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/*/log.jsonl")}
    again = compare(*arguments, "--plot", tmp_path / "compare.png")
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in logs} == logs
    assert "ck48: trained on" in again.stdout
    assert (tmp_path / "compare.png").read_bytes()[1:4] == b"PNG"
    assert "multiply-adds" in (tmp_path / "run" / "compare.svg").read_text()


def test_unknown_kind_is_refused(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = compare(*arguments, "--kind", "transformer")
    assert result.exit_code == 2
    assert "--kind transformer: no such architecture; use" in result.stderr


@pytest.mark.parametrize("name", ["compare.xyz", "compare"])
def test_unknown_kind_of_picture_is_refused_before_training(tmp_path, monkeypatch, arguments, name):
    monkeypatch.chdir(tmp_path)
    result = compare(*arguments, "--plot", name)
    assert result.exit_code == 2
    assert result.stderr == f"emotion-trainer: --plot {name}: end the name in .svg or .png\n"
    assert not (tmp_path / "run").exists()


def test_colour_networks_are_compared_too(arguments):
    result = compare(*arguments[2:], "--set", "crop.colour=rgb", "--set", "training.epochs=1", "--json")
    assert result.exit_code == 0, result.output
    assert all(one["ms"] > 0 for one in json.loads(result.stdout))


def test_a_data_set_without_test_faces_is_refused(arguments):
    result = compare(*arguments[:2], *arguments[4:], "--set", "data.test=0")
    assert result.exit_code == 2
    assert "ck48: no test faces to ask about; raise data.test" in result.stderr
